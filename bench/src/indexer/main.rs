//! Measures the indexer: chains that are built beforehand are served by a replay node, the indexer's own run loop follows
//! them in a process of its own into a real PostgreSQL, and PostgreSQL's COPY of the same rows is the ceiling. Prints a
//! table and writes `target/bench/indexer.json`.

mod ceiling;
mod chain;
mod database;
mod ponder;
mod process;
mod serving;
mod table;
mod tip;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use auspex_devnet::replay::{Branch, Faults, Replay};
use auspex_indexer::config::IndexerConfig;
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::database::Database;
use crate::process::{Indexer, Settings, Usage};
use crate::table::{Row, Table};

/// The bars of the project, on two cores.
const LINKED_EVENTS_BAR: f64 = 71_000.0;
const LINKED_RATIO_BAR: f64 = 0.17;
const FULL_EVENTS_BAR: f64 = 25_000.0;
const SLOW_RATIO_BAR: f64 = 0.8;
const OWN_EVENTS_BAR: f64 = 25_000.0;
const MEMORY_MIB_BAR: f64 = 150.0;

/// Measure the indexer.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Blocks of the chain of transfers.
    #[arg(long, default_value_t = 20_000)]
    blocks: u64,
    /// Transfers in each of its blocks.
    #[arg(long, default_value_t = 10)]
    transfers: u64,
    /// Blocks of the chain of our own contracts' events; six events each.
    #[arg(long, default_value_t = 20_000)]
    own_blocks: u64,
    /// Measure only these parts.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Linked,
    Full,
    Slow,
    Own,
    Tip,
    Serving,
    Ponder,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow, as `auspex indexer run` does: the process that is measured.
    #[command(hide = true)]
    Follow(Box<IndexerConfig>),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.command {
            Some(Command::Follow(config)) => follow(*config).await,
            None => measure(&arguments).await,
        }
    })
}

