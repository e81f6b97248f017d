//! `auspex model serve`: models behind OpenAI's interface.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use auspex_inference::{Profile, Reranker};
use auspex_oracle::keys::file::read_secret;
use auspex_oracle::openai::serve::{Models, serve};
use clap::Args;
use secrecy::SecretString;
use tokio::net::TcpListener;

use super::ModelArguments;
use super::decoder::DecoderArguments;
use crate::command::dev::until_interrupted;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    decoder: DecoderArguments,
    #[command(flatten)]
    model: ModelArguments,
    /// Serve no embeddings.
    #[arg(long)]
    no_embedding: bool,
    /// Directory of a cross-encoder (BERT with one label) for /v1/rerank; without one the embedding model ranks.
    #[arg(long, env = "AUSPEX_RERANKER_DIR")]
    reranker_dir: Option<PathBuf>,
    /// Its arithmetic, on the CPU: deterministic-cpu, deterministic-int8 or fast.
    #[arg(long, env = "AUSPEX_RERANKER_PROFILE", default_value = "deterministic-cpu")]
    reranker_profile: Profile,
    /// Where to listen.
    #[arg(long, env = "AUSPEX_SERVE_LISTEN", default_value = "127.0.0.1:8088")]
    listen: SocketAddr,
    /// File (mode 0400) with the key that clients send; needed beyond this machine.
    #[arg(long, env = "AUSPEX_SERVE_KEY_FILE")]
    key_file: Option<PathBuf>,
}

pub(crate) async fn run(arguments: ServeArguments, output: Output) -> anyhow::Result<()> {
    let key = arguments.key_file.as_deref().map(key_of).transpose()?;
    ensure!(
        key.is_some() || arguments.listen.ip().is_loopback(),
        "--listen {}: others could use the models; give a --key-file, or listen on 127.0.0.1",
        arguments.listen
    );
    let chat = arguments.decoder.start().await?;
    let chat = chat.map(|generator| {
        (name(arguments.decoder.decoder_dir.as_deref().unwrap_or(Path::new("decoder"))), generator)
    });
    let embedding = if arguments.no_embedding {
        None
    } else {
        let engine = arguments.model.start().await.context("start the embedding model")?;
        Some((name(&arguments.model.directory().await?), engine))
    };
    let reranking = match arguments.reranker_dir {
        Some(directory) => {
            let served = name(&directory);
            let profile = arguments.reranker_profile;
            let start = move || Reranker::start_profile(&directory, profile);
            let reranker = tokio::task::spawn_blocking(start).await;
            Some((served, reranker.context("start the cross-encoder")??))
        }
        None => None,
    };
    ensure!(
        chat.is_some() || embedding.is_some() || reranking.is_some(),
        "--no-embedding without --decoder-dir or --reranker-dir leaves no model"
    );
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("--listen: bind {}", arguments.listen))?;
    let names: Vec<&str> = chat
        .iter()
        .map(|(name, _)| name)
        .chain(embedding.iter().map(|(name, _)| name))
        .chain(reranking.iter().map(|(name, _)| name))
        .map(String::as_str)
        .collect();
    let address = listener.local_addr().context("read the listening address")?;
    output.say(format!("serving {} at http://{address}/v1", names.join(" and ")));
    let models = Models { chat, embedding, reranking, key };
    until_interrupted(|shutdown| serve(listener, models, shutdown)).await
}

/// A secret in a file: what stands on its first line.
pub(crate) fn key_of(path: &Path) -> anyhow::Result<SecretString> {
    let bytes = read_secret(path)?;
    let text = std::str::from_utf8(&bytes).context("the key is not UTF-8")?;
    let key = text.lines().next().unwrap_or_default().trim();
    ensure!(!key.is_empty(), "{}: is empty", path.display());
    Ok(SecretString::from(key))
}

/// A model's name is that of its directory.
fn name(directory: &Path) -> String {
    let canonical = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    canonical
        .file_name()
        .map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}
