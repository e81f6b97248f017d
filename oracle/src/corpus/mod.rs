//! Corpora in PostgreSQL: documents go in whole, one transaction each, and every corpus has a root that an offer can pin.

mod add;
mod embedder;
pub mod limits;
mod store;

use alloy::primitives::B256;
use auspex_protocol::merkle;
use chrono::{DateTime, Utc};
use sqlx::PgPool;

pub use add::{Added, Progress, add};
pub use embedder::{Embedder, Embeddings};
pub(crate) use store::{half, hash, read_root, snapshot, whole};

use crate::chunk::ChunkRules;
use crate::document::{DocumentError, normalized_name};
use limits::{CORPUS_CHUNKS_MAX, CORPUS_NAME_BYTES_MAX, EMBEDDING_DIMENSIONS};

/// A corpus: a name, a model and the rules by which its documents are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    pub id: i64,
    pub name: String,
    pub model_hash: B256,
    pub rules: ChunkRules,
}

/// What a corpus holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorpusSummary {
    pub corpus: Corpus,
    pub documents: i64,
    pub chunks: i64,
    /// Searches use an HNSW index and are approximate.
    pub approximate: bool,
    pub created_at: DateTime<Utc>,
}

/// A document of a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentSummary {
    pub name: String,
    /// SHA-256 of its file.
    pub hash: B256,
    pub media: String,
    pub title: String,
    /// Bytes of its file.
    pub bytes: i64,
    pub chunks: i64,
    pub added_at: DateTime<Utc>,
}

/// Shows that a chunk belongs to a corpus; check it with [`merkle::verify`] on [`merkle::chunk_leaf`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkProof {
    pub root: B256,
    pub chunk_id: B256,
    /// Keccak-256 of the passage that was embedded.
    pub text_hash: B256,
    pub embedding: Vec<i8>,
    pub proof: merkle::Proof,
}

/// Why a corpus refuses.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    #[error("corpus name: {0} bytes, but 1 to {CORPUS_NAME_BYTES_MAX} are allowed")]
    Name(usize),
    #[error("corpus {0:?} does not exist; `auspex corpus list` shows those that do")]
    Unknown(String),
    #[error(
        "corpus {corpus:?} is embedded by model {stored}, but the loaded model is {loaded}; load that model or make a new corpus"
    )]
    OtherModel { corpus: String, stored: B256, loaded: B256 },
    #[error(
        "document {document:?}: corpus {corpus:?} would hold {chunks} chunks, over the limit of {CORPUS_CHUNKS_MAX}"
    )]
    TooManyChunks { corpus: String, document: String, chunks: i64 },
    #[error("the model's vectors have {0} components, but corpora hold {EMBEDDING_DIMENSIONS}")]
    Dimensions(usize),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("embed: {0:#}")]
    Embed(anyhow::Error),
    #[error("corpus storage: {0}")]
    Database(#[from] sqlx::Error),
}

/// The corpus with this name for this model; made when there is none.
pub async fn create(pool: &PgPool, name: &str, embedder: &Embedder) -> Result<Corpus, CorpusError> {
    if name.is_empty() || CORPUS_NAME_BYTES_MAX < name.len() {
        return Err(CorpusError::Name(name.len()));
    }
    store::insert_corpus(pool, name, embedder.model_hash, embedder.rules()).await?;
    let corpus = find(pool, name).await?;
    corpus.check_model(embedder)?;
    Ok(corpus)
}

/// The corpus with this name.
pub async fn find(pool: &PgPool, name: &str) -> Result<Corpus, CorpusError> {
    store::corpus_by_name(pool, name).await?.ok_or_else(|| CorpusError::Unknown(name.to_owned()))
}

/// The oldest corpus whose present root is `root`; roots that are not known yet are computed first.
pub async fn find_by_root(pool: &PgPool, root: B256) -> Result<Option<Corpus>, CorpusError> {
    for corpus in store::corpora_without_root(pool).await? {
        store::seal(pool, corpus).await?;
    }
    Ok(store::corpus_by_root(pool, root).await?)
}

/// All corpora by name.
pub async fn list(pool: &PgPool) -> Result<Vec<CorpusSummary>, CorpusError> {
    Ok(store::corpora(pool).await?)
}

/// Removes a corpus with everything in it; false when there was none.
pub async fn delete(pool: &PgPool, name: &str) -> Result<bool, CorpusError> {
    Ok(store::delete_corpus(pool, name).await?)
}

impl Corpus {
    /// Its documents by name.
    pub async fn documents(&self, pool: &PgPool) -> Result<Vec<DocumentSummary>, CorpusError> {
        Ok(store::documents(pool, self.id).await?)
    }

    /// Removes a document with its chunks, embeddings and postings; false when there was none.
    pub async fn remove(&self, pool: &PgPool, document: &str) -> Result<bool, CorpusError> {
        let document = normalized_name(document)?;
        let mut transaction = pool.begin().await?;
        store::lock_corpus(&mut transaction, self.id).await?;
        let removed = store::delete_document(&mut transaction, self.id, &document).await?;
        transaction.commit().await?;
        Ok(removed)
    }

    /// The Merkle root over the leaves of its chunks in the order of chunk ids.
    pub async fn root(&self, pool: &PgPool) -> Result<B256, CorpusError> {
        Ok(store::seal(pool, self.id).await?)
    }

    /// The proof that a chunk is under the present root; none when there is no such chunk.
    pub async fn prove(
        &self,
        pool: &PgPool,
        chunk: B256,
    ) -> Result<Option<ChunkProof>, CorpusError> {
        let mut transaction = store::snapshot(pool).await?;
        let Some((passage, embedding)) = store::chunk(&mut transaction, self.id, chunk).await?
        else {
            return Ok(None);
        };
        let (ids, leaves) = store::read_leaves(&mut transaction, self.id).await?;
        transaction.rollback().await?;
        let text_hash = alloy::primitives::keccak256(passage);
        let proof = ids.binary_search(&chunk).ok().and_then(|index| merkle::prove(&leaves, index));
        Ok(proof.map(|proof| ChunkProof {
            root: merkle::root(&leaves),
            chunk_id: chunk,
            text_hash,
            embedding,
            proof,
        }))
    }

    /// Fails when the corpus was embedded by another model than the one that is loaded.
    pub(crate) fn check_model(&self, embedder: &Embedder) -> Result<(), CorpusError> {
        if self.model_hash == embedder.model_hash {
            return Ok(());
        }
        Err(CorpusError::OtherModel {
            corpus: self.name.clone(),
            stored: self.model_hash,
            loaded: embedder.model_hash,
        })
    }
}
