//! The measurements.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use alloy::primitives::{B256, Bytes};
use alloy::providers::ext::AnvilApi;
use anyhow::{Context, ensure};
use auspex_devnet::anvil::AnvilOptions;
use auspex_devnet::postgres::TestDatabase;
use auspex_devnet::proxy::{Fault, FaultProxy};
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::listing::{Listing, Times};
use crate::node::Running;
use crate::processor::Processes;
use crate::scene::chain::Scene;
use crate::stages::{self, percentile};
use crate::table::{Row, Table};

/// The bars of the project, on two cores.
const REQUESTS_BAR: f64 = 200.0;
const SHARE_P99_MS_BAR: f64 = 250.0;
const MODEL_MS_BAR: f64 = 100.0;
const RECOVERY_P99_S_BAR: f64 = 10.0;
const GROWTH_BAR: f64 = 1.05;

/// Requests of one transaction of the payer.
const TOGETHER: usize = 50;
/// Requests of the memory part that wait for their delivery at once.
const MEMORY_WAITING_MAX: usize = 1_000;
/// Between two blocks of the memory part, each of which holds a transaction of the payer at most.
const MEMORY_BLOCK: Duration = Duration::from_millis(250);
/// Requests of that transaction: as many as the escrow takes.
const MEMORY_TOGETHER: usize = 64;
/// Blocks of the memory part whose state and transactions the chain keeps. A node asks for no block that is older than the
/// finalized one, which is 64 blocks back. The chain copies its whole state for each: with many it stands still.
const MEMORY_BLOCKS_KEPT: u32 = 72;
/// Seconds before a request's deadline.
const TIME: u64 = 80_000;
/// The longest that is waited for a part's deliveries.
const PATIENCE: Duration = Duration::from_secs(600);
const BLOCK_SECONDS: u64 = 1;

/// A chain, a listing, a database and a node.
struct Bench {
    scene: Scene,
    listing: Listing,
    database: TestDatabase,
    node: Running,
    metrics: String,
    /// What stands between the node and its chain and its database, where they are to be cut off.
    between: Option<Between>,
    _folder: tempfile::TempDir,
}

struct Between {
    to_chain: FaultProxy,
    to_database: FaultProxy,
}

impl Bench {
    async fn start(model: Option<&Path>) -> anyhow::Result<Self> {
        let scene = Scene::new(1, 1, None).await;
        let database = TestDatabase::create().await?;
        let (rpc_url, database_url) = (scene.anvil.http_url(), database.url().parse()?);
        Self::with(model, scene, database, None, [rpc_url, database_url]).await
    }

    /// On a chain that forgets old blocks, and makes them when it is told to.
    async fn start_forgetting() -> anyhow::Result<Self> {
        let chain =
            AnvilOptions { blocks_kept: Some(MEMORY_BLOCKS_KEPT), ..AnvilOptions::for_tests() };
        let scene = Scene::on(chain, 1, 1, None).await;
        let database = TestDatabase::create().await?;
        let (rpc_url, database_url) = (scene.anvil.http_url(), database.url().parse()?);
        let bench = Self::with(None, scene, database, None, [rpc_url, database_url]).await?;
        bench.scene.provider.anvil_set_interval_mining(0).await?;
        bench.scene.provider.anvil_set_auto_mine(false).await?;
        Ok(bench)
    }

    async fn start_behind_proxies() -> anyhow::Result<Self> {
        let scene = Scene::new(1, 1, None).await;
        let database = TestDatabase::create().await?;
        let (to_chain, rpc_url) = behind(scene.anvil.http_url().as_str()).await?;
        let (to_database, database_url) = behind(database.url()).await?;
        let between = Some(Between { to_chain, to_database });
        Self::with(None, scene, database, between, [rpc_url, database_url]).await
    }

