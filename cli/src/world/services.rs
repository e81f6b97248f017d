//! The world's processes. PostgreSQL, broker and chain are the foundation; the indexer and the oracle nodes are children of
//! this process that run this same binary, so that each can be killed and comes back by itself.

use std::path::PathBuf;
use std::time::Duration;

use alloy::primitives::{Address, U256};
use alloy::providers::ProviderBuilder;
use alloy::providers::ext::AnvilApi;
use anyhow::{Context, bail};
use auspex_devnet::anvil;
use auspex_devnet::chain::{Chain, ChainOptions, Mining};
use auspex_devnet::port::{self, Reservation};
use auspex_devnet::postgres::{Durability, Postgres, PostgresConfig};
use auspex_devnet::process::{Process, ProcessConfig, Restart, Status};
use auspex_devnet::provision::Tools;
use url::Url;

use crate::world::faults::Faults;
use crate::world::layout::Layout;
use crate::world::market::{self, Operator};

/// How long a service may take from its start until it says that it is ready.
const READY_WAIT_MAX: Duration = Duration::from_secs(60);
const READY_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The databases of the world.
const DATABASES: [&str; 4] =
    ["auspex_indexer", "auspex_operator_1", "auspex_operator_2", "auspex_operator_3"];

/// What everything else stands on.
#[derive(Debug)]
pub(crate) struct Foundation {
    postgres: Postgres,
    broker: Service,
    chain: Chain,
}

/// The indexer, the oracle nodes and their signers.
#[derive(Debug)]
pub(crate) struct Nodes {
    program: PathBuf,
    model_dir: PathBuf,
    indexer: Option<Service>,
    signers: Vec<Process>,
    oracles: Vec<Service>,
    /// What stands between these and what they reach over the network; nothing in a world without trouble.
    faults: Option<Faults>,
}

/// A child with the port that was reserved for it.
#[derive(Debug)]
pub(crate) struct Service {
    name: String,
    process: Process,
    port: Reservation,
}

impl Foundation {
    pub(crate) async fn start(
        layout: &Layout,
        tools: &Tools,
        block_time: Duration,
    ) -> anyhow::Result<Self> {
        let postgres = Postgres::start(
            &tools.postgres_bin,
            PostgresConfig {
                data_dir: layout.postgres(),
                port: None,
                durability: Durability::Safe,
                restart: Restart::always(),
            },
        )
        .await
        .context("start PostgreSQL")?;
        for database in DATABASES {
            postgres.ensure_database(database).await.context("create a database")?;
        }
        let port = port::reserve()?;
        let mut config = ProcessConfig::new("broker", program()?, layout.log("broker"));
        config.args = vec!["broker".into(), "--port".into(), port.number().to_string().into()];
        config.restart = Restart::always();
        let broker = Service { name: "broker".to_owned(), process: Process::start(config)?, port };
        let chain = Chain::start(
            &tools.anvil,
            ChainOptions {
                port: None,
                chain_id: anvil::CHAIN_ID,
                mining: Mining::Every(block_time),
                folder: layout.chain(),
                log: layout.log("chain"),
            },
        )
        .await
        .context("start the chain")?;
        broker.wait_for_port().await?;
        Ok(Self { postgres, broker, chain })
    }

    pub(crate) fn http_url(&self) -> Url {
        self.chain.http_url()
    }

    pub(crate) fn ws_url(&self) -> Url {
        self.chain.ws_url()
    }

    pub(crate) fn broker_url(&self) -> anyhow::Result<Url> {
        Ok(Url::parse(&format!("mqtt://127.0.0.1:{}", self.broker.port.number()))?)
    }

    pub(crate) fn database_url(&self, database: &str) -> anyhow::Result<Url> {
        Ok(Url::parse(&self.postgres.url(database))?)
    }

    /// Includes each transaction in a block of its own at once, which makes the set-up quick.
    pub(crate) async fn mine_at_once(&self) -> anyhow::Result<()> {
        let provider = ProviderBuilder::new().connect_http(self.http_url());
        provider.anvil_set_auto_mine(true).await.context("let the chain mine at once")
    }

    /// Mines at an interval, as chains that people use do.
    pub(crate) async fn mine_every(&self, interval: Duration) -> anyhow::Result<()> {
        let provider = ProviderBuilder::new().connect_http(self.http_url());
        provider
            .anvil_set_interval_mining(interval.as_secs().max(1))
            .await
            .context("let the chain mine at an interval")
    }

