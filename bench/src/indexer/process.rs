//! The indexer as a process of its own, so that its time and memory are its own.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::Context;

use crate::chain;
use crate::database::Database;

/// A running indexer. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Indexer {
    child: Child,
    started: Instant,
    address: SocketAddr,
    _configuration: tempfile::TempDir,
}

#[derive(Debug)]
pub(crate) struct Settings {
    backfill: &'static str,
    poll_ms: u64,
}

/// What the process used.
#[derive(Debug)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_mib: f64,
}

/// Clock ticks per second in `/proc`, on every Linux that is in use.
const TICKS: f64 = 100.0;

impl Settings {
    pub(crate) fn linked() -> Self {
        Self { backfill: "linked", poll_ms: 500 }
    }

    pub(crate) fn full() -> Self {
        Self { backfill: "full", poll_ms: 500 }
    }

    /// Looks at the tip as often as is allowed.
    pub(crate) fn eager() -> Self {
        Self { backfill: "linked", poll_ms: 10 }
    }
}

/// Tells the parent process where this one listens.
pub(crate) fn announce(address: SocketAddr) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{address}")?;
    out.flush().context("tell the address")
}

impl Indexer {
    pub(crate) async fn start(
        database: &Database,
        rpc_url: &str,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let configuration = tempfile::tempdir()?;
        let file = |name: &str| configuration.path().join(name);
        std::fs::write(file("deployment.json"), serde_json::to_string(&chain::deployment())?)?;
        std::fs::write(file("erc20.json"), chain::TOKEN_ABI)?;
        std::fs::write(file("contract.json"), chain::contract().to_string())?;
        let program = std::env::current_exe().context("find this program")?;
        let started = Instant::now();
        let mut child = Command::new(program)
            .arg("follow")
            .args(["--database-url", database.url(), "--rpc-url", rpc_url])
            .args(["--verify-backfill", settings.backfill])
            .args(["--poll-ms", &settings.poll_ms.to_string()])
            .arg("--deployment")
            .arg(file("deployment.json"))
            .arg("--contract")
            .arg(file("contract.json"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the indexer")?;
        let stdout = child.stdout.take().context("read from the indexer")?;
        // Off the runtime's threads, because one of them serves the chain.
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = line.await?.context("read the indexer's address")?;
        let address = line.trim().parse().context("the indexer ended before it listened")?;
        Ok(Self { child, started, address, _configuration: configuration })
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Ends the process and says what it used.
    pub(crate) fn stop(self) -> anyhow::Result<Usage> {
        Usage::of(self.child.id())
    }
}

impl Usage {
    /// What a running process has used so far.
    pub(crate) fn of(id: u32) -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        // After the name: state is field 3, user and system time are 14 and 15.
        let tick = |index: usize| -> anyhow::Result<f64> {
            let field = fields.split_whitespace().nth(index - 3).context("read /proc/stat")?;
            Ok(field.parse::<f64>()?)
        };
        let cpu_seconds = (tick(14)? + tick(15)?) / TICKS;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.split_whitespace().next()).context("read VmHWM")?;
        Ok(Self { cpu_seconds, peak_mib: peak.parse::<f64>()? / 1024.0 })
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
