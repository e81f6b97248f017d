//! Runs a command with `DATABASE_URL` naming a private database that has all migrations, and removes it afterwards. For tools
//! that need a database only while they run, such as `cargo sqlx prepare`.

use std::process::ExitCode;

use anyhow::Context;
use auspex_devnet::postgres::TestDatabase;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().context("usage: with-database COMMAND [ARGUMENT ...]")?;
    let database = TestDatabase::create().await.context("start a private database")?;
    let status = tokio::process::Command::new(&program)
        .args(arguments)
        .env("DATABASE_URL", database.url())
        .status()
        .await
        .with_context(|| format!("run {}", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
