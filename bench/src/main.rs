//! Measures Auspex, beside its peers where it has some. Prints a table and writes it to `target/bench/NAME.json`.

// wgpu's types nest deeper than the compiler's default allows.
#![recursion_limit = "256"]

mod inference;
mod main_job;
mod report;
mod world;

use clap::Parser;

/// Measure Auspex.
#[derive(Debug, Parser)]
enum Arguments {
    MainJob(main_job::Arguments),
    Inference(inference::Arguments),
    #[command(hide = true)]
    FirstRequest(inference::first::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse() {
        Arguments::MainJob(arguments) => main_job::run(&arguments),
        Arguments::Inference(arguments) => inference::run(&arguments),
        Arguments::FirstRequest(arguments) => inference::first::run(&arguments),
    }
}
