//! Measures models on a GPU beside what the GPU reaches by itself. It makes the weights it needs, in the true shapes,
//! and needs no network. Prints a table and writes `target/bench/gpu.json`; where no GPU is there, its rows stay open.

// wgpu's types nest deeper than the compiler's default allows.
#![recursion_limit = "256"]

mod decoder;
mod encoder;
mod shapes;
#[allow(dead_code, reason = "the table of the indexer's bench, of which this one needs a part")]
#[path = "../indexer/table.rs"]
mod table;
mod weights;

use anyhow::{Context, bail};
use auspex_inference::{
    DeviceChoice, DeviceLimits, Effort, MeasureError, adapters, measure_device,
};
use clap::Parser;

use crate::shapes::Shapes;
use crate::table::{Row, Table};

/// Measure models on a GPU.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which GPU: auto, or wgpu:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Run tiny models on a software adapter, to try the bench itself; its figures mean nothing, and go into
    /// target/bench/gpu-software.json.
    #[arg(long)]
    software: bool,
    /// How often each figure is measured; the median counts.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

/// What every part of the bench measures with.
struct Bench {
    device: DeviceChoice,
    shapes: Shapes,
    limits: DeviceLimits,
    rounds: usize,
}

/// Bars of issue and README: least shares of the device's own limits, and the longest first request.
const F16_SHARE_MIN: f64 = 33.0;
const READ_SHARE_MIN: f64 = 40.0;
const FIRST_REQUEST_MS_MAX: f64 = 100.0;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (device, shapes, effort) = if arguments.software {
        let software = adapters().into_iter().find(|adapter| adapter.software);
        let number = software.context("no software Vulkan is here; run scripts/install-vulkan")?;
        let device = DeviceChoice::Wgpu(Some(number.number));
        let effort = Effort { buffer_bytes: 16 << 20, side: 256, rounds: 3 };
        (device, Shapes::tiny(), effort)
    } else {
        let effort = Effort { buffer_bytes: 1 << 30, side: 4096, rounds: 10 };
        (arguments.device, Shapes::published(), effort)
    };
    let limits = match measure_device(device, effort) {
        Ok(limits) => limits,
        Err(MeasureError::NoGpu(_)) => return leave_open(),
        Err(error) => bail!(error),
    };
    let rounds = arguments.rounds.max(1);
    let mut table = Table::of(&limits.name);
    let bench = Bench { device, shapes, limits, rounds };
    let folder = tempfile::tempdir().context("make a folder for weights")?;
    for row in bench.rows(folder.path())? {
        // The shapes of a trial have no bars to meet.
        table.push(if arguments.software { row.without_bar() } else { row });
    }
    table.write(if arguments.software { "gpu-software" } else { "gpu" })?;
    table.print()
}

impl Bench {
    fn rows(&self, folder: &std::path::Path) -> anyhow::Result<Vec<Row>> {
        let read = self.limits.read_bytes_per_second;
        let mut rows = vec![Row::plain("machine: reading memory", read / 1e9, "GB/s")];
        if let Some(operations) = self.limits.f16_operations_per_second {
            rows.push(Row::plain("machine: product in f16 (burn)", operations / 1e12, "TFLOP/s"));
        }
        eprintln!("{}: {:.1} GB/s; models follow", self.limits.name, read / 1e9);
        rows.extend(encoder::measure(self, folder)?);
        rows.extend(decoder::measure(self, folder)?);
        Ok(rows)
    }
}

/// The rows of a machine without a GPU.
fn leave_open() -> anyhow::Result<()> {
    eprintln!(
        "no GPU is here, the rows stay open; copy target/bench/auspex-bench-gpu to a machine that has one, or try \
         the bench itself with --software"
    );
    let mut table = Table::of("no GPU");
    for (name, unit, bar) in [
        (encoder::SHARE, "%", F16_SHARE_MIN),
        (decoder::LLAMA_SHARE, "%", READ_SHARE_MIN),
        (encoder::FIRST, "ms", FIRST_REQUEST_MS_MAX),
        (decoder::LLAMA_FIRST, "ms", FIRST_REQUEST_MS_MAX),
    ] {
        let row = match unit {
            "ms" => Row::at_most(name, f64::NAN, unit, bar),
            _ => Row::at_least(name, f64::NAN, unit, bar),
        };
        table.push(row.open());
    }
    table.write("gpu")?;
    table.print()
}

/// The middle value.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