    /// The foundation's processes, by name.
    pub(crate) fn processes(&self) -> Vec<(String, u32)> {
        let pids = [
            ("postgres", self.postgres.pid()),
            ("broker", self.broker.process.pid()),
            ("chain", self.chain.pid()),
        ];
        pids.into_iter().filter_map(|(name, pid)| Some((name.to_owned(), pid?))).collect()
    }

    pub(crate) async fn send_coins(&self, to: Address, amount: U256) -> anyhow::Result<()> {
        market::send_coins(self.http_url(), to, amount).await
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.chain.stop().await;
        self.broker.process.stop().await;
        self.postgres.stop().await
    }
}

impl Nodes {
    pub(crate) fn new(tools: &Tools, faults: Option<Faults>) -> anyhow::Result<Self> {
        Ok(Self {
            program: program()?,
            model_dir: tools.model_dir.clone(),
            indexer: None,
            signers: Vec::new(),
            oracles: Vec::new(),
            faults,
        })
    }

    /// How one of these reaches `url`: in a world with trouble, through a proxy of its own.
    async fn route(&mut self, url: Url) -> anyhow::Result<String> {
        let url = match &mut self.faults {
            Some(faults) => faults.in_front_of(url).await?,
            None => url,
        };
        Ok(url.into())
    }

    /// From here on the connections of a world with trouble misbehave.
    pub(crate) fn begin_trouble(&mut self) {
        if let Some(faults) = &mut self.faults {
            faults.begin();
        }
    }

    pub(crate) async fn start_indexer(
        &mut self,
        foundation: &Foundation,
        layout: &Layout,
    ) -> anyhow::Result<()> {
        let environment = vec![
            ("DATABASE_URL", self.route(foundation.database_url("auspex_indexer")?).await?),
            ("AUSPEX_POLL_MS", "100".to_owned()),
            ("AUSPEX_RPC_URL", self.route(foundation.http_url()).await?),
            ("AUSPEX_BROKER_URL", self.route(foundation.broker_url()?).await?),
            ("AUSPEX_DEPLOYMENT", layout.deployment_file().display().to_string()),
        ];
        let service = self.spawn(
            layout,
            "indexer",
            &["indexer", "run"],
            "AUSPEX_INDEXER_LISTEN",
            environment,
        )?;
        service.wait_until("health").await?;
        self.indexer = Some(service);
        Ok(())
    }

    /// Starts the process that holds an operator's keys. The node waits for its socket.
    pub(crate) fn start_signer(
        &mut self,
        layout: &Layout,
        operator: &Operator,
    ) -> anyhow::Result<()> {
        let shown = |path: &std::path::Path| path.display().to_string();
        let password = shown(&layout.password_file());
        let name = format!("{}-signer", operator.name);
        let mut config = ProcessConfig::new(&name, self.program.clone(), layout.log(&name));
        config.args = vec!["operator".into(), "signer".into()];
        let environment = [
            ("AUSPEX_DEPLOYMENT", shown(&layout.deployment_file())),
            ("AUSPEX_SIGNER_SOCKET", shown(&layout.signer_socket(&operator.name))),
            ("AUSPEX_SIGNER_LOG", shown(&layout.signer_log(&operator.name))),
            ("AUSPEX_SIGNER_KEYSTORE", shown(&operator.signer_keystore)),
            ("AUSPEX_SIGNER_PASSWORD_FILE", password.clone()),
            ("AUSPEX_TRANSMITTER_KEYSTORE", shown(&operator.transmitter_keystore)),
            ("AUSPEX_TRANSMITTER_PASSWORD_FILE", password),
        ];
        config.env =
            environment.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        config.restart = Restart::always();
        self.signers.push(Process::start(config)?);
        Ok(())
    }

    pub(crate) async fn start_oracle(
        &mut self,
        foundation: &Foundation,
        layout: &Layout,
        operator: &Operator,
    ) -> anyhow::Result<()> {
        let database = foundation.database_url(&operator.database())?;
        let indexer = self.indexer_url()?;
        let environment = vec![
            ("AUSPEX_ORACLE_DATABASE_URL", self.route(database).await?),
            ("AUSPEX_RPC_URL", self.route(foundation.http_url()).await?),
            ("AUSPEX_BROKER_URL", self.route(foundation.broker_url()?).await?),
            ("AUSPEX_INDEXER_URL", self.route(indexer).await?),
            ("AUSPEX_DEPLOYMENT", layout.deployment_file().display().to_string()),
            ("AUSPEX_MODEL_DIR", self.model_dir.display().to_string()),
            ("AUSPEX_OPERATOR_OWNER", operator.owner.to_string()),
            ("AUSPEX_SIGNER_SOCKET", layout.signer_socket(&operator.name).display().to_string()),
        ];
        let service = self.spawn(
            layout,
            &operator.name,
            &["oracle", "run"],
            "AUSPEX_ORACLE_LISTEN",
            environment,
        )?;
        self.oracles.push(service);
        Ok(())
    }

