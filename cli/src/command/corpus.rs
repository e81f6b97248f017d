//! `auspex corpus`: an operator's documents.

use std::path::{Path, PathBuf};

use alloy::primitives::B256;
use anyhow::{Context, bail};
use auspex_oracle::corpus::{self, Added, Corpus, Embedder};
use auspex_oracle::document::Document;
use auspex_oracle::retrieval;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::SecretString;
use serde::Serialize;
use sqlx::PgPool;

use crate::command::model::ModelArguments;
use crate::connection::WorldFile;
use crate::database::Database;
use crate::output::{Output, fields, table};

/// The corpus of an operator that names none.
pub(crate) const DEFAULT_CORPUS: &str = "default";

#[derive(Debug, Subcommand)]
pub(crate) enum CorpusCommand {
    /// Add documents (Markdown, plain text, HTML, PDF), or replace those of the same name.
    #[command(
        after_help = "Examples:\n  auspex corpus add docs/*.md handbook.pdf\n  auspex corpus add --corpus legal --database-url postgres://... contract.pdf"
    )]
    Add {
        /// Files to add.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        store: StoreArguments,
        #[command(flatten)]
        model: ModelArguments,
    },
    /// List corpora with the roots that offers pin, and the documents of one.
    #[command(
        after_help = "Examples:\n  auspex corpus list\n  auspex corpus list --world target/dev/world.json --operator operator-2"
    )]
    List {
        #[command(flatten)]
        store: StoreArguments,
    },
    /// Find the passages that fit a question best.
    #[command(
        after_help = "Example:\n  auspex corpus search \"How does a refund work?\" --limit 3"
    )]
    Search {
        question: String,
        /// Passages to show.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
        limit: u16,
        #[command(flatten)]
        store: StoreArguments,
        #[command(flatten)]
        model: ModelArguments,
    },
}

/// Which corpus, and where it is stored.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArguments {
    /// PostgreSQL with pgvector; a private one of the node's when neither this nor --world is given.
    #[arg(long, env = "AUSPEX_ORACLE_DATABASE_URL", hide_env_values = true)]
    database_url: Option<SecretString>,
    /// World file of `auspex dev`: the corpora are those of one of its operators.
    #[arg(long, env = "AUSPEX_WORLD", value_name = "FILE")]
    world: Option<PathBuf>,
    /// The operator in the world file.
    #[arg(long, value_name = "NAME", default_value = "operator-1")]
    operator: String,
    /// The corpus's name.
    #[arg(long, env = "AUSPEX_CORPUS", default_value = DEFAULT_CORPUS)]
    corpus: String,
}