    async fn with(
        model: Option<&Path>,
        scene: Scene,
        database: TestDatabase,
        between: Option<Between>,
        [rpc_url, database_url]: [Url; 2],
    ) -> anyhow::Result<Self> {
        let listing = Listing::start(&scene).await?;
        let folder = tempfile::tempdir()?;
        let deployment = folder.path().join("deployment.json");
        std::fs::write(&deployment, serde_json::to_string(&scene.deployment)?)?;
        let operator = &scene.operators[0];
        let listen = free_address()?;
        let mut arguments = vec![
            "node".to_owned(),
            format!("--database-url={database_url}"),
            format!("--rpc-url={rpc_url}"),
            format!("--indexer-url={}", listing.url),
            format!("--deployment={}", deployment.display()),
            format!("--owner={}", operator.owner),
            format!("--listen={listen}"),
            "--insecure-dev-keys".to_owned(),
            format!("--signer-insecure-key={}", operator.signer),
            format!("--transmitter-insecure-key={}", operator.transmitter),
            // The message that announces a request is left out; a node that polls this often is as late as one with it.
            "--discovery-interval-ms=20".to_owned(),
            "--head-interval-ms=100".to_owned(),
            "--gas-budget=1000000000000000000000".to_owned(),
            "--workers=8".to_owned(),
        ];
        if let Some(model) = model {
            arguments.push(format!("--model={}", model.display()));
        }
        let node = Running::start(&arguments)?;
        let metrics = format!("http://{listen}/metrics");
        let bench = Self { scene, listing, database, node, metrics, between, _folder: folder };
        // What a node does once, such as building its statements, belongs to no figure.
        let warm = bench.ask(TOGETHER).await;
        bench.delivered(&warm).await?;
        bench.scene.provider.anvil_set_interval_mining(BLOCK_SECONDS).await?;
        Ok(bench)
    }

    /// Puts each transaction into a block of its own as it comes.
    async fn mine_at_once(&self) -> anyhow::Result<()> {
        self.scene.provider.anvil_set_interval_mining(0).await?;
        self.scene.provider.anvil_set_auto_mine(true).await?;
        Ok(())
    }

    /// Makes a block now and then until the returned handle is dropped.
    fn mine_every(&self, interval: Duration) -> AbortOnDropHandle<()> {
        let provider = self.scene.provider.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // What waits for the block notices when none comes.
                let _ = provider.evm_mine(None).await;
            }
        }))
    }

    async fn ask(&self, count: usize) -> Vec<B256> {
        let inputs = (0..count).map(|number| {
            Bytes::from(format!("How does a quorum deliver a result? ({number})").into_bytes())
        });
        self.scene.requests(inputs.collect(), TIME).await
    }

    /// Waits until all are delivered.
    async fn delivered(&self, requests: &[B256]) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let delivered = self.listing.delivered(requests);
            if delivered == requests.len() {
                return Ok(());
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "{delivered} of {} are delivered",
                requests.len()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn times(&self, requests: &[B256]) -> anyhow::Result<Vec<Times>> {
        requests
            .iter()
            .map(|id| self.listing.times(*id).context("a request was never listed"))
            .collect()
    }

    /// Seconds from listed to sent, ascending.
    async fn shares(&self, requests: &[B256]) -> anyhow::Result<Vec<f64>> {
        stages::shares(&self.database.pool(), &self.listing, requests).await
    }

    async fn report_stages(
        &self,
        table: &mut Table,
        part: &str,
        requests: &[B256],
    ) -> anyhow::Result<()> {
        stages::report(table, part, &self.database.pool(), &self.listing, requests).await
    }

    async fn processes(&self) -> anyhow::Result<Processes> {
        Ok(Processes {
            node: self.node.id(),
            chain: self.scene.anvil.pid().context("find anvil")?,
            database: Processes::server_of(&self.database.pool()).await?,
        })
    }

    /// How many answers the node has derived, and how many milliseconds that took.
    async fn answers(&self) -> anyhow::Result<(f64, f64)> {
        let metrics = Metrics::read(&self.metrics).await?;
        let answers = metrics.value("auspex_oracle_answers_total")?;
        Ok((answers, metrics.value("auspex_oracle_answer_milliseconds_total")?))
    }

    async fn transactions(&self) -> anyhow::Result<f64> {
        let count: i64 = sqlx::query_scalar("select count(*) from oracle.transactions")
            .fetch_one(&self.database.pool())
            .await?;
        Ok(count as f64)
    }
}

/// The node's metrics at one moment.
struct Metrics {
    text: String,
}

impl Metrics {
    async fn read(url: &str) -> anyhow::Result<Self> {
        Ok(Self { text: reqwest::get(url).await?.text().await? })
    }

    fn value(&self, name: &str) -> anyhow::Result<f64> {
        let values = self.text.lines().filter_map(|line| line.strip_prefix(name));
        let value = values.filter_map(|value| value.trim().parse().ok()).next();
        value.with_context(|| format!("read {name} of the node's metrics"))
    }

    /// What one look of the transaction manager takes since `before`, stage by stage.
    fn report_manager(&self, table: &mut Table, part: &str, before: &Self) -> anyhow::Result<()> {
        let since = |name: &str| anyhow::Ok(self.value(name)? - before.value(name)?);
        let looks = since("auspex_oracle_manager_looks_total")?;
        table.push(Row::plain(format!("{part}: manager, looks"), looks, ""));
        for stage in ["reading", "receipts", "weighing", "sending", "noting"] {
            let name = format!("auspex_oracle_manager_microseconds_total{{stage=\"{stage}\"}}");
            let milliseconds = since(&name)? / looks / 1e3;
            table.push(Row::plain(format!("{part}: manager, {stage}"), milliseconds, "ms/look"));
        }
        Ok(())
    }
}

