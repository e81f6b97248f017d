//! `auspex oracle`: one operator's node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use auspex_devnet::process::{Process, ProcessConfig, Restart};
use auspex_inference::DeviceChoice;
use auspex_oracle::answer::written::Writer;
use auspex_oracle::config::{Config, SecretUrl};
use auspex_oracle::corpus::Embedder;
use auspex_oracle::keys::{file, memory};
use auspex_oracle::limits::{
    EMBEDDING_SILENCE_MAX, EMBEDDING_START_TIMEOUT, MODEL_DEVICE_RETRY, WRITING_SILENCE_MAX,
    WRITING_START_TIMEOUT,
};
use auspex_oracle::model::process::ModelProcess;
use auspex_oracle::node;
use auspex_oracle::openai::remote::Remote;
use auspex_oracle::signer::config::KeyOptions;
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
    keys: KeyOptions,
    /// Where the node's own signer keeps its socket and its log, when the keystores are named and --signer-socket is not.
    #[arg(long, env = "AUSPEX_SIGNER_DIRECTORY")]
    signer_directory: Option<PathBuf>,
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
            Kind::Generative => {
                let writer = writing_process(&self.decoder)?.writer();
                Ok(Some(Writer::Local(writer.await.context("start the writing model")?)))
            }
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
    // Passwords of the database and the broker are in here, and so are plain keys on a development chain.
    memory::protect()?;
    let mut config = arguments.config;
    let own_signer = match config.signer_socket.is_none() && !arguments.keys.is_empty() {
        true => {
            let folder = arguments.signer_directory.unwrap_or_else(|| {
                corpus::private_directory().join(format!("signer-{}", config.owner))
            });
            Some(start_signer(&mut config, &arguments.keys, &folder)?)
        }
        false => None,
    };
    let given = config.database_url.as_ref().map(|url| SecretString::from(url.reveal().as_str()));
    let database = Database::open(given.as_ref(), &corpus::private_directory()).await?;
    database.migrated().await?.close().await;
    let url = database.url().expose_secret().parse();
    config.database_url = Some(SecretUrl::new(url.map_err(|_| {
        anyhow::anyhow!(
            "--database-url is not a PostgreSQL URL; expected postgres://user@host:port/database"
        )
    })?));
    let embedder = start_model(&arguments.model).await?;
    let writer = arguments.writer.writer().await?;
    config.corpus.get_or_insert_with(|| corpus::DEFAULT_CORPUS.to_owned());
    let outcome = until_interrupted(|shutdown| node::run(config, embedder, writer, shutdown)).await;
    database.close().await?;
    if let Some(signer) = own_signer {
        signer.stop().await;
    }
    outcome
}

/// Starts the model in a process of its own, which may die without taking the node with it.
async fn start_model(model: &ModelArguments) -> anyhow::Result<Embedder> {
    let arguments = vec![
        "model".into(),
        "worker".into(),
        "--model-dir".into(),
        model.directory().await?.into(),
        "--profile".into(),
        model.profile().to_string().into(),
        "--device".into(),
    ];
    let process = ModelProcess {
        name: "embedding",
        program: own_program()?,
        arguments,
        devices: devices(model.device),
        start_timeout: EMBEDDING_START_TIMEOUT,
        silence_max: EMBEDDING_SILENCE_MAX,
        device_retry: MODEL_DEVICE_RETRY,
    };
    process.embedder().await
}

/// The same for the model that writes.
fn writing_process(decoder: &DecoderArguments) -> anyhow::Result<ModelProcess> {
    let arguments = vec![
        "model".into(),
        "writer".into(),
        "--decoder-dir".into(),
        decoder.directory()?.into(),
        "--weights".into(),
        decoder.weights.to_string().into(),
        "--cache-tokens".into(),
        decoder.cache_tokens.to_string().into(),
        "--decoder-device".into(),
    ];
    Ok(ModelProcess {
        name: "writing",
        program: own_program()?,
        arguments,
        devices: devices(decoder.decoder_device),
        start_timeout: WRITING_START_TIMEOUT,
        silence_max: WRITING_SILENCE_MAX,
        device_retry: MODEL_DEVICE_RETRY,
    })
}

/// The device that was chosen, and the CPU for when it fails.
fn devices(chosen: DeviceChoice) -> Vec<String> {
    let mut devices = vec![chosen.to_string()];
    if chosen != DeviceChoice::Cpu {
        devices.push(DeviceChoice::Cpu.to_string());
    }
    devices
}

fn own_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("find this program's own file")
}

/// Starts a signer process for this node alone. It is started again when it ends, and ends with the node.
fn start_signer(config: &mut Config, keys: &KeyOptions, folder: &Path) -> anyhow::Result<Process> {
    file::private_directory(folder)?;
    let socket = folder.join("signer.sock");
    let program = own_program()?;
    let mut process = ProcessConfig::new("signer", program, folder.join("output.log"));
    process.args = vec!["operator".into(), "signer".into()];
    process.args.extend(keys.arguments());
    for (option, path) in [
        ("--socket", &socket),
        ("--log", &folder.join("promises.log")),
        ("--deployment", &config.deployment),
    ] {
        process.args.extend([option.into(), path.as_os_str().to_owned()]);
    }
    process.args.extend(["--fee-cap".into(), config.fee_cap.to_string().into()]);
    if let Some(url) = &keys.web3signer_url {
        process.env.push(("AUSPEX_WEB3SIGNER_URL".into(), url.reveal().as_str().into()));
    }
    if let Some(url) = &keys.kms_endpoint {
        process.env.push(("AWS_ENDPOINT_URL_KMS".into(), url.reveal().as_str().into()));
    }
    process.restart = Restart::always();
    config.signer_socket = Some(socket);
    Process::start(process)
        .with_context(|| format!("start the signer; its output is in {}", folder.display()))
}
