//! The two legs of retrieval in SQL.

use std::collections::BTreeMap;

use alloy::primitives::B256;
use auspex_inference::dot_i8;
use pgvector::HalfVector;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::weight::{average_words, inverse_document_frequency};
use super::{ChunkText, Totals};
use crate::corpus::limits::{CANDIDATES_MAX, QUESTION_TERMS_MAX};
use crate::corpus::{half, hash, whole};

/// A corpus's totals and root as this snapshot sees them; none when there is no such corpus.
pub(super) async fn totals(
    connection: &mut PgConnection,
    corpus: i64,
) -> sqlx::Result<Option<Totals>> {
    let row = sqlx::query!(
        "select chunks, words, root, approximate from corpus.corpora where id = $1",
        corpus,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Totals {
        chunks: row.chunks,
        words: row.words,
        root: row.root.map(|root| hash(&root)),
        approximate: row.approximate,
    }))
}

/// The chunks with the highest inner products of quantised embeddings; exact, ties by id.
pub(super) async fn dense(
    connection: &mut PgConnection,
    corpus: i64,
    question: &[i8],
) -> sqlx::Result<Vec<(B256, i64)>> {
    // The added zero keeps an HNSW index, which would only approximate, out of the plan.
    let rows = sqlx::query!(
        r#"select e.chunk_id, e.embedding as "embedding: HalfVector"
           from corpus.embeddings e where e.corpus_id = $1
           order by (e.embedding <#> $2) + 0, e.chunk_id limit $3"#,
        corpus,
        half(question) as _,
        CANDIDATES_MAX as i64,
    )
    .fetch_all(connection)
    .await?;
    let found = rows.iter().map(|row| (hash(&row.chunk_id), whole(&row.embedding)));
    Ok(scored(question, found))
}

/// As [`dense`], through the corpus's HNSW index: faster, and without a promise that the best are found.
pub(super) async fn dense_approximate(
    connection: &mut PgConnection,
    corpus: i64,
    question: &[i8],
) -> sqlx::Result<Vec<(B256, i64)>> {
    // The settings end with the transaction. Twice the candidates are searched and kept, because the index's order has
    // no say in the end.
    let candidates = 2 * CANDIDATES_MAX;
    sqlx::query(AssertSqlSafe(format!("set local hnsw.ef_search = {candidates}")))
        .execute(&mut *connection)
        .await?;
    // The planner takes a partial index only for a corpus that it sees, so the id is part of the text.
    let query = format!(
        "select e.chunk_id, e.embedding from corpus.embeddings e where e.corpus_id = {corpus}
         order by e.embedding <#> $1 limit {candidates}"
    );
    let rows = sqlx::query(AssertSqlSafe(query)).bind(half(question)).fetch_all(connection).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let id: Vec<u8> = row.try_get("chunk_id")?;
        let embedding: HalfVector = row.try_get("embedding")?;
        found.push((hash(&id), whole(&embedding)));
    }
    Ok(scored(question, found.into_iter()))
}

/// The words of a question that the corpus has, with their inverse document frequencies in millionths; the rarest when
/// there are too many.
pub(super) async fn telling(
    connection: &mut PgConnection,
    corpus: i64,
    totals: Totals,
    words: &BTreeMap<String, i64>,
) -> sqlx::Result<BTreeMap<String, i64>> {
    let names: Vec<String> = words.keys().cloned().collect();
    let rows = sqlx::query!(
        r#"select word, count(*) as "chunks!" from corpus.postings
           where corpus_id = $1 and word = any($2)
           group by word order by count(*), word collate "C" limit $3"#,
        corpus,
        &names,
        QUESTION_TERMS_MAX as i64,
    )
    .fetch_all(connection)
    .await?;
    let idf = |chunks| inverse_document_frequency(totals.chunks as u64, chunks as u64) as i64;
    Ok(rows.into_iter().map(|row| (row.word, idf(row.chunks))).collect())
}

/// The chunks with the highest BM25; exact, ties by id. Each word has its weight: its inverse document frequency times
/// how often the question has it.
pub(super) async fn lexical(
    connection: &mut PgConnection,
    corpus: i64,
    totals: Totals,
    words: &BTreeMap<String, i64>,
) -> sqlx::Result<Vec<(B256, i64)>> {
    let names: Vec<String> = words.keys().cloned().collect();
    let weights: Vec<i64> = words.values().copied().collect();
    let rows = sqlx::query!(
        r#"with scores as (
             select p.chunk_key, sum(
               w.weight * (
                 190 * p.frequency * $4::bigint * 1000000
                 / (100 * p.frequency * $4::bigint + 54 * $4::bigint + 36000 * p.words::bigint)
               ) / 1000000
             )::bigint as score
             from unnest($2::text[], $3::bigint[]) as w (word, weight)
             join corpus.postings p on p.corpus_id = $1 and p.word = w.word
             group by p.chunk_key
           )
           select c.id, s.score as "score!" from scores s join corpus.chunks c on c.key = s.chunk_key
           order by s.score desc, c.id limit $5"#,
        corpus,
        &names,
        &weights,
        average_words(totals.words, totals.chunks),
        CANDIDATES_MAX as i64,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (hash(&row.id), row.score)).collect())
}

/// What the chunks say, in the order of `ids`.
pub(super) async fn texts(
    connection: &mut PgConnection,
    corpus: i64,
    ids: &[B256],
) -> sqlx::Result<Vec<ChunkText>> {
    let wanted: Vec<Vec<u8>> = ids.iter().map(|id| id.to_vec()).collect();
    let rows = sqlx::query!(
        r#"select d.name, d.hash, d.title, c.section, c.start_byte, c.end_byte, c.text
           from unnest($2::bytea[]) with ordinality as wanted (id, position)
           join corpus.chunks c on c.corpus_id = $1 and c.id = wanted.id
           join corpus.documents d on d.id = c.document_id
           order by wanted.position"#,
        corpus,
        &wanted,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ChunkText {
            document: row.name,
            document_hash: hash(&row.hash),
            title: row.title,
            section: row.section,
            span: row.start_byte as u64..row.end_byte as u64,
            text: row.text,
        })
        .collect())
}

/// Scores candidates on the committed bytes and keeps the best.
fn scored(question: &[i8], found: impl Iterator<Item = (B256, Vec<i8>)>) -> Vec<(B256, i64)> {
    let mut scored: Vec<(B256, i64)> =
        found.map(|(id, embedding)| (id, i64::from(dot_i8(question, &embedding)))).collect();
    scored.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    scored.truncate(CANDIDATES_MAX);
    scored
}
