//! Measures the node of one operator: a real chain with the contracts, a real PostgreSQL, the node in a process of its own.
//! Its model repeats the question, so that what is measured is the node; one part runs it with MiniLM. Prints a table and
//! writes `target/bench/oracle.json`.

// wgpu's types nest deeper than the compiler's default allows.
#![recursion_limit = "256"]

mod listing;
mod node;
mod parts;
mod processor;
#[allow(dead_code, reason = "the scene of the node's tests; a bench needs a part of it")]
#[path = "../../../oracle/tests/it/scene/mod.rs"]
mod scene;
mod stages;
#[allow(dead_code, reason = "the table of the indexer's bench, of which this one needs a part")]
#[path = "../indexer/table.rs"]
mod table;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::table::Table;

/// Measure the oracle node.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Requests that are paid for at once.
    #[arg(long, default_value_t = 2_000)]
    burst: usize,
    /// Requests of the part that watches the node's memory; with 0 it is left out.
    #[arg(long, default_value_t = 0)]
    requests: usize,
    /// Requests per second of the steady part.
    #[arg(long, default_value_t = 200)]
    rate: usize,
    /// Seconds of the steady part.
    #[arg(long, default_value_t = 20)]
    seconds: usize,
    /// Times that the node is cut off from its database and its chain.
    #[arg(long, default_value_t = 20)]
    cuts: usize,
    /// Folder of the MiniLM model; without it that part is left out.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Measure only these parts.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Burst,
    Steady,
    Memory,
    Recovery,
    Model,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(hide = true)]
    Node(Box<node::Arguments>),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.command {
            Some(Command::Node(arguments)) => node::run(*arguments).await,
            None => measure(&arguments).await,
        }
    })
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let wants = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let mut table = Table::default();
    if wants(Part::Burst) {
        parts::burst(&mut table, arguments.burst).await?;
    }
    if wants(Part::Steady) {
        parts::steady(&mut table, arguments.rate, arguments.seconds).await?;
    }
    if wants(Part::Memory) && 0 < arguments.requests {
        parts::memory(&mut table, arguments.requests).await?;
    }
    if wants(Part::Recovery) {
        parts::recovery(&mut table, arguments.cuts).await?;
    }
    if let (true, Some(model)) = (wants(Part::Model), &arguments.model) {
        parts::model(&mut table, model).await?;
    }
    table.write("oracle")?;
    table.print()
}
