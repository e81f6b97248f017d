//! `auspex operator drain`: stopping a node without leaving a request behind.

use std::time::Duration;

use anyhow::{Context, bail};
use auspex_oracle::drain::{self, Progress};
use clap::Args;
use secrecy::SecretString;

use crate::connection::ConnectionArguments;
use crate::database::Database;
use crate::output::{Output, fields};

/// Between two looks at what is left.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(crate) struct DrainArguments {
    /// The operator's database; without it, that of the world's operator that --as names, or of its first.
    #[arg(long, env = "AUSPEX_ORACLE_DATABASE_URL", hide_env_values = true)]
    database_url: Option<SecretString>,
    /// Begin new requests again.
    #[arg(long)]
    resume: bool,
    /// Seconds to wait until everything promised is final.
    #[arg(long, default_value = "900")]
    timeout: u64,
}

pub(crate) async fn run(
    arguments: &DrainArguments,
    connection: &ConnectionArguments,
    output: Output,
) -> anyhow::Result<()> {
    let url = match &arguments.database_url {
        Some(url) => url.clone(),
        None => {
            let world = connection.world_file()?.context(
                "no database: give --database-url or AUSPEX_ORACLE_DATABASE_URL, or start `auspex dev` on this machine",
            )?;
            world.operator_database(connection.operator())?
        }
    };
    let pool = Database::given(url).migrated().await?;
    drain::set(&pool, !arguments.resume).await?;
    if arguments.resume {
        let progress = drain::progress(&pool).await?;
        return output.result(&progress, |_| "the node begins new requests again".to_owned());
    }
    let started = tokio::time::Instant::now();
    let mut shown = None;
    loop {
        let progress = drain::progress(&pool).await?;
        if progress.is_done() {
            return output.result(&progress, |progress| {
                format!(
                    "{}\nnothing waits for the node: it can be stopped. `auspex operator drain --resume` lets it begin again",
                    show(progress)
                )
            });
        }
        if shown != Some(progress) {
            output.say(format!(
                "waiting for {} requests and {} transactions to become final",
                progress.promised, progress.transactions
            ));
            shown = Some(progress);
        }
        if Duration::from_secs(arguments.timeout) < started.elapsed() {
            bail!(
                "--timeout: after {} s, {} requests and {} transactions are not final; the node still begins nothing new",
                arguments.timeout,
                progress.promised,
                progress.transactions
            );
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn show(progress: &Progress) -> String {
    fields([
        ("requests not begun", progress.not_begun.to_string()),
        ("requests promised", progress.promised.to_string()),
        ("transactions under way", progress.transactions.to_string()),
    ])
}
