//! The whole indexer as one call: follow every chain, publish, resolve files, serve.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};
use auspex_protocol::deployment::Deployment;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgPool};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{ChainConfig, IndexerConfig, ServeConfig, database_options};
use crate::contract::{Sources, prepare};
use crate::follow::{Follow, Follower, follow};
use crate::health::Health;
use crate::publish::{publish, trim};
use crate::registration::{FilePolicy, resolve};
use crate::serve::partial::listen;
use crate::serve::{ConnectionLimits, ServeState, serve, sweep};
use crate::source::clock::Clock;
use crate::source::hint;
use crate::source::pool::Pool;
use crate::source::rpc::RpcEndpoint;
use crate::source::{Endpoint, Fault};
use crate::store::postgres::PgStore;
use crate::watch::WatchList;

/// Every migration of the project, applied at start.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Connections of the pool that is shared by everything but the follow loops.
const POOL_CONNECTIONS_MAX: u32 = 16;

/// How long a connection of that pool may lie idle before it is asked whether it still works.
const POOL_IDLE_TRUSTED: Duration = Duration::from_secs(1);

/// Upper bounds of the histograms of durations, in seconds.
const SECONDS_BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Upper bounds of the histogram of reorg depths, in blocks.
const BLOCKS_BUCKETS: [f64; 8] = [1.0, 2.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 16384.0];

/// How often recorded values are folded into their buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Runs the indexer on `listener` until `shutdown`, or until a part of it ends or panics, which is an error with its name.
/// Fails early when the configuration is wrong, the database cannot be had, or an endpoint serves another chain.
pub async fn run(
    config: IndexerConfig,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let chains = config.chains()?;
    let pool = connect(config.database()?).await?;
    MIGRATOR.run(&pool).await.context("apply the migrations")?;

    // Before any part starts, so that nothing that they record is lost.
    let recorder = prometheus()?;
    let deployments: Vec<Deployment> =
        chains.iter().map(|chain| chain.deployment.clone()).collect();
    let stop = shutdown.child_token();
    let changed = Arc::new(Notify::new());
    let health = Health::default();
    let mut parts = Parts::default();
    for chain in &chains {
        let chain_id = chain.deployment.chain_id;
        prepare(&pool, chain_id, &Sources::of(chain), &chain.contracts).await?;
        for contract in &chain.contracts {
            contract.serve(chain_id)?;
        }
        start_following(&config, chain, &health, &changed, &stop, &mut parts).await?;
    }
    if let Some(broker) = &config.mqtt_url {
        let publishing =
            publish(pool.clone(), broker.clone(), deployments.clone(), changed, stop.clone());
        parts.spawn("publisher".into(), done(publishing));
    }
    let trimming = trim(pool.clone(), stop.clone());
    parts.spawn("outbox trimmer".into(), done(trimming));
    let sweeping = sweep(pool.clone(), stop.clone());
    parts.spawn("sweeper of answers".into(), done(sweeping));
    let files = FilePolicy {
        gateways: config.ipfs_gateway.clone(),
        allow_private: config.allow_private_files,
    };
    let resolving = resolve(pool.clone(), files, stop.clone());
    parts.spawn("registration files".into(), done(resolving));
    let state =
        ServeState::new(pool.clone(), deployments, recorder.clone(), config.ready(), health)?;
    if let Some(broker) = &config.mqtt_url {
        let listening = listen(broker.clone(), state.clone(), stop.clone());
        parts.spawn("listener for unfinished answers".into(), done(listening));
    }
    parts.spawn("meters".into(), done(fold(recorder, stop.clone())));
    let limits = ConnectionLimits::new(config.connections_per_address.into());
    parts.spawn("server".into(), serve(listener, limits, state, stop.clone()));

    until_first_end(parts, pool, &shutdown, &stop).await
}

/// Serves what another process indexes, from its database or from a replica of it, until `shutdown`. Keeps no state and writes
/// nothing: any number of such processes may run.
pub async fn serve_only(
    config: ServeConfig,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let chains = config.chains()?;
    let pool = connect(database_options(&config.database_url)?).await?;
    check_schema(&pool).await?;
    for chain in &chains {
        for contract in &chain.contracts {
            contract.serve(chain.deployment.chain_id)?;
        }
    }
    let recorder = prometheus()?;
    let deployments = chains.into_iter().map(|chain| chain.deployment).collect();
    let ready = config.ready();
    let state =
        ServeState::new(pool.clone(), deployments, recorder.clone(), ready, Health::default())?;
    let stop = shutdown.child_token();
    let mut parts = Parts::default();
    if let Some(broker) = config.mqtt_url {
        let listening = listen(broker, state.clone(), stop.clone());
        parts.spawn("listener for unfinished answers".into(), done(listening));
    }
    parts.spawn("meters".into(), done(fold(recorder, stop.clone())));
    let limits = ConnectionLimits::new(config.connections_per_address.into());
    parts.spawn("server".into(), serve(listener, limits, state, stop.clone()));
    until_first_end(parts, pool, &shutdown, &stop).await
}

/// Lets the parts run until `shutdown` or until one of them ends, then stops the others and closes the pool.
async fn until_first_end(
    mut parts: Parts,
    pool: PgPool,
    shutdown: &CancellationToken,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let ended = parts.first_end(shutdown).await;
    stop.cancel();
    parts.wait().await;
    close(pool).await;
    ended
}

/// The pool of everything but the follow loops.
async fn connect(options: PgConnectOptions) -> anyhow::Result<PgPool> {
    PgPoolOptions::new()
        .max_connections(POOL_CONNECTIONS_MAX)
        // One that worked a moment ago works: asking it each time would be a fifth of what a short question costs.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if POOL_IDLE_TRUSTED < meta.idle_for {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_with(options)
        .await
        .context("connect to PostgreSQL (DATABASE_URL)")
}

