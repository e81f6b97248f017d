//! One operator's node: everything is checked, then all tasks run under one roof. The first task that ends takes the others
//! with it and is named.

use std::net::SocketAddr;
use std::sync::Arc;

use alloy::primitives::Address;
use alloy::sol_types::Eip712Domain;
use anyhow::{Context, bail};
use auspex_protocol::deployment::Deployment;
use auspex_protocol::terms::escrow_domain;
use auspex_protocol::topic::Topics;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgPool};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::answer::written::Writer;
use crate::answerer::{Answerer, Extractive, Written};
use crate::board::Board;
use crate::bus::options::BusOptions;
use crate::bus::{Bus, BusLimits};
use crate::chain::Chain;
use crate::config::{Config, ConfigError};
use crate::corpus::Embedder;
use crate::discover::Discovery;
use crate::heads::{self, Heads};
use crate::identity::{self, Identity, IdentityError};
use crate::job::finish;
use crate::job::gauge::Gauge;
use crate::job::plan::Policy as JobPolicy;
use crate::job::work::{self, Bells, Desk};
use crate::keys::keystore::{self, KeystoreError};
use crate::keys::{ResultSigner, Transmitter};
use crate::limits::{
    BUS_ACK_TIMEOUT, CONNECTION_IDLE_UNTESTED_MAX, HEARTBEAT, OUTBOX_SWEEP, SHUTDOWN_GRACE,
    SIGNER_START_WAIT,
};
use crate::meter::{Meters, ProcessMeters};
use crate::partial::{Publisher, Queue};
use crate::signer::client::SignerClient;
use crate::status::Watch;
use crate::transaction::manager::Manager;
use crate::transaction::plan::Policy as TransactionPolicy;
use crate::withdraw::Withdrawals;
use crate::{http, outbox};

/// A node that has been checked and is ready to run.
#[derive(Debug)]
pub struct Node {
    config: Config,
    pool: PgPool,
    chain: Chain,
    domain: Eip712Domain,
    identity: Identity,
    signer: ResultSigner,
    transmitter: Transmitter,
    answerer: Answerer,
    board: Board,
    bus: Option<BusOptions>,
    listener: TcpListener,
    meters: Arc<Meters>,
    process_meters: ProcessMeters,
}

/// Checks the configuration and runs a node until told to stop: with the extractive answerer, or, when there is a `writer`,
/// with what it writes.
pub async fn run(
    config: Config,
    embedder: Embedder,
    writer: Option<Writer>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let sources = Extractive {
        pool: connect(&config).await?,
        embedder,
        default_corpus: config.corpus.clone(),
    };
    let answerer = match writer {
        None => Answerer::Extractive(sources),
        Some(writer) => Answerer::Written(Written { sources, writer }),
    };
    Node::prepare(config, answerer).await?.run(shutdown).await
}

