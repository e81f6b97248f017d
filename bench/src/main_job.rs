//! Measures the main job in a world of its own: how long one request takes from being sent to being settled, and how many
//! requests one quorum settles per second.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::report::{Report, Row, median, percentile};
use crate::world::World;

/// The bar of the project: from request to settled with 1-second blocks.
const LATENCY_BAR_S: f64 = 5.0;
const QUESTION: &str = "How does the indexer follow a reorg?";

/// Measure the main job. Needs `auspex` beside this program, as `cargo build --workspace` leaves it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Requests that are sent one after the other.
    #[arg(long, default_value_t = 20)]
    single: usize,
    /// Requests that are sent at once.
    #[arg(long, default_value_t = 40)]
    burst: usize,
    /// Where the world lives while it is measured.
    #[arg(long, default_value = "target/bench/world")]
    directory: std::path::PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let starting = Instant::now();
    let world = World::start(&arguments.directory)?;
    let start_s = starting.elapsed().as_secs_f64();

    let mut latencies = Vec::new();
    for _ in 0..arguments.single {
        let sent = Instant::now();
        let request = world.submit(QUESTION)?;
        world.settled(&request)?;
        latencies.push(sent.elapsed().as_secs_f64());
    }

    let mut requests = Vec::new();
    for _ in 0..arguments.burst {
        requests.push(world.submit(QUESTION)?);
    }
    let burst_started = Instant::now();
    for request in &requests {
        world.settled(request)?;
    }
    let burst = burst_started.elapsed().max(Duration::from_millis(1));

    let report = Report::new(vec![
        Row::plain("world: start to ready", start_s, "s"),
        Row::with_bar("request: sent to settled, median", median(&latencies), "s", LATENCY_BAR_S),
        Row::with_bar(
            "request: sent to settled, p95",
            percentile(&latencies, 95),
            "s",
            LATENCY_BAR_S,
        ),
        Row::plain(
            "settled after the last of a burst was sent",
            arguments.burst as f64 / burst.as_secs_f64(),
            "requests/s",
        ),
    ]);
    report.write("main-job").context("write the report")?;
    report.print()
}
