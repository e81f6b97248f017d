//! `auspex oracle`: one operator's node.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use auspex_oracle::answer::written::Writer;
use auspex_oracle::config::{Config, SecretUrl};
use auspex_oracle::node;
use auspex_oracle::openai::remote::Remote;
use clap::{Args, Subcommand, ValueEnum};
use secrecy::{ExposeSecret, SecretString};

use crate::command::corpus;
use crate::command::dev::until_interrupted;
use crate::command::model::ModelArguments;
use crate::command::model::decoder::DecoderArguments;
use crate::command::model::serve::key_of;
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
    #[command(flatten)]
    writer: WriterArguments,
}

/// Who answers.
#[derive(Debug, Args)]
struct WriterArguments {
    /// What answers are: sentences of the corpus, or what a model writes from its passages.
    #[arg(long, env = "AUSPEX_ORACLE_ANSWERER", default_value = "extractive")]
    answerer: Kind,
    #[command(flatten)]
    decoder: DecoderArguments,
    /// Base URL of a server with OpenAI's interface, such as http://127.0.0.1:11434/v1.
    #[arg(
        long,
        env = "AUSPEX_ORACLE_REMOTE_URL",
        hide_env_values = true,
        required_if_eq("answerer", "remote")
    )]
    remote_url: Option<SecretUrl>,
    /// The model's name on that server.
    #[arg(long, env = "AUSPEX_ORACLE_REMOTE_MODEL", required_if_eq("answerer", "remote"))]
    remote_model: Option<String>,
    /// File (mode 0400) with the key for that server.
    #[arg(long, env = "AUSPEX_ORACLE_REMOTE_KEY_FILE")]
    remote_key_file: Option<PathBuf>,
    /// Seconds that one answer of that server may take.
    #[arg(long, env = "AUSPEX_ORACLE_REMOTE_TIMEOUT", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    remote_timeout: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Sentences of the corpus, word for word.
    Extractive,
    /// What a local decoder writes; operators of one set run the same model with the same weights.
    Generative,
    /// What a model on somebody's server writes, for operator sets of one.
    Remote,
}

impl WriterArguments {
    async fn writer(&self) -> anyhow::Result<Option<Writer>> {
        match self.answerer {
            Kind::Extractive => Ok(None),
            Kind::Generative => Ok(Some(Writer::Local(self.decoder.required().await?))),
            Kind::Remote => {
                let url = self.remote_url.clone().context("--remote-url is missing")?;
                let model = self.remote_model.clone().context("--remote-model is missing")?;
                let key = self.remote_key_file.as_deref().map(key_of).transpose()?;
                let timeout = Duration::from_secs(self.remote_timeout);
                Ok(Some(Writer::Remote(Remote::new(url, key, model, timeout)?)))
            }
        }
    }
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
    let writer = arguments.writer.writer().await?;
    config.corpus.get_or_insert_with(|| corpus::DEFAULT_CORPUS.to_owned());
    let outcome = until_interrupted(|shutdown| node::run(config, embedder, writer, shutdown)).await;
    database.close().await?;
    outcome
}
