//! A local chain.
//!
//! anvil answers the tags `safe` and `finalized` with the head minus 32 and minus 64 blocks (on Base the
//! latter lags by some 600). It has no L1 fee and no deposit transactions.
//!
//! With a state file the chain survives restarts. anvil writes it every `state_interval` and when it is
//! stopped, so that SIGKILL loses the blocks of at most one interval: readers of the chain then see its
//! head go back, as in a reorganisation. A chain that must lose nothing is a [`crate::chain`]. anvil overwrites the file in place; [`state`] keeps a complete
//! copy, because a kill in the middle of that would otherwise lose the whole chain.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::ChainId;
use alloy::providers::{Provider, ProviderBuilder};
use anyhow::{Context, bail};
use tempfile::TempDir;
use url::Url;

use crate::limits::{ANVIL_START_DEADLINE, READY_POLL, SERVICE_STOP_GRACE, START_ATTEMPTS_MAX};
use crate::port::{self, Reservation};
use crate::process::{BeforeStart, Process, ProcessConfig, Restart, Status, log};

pub mod accounts;
pub mod state;

use state::Keeper;

/// The chain id of anvil and of most local chains.
pub const CHAIN_ID: ChainId = 31_337;

/// How to run the chain.
#[derive(Debug, Clone)]
pub struct AnvilOptions {
    /// Any free port if none is given.
    pub port: Option<u16>,
    pub chain_id: ChainId,
    /// A block every so often; without it a block per transaction, at once.
    pub block_time: Option<Duration>,
    /// Blocks only when a call asks for one, with transactions in the order in which they came, and calls of any size.
    pub on_demand: bool,
    /// How many of the newest blocks keep their state and their transactions; all do without it. A chain that is to make a
    /// great many blocks wants a limit: anvil copies its whole state for each.
    pub blocks_kept: Option<u32>,
    /// Where the chain is kept; without it the chain is gone when it stops.
    pub state_file: Option<PathBuf>,
    /// How often the state file is written, in whole seconds. The whole chain is written each time, so
    /// that a long-lived one wants a longer interval.
    pub state_interval: Duration,
    /// Receives anvil's messages. If none is given it is `<state_file>.log`, or a temporary file.
    pub log: Option<PathBuf>,
    pub restart: Restart,
}

impl AnvilOptions {
    /// A chain for one test: blocks at once, kept nowhere.
    pub fn for_tests() -> AnvilOptions {
        AnvilOptions {
            port: None,
            chain_id: CHAIN_ID,
            block_time: None,
            on_demand: false,
            blocks_kept: None,
            state_file: None,
            state_interval: Duration::from_secs(1),
            log: None,
            restart: Restart::Never,
        }
    }
}

/// A running chain. Dropping it stops it (see [`crate::process`]).
#[derive(Debug)]
pub struct Anvil {
    process: Process,
    port: Reservation,
    chain_id: ChainId,
    _keeper: Option<Keeper>,
    _folder: TempDir,
}

impl Anvil {
    /// Starts the chain and waits until it answers. `program` is [`crate::provision::Tools::anvil`].
    ///
    /// # Errors
    /// The port is taken; the state file is damaged; the chain does not answer within
    /// [`ANVIL_START_DEADLINE`].
    pub async fn start(program: &Path, options: AnvilOptions) -> anyhow::Result<Anvil> {
        let folder = tempfile::Builder::new().prefix("auspex-anvil-").tempdir();
        let folder = folder.context("create folder for anvil")?;
        let before_start = options
            .state_file
            .clone()
            .map(|file| -> BeforeStart { Arc::new(move || state::repair(&file)) });
        let log = log_file(&options, folder.path());
        // One that is still being stopped has the port, and is about to write the state file.
        let (ending, patience) = (log.clone(), ANVIL_START_DEADLINE);
        tokio::task::spawn_blocking(move || log::await_release(&ending, patience))
            .await
            .context("wait for an earlier anvil")??;
        for attempt in 1.. {
            let port = port::reserve_or(options.port)?;
            let since = log::length(&log);
            let process = Process::start(ProcessConfig {
                args: arguments(&options, port.number(), folder.path())?,
                restart: options.restart,
                before_start: before_start.clone(),
                grace: SERVICE_STOP_GRACE,
                remove_when_orphaned: Some(folder.path().to_path_buf()),
                ..ProcessConfig::new("anvil", program, &log)
            })?;
            match await_ready(&process, port.number(), options.chain_id, since).await? {
                Ready::Answers => {
                    let keeper = options.state_file.as_deref().map(Keeper::start).transpose()?;
                    let chain_id = options.chain_id;
                    return Ok(Anvil { process, port, chain_id, _keeper: keeper, _folder: folder });
                }
                Ready::PortTaken if options.port.is_none() && attempt < START_ATTEMPTS_MAX => {}
                Ready::PortTaken => bail!(
                    "anvil cannot listen on port {} of 127.0.0.1, another program has it: choose another port",
                    port.number(),
                ),
            }
        }
        bail!("anvil was not started")
    }