impl Node {
    /// Finds the keys, connects to the database and the chain, and refuses to go on when something does not fit. The
    /// indexer and the broker may be down.
    pub async fn prepare(config: Config, answerer: Answerer) -> anyhow::Result<Self> {
        config.validate()?;
        let deployment = Deployment::named(&config.deployment).context("--deployment")?;
        let domain = escrow_domain(deployment.chain_id, deployment.request_escrow);
        let (signer, transmitter) = find_keys(&config, &deployment).await?;
        let bus = BusOptions::read(&config)?;
        let board = Board::new(config.indexer_url.clone())?;
        let pool = connect(&config).await?;
        let chain = Chain::new(&config.rpc_urls, deployment.clone());
        // Checked first: a node that may not use its key leaves no mark in the database.
        check_key(&chain, config.owner, signer.address()).await?;
        let identity = identity::claim(&pool, &deployment, config.owner, signer.address()).await?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("--listen: bind {}", config.listen))?;
        tracing::info!(
            owner = %identity.owner, signer = %identity.signer,
            transmitter = %transmitter.address(), "oracle node is ready to start"
        );
        Ok(Self {
            config,
            pool,
            chain,
            domain,
            identity,
            signer,
            transmitter,
            answerer,
            board,
            bus,
            listener,
            meters: Arc::new(Meters::default()),
            process_meters: ProcessMeters::install()?,
        })
    }

    /// Where the node's HTTP surface listens.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.listener.local_addr().context("read the listening address")
    }

    pub fn meters(&self) -> Arc<Meters> {
        Arc::clone(&self.meters)
    }

    /// Runs until told to stop, or until a task fails.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let stop = shutdown.child_token();
        let mut tasks = self.start(&stop);
        let mut failure = None;
        tokio::select! {
            () = stop.cancelled() => {}
            ended = tasks.join_next() => failure = verdict(ended, &stop),
        }
        stop.cancel();
        let finish = async {
            while let Some(ended) = tasks.join_next().await {
                let later = verdict(Some(ended), &stop);
                failure = failure.take().or(later);
            }
        };
        if tokio::time::timeout(SHUTDOWN_GRACE, finish).await.is_err() {
            tracing::warn!(
                "tasks did not stop in time and were cut off; their leases will run out"
            );
            tasks.shutdown().await;
        }
        failure.map_or(Ok(()), Err)
    }

    fn start(self, stop: &CancellationToken) -> JoinSet<(String, anyhow::Result<()>)> {
        let bells = Bells::default();
        let (heads_in, heads) = watch::channel::<Option<Heads>>(None);
        let (reached, discovered) = watch::channel(None);
        let topics =
            Topics::new(self.chain.deployment().chain_id, self.chain.deployment().request_escrow);
        let holder = format!("{}-{}", std::process::id(), Uuid::new_v4().simple());
        let config = &self.config;
        let mut tasks = Tasks { set: JoinSet::new() };

        let watch = Arc::new(Watch {
            pool: self.pool.clone(),
            chain: self.chain.clone(),
            identity: self.identity.clone(),
            transmitter: self.transmitter.address(),
            heads: heads.clone(),
            block_age_max: config.block_age_max,
            discovered,
            meters: Arc::clone(&self.meters),
            process_meters: self.process_meters.clone(),
        });
        tasks.add("process meters", self.process_meters.keep(stop.clone()));
        tasks.add("http", http::serve(self.listener, watch, stop.clone()));
        tasks.add(
            "heads",
            heads::follow(
                self.chain.clone(),
                heads_in,
                Arc::clone(&bells.manager),
                config.head_interval,
                stop.clone(),
            ),
        );
        tasks.add(
            "finish",
            finish::run(self.pool.clone(), heads.clone(), Arc::clone(&bells.work), stop.clone()),
        );
        let discovery = Discovery {
            pool: self.pool.clone(),
            board: self.board.clone(),
            domain: self.domain.clone(),
            signer: self.signer.address(),
            heads: heads.clone(),
            meters: Arc::clone(&self.meters),
            bell: Arc::clone(&bells.discovery),
            work: Arc::clone(&bells.work),
            reached,
        };
        tasks.add("discovery", discovery.run(config.discovery_interval, stop.clone()));
        let posting = outbox::post_to_board(
            self.pool.clone(),
            self.board.clone(),
            Arc::clone(&self.meters),
            Arc::clone(&bells.board),
            stop.clone(),
        );
        tasks.add("board", posting);
        let manager = Manager {
            pool: self.pool.clone(),
            chain: self.chain.clone(),
            key: self.transmitter.clone(),
            policy: TransactionPolicy {
                fee_cap: u128::from(config.fee_cap),
                budget: config.gas_budget,
                raise_after: config.raise_after,
                resend_after: config.resend_after,
            },
            holder: holder.clone(),
            meters: Arc::clone(&self.meters),
            bell: Arc::clone(&bells.manager),
            work: Arc::clone(&bells.work),
            interval: config.head_interval,
            memory: Mutex::default(),
        };
        tasks.add("transactions", manager.run(stop.clone()));
        let withdrawals = Withdrawals {
            pool: self.pool.clone(),
            chain: self.chain.clone(),
            board: self.board.clone(),
            transmitter: self.transmitter.address(),
            account: config.withdraw_for.unwrap_or(config.owner),
            thresholds: config.withdraw_above.clone(),
            manager: Arc::clone(&bells.manager),
            interval: config.withdraw_interval,
        };
        tasks.add("withdrawals", withdrawals.run(stop.clone()));
        let mut partials = None;
        if let Some(options) = self.bus {
            let queue = Arc::new(Queue::default());
            partials = (!config.partial_interval.is_zero()).then(|| Publisher {
                signer: self.signer.clone(),
                domain: self.domain.clone(),
                topics: topics.clone(),
                queue: Arc::clone(&queue),
                meters: Arc::clone(&self.meters),
                interval: config.partial_interval,
            });
            let bus = Bus {
                pool: self.pool.clone(),
                domain: self.domain.clone(),
                topics: topics.clone(),
                options,
                identity: self.identity,
                signer: self.signer.clone(),
                heads: heads.clone(),
                meters: Arc::clone(&self.meters),
                bells: bells.clone(),
                partials: queue,
                limits: BusLimits {
                    ack_timeout: BUS_ACK_TIMEOUT,
                    sweep: OUTBOX_SWEEP,
                    heartbeat: HEARTBEAT,
                },
            };
            tasks.add("bus", bus.run(stop.clone()));
        }
        let workers = config.workers;
        let desk = Arc::new(Desk {
            pool: self.pool,
            chain: self.chain,
            board: self.board,
            domain: self.domain,
            topics,
            signer: self.signer,
            transmitter: self.transmitter,
            answerer: self.answerer,
            partials,
            policy: JobPolicy {
                answer_margin: config.answer_margin,
                delivery_margin: config.delivery_margin,
                takeover: config.takeover,
            },
            wait_safe_above: config.wait_safe_above.clone(),
            wait_finalized_above: config.wait_finalized_above.clone(),
            token_rates: config.token_rates.clone(),
            heads,
            gauge: Gauge::default(),
            beginners: Semaphore::new(workers.saturating_sub(1).max(1)),
            meters: self.meters,
            bells,
        });
        for number in 0..workers {
            let name = format!("{holder}-{number}");
            tasks
                .add(&format!("worker {number}"), work::run(Arc::clone(&desk), name, stop.clone()));
        }
        tasks.set
    }
}

