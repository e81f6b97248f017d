//! The approximate index of a large corpus.
//!
//! Two HNSW graphs over the same vectors differ, so operators that search through one may disagree on an answer. A
//! corpus gets one only when it is asked for and only above [`APPROXIMATE_CHUNKS_MIN`].

use sqlx::{AssertSqlSafe, PgPool};

use crate::corpus::{Corpus, CorpusError};

/// Chunks below which an exact search is fast enough and an index is refused.
pub const APPROXIMATE_CHUNKS_MIN: i64 = 100_000;

/// Builds the corpus's own HNSW index when the corpus is large enough; says whether searches are approximate now.
///
/// The index is partial: it holds one corpus, so that neither the result nor the time of a search depends on others.
pub async fn ensure_index(pool: &PgPool, corpus: &Corpus) -> Result<bool, CorpusError> {
    build(pool, corpus, APPROXIMATE_CHUNKS_MIN).await
}

/// Removes the index; searches are exact again.
pub async fn drop_index(pool: &PgPool, corpus: &Corpus) -> Result<(), CorpusError> {
    let mut transaction = pool.begin().await?;
    sqlx::query!("update corpus.corpora set approximate = false where id = $1", corpus.id)
        .execute(&mut *transaction)
        .await?;
    let statement = format!("drop index if exists corpus.{}", index_name(corpus.id));
    sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

async fn build(pool: &PgPool, corpus: &Corpus, chunks_min: i64) -> Result<bool, CorpusError> {
    let mut transaction = pool.begin().await?;
    let chunks = sqlx::query_scalar!(
        "select chunks from corpus.corpora where id = $1 for update",
        corpus.id
    )
    .fetch_optional(&mut *transaction)
    .await?
    .ok_or_else(|| CorpusError::Unknown(corpus.name.clone()))?;
    if chunks < chunks_min {
        return Ok(false);
    }
    // Identifiers and the predicate of an index cannot be parameters; both are made of an integer.
    let statement = format!(
        "create index if not exists {} on corpus.embeddings using hnsw (embedding halfvec_ip_ops)
         where corpus_id = {}",
        index_name(corpus.id),
        corpus.id,
    );
    sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
    sqlx::query!("update corpus.corpora set approximate = true where id = $1", corpus.id)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(true)
}

fn index_name(corpus: i64) -> String {
    format!("embeddings_hnsw_{corpus}")
}
