//! `auspex dev`: a world that keeps running until Ctrl-C.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use auspex_devnet::anvil;
use clap::Args;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::output::{Output, fields, table};
use crate::world::faults::Faults;
use crate::world::{self, BLOCK_TIME, World};

/// How often a running world looks whether one of its processes is another than before.
const PROCESS_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Start PostgreSQL, an MQTT broker, anvil, an indexer and three oracle nodes; resume when the directory has a world.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  auspex dev\n  auspex dev --directory target/dev\n  auspex dev --faults 7    # and see that every request still settles once"
)]
pub(crate) struct DevCommand {
    /// Where the world lives; `$AUSPEX_HOME` or ~/.local/share/auspex/dev when not given.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Make trouble: delay, swallow and cut every connection between the parts now and then, drawn from this seed.
    #[arg(long, value_name = "SEED")]
    faults: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Announcement {
    world_file: PathBuf,
    endpoints: Vec<(&'static str, Url)>,
    nodes: Vec<(String, Url)>,
    processes: Vec<(String, u32)>,
    accounts: Vec<FundedAccount>,
    token_offer: B256,
    native_offer: B256,
}

/// An account with its key, which is one of anvil's public ones and no secret.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FundedAccount {
    name: String,
    address: Address,
    private_key: B256,
}

pub(crate) async fn run(command: DevCommand, output: Output) -> anyhow::Result<()> {
    let directory = command.directory.unwrap_or_else(world::default_directory);
    let faults = command.faults.map(Faults::new);
    let mut interrupt = Interrupt::listen()?;
    let world = tokio::select! {
        world = World::start(&directory, BLOCK_TIME, faults, output) => world?,
        // Dropping the half-started world has stopped what it had started.
        () = interrupt.wait() => {
            output.say("interrupted; everything that was started is stopped");
            return Ok(());
        }
    };
    let announcement = Announcement {
        world_file: world.layout.world_file(),
        endpoints: world.endpoints(),
        nodes: world.nodes.oracle_urls()?,
        processes: world.processes(),
        accounts: world
            .file
            .accounts
            .iter()
            .zip(anvil::accounts::KEYS)
            .map(|(account, private_key)| FundedAccount {
                name: account.name.clone(),
                address: account.address,
                private_key,
            })
            .collect(),
        token_offer: world.market.token_offer,
        native_offer: world.market.native_offer,
    };
    world.layout.write_processes(&announcement.processes)?;
    output.result(&announcement, announce)?;
    let attended = tokio::select! {
        failed = attend(&world, &announcement.processes, output) => failed,
        () = interrupt.wait() => Ok(()),
    };
    let step = output.step("stopping everything");
    world.stop().await?;
    drop(step);
    attended
}

/// Keeps the world's list of processes true, and says when one of them has ended and when it is back. Ends when the list
/// cannot be written.
async fn attend(world: &World, started: &[(String, u32)], output: Output) -> anyhow::Result<()> {
    let mut known: BTreeMap<String, u32> = started.iter().cloned().collect();
    let mut look = tokio::time::interval(PROCESS_LOOK_INTERVAL);
    loop {
        look.tick().await;
        let processes = world.processes();
        let now: BTreeMap<String, u32> = processes.iter().cloned().collect();
        if now == known {
            continue;
        }
        for change in changes(&known, &now) {
            output.say(change);
        }
        world.layout.write_processes(&processes)?;
        known = now;
    }
}

fn changes(before: &BTreeMap<String, u32>, now: &BTreeMap<String, u32>) -> Vec<String> {
    let names = before.keys().chain(now.keys().filter(|name| !before.contains_key(*name)));
    names
        .filter_map(|name| match (before.get(name), now.get(name)) {
            (Some(pid), None) => {
                Some(format!("{name} (process {pid}) has ended, it is being started again"))
            }
            (old, Some(pid)) if old != Some(pid) => Some(format!("{name} is back (process {pid})")),
            (Some(_) | None, Some(_)) | (None, None) => None,
        })
        .collect()
}

/// Runs a service until it ends by itself, or until Ctrl-C or SIGTERM asks it to.
pub(crate) async fn until_interrupted<F>(
    service: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let shutdown = CancellationToken::new();
    let mut interrupt = Interrupt::listen()?;
    let mut service = std::pin::pin!(service(shutdown.clone()));
    tokio::select! {
        outcome = &mut service => return outcome,
        () = interrupt.wait() => shutdown.cancel(),
    }
    service.await
}

/// Ctrl-C or a supervisor's SIGTERM.
#[derive(Debug)]
pub(crate) struct Interrupt {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupt {
    pub(crate) fn listen() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn announce(world: &Announcement) -> String {
    let mut rows: Vec<(&str, String)> =
        world.endpoints.iter().map(|(name, url)| (*name, url.to_string())).collect();
    for (name, url) in &world.nodes {
        rows.push((name, url.to_string()));
    }
    rows.push(("offer (token)", world.token_offer.to_string()));
    rows.push(("offer (native)", world.native_offer.to_string()));
    let accounts = table(
        ["account", "address", "private key"],
        world.accounts.iter().map(|account| {
            [account.name.clone(), account.address.to_string(), account.private_key.to_string()]
        }),
    );
    format!(
        "{}\n\nFunded accounts. Their keys are anvil's public development keys: never send anything of value to them.\n{}\n\n\
         In another shell:\n  export AUSPEX_WORLD={}\n  auspex request submit --offer {} --input \"How does a refund work?\" --as requester --wait\n\nCtrl-C stops everything; the same command resumes.",
        fields(rows),
        accounts,
        world.world_file.display(),
        world.native_offer,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_and_the_return_of_a_process_are_told() {
        let list = |entries: &[(&str, u32)]| {
            entries.iter().map(|(name, pid)| ((*name).to_owned(), *pid)).collect()
        };
        let before: BTreeMap<_, _> = list(&[("broker", 1), ("chain", 2), ("indexer", 3)]);
        let now = list(&[("broker", 1), ("indexer", 4), ("postgres", 5)]);
        assert_eq!(
            changes(&before, &now),
            [
                "chain (process 2) has ended, it is being started again",
                "indexer is back (process 4)",
                "postgres is back (process 5)",
            ]
        );
        assert!(changes(&before, &before).is_empty());
    }
}
