//! A document's way into a corpus: read, cut, embed, and then one transaction.

use std::collections::BTreeMap;

use alloy::primitives::{B256, keccak256};
use auspex_protocol::merkle::chunk_leaf;
use sqlx::PgPool;

use super::limits::CORPUS_CHUNKS_MAX;
use super::{Corpus, CorpusError, Embedder, store};
use crate::chunk::{Chunk, chunks};
use crate::document::Document;
use crate::retrieval::words;

/// What adding a document changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    New {
        chunks: usize,
    },
    /// The corpus had another version of it.
    Replaced {
        chunks: usize,
    },
    /// The corpus has exactly this file already.
    Unchanged,
}

/// How far adding a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub chunks_embedded: usize,
    pub chunks: usize,
}

/// Adds a document, or replaces the one of the same name.
///
/// Nothing is written before everything is embedded, and all is written in one transaction: dropping the future at any
/// point leaves the corpus as it was. Two that add the same name at the same time are served one after the other.
pub async fn add(
    pool: &PgPool,
    corpus: &Corpus,
    embedder: &Embedder,
    document: Document,
    bytes: u64,
    progress: impl Fn(Progress),
) -> Result<Added, CorpusError> {
    corpus.check_model(embedder)?;
    if store::document_hash(pool, corpus.id, &document.name).await? == Some(document.hash) {
        return Ok(Added::Unchanged);
    }
    let rules = corpus.rules;
    let tokenizer = embedder.clone();
    // Tokenising megabytes takes seconds and belongs on a thread that may block.
    let cut = tokio::task::spawn_blocking(move || {
        let chunks = chunks(&document, rules, |text| tokenizer.offsets(text))?;
        Ok::<_, CorpusError>((document, chunks))
    });
    let (document, chunks) = cut.await.map_err(|error| CorpusError::Embed(error.into()))??;

    let passages: Vec<String> = chunks.iter().map(|chunk| chunk.passage(&document)).collect();
    let total = passages.len();
    let report = |chunks_embedded| progress(Progress { chunks_embedded, chunks: total });
    report(0);
    let embeddings = embedder.embed(passages.clone(), report).await?;
    let rows = Rows::new(&document, &chunks, &passages, embeddings);

    let mut transaction = pool.begin().await?;
    let before = store::lock_corpus(&mut transaction, corpus.id)
        .await?
        .ok_or_else(|| CorpusError::Unknown(corpus.name.clone()))?;
    let after = before + total as i64;
    if CORPUS_CHUNKS_MAX < after {
        return Err(CorpusError::TooManyChunks {
            corpus: corpus.name.clone(),
            document: document.name,
            chunks: after,
        });
    }
    let replaced = store::delete_document(&mut transaction, corpus.id, &document.name).await?;
    store::insert_document(&mut transaction, corpus.id, &document, bytes, &rows).await?;
    transaction.commit().await?;
    Ok(if replaced { Added::Replaced { chunks: total } } else { Added::New { chunks: total } })
}

/// A document's chunks column by column, as bulk inserts want them.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) ids: Vec<B256>,
    pub(super) starts: Vec<i32>,
    pub(super) ends: Vec<i32>,
    pub(super) texts: Vec<String>,
    pub(super) sections: Vec<String>,
    pub(super) leaves: Vec<B256>,
    pub(super) embeddings: Vec<Vec<i8>>,
    pub(super) postings: Postings,
    pub(super) words: i64,
}

/// One entry per chunk and distinct word.
#[derive(Debug, Default)]
pub(super) struct Postings {
    pub(super) chunk_ids: Vec<B256>,
    pub(super) words: Vec<String>,
    pub(super) frequencies: Vec<i32>,
    pub(super) totals: Vec<i32>,
}

impl Rows {
    fn new(
        document: &Document,
        chunks: &[Chunk],
        passages: &[String],
        embeddings: Vec<Vec<i8>>,
    ) -> Self {
        let mut rows = Self::default();
        for ((chunk, passage), embedding) in chunks.iter().zip(passages).zip(&embeddings) {
            let id = chunk.id(document);
            rows.ids.push(id);
            // A document's text is below 2^31 bytes.
            rows.starts.push(chunk.span.start as i32);
            rows.ends.push(chunk.span.end as i32);
            rows.texts.push(document.text[chunk.span.clone()].to_owned());
            rows.sections.push(chunk.section.clone());
            rows.leaves.push(chunk_leaf(id, keccak256(passage), embedding));

            let mut frequencies: BTreeMap<String, i32> = BTreeMap::new();
            let found = words(passage);
            let total = found.len() as i32;
            for word in found {
                *frequencies.entry(word).or_default() += 1;
            }
            rows.words += i64::from(total);
            for (word, frequency) in frequencies {
                rows.postings.chunk_ids.push(id);
                rows.postings.words.push(word);
                rows.postings.frequencies.push(frequency);
                rows.postings.totals.push(total);
            }
        }
        rows.embeddings = embeddings;
        rows
    }
}