struct Tasks {
    set: JoinSet<(String, anyhow::Result<()>)>,
}

impl Tasks {
    fn add(&mut self, name: &str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let name = name.to_owned();
        self.set.spawn(async move { (name, task.await) });
    }
}

/// What a task's end means: fine when we are stopping, a failure otherwise.
fn verdict(
    ended: Option<Result<(String, anyhow::Result<()>), tokio::task::JoinError>>,
    stop: &CancellationToken,
) -> Option<anyhow::Error> {
    match ended {
        None => None,
        Some(Ok((_, Ok(())))) if stop.is_cancelled() => None,
        Some(Ok((name, Ok(())))) => Some(anyhow::anyhow!("task {name:?} ended by itself")),
        Some(Ok((name, Err(error)))) => Some(error.context(format!("task {name:?} failed"))),
        Some(Err(error)) if error.is_cancelled() => None,
        Some(Err(error)) => Some(anyhow::Error::new(error).context("a task panicked")),
    }
}

async fn connect(config: &Config) -> anyhow::Result<PgPool> {
    let url = config.database_url.as_ref().ok_or(ConfigError::NoDatabase)?;
    let options: PgConnectOptions = url
        .reveal()
        .as_str()
        .parse()
        .map_err(|_| anyhow::anyhow!("--database-url: not a PostgreSQL URL"))?;
    let connections = u32::try_from(config.workers).unwrap_or(1).saturating_add(8);
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        // A question before every use would double the questions of a busy node; a connection that was used a moment ago is
        // as likely to break while it is used.
        .test_before_acquire(false)
        .before_acquire(|connection, metadata| {
            Box::pin(async move {
                let fresh = metadata.idle_for < CONNECTION_IDLE_UNTESTED_MAX;
                Ok(fresh || connection.ping().await.is_ok())
            })
        })
        .connect_with(options.application_name("auspex-oracle"))
        .await
        .with_context(|| format!("--database-url: connect to {url}"))?;
    let migrated =
        sqlx::query_scalar!(r#"select to_regclass('oracle.identity') is not null as "migrated!""#)
            .fetch_one(&pool)
            .await
            .context("--database-url: look for the schema")?;
    if !migrated {
        bail!("--database-url: the schema `oracle` is missing; apply the migrations first");
    }
    Ok(pool)
}

/// Finds the two keys: in the signer's process, or plain ones on a development chain.
async fn find_keys(
    config: &Config,
    deployment: &Deployment,
) -> anyhow::Result<(ResultSigner, Transmitter)> {
    let chain_id = deployment.chain_id;
    if let (Some(signer), Some(transmitter)) =
        (&config.signer_insecure_key, &config.transmitter_insecure_key)
    {
        let allowed = config.insecure_dev_keys;
        let signer = keystore::raw("signer", signer, chain_id, allowed)?;
        let transmitter = keystore::raw("transmitter", transmitter, chain_id, allowed)?;
        if signer.address() == transmitter.address() {
            return Err(KeystoreError::SameKey(signer.address()).into());
        }
        return Ok((ResultSigner::new(signer), Transmitter::new(transmitter)));
    }
    let socket = config.signer_socket.as_ref().ok_or(ConfigError::NoSigner)?;
    let client = SignerClient::connect(socket, SIGNER_START_WAIT).await?;
    let introduction = client.introduction();
    let (stated_chain, escrow) = (introduction.chain_id, introduction.escrow);
    if stated_chain != chain_id || escrow != deployment.request_escrow {
        return Err(ConfigError::SignerElsewhere { escrow, chain_id: stated_chain }.into());
    }
    Ok((ResultSigner::of_process(client.clone()), Transmitter::of_process(client)))
}

/// A key that the registry knows as another operator's, or that was revoked, is refused. One that it does not know yet is
/// not: the operator registers it while the node runs.
async fn check_key(chain: &Chain, owner: Address, signer: Address) -> Result<(), IdentityError> {
    let registered = chain.owner_of_signer(signer).await.context("check the signer")?;
    if registered != Address::ZERO && registered != owner {
        return Err(IdentityError::KeyOfAnother { signer, registered, owner });
    }
    if chain.is_revoked(signer).await.context("check the signer")? {
        return Err(IdentityError::Revoked(signer));
    }
    Ok(())
}