/// A URL whose port is a proxy's.
async fn behind(url: &str) -> anyhow::Result<(FaultProxy, Url)> {
    let mut url = Url::parse(url)?;
    let upstream: SocketAddr = format!("127.0.0.1:{}", url.port().context("a port")?).parse()?;
    let proxy = FaultProxy::start(upstream).await?;
    url.set_port(Some(proxy.address().port())).ok().context("set a port")?;
    Ok((proxy, url))
}

/// An address that nobody listens on, or did not a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// How many requests a node takes from listed to delivered per second when more wait than it can do.
pub(crate) async fn burst(table: &mut Table, count: usize) -> anyhow::Result<()> {
    let bench = Bench::start(None).await?;
    let before = bench.transactions().await?;
    let processes = bench.processes().await?;
    let (used, metrics) = (processes.used()?, Metrics::read(&bench.metrics).await?);
    let mut requests = Vec::new();
    // With a block each second, payers who wait for theirs would offer less than a node can do.
    bench.mine_at_once().await?;
    while requests.len() < count {
        requests.extend(bench.ask(TOGETHER.min(count - requests.len())).await);
    }
    bench.scene.provider.anvil_set_interval_mining(BLOCK_SECONDS).await?;
    let early = bench.node.resident_mib()?;
    bench.delivered(&requests).await?;
    let (used_then, used) = (used, processes.used()?);
    let times = bench.times(&requests)?;
    let first = times.iter().map(|at| at.listed).fold(f64::INFINITY, f64::min);
    let last = times.iter().filter_map(|at| at.delivered).fold(0.0, f64::max);
    let rate = count as f64 / (last - first);
    table.push(Row::plain("burst: requests", count as f64, ""));
    table.push(Row::at_least("burst: listed to delivered", rate, "requests/s", REQUESTS_BAR));
    used.report(table, "burst", &used_then, count);
    let transactions = bench.transactions().await? - before;
    table.push(Row::plain("burst: deliveries per transaction", count as f64 / transactions, ""));
    table.push(Row::plain("burst: node's memory at its end", bench.node.resident_mib()?, "MiB"));
    table.push(Row::plain("burst: node's memory at its start", early, "MiB"));
    Metrics::read(&bench.metrics).await?.report_manager(table, "burst", &metrics)?;
    bench.report_stages(table, "burst", &requests).await
}

/// The node's memory over many requests, as fast as it takes them. None waits for long, so that what grows is what is kept.
pub(crate) async fn memory(table: &mut Table, count: usize) -> anyhow::Result<()> {
    let bench = Bench::start_forgetting().await?;
    let _miner = bench.mine_every(MEMORY_BLOCK);
    let mut asked = Vec::new();
    // By tenths of the requests.
    let mut sizes = Vec::new();
    let mut delivered = 0;
    let started = Instant::now();
    while asked.len() < count {
        let before = asked.len().saturating_sub(MEMORY_WAITING_MAX);
        bench.delivered(&asked[delivered..before]).await?;
        delivered = before;
        asked.extend(bench.ask(MEMORY_TOGETHER.min(count - asked.len())).await);
        while sizes.len() < 9 && (sizes.len() + 1) * count / 10 <= asked.len() {
            sizes.push(bench.node.resident_mib()?);
        }
    }
    bench.delivered(&asked[delivered..]).await?;
    sizes.push(bench.node.resident_mib()?);
    let rate = count as f64 / started.elapsed().as_secs_f64();
    let name = |what: &str| format!("memory, {count} requests: {what}");
    table.push(Row::plain(name("delivered"), rate, "requests/s"));
    for (tenth, size) in (1..).zip(&sizes) {
        table.push(Row::plain(name(&format!("after {tenth} of 10 parts")), *size, "MiB"));
    }
    let early = sizes.first().context("too few requests")?;
    let late = sizes.last().context("too few requests")?;
    table.push(Row::at_most(name("end to a tenth"), late / early, "", GROWTH_BAR));
    Ok(())
}