    /// Waits until the indexer and every node say that they are ready for work.
    pub(crate) async fn wait_until_ready(&self) -> anyhow::Result<()> {
        for service in self.indexer.iter().chain(&self.oracles) {
            service.wait_until("ready").await?;
        }
        Ok(())
    }

    pub(crate) fn indexer_url(&self) -> anyhow::Result<Url> {
        self.indexer.as_ref().context("the indexer is not running")?.url()
    }

    /// The nodes' own addresses, by operator.
    pub(crate) fn oracle_urls(&self) -> anyhow::Result<Vec<(String, Url)>> {
        self.oracles.iter().map(|service| Ok((service.name.clone(), service.url()?))).collect()
    }

    /// Every process with its process id, for people who want to see what survives a kill.
    pub(crate) fn processes(&self) -> Vec<(String, u32)> {
        let services = self.indexer.iter().chain(&self.oracles).map(|service| &service.process);
        let processes = services.chain(&self.signers);
        processes.filter_map(|p| Some((p.name().to_owned(), p.pid()?))).collect()
    }

    pub(crate) async fn stop(self) {
        let stops = self.oracles.into_iter().map(|service| service.process.stop());
        futures::future::join_all(stops).await;
        futures::future::join_all(self.signers.into_iter().map(Process::stop)).await;
        if let Some(indexer) = self.indexer {
            indexer.process.stop().await;
        }
    }

    fn spawn(
        &self,
        layout: &Layout,
        name: &str,
        arguments: &[&str],
        listen: &str,
        environment: Vec<(&str, String)>,
    ) -> anyhow::Result<Service> {
        let port = port::reserve()?;
        let mut config = ProcessConfig::new(name, self.program.clone(), layout.log(name));
        config.args = arguments.iter().map(Into::into).collect();
        config.env =
            environment.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        config.env.push((listen.into(), format!("127.0.0.1:{}", port.number()).into()));
        config.restart = Restart::always();
        Ok(Service { name: name.to_owned(), process: Process::start(config)?, port })
    }
}

impl Service {
    fn url(&self) -> anyhow::Result<Url> {
        Ok(Url::parse(&format!("http://127.0.0.1:{}", self.port.number()))?)
    }

    async fn wait_until(&self, what: &str) -> anyhow::Result<()> {
        let url = self.url()?.join(what).context("build an address")?;
        let started = tokio::time::Instant::now();
        loop {
            if reqwest::get(url.clone()).await.is_ok_and(|reply| reply.status().is_success()) {
                return Ok(());
            }
            self.check_alive()?;
            if READY_WAIT_MAX < started.elapsed() {
                bail!(
                    "{} did not say /{what} within {} s; its log says why",
                    self.name,
                    READY_WAIT_MAX.as_secs()
                );
            }
            tokio::time::sleep(READY_POLL_INTERVAL).await;
        }
    }

    async fn wait_for_port(&self) -> anyhow::Result<()> {
        let started = tokio::time::Instant::now();
        while tokio::net::TcpStream::connect(self.port.address()).await.is_err() {
            self.check_alive()?;
            if READY_WAIT_MAX < started.elapsed() {
                bail!("{} does not listen; its log says why", self.name);
            }
            tokio::time::sleep(READY_POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// A service that cannot even start is told to the person at once, not after the time limit.
    fn check_alive(&self) -> anyhow::Result<()> {
        /// Restarts after which a service is not going to come up by itself.
        const RESTARTS_MAX: u32 = 3;
        match &*self.process.status().borrow() {
            Status::Pausing { ended, restarts, .. } if RESTARTS_MAX < *restarts => {
                bail!("{} keeps ending ({ended:?}); its log says why", self.name)
            }
            Status::Ended(ended) => bail!("{} ended ({ended:?}); its log says why", self.name),
            Status::Pausing { .. } | Status::Running { .. } => Ok(()),
        }
    }
}

fn program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("find this program's own file")
}
