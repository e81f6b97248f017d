//! `auspex setup`: everything that the embedded world needs, installed once.

use auspex_devnet::provision::{Progress, Tools};
use clap::Args;

use crate::output::{Output, fields};

/// Install what is missing, with pinned versions and checked hashes. Running it again is instant.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  auspex setup")]
pub(crate) struct SetupCommand {}

pub(crate) async fn run(_: SetupCommand, output: Output) -> anyhow::Result<()> {
    let tools = Tools::locate_or_install(Progress::auto()).await?;
    let places = serde_json::json!({
        "postgresBin": tools.postgres_bin,
        "anvil": tools.anvil,
        "modelDir": tools.model_dir,
    });
    output.result(&places, |_| {
        fields([
            ("PostgreSQL with pgvector", tools.postgres_bin.display().to_string()),
            ("anvil", tools.anvil.display().to_string()),
            ("embedding model", tools.model_dir.display().to_string()),
        ])
    })
}