/// The node's own share of the latency while requests come at a steady rate, and its memory.
pub(crate) async fn steady(table: &mut Table, rate: usize, seconds: usize) -> anyhow::Result<()> {
    let bench = Bench::start(None).await?;
    let per_turn = rate.clamp(1, TOGETHER);
    let turn = Duration::from_secs_f64(per_turn as f64 / rate.max(1) as f64);
    bench.mine_at_once().await?;
    let processes = bench.processes().await?;
    let (used, metrics) = (processes.used()?, Metrics::read(&bench.metrics).await?);
    let started = Instant::now();
    let mut requests = Vec::new();
    let mut early = None;
    while requests.len() < rate * seconds {
        let due = started + turn.mul_f64(requests.len() as f64 / per_turn as f64);
        tokio::time::sleep_until(due.into()).await;
        requests.extend(bench.ask(per_turn).await);
        if early.is_none() && rate * seconds / 4 <= requests.len() {
            early = Some(bench.node.resident_mib()?);
        }
    }
    let offered = requests.len() as f64 / started.elapsed().as_secs_f64();
    bench.delivered(&requests).await?;
    let (used_then, used) = (used, processes.used()?);
    let shares = bench.shares(&requests).await?;
    ensure!(shares.len() == requests.len(), "{} of the deliveries were sent", shares.len());
    let times = bench.times(&requests)?;
    let first = times.iter().map(|at| at.listed).fold(f64::INFINITY, f64::min);
    let last = times.iter().filter_map(|at| at.delivered).fold(0.0, f64::max);
    table.push(Row::plain(format!("steady, {rate}/s: offered"), offered, "requests/s"));
    table.push(Row::plain(
        format!("steady, {rate}/s: delivered"),
        requests.len() as f64 / (last - first),
        "requests/s",
    ));
    let name = |what: &str| format!("steady, {rate}/s: listed to sent, {what}");
    table.push(Row::plain(name("median"), percentile(&shares, 50) * 1e3, "ms"));
    table.push(Row::at_most(name("p99"), percentile(&shares, 99) * 1e3, "ms", SHARE_P99_MS_BAR));
    let growth = bench.node.resident_mib()? / early.context("too few requests")?;
    table.push(Row::at_most(
        format!("steady, {rate}/s: memory, end to first quarter"),
        growth,
        "",
        GROWTH_BAR,
    ));
    let part = format!("steady, {rate}/s");
    used.report(table, &part, &used_then, requests.len());
    Metrics::read(&bench.metrics).await?.report_manager(table, &part, &metrics)?;
    bench.report_stages(table, &part, &requests).await
}

/// How long after its chain and its database are back a node delivers what was asked meanwhile.
pub(crate) async fn recovery(table: &mut Table, cuts: usize) -> anyhow::Result<()> {
    let bench = Bench::start_behind_proxies().await?;
    let Between { to_chain, to_database } =
        bench.between.as_ref().context("a bench behind proxies")?;
    let mut seconds = Vec::with_capacity(cuts);
    for number in 0..cuts {
        let cut: &[&FaultProxy] = match number % 3 {
            0 => &[to_chain],
            1 => &[to_database],
            _ => &[to_chain, to_database],
        };
        let fault = if number % 2 == 0 { Fault::Cut } else { Fault::HalfOpen };
        for proxy in cut {
            proxy.set(fault);
        }
        let requests = bench.ask(10).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        for proxy in cut {
            proxy.set(Fault::None);
        }
        let healed = Instant::now();
        bench.delivered(&requests).await?;
        seconds.push(healed.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    table.push(Row::plain("recovery: healed to delivered, median", percentile(&seconds, 50), "s"));
    table.push(Row::at_most(
        "recovery: healed to delivered, p99",
        percentile(&seconds, 99),
        "s",
        RECOVERY_P99_S_BAR,
    ));
    Ok(())
}

/// What the node adds to the inference of a real model, one request after the other.
pub(crate) async fn model(table: &mut Table, model: &Path) -> anyhow::Result<()> {
    let bench = Bench::start(Some(model)).await?;
    bench.scene.provider.anvil_set_interval_mining(0).await?;
    bench.scene.provider.anvil_set_auto_mine(true).await?;
    let before = bench.answers().await?;
    let mut requests = Vec::new();
    for _ in 0..50 {
        let request = bench.ask(1).await;
        bench.delivered(&request).await?;
        requests.extend(request);
    }
    let shares = bench.shares(&requests).await?;
    let mean = shares.iter().sum::<f64>() / shares.len() as f64 * 1e3;
    let after = bench.answers().await?;
    let answering = (after.1 - before.1) / (after.0 - before.0);
    table.push(Row::plain("MiniLM: retrieval and inference, mean", answering, "ms"));
    table.push(Row::plain("MiniLM: listed to sent, mean", mean, "ms"));
    let adds = mean - answering;
    table.push(Row::at_most("MiniLM: what the node adds", adds, "ms", MODEL_MS_BAR));
    Ok(())
}
