//! A whole development world on this machine: PostgreSQL, an MQTT broker, anvil, the contracts, an indexer, three operators
//! with their nodes, an agent with a corpus and offers. Put together out of the commands that people use.

pub(crate) mod accounts;
pub(crate) mod contracts;
pub(crate) mod faults;
pub(crate) mod layout;
pub(crate) mod market;
pub(crate) mod services;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy::primitives::Address;
use anyhow::{Context, bail};
use auspex_devnet::provision::{Progress, Tools};
use url::Url;

use crate::connection::{ConnectionArguments, WorldFile, WorldNode};
use crate::output::Output;
use crate::world::accounts::Accounts;
use crate::world::faults::Faults;
use crate::world::layout::Layout;
use crate::world::market::Market;
use crate::world::services::{Foundation, Nodes};

/// Time between two blocks of the world's chain.
pub(crate) const BLOCK_TIME: Duration = Duration::from_secs(1);

/// A running world. Dropping it stops everything, `stop` does so in order and waits.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) layout: Layout,
    pub(crate) file: WorldFile,
    pub(crate) market: Market,
    pub(crate) foundation: Foundation,
    pub(crate) nodes: Nodes,
    /// Given back last, when everything has stopped.
    _lock: File,
}

/// Where worlds live when no directory is named.
pub(crate) fn default_directory() -> PathBuf {
    if let Some(home) = std::env::var_os("AUSPEX_HOME") {
        return PathBuf::from(home);
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    home.join(".local/share/auspex/dev")
}

impl World {
    /// Starts a world in `directory`, setting it up when it is new and resuming when it is not. `faults` begin when
    /// everything is ready.
    pub(crate) async fn start(
        directory: &Path,
        block_time: Duration,
        faults: Option<Faults>,
        output: Output,
    ) -> anyhow::Result<Self> {
        let layout = Layout::prepare(directory)?;
        let lock = layout.lock()?;
        let tools =
            Tools::locate_or_install(Progress::auto()).await.context("install the tools")?;
        let known = layout.market()?;
        if known.is_none() {
            layout.clear_state()?;
        }
        let step = output.step("starting PostgreSQL, the MQTT broker and the chain");
        let foundation = Foundation::start(&layout, &tools, block_time).await?;
        drop(step);
        let accounts = Accounts::open_or_create(&layout)?;
        if let Some(known) = &known
            && !contracts::are_deployed(&foundation.http_url(), &known.deployment).await?
        {
            bail!(
                "the chain in {} has lost its contracts; remove that directory and start again",
                layout.root().display()
            );
        }
        let deployment = match &known {
            Some(known) => known.deployment.clone(),
            None => {
                let _step = output.step("deploying the contracts");
                foundation.mine_at_once().await?;
                contracts::deploy(&foundation.http_url()).await?
            }
        };
        layout.write_deployment(&deployment)?;
        let mut nodes = Nodes::new(&tools, faults)?;
        let step = output.step("starting the indexer");
        nodes.start_indexer(&foundation, &layout).await?;
        drop(step);
        let mut file = WorldFile {
            rpc_url: foundation.http_url(),
            ws_url: foundation.ws_url(),
            indexer_url: nodes.indexer_url()?,
            broker_url: foundation.broker_url()?,
            database_url: foundation.database_url("auspex_indexer")?,
            deployment: deployment.clone(),
            password_file: layout.password_file(),
            accounts: accounts.entries().to_vec(),
            nodes: Vec::new(),
        };
        layout.write_world(&file)?;
        let market = match known {
            Some(market) => market,
            None => {
                let market =
                    Market::open(&layout, &foundation, &accounts, deployment, output).await?;
                layout.write_market(&market)?;
                market
            }
        };
        foundation.mine_every(block_time).await?;
        let step = output
            .step("starting three oracle nodes, each with a signer process that holds its keys");
        for operator in &market.operators {
            nodes.start_signer(&layout, operator)?;
            nodes.start_oracle(&foundation, &layout, operator).await?;
        }
        nodes.wait_until_ready().await?;
        nodes.begin_trouble();
        drop(step);
        file.nodes = nodes
            .oracle_urls()?
            .into_iter()
            .map(|(operator, url)| WorldNode {
                signer_socket: layout.signer_socket(&operator),
                operator,
                url,
            })
            .collect();
        layout.write_world(&file)?;
        Ok(Self { layout, file, market, foundation, nodes, _lock: lock })
    }

    /// The options with which a command acts as one of the world's accounts.
    pub(crate) fn as_account(&self, name: &str) -> ConnectionArguments {
        self.layout.connection(Some(name))
    }

    /// The addresses of the world's endpoints.
    pub(crate) fn endpoints(&self) -> Vec<(&'static str, Url)> {
        vec![
            ("chain (HTTP)", self.file.rpc_url.clone()),
            ("chain (WebSocket)", self.file.ws_url.clone()),
            ("indexer", self.file.indexer_url.clone()),
            ("MQTT broker", self.file.broker_url.clone()),
            ("PostgreSQL", self.file.database_url.clone()),
        ]
    }

    /// The name of one of the world's accounts.
    pub(crate) fn account_name(&self, address: Address) -> Option<String> {
        let account = self.file.accounts.iter().find(|account| account.address == address);
        account.map(|account| account.name.clone())
    }

    /// Everything that runs, by name.
    pub(crate) fn processes(&self) -> Vec<(String, u32)> {
        [self.foundation.processes(), self.nodes.processes()].concat()
    }

    /// Stops everything, in the reverse of the order in which it was started.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.nodes.stop().await;
        self.foundation.stop().await
    }
}
