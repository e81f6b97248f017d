//! How long the first request takes after a model is ready, in a process that has run nothing before.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use auspex_inference::{DeviceChoice, Engine};

/// A question of usual length.
const TEXT: &str =
    "Which operator refunds a request whose answers do not agree before its deadline?";

/// Start one engine, embed one text, and print the milliseconds that the text took. `inference` runs this
/// in processes of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// all-MiniLM-L6-v2, as `auspex setup` installs it.
    #[arg(long)]
    model: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    use std::io::Write;

    let engine = Engine::start(&arguments.model, DeviceChoice::Cpu).context("start the model")?;
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let started = Instant::now();
    let vectors = runtime.block_on(engine.embed(vec![TEXT.to_owned()])).context("embed")?;
    let elapsed = started.elapsed();
    ensure!(vectors.len() == 1, "one text has {} vectors", vectors.len());
    writeln!(std::io::stdout(), "{}", elapsed.as_secs_f64() * 1e3)?;
    Ok(())
}

/// Milliseconds of the first request of a fresh process.
pub(crate) fn measure(model: &Path) -> anyhow::Result<f64> {
    let program = std::env::current_exe().context("find this program")?;
    let output = Command::new(program)
        .arg("first-request")
        .arg("--model")
        .arg(model)
        .output()
        .context("start a process for the first request")?;
    ensure!(
        output.status.success(),
        "the first request failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("read {text:?} as milliseconds"))
}
