//! `auspex oracle`: one operator's node.

use auspex_oracle::config::{Config, SecretUrl};
use auspex_oracle::node;
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};

use crate::command::corpus;
use crate::command::dev::until_interrupted;
use crate::command::model::ModelArguments;
use crate::database::Database;

#[derive(Debug, Subcommand)]
pub(crate) enum OracleCommand {
    /// Answer requests as one operator.
    #[command(
        after_help = "Example:\n  auspex oracle run --owner 0x70.. --rpc-url http://127.0.0.1:8545 --indexer-url http://127.0.0.1:8080 \\\n    --deployment deployment.json --signer-keystore keys/signer.json --signer-password-file password \\\n    --transmitter-keystore keys/transmitter.json --transmitter-password-file password"
    )]
    Run(Box<RunArguments>),
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    config: Config,
    #[command(flatten)]
    model: ModelArguments,
}

pub(crate) async fn run(command: OracleCommand) -> anyhow::Result<()> {
    match command {
        OracleCommand::Run(arguments) => serve(*arguments).await,
    }
}

async fn serve(arguments: RunArguments) -> anyhow::Result<()> {
    let mut config = arguments.config;
    let given = config.database_url.as_ref().map(|url| SecretString::from(url.reveal().as_str()));
    let database = Database::open(given.as_ref(), &corpus::private_directory()).await?;
    database.migrated().await?.close().await;
    let url = database.url().expose_secret().parse();
    config.database_url = Some(SecretUrl::new(url.map_err(|_| {
        anyhow::anyhow!(
            "--database-url is not a PostgreSQL URL; expected postgres://user@host:port/database"
        )
    })?));
    let embedder = corpus::load(&arguments.model).await?;
    config.corpus.get_or_insert_with(|| corpus::DEFAULT_CORPUS.to_owned());
    let outcome = until_interrupted(|shutdown| node::run(config, embedder, shutdown)).await;
    database.close().await?;
    outcome
}