    pub fn http_url(&self) -> Url {
        port::loopback_url("http", self.port())
    }

    pub fn ws_url(&self) -> Url {
        port::loopback_url("ws", self.port())
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn chain_id(&self) -> ChainId {
        self.chain_id
    }

    /// The process id, while the chain runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Follows anvil's process; see [`Process::status`].
    pub fn status(&self) -> tokio::sync::watch::Receiver<Status> {
        self.process.status()
    }

    /// Stops the chain; the state file, if any, then holds all of it.
    pub async fn stop(self) {
        self.process.stop().await;
    }

    /// Kills anvil with SIGKILL, as a crash would.
    pub fn kill9(&self) -> bool {
        self.process.kill9()
    }
}

fn log_file(options: &AnvilOptions, folder: &Path) -> PathBuf {
    let beside_state = || {
        let mut name = options.state_file.as_ref()?.as_os_str().to_owned();
        name.push(".log");
        Some(PathBuf::from(name))
    };
    options.log.clone().or_else(beside_state).unwrap_or_else(|| folder.join("anvil.log"))
}

fn arguments(options: &AnvilOptions, port: u16, folder: &Path) -> anyhow::Result<Vec<OsString>> {
    let mut args: Vec<OsString> = vec!["--host".into(), "127.0.0.1".into()];
    args.extend(["--port".into(), port.to_string().into()]);
    args.extend(["--chain-id".into(), options.chain_id.to_string().into()]);
    args.extend(["--cache-path".into(), folder.join("cache").into()]);
    args.push("--quiet".into());
    if let Some(block_time) = options.block_time {
        args.extend(["--block-time".into(), block_time.as_secs_f64().to_string().into()]);
    }
    if options.on_demand {
        args.extend(["--no-mining", "--order", "fifo", "--no-request-size-limit"].map(Into::into));
    }
    if let Some(count) = options.blocks_kept {
        for option in ["--prune-history", "--transaction-block-keeper"] {
            args.extend([option.into(), count.to_string().into()]);
        }
    }
    if let Some(file) = &options.state_file {
        let file = std::path::absolute(file).context("make state file absolute")?;
        let interval = options.state_interval.as_secs().max(1);
        args.extend(["--state".into(), file.into()]);
        args.extend(["--state-interval".into(), interval.to_string().into()]);
    }
    Ok(args)
}

enum Ready {
    Answers,
    PortTaken,
}

async fn await_ready(
    process: &Process,
    port: u16,
    chain_id: ChainId,
    since: u64,
) -> anyhow::Result<Ready> {
    let provider = ProviderBuilder::new().connect_http(port::loopback_url("http", port));
    let deadline = Instant::now() + ANVIL_START_DEADLINE;
    loop {
        let answer = provider.get_chain_id().await;
        // Asked after the answer: if another program has the port, anvil has ended.
        let status = process.status().borrow().clone();
        match status {
            Status::Running { restarts: 0, .. } => {}
            Status::Running { .. } | Status::Pausing { .. } | Status::Ended(_) => {
                let said = log::tail(process.log(), since);
                if said.contains("Address already in use") {
                    return Ok(Ready::PortTaken);
                }
                bail!("anvil ended while it started; {}: {said}", process.log().display());
            }
        }
        match answer {
            Ok(found) if found == chain_id => return Ok(Ready::Answers),
            Ok(found) => {
                bail!(
                    "anvil has chain id {found}, not {chain_id}: another chain answers on port {port}"
                )
            }
            Err(error) if deadline < Instant::now() => {
                return Err(error).with_context(|| {
                    format!("anvil did not answer within {} s", ANVIL_START_DEADLINE.as_secs())
                });
            }
            Err(_) => tokio::time::sleep(READY_POLL).await,
        }
    }
}