impl StoreArguments {
    async fn open(&self) -> anyhow::Result<(Database, PgPool)> {
        let given = match (&self.database_url, &self.world) {
            (Some(url), _) => Some(url.clone()),
            (None, Some(world)) => Some(WorldFile::read(world)?.operator_database(&self.operator)?),
            (None, None) => None,
        };
        let database = Database::open(given.as_ref(), &private_directory()).await?;
        let pool = database.migrated().await?;
        Ok((database, pool))
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CorpusView {
    name: String,
    root: B256,
    model_hash: B256,
    chunks: i64,
    documents: Vec<DocumentView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DocumentView {
    name: String,
    hash: B256,
    media: String,
    bytes: i64,
    chunks: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HitView {
    document: String,
    section: String,
    start: u64,
    end: u64,
    score: u32,
    text: String,
}

pub(crate) async fn run(command: CorpusCommand, output: Output) -> anyhow::Result<()> {
    match command {
        CorpusCommand::Add { files, store, model } => {
            let (database, pool) = store.open().await?;
            let embedder = load(&model).await?;
            let root = add(&pool, &store.corpus, &embedder, &files, output).await?;
            database.close().await?;
            output.result(&serde_json::json!({"corpus": store.corpus, "root": root}), |_| {
                format!("corpus {} has root {root}\nnext: auspex offer publish --corpus-root {root} ...", store.corpus)
            })
        }
        CorpusCommand::List { store } => {
            let (database, pool) = store.open().await?;
            let corpora = list(&pool).await?;
            database.close().await?;
            output.result(&corpora, |corpora| {
                if corpora.is_empty() {
                    return "there is no corpus yet; `auspex corpus add FILE ...` makes one"
                        .to_owned();
                }
                let shown = corpora.iter().map(show_corpus).collect::<Vec<_>>();
                shown.join("\n\n")
            })
        }
        CorpusCommand::Search { question, limit, store, model } => {
            let (database, pool) = store.open().await?;
            let embedder = load(&model).await?;
            let corpus = corpus::find(&pool, &store.corpus).await?;
            let found =
                retrieval::search(&pool, &corpus, &embedder, &question, usize::from(limit)).await?;
            database.close().await?;
            let hits: Vec<HitView> = found
                .hits
                .into_iter()
                .map(|hit| HitView {
                    document: hit.chunk.document,
                    section: hit.chunk.section,
                    start: hit.chunk.span.start,
                    end: hit.chunk.span.end,
                    score: hit.score,
                    text: hit.chunk.text,
                })
                .collect();
            output.result(&hits, |hits| {
                table(
                    ["score", "document", "bytes", "text"],
                    hits.iter().map(|hit| {
                        [
                            format!("{:.3}", f64::from(hit.score) / 1e6),
                            format!("{}\n{}", hit.document, hit.section),
                            format!("{}..{}", hit.start, hit.end),
                            hit.text.clone(),
                        ]
                    }),
                )
            })
        }
    }
}

/// Where a node's private PostgreSQL lives.
pub(crate) fn private_directory() -> PathBuf {
    crate::world::default_directory().join("oracle")
}

/// Adds every file of a folder to the default corpus of a database, with the default model.
pub(crate) async fn load_folder(
    database: &url::Url,
    folder: &Path,
    embedder: &Embedder,
) -> anyhow::Result<B256> {
    let pool = Database::given(SecretString::from(database.as_str())).migrated().await?;
    let mut files = std::fs::read_dir(folder)
        .with_context(|| format!("read {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<Vec<PathBuf>>>()?;
    files.sort();
    let root = add(&pool, DEFAULT_CORPUS, embedder, &files, Output::new(true)).await?;
    pool.close().await;
    Ok(root)
}

/// Starts the model as corpora and retrieval use it.
pub(crate) async fn load(model: &ModelArguments) -> anyhow::Result<Embedder> {
    Ok(Embedder::of_engine(&model.start().await?))
}

/// Adds files one by one, each in a transaction of its own, and gives back the corpus's root.
pub(crate) async fn add(
    pool: &PgPool,
    name: &str,
    embedder: &Embedder,
    files: &[PathBuf],
    output: Output,
) -> anyhow::Result<B256> {
    let corpus = corpus::create(pool, name, embedder).await?;
    for file in files {
        let added = add_file(pool, &corpus, embedder, file).await?;
        output.say(match added {
            Added::New { chunks } => format!("  added {} ({chunks} chunks)", file.display()),
            Added::Replaced { chunks } => {
                format!("  replaced {} ({chunks} chunks)", file.display())
            }
            Added::Unchanged => format!("  {} is in the corpus already", file.display()),
        });
    }
    Ok(corpus.root(pool).await?)
}

async fn add_file(
    pool: &PgPool,
    corpus: &Corpus,
    embedder: &Embedder,
    file: &Path,
) -> anyhow::Result<Added> {
    let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
        bail!("{}: is not a file with a name in UTF-8", file.display());
    };
    let size = std::fs::metadata(file).with_context(|| format!("read {}", file.display()))?.len();
    let limit = auspex_oracle::corpus::limits::DOCUMENT_BYTES_MAX as u64;
    if limit < size {
        bail!("{}: {size} bytes, over the limit of {limit}", file.display());
    }
    let bytes = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let name = name.to_owned();
    let shown = name.clone();
    // Reading a PDF takes seconds and belongs on a thread that may block.
    let document = tokio::task::spawn_blocking(move || Document::read(&name, None, &bytes))
        .await
        .context("read a document")??;
    let bar = ProgressBar::new(0).with_message(shown);
    if let Ok(style) = ProgressStyle::with_template("  {msg} {bar:30} {pos}/{len} chunks") {
        bar.set_style(style);
    }
    let added = corpus::add(pool, corpus, embedder, document, size, |progress| {
        bar.set_length(progress.chunks as u64);
        bar.set_position(progress.chunks_embedded as u64);
    })
    .await?;
    bar.finish_and_clear();
    Ok(added)
}

async fn list(pool: &PgPool) -> anyhow::Result<Vec<CorpusView>> {
    let mut views = Vec::new();
    for summary in corpus::list(pool).await? {
        let documents = summary.corpus.documents(pool).await?;
        views.push(CorpusView {
            root: summary.corpus.root(pool).await?,
            name: summary.corpus.name,
            model_hash: summary.corpus.model_hash,
            chunks: summary.chunks,
            documents: documents
                .into_iter()
                .map(|document| DocumentView {
                    name: document.name,
                    hash: document.hash,
                    media: document.media,
                    bytes: document.bytes,
                    chunks: document.chunks,
                })
                .collect(),
        });
    }
    Ok(views)
}

fn show_corpus(corpus: &CorpusView) -> String {
    let head = fields([
        ("corpus", corpus.name.clone()),
        ("root", corpus.root.to_string()),
        ("model hash", corpus.model_hash.to_string()),
        ("chunks", corpus.chunks.to_string()),
    ]);
    let rows = corpus.documents.iter().map(|document| {
        [
            document.name.clone(),
            document.media.clone(),
            document.bytes.to_string(),
            document.chunks.to_string(),
        ]
    });
    format!("{head}\n{}", table(["document", "kind", "bytes", "chunks"], rows))
}