/// Runs the indexer until it is killed, and says where it listens.
async fn follow(config: IndexerConfig) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("bind a port")?;
    process::announce(listener.local_addr()?)?;
    auspex_indexer::run::run(config, listener, CancellationToken::new()).await
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let wants = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let directory = PathBuf::from("target/bench/indexer");
    let server = database::Server::start(&directory).await?;
    let mut table = Table::default();

    let transfers = chain::transfers(arguments.blocks, arguments.transfers)?;
    let events = chain::events(&transfers) as f64;
    let mut linked_rate = None;
    if wants(Part::Linked) || wants(Part::Slow) || wants(Part::Ponder) {
        let database = server.database("linked").await?;
        let backfill = backfill(&transfers, &database, &Settings::linked(), Duration::ZERO).await?;
        let rate = events / backfill.seconds;
        linked_rate = Some(rate);
        let ceiling = events / ceiling::copy(&database).await?;
        table.push(Row::plain("ceiling: COPY of the same rows", ceiling, "events/s"));
        table.push(Row::at_least("linked, 0 ms", rate, "events/s", LINKED_EVENTS_BAR));
        table.push(Row::at_least(
            "linked, 0 ms: share of COPY",
            rate / ceiling,
            "",
            LINKED_RATIO_BAR,
        ));
        push_usage(&mut table, "linked, 0 ms", &backfill, arguments.blocks);
        table.push(Row::at_most(
            "linked, 0 ms: peak memory",
            backfill.usage.peak_mib,
            "MiB",
            MEMORY_MIB_BAR,
        ));
        if wants(Part::Ponder) {
            let peers = server.database("ponder").await?;
            // What a peer does not finish takes nothing from our own figures.
            let measured = ponder::measure(&transfers, &peers, &database, rate, &mut table).await;
            if let Err(error) = measured {
                eprintln!("Ponder is left out: {error:#}");
            }
        }
    }
    if wants(Part::Full) {
        let database = server.database("proved").await?;
        let backfill = backfill(&transfers, &database, &Settings::full(), Duration::ZERO).await?;
        let rate = events / backfill.seconds;
        table.push(Row::at_least("full, 0 ms", rate, "events/s", FULL_EVENTS_BAR));
        push_usage(&mut table, "full, 0 ms", &backfill, arguments.blocks);
        table.push(Row::at_most(
            "full, 0 ms: peak memory",
            backfill.usage.peak_mib,
            "MiB",
            MEMORY_MIB_BAR,
        ));
    }
    if wants(Part::Slow) {
        let database = server.database("slow").await?;
        let latency = Duration::from_millis(50);
        let backfill = backfill(&transfers, &database, &Settings::linked(), latency).await?;
        let rate = events / backfill.seconds;
        table.push(Row::plain("linked, 50 ms", rate, "events/s"));
        if let Some(fast) = linked_rate {
            let ratio = rate / fast;
            table.push(Row::at_least("linked, 50 ms: share of 0 ms", ratio, "", SLOW_RATIO_BAR));
        }
    }
    drop(transfers);
    if wants(Part::Own) || wants(Part::Serving) {
        let own = chain::own(arguments.own_blocks)?;
        let events = chain::events(&own) as f64;
        let database = server.database("own").await?;
        let backfill = backfill(&own, &database, &Settings::linked(), Duration::ZERO).await?;
        let rate = events / backfill.seconds;
        let name = "own contracts with all projections";
        table.push(Row::at_least(name, rate, "events/s", OWN_EVENTS_BAR));
        push_usage(&mut table, name, &backfill, arguments.own_blocks);
        let memory = format!("{name}: peak memory");
        table.push(Row::at_most(memory, backfill.usage.peak_mib, "MiB", MEMORY_MIB_BAR));
        let ceiling = events / ceiling::copy(&database).await?;
        table.push(Row::plain("own contracts: COPY of the same facts alone", ceiling, "events/s"));
        table.push(Row::plain("own contracts: share of that COPY", rate / ceiling, ""));
        if wants(Part::Serving) {
            serving::measure(&own, &database, &mut table).await?;
        }
    }
    if wants(Part::Tip) {
        tip::measure(&server, &mut table).await?;
    }
    server.stop().await?;
    table.write("indexer").context("write the report")?;
    table.print()
}

struct Backfill {
    seconds: f64,
    usage: Usage,
    requests: u64,
    bytes: u64,
}

/// From the start of the process to the last row.
async fn backfill(
    branch: &Branch,
    database: &Database,
    settings: &Settings,
    latency: Duration,
) -> anyhow::Result<Backfill> {
    // Everything is final, so that everything is backfill.
    let node = Replay::start(chain::CHAIN_ID, branch.clone(), branch.head(), (0, 0)).await?;
    node.set_faults(Faults { latency, ..Faults::default() });
    let indexer = Indexer::start(database, node.url(), settings).await?;
    let elapsed = database.wait_for_block(branch.head(), indexer.started()).await?;
    let usage = indexer.stop()?;
    let traffic = node.take_traffic();
    let stored = database.facts().await?;
    let expected = chain::events(branch);
    ensure!(stored == expected, "{stored} facts are stored, the chain has {expected}");
    Ok(Backfill {
        seconds: elapsed.as_secs_f64(),
        usage,
        requests: traffic.requests,
        bytes: traffic.bytes,
    })
}

fn push_usage(table: &mut Table, name: &str, backfill: &Backfill, blocks: u64) {
    let mib = backfill.bytes as f64 / (1024.0 * 1024.0);
    table.push(Row::plain(format!("{name}: blocks"), blocks as f64 / backfill.seconds, "blocks/s"));
    table.push(Row::plain(format!("{name}: CPU of the process"), backfill.usage.cpu_seconds, "s"));
    table.push(Row::plain(format!("{name}: requests"), backfill.requests as f64, ""));
    table.push(Row::plain(format!("{name}: read"), mib, "MiB"));
}