/// Fails when the database lacks a migration that this program's questions need.
async fn check_schema(pool: &PgPool) -> anyhow::Result<()> {
    let needed = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
    let applied = sqlx::query_scalar::<_, Option<i64>>(
        "select max(version) from _sqlx_migrations where success",
    )
    .fetch_one(pool)
    .await
    .context("read the database's schema version: has an indexer run on it?")?;
    let applied = applied.unwrap_or_default();
    if applied < needed {
        bail!(
            "the database's schema has version {applied}, this program needs {needed}: \
             start `auspex indexer run` of this version first"
        );
    }
    Ok(())
}

/// Fails when an endpoint serves another chain; one that does not answer is waited for.
async fn start_following(
    config: &IndexerConfig,
    chain: &ChainConfig,
    health: &Health,
    changed: &Arc<Notify>,
    stop: &CancellationToken,
    parts: &mut Parts,
) -> anyhow::Result<()> {
    let chain_id = chain.deployment.chain_id;
    let endpoints =
        chain.rpc_urls.iter().map(RpcEndpoint::new).collect::<anyhow::Result<Vec<_>>>()?;
    for endpoint in &endpoints {
        check_chain(endpoint, chain_id).await?;
    }
    let store = PgStore::new(&config.database()?, chain_id)?;
    let watch = WatchList::new(&chain.deployment, &chain.tokens, &chain.contracts);
    let start = chain.start_block();
    let follower = Follower::new(
        chain_id,
        start,
        watch,
        config.policy(),
        Arc::new(Pool::new(endpoints, Clock::system())),
        store,
    );
    let bell = Arc::new(Notify::new());
    for url in chain.rpc_urls.iter().filter(|url| matches!(url.scheme(), "ws" | "wss")) {
        let ringing = hint::ring(url.clone(), Arc::clone(&bell), stop.clone());
        parts.spawn(format!("head announcements of {url}"), done(ringing));
    }
    let looping = Follow {
        chain_id,
        poll: config.poll(),
        bell,
        changed: Arc::clone(changed),
        health: health.clone(),
        sources: Sources::of(chain),
    };
    let following = follow(follower, looping, stop.clone());
    parts.spawn(format!("follower of chain {chain_id}"), async move { Ok(following.await?) });
    Ok(())
}

/// A part that ends only when it is told to stop.
async fn done(part: impl Future<Output = ()>) -> anyhow::Result<()> {
    part.await;
    Ok(())
}

async fn check_chain(endpoint: &RpcEndpoint, chain_id: u64) -> anyhow::Result<()> {
    match endpoint.chain_id().await {
        Ok(served) if served == chain_id => Ok(()),
        Ok(served) => bail!(
            "rpc url {}: serves chain {served}, but the deployment is on chain {chain_id}; \
             correct --rpc-url or --deployment",
            endpoint.name()
        ),
        Err(Fault::Lie(lie)) => bail!("rpc url {}: {lie}", endpoint.name()),
        Err(fault) => {
            tracing::warn!(endpoint = endpoint.name(), %fault, "an endpoint does not answer yet");
            Ok(())
        }
    }
}

/// The recorder is the process's; several indexers in one process, as in tests, share it.
fn prometheus() -> anyhow::Result<PrometheusHandle> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
        .context("set the buckets of durations")?
        .set_buckets_for_metric(Matcher::Suffix("_blocks".to_owned()), &BLOCKS_BUCKETS)
        .context("set the buckets of depths")?
        .build_recorder();
    let handle = recorder.handle();
    match metrics::set_global_recorder(recorder) {
        Ok(()) => Ok(HANDLE.get_or_init(|| handle).clone()),
        // Another one was faster, or the process has a recorder of its own: then ours shows nothing.
        Err(_) => Ok(HANDLE.get().cloned().unwrap_or(handle)),
    }
}

/// Folds recorded values into their buckets until told to stop, so that they do not pile up where nobody reads `/metrics`.
async fn fold(recorder: PrometheusHandle, stop: CancellationToken) {
    let mut turns = tokio::time::interval(UPKEEP_INTERVAL);
    while stop.run_until_cancelled(turns.tick()).await.is_some() {
        recorder.run_upkeep();
    }
}

async fn close(pool: PgPool) {
    const LIMIT: Duration = Duration::from_secs(5);
    if tokio::time::timeout(LIMIT, pool.close()).await.is_err() {
        tracing::warn!("database connections were still busy at the end and are cut");
    }
}

/// The tasks of the process, by name.
#[derive(Debug, Default)]
struct Parts {
    tasks: JoinSet<(String, anyhow::Result<()>)>,
}

impl Parts {
    fn spawn(
        &mut self,
        name: String,
        part: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        // Within its own task, so that a panic is told with the part's name.
        self.tasks.spawn(async move {
            let ended = match tokio::spawn(part).await {
                Ok(ended) => ended,
                Err(error) => Err(anyhow::anyhow!("panicked: {error}")),
            };
            (name, ended)
        });
    }

    /// Waits for the first part that ends. That is an error unless `shutdown` asked for it.
    async fn first_end(&mut self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let ended = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            ended = self.tasks.join_next() => ended,
        };
        let Some(Ok((name, ended))) = ended else { bail!("a part of the indexer was aborted") };
        ended.with_context(|| format!("run the {name}"))?;
        if shutdown.is_cancelled() {
            return Ok(());
        }
        bail!("the {name} ended although nobody asked it to")
    }

    async fn wait(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok((name, Err(error))) = ended {
                tracing::error!(
                    part = name,
                    error = format!("{error:#}"),
                    "a part failed while stopping"
                );
            }
        }
    }
}
