//! The node that is measured, as a process of its own, so that its time and memory are its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use alloy::primitives::{B256, keccak256};
use anyhow::Context;
use auspex_inference::{DeviceChoice, Engine};
use auspex_oracle::answerer::{Answerer, Draft, Extractive, Pins, Question};
use auspex_oracle::config::Config;
use auspex_oracle::corpus::{self, Embedder};
use auspex_oracle::document::Document;
use auspex_oracle::node::Node;
use futures::FutureExt;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

const CORPUS: &str = "bench";

/// Run a node until it is killed: the process that is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: Config,
    /// Folder with the MiniLM model; without it the answer is the question.
    #[arg(long)]
    model: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let answerer = match arguments.model {
        None => repeating(),
        Some(model) => extractive(&arguments.config, model).await?,
    };
    Node::prepare(arguments.config, answerer).await?.run(CancellationToken::new()).await
}

fn repeating() -> Answerer {
    let pins = Pins { corpus_root: B256::ZERO, model_hash: B256::repeat_byte(2) };
    let answer = |question: Question| {
        async move {
            let text = String::from_utf8_lossy(&question.input).into_owned();
            let answer = serde_json::json!({ "text": text }).to_string();
            Ok(Draft::Answered {
                output_hash: keccak256(answer.as_bytes()),
                answer,
                trace_root: B256::ZERO,
                retrieval_root: B256::repeat_byte(3),
                model_hash: B256::repeat_byte(2),
            })
        }
        .boxed()
    };
    Answerer::Function { pins, answer: Arc::new(answer) }
}

/// The sentences of this project's own documents.
async fn extractive(config: &Config, model: PathBuf) -> anyhow::Result<Answerer> {
    let started = tokio::task::spawn_blocking(move || Engine::start(&model, DeviceChoice::Cpu));
    let engine = started.await.context("start the model")??;
    let embedder = Embedder::of_engine(&engine);
    let url = config.database_url.as_ref().context("--database-url is missing")?;
    let pool = PgPool::connect(url.reveal().as_str()).await.context("connect to the database")?;
    let corpus = corpus::create(&pool, CORPUS, &embedder).await?;
    for document in ["ARCHITECTURE.md", "docs/operator.md", "docs/indexer.md"] {
        let bytes = std::fs::read(document).with_context(|| format!("read {document}"))?;
        let read = Document::read(document, None, &bytes)?;
        corpus::add(&pool, &corpus, &embedder, read, bytes.len() as u64, |_| ()).await?;
    }
    Ok(Answerer::Extractive(Extractive { pool, embedder, default_corpus: Some(CORPUS.to_owned()) }))
}

/// A running node. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn start(arguments: &[String]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("start the node")?;
        Ok(Self { child })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Memory that the process holds now, in MiB.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|text| text.split_whitespace().next()).context("read VmRSS")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
