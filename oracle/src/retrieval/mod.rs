//! From a question to ranked chunks: an exact dense leg, a BM25 leg, and their fusion.
//!
//! Everything after the question's embedding is arithmetic on integers in one snapshot of the database. Operators whose
//! corpora have the same root and whose models are equal therefore find the same chunks with the same scores.

pub mod evaluation;
mod fusion;
mod index;
mod store;
mod weight;
mod words;

use std::{collections::BTreeMap, ops::Range};

use alloy::primitives::B256;
use auspex_protocol::merkle::{RetrievedChunk, retrieval_root};
use sqlx::PgPool;

pub use index::{APPROXIMATE_CHUNKS_MIN, drop_index, ensure_index};
pub use words::words;

use crate::corpus::limits::{QUESTION_BYTES_MAX, RESULTS_MAX};
use crate::corpus::{Corpus, CorpusError, Embedder, read_root, snapshot};
use fusion::fuse;

/// What was found for a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retrieval {
    /// The root of the corpus in the state that was searched.
    pub corpus_root: B256,
    /// The question's quantised embedding.
    pub question: Vec<i8>,
    /// The question's words that the corpus has, and how telling each is: its inverse document frequency in millionths.
    pub words: BTreeMap<String, i64>,
    /// Best first.
    pub hits: Vec<Hit>,
}

/// A chunk that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub chunk_id: B256,
    /// Fused score in millionths, relative to the best and worst of this search.
    pub score: u32,
    /// Inner product of the quantised embeddings, at most about 127^2; 0 when the dense leg did not find it.
    pub dense: i32,
    /// BM25 in millionths; 0 when the lexical leg did not find it.
    pub lexical: u64,
    pub chunk: ChunkText,
}

/// A chunk's text and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkText {
    /// The document's name in the corpus.
    pub document: String,
    /// SHA-256 of the document's file.
    pub document_hash: B256,
    pub title: String,
    /// Headings above the chunk.
    pub section: String,
    /// Bytes of the document's extracted text.
    pub span: Range<u64>,
    pub text: String,
}

/// Why nothing was searched.
#[derive(Debug, thiserror::Error)]
pub enum RetrievalError {
    #[error(
        "question: {0} bytes, but 1 to {QUESTION_BYTES_MAX} with at least one visible character are allowed"
    )]
    Question(usize),
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    #[error("search the corpus: {0}")]
    Database(#[from] sqlx::Error),
}

/// Which legs take part; anything but both is for evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Legs {
    Both,
    Dense,
    Lexical,
}

/// What BM25 and the dense leg have to know about a corpus.
#[derive(Debug, Clone, Copy)]
struct Totals {
    chunks: i64,
    words: i64,
    root: Option<B256>,
    approximate: bool,
}

/// Finds the chunks that fit a question best, at most `limit` and at most [`RESULTS_MAX`].
pub async fn search(
    pool: &PgPool,
    corpus: &Corpus,
    embedder: &Embedder,
    question: &str,
    limit: usize,
) -> Result<Retrieval, RetrievalError> {
    search_with(pool, corpus, embedder, question, limit.min(RESULTS_MAX), Legs::Both).await
}

pub(crate) async fn search_with(
    pool: &PgPool,
    corpus: &Corpus,
    embedder: &Embedder,
    question: &str,
    limit: usize,
    legs: Legs,
) -> Result<Retrieval, RetrievalError> {
    if QUESTION_BYTES_MAX < question.len() || question.trim().is_empty() {
        return Err(RetrievalError::Question(question.len()));
    }
    corpus.check_model(embedder)?;
    let embedded = embedder.embed(vec![question.to_owned()], |_| ()).await?;
    let embedding = embedded.into_iter().next().unwrap_or_default();

    let mut transaction = snapshot(pool).await?;
    let totals = store::totals(&mut transaction, corpus.id)
        .await?
        .ok_or_else(|| CorpusError::Unknown(corpus.name.clone()))?;
    let corpus_root = match totals.root {
        Some(root) => root,
        None => read_root(&mut transaction, corpus.id).await?,
    };
    let dense = match (legs, totals.approximate) {
        (Legs::Lexical, _) => Vec::new(),
        (Legs::Both | Legs::Dense, false) => {
            store::dense(&mut transaction, corpus.id, &embedding).await?
        }
        (Legs::Both | Legs::Dense, true) => {
            store::dense_approximate(&mut transaction, corpus.id, &embedding).await?
        }
    };
    let counted = counted(question);
    let telling = store::telling(&mut transaction, corpus.id, totals, &counted).await?;
    let lexical = match legs {
        Legs::Dense => Vec::new(),
        Legs::Both | Legs::Lexical => {
            let weights: BTreeMap<String, i64> = telling
                .iter()
                .map(|(word, idf)| (word.clone(), idf * counted.get(word).copied().unwrap_or(1)))
                .collect();
            store::lexical(&mut transaction, corpus.id, totals, &weights).await?
        }
    };
    let mut fused = fuse(&dense, &lexical);
    fused.truncate(limit);
    let ids: Vec<B256> = fused.iter().map(|hit| hit.chunk_id).collect();
    let chunks = store::texts(&mut transaction, corpus.id, &ids).await?;
    transaction.rollback().await?;

    let hits: Vec<Hit> = fused
        .into_iter()
        .zip(chunks)
        .map(|(hit, chunk)| Hit {
            chunk_id: hit.chunk_id,
            score: hit.score,
            // Both come from narrower integers: a product of 384 bytes, and a sum of positive weights.
            dense: hit.dense.unwrap_or_default() as i32,
            lexical: hit.lexical.unwrap_or_default() as u64,
            chunk,
        })
        .collect();
    Ok(Retrieval { corpus_root, question: embedding, words: telling, hits })
}

impl Retrieval {
    /// What a result commits to as its `retrievalRoot`.
    pub fn root(&self) -> B256 {
        let chunks: Vec<RetrievedChunk> = self
            .hits
            .iter()
            .map(|hit| RetrievedChunk {
                chunk_id: hit.chunk_id,
                score: hit.score,
                dense: hit.dense,
                lexical: hit.lexical,
            })
            .collect();
        retrieval_root(&chunks)
    }
}

/// The question's words and how often each stands in it.
fn counted(question: &str) -> BTreeMap<String, i64> {
    let mut counted = BTreeMap::new();
    for word in words(question) {
        *counted.entry(word).or_default() += 1;
    }
    counted
}
