//! All SQL that changes corpora or reads them whole.

use alloy::primitives::B256;
use auspex_protocol::merkle;
use pgvector::HalfVector;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::add::Rows;
use super::{Corpus, CorpusSummary, DocumentSummary};
use crate::chunk::ChunkRules;
use crate::document::Document;

/// A transaction that sees one state of the database and writes nothing.
pub(crate) async fn snapshot(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    pool.begin_with("begin isolation level repeatable read, read only").await
}

pub(super) async fn insert_corpus(
    pool: &PgPool,
    name: &str,
    model_hash: B256,
    rules: ChunkRules,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into corpus.corpora (name, model_hash, tokens_max, overlap_tokens) values ($1, $2, $3, $4)
         on conflict on constraint corpora_name do nothing",
        name,
        model_hash.as_slice(),
        rules.tokens_max as i32,
        rules.overlap_tokens as i32,
    )
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) async fn corpus_by_name(pool: &PgPool, name: &str) -> sqlx::Result<Option<Corpus>> {
    let row = sqlx::query_as!(
        CorpusRow,
        "select id, name, model_hash, tokens_max, overlap_tokens from corpus.corpora where name = $1",
        name,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Corpus::from))
}

pub(super) async fn corpus_by_root(pool: &PgPool, root: B256) -> sqlx::Result<Option<Corpus>> {
    let row = sqlx::query_as!(
        CorpusRow,
        "select id, name, model_hash, tokens_max, overlap_tokens from corpus.corpora where root = $1
         order by id limit 1",
        root.as_slice(),
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Corpus::from))
}

pub(super) async fn corpora_without_root(pool: &PgPool) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar!("select id from corpus.corpora where root is null order by id")
        .fetch_all(pool)
        .await
}

pub(super) async fn corpora(pool: &PgPool) -> sqlx::Result<Vec<CorpusSummary>> {
    let rows = sqlx::query!(
        r#"select c.id, c.name, c.model_hash, c.tokens_max, c.overlap_tokens, c.chunks, c.approximate, c.created_at,
             (select count(*) from corpus.documents d where d.corpus_id = c.id) as "documents!"
         from corpus.corpora c order by c.name collate "C""#,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| CorpusSummary {
            corpus: Corpus {
                id: row.id,
                name: row.name,
                model_hash: hash(&row.model_hash),
                rules: rules(row.tokens_max, row.overlap_tokens),
            },
            documents: row.documents,
            chunks: row.chunks,
            approximate: row.approximate,
            created_at: row.created_at,
        })
        .collect())
}

pub(super) async fn delete_corpus(pool: &PgPool, name: &str) -> sqlx::Result<bool> {
    let deleted =
        sqlx::query!("delete from corpus.corpora where name = $1", name).execute(pool).await?;
    Ok(0 < deleted.rows_affected())
}

pub(super) async fn documents(pool: &PgPool, corpus: i64) -> sqlx::Result<Vec<DocumentSummary>> {
    let rows = sqlx::query!(
        r#"select d.name, d.hash, d.media, d.title, d.bytes, d.added_at,
             (select count(*) from corpus.chunks c where c.document_id = d.id) as "chunks!"
         from corpus.documents d where d.corpus_id = $1 order by d.name collate "C""#,
        corpus,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| DocumentSummary {
            name: row.name,
            hash: hash(&row.hash),
            media: row.media,
            title: row.title,
            bytes: row.bytes,
            chunks: row.chunks,
            added_at: row.added_at,
        })
        .collect())
}

pub(super) async fn document_hash(
    pool: &PgPool,
    corpus: i64,
    name: &str,
) -> sqlx::Result<Option<B256>> {
    let found = sqlx::query_scalar!(
        "select hash from corpus.documents where corpus_id = $1 and name = $2",
        corpus,
        name,
    )
    .fetch_optional(pool)
    .await?;
    Ok(found.map(|bytes| hash(&bytes)))
}

/// Makes this transaction the only writer of the corpus; gives its number of chunks, none when it is gone.
pub(super) async fn lock_corpus(
    connection: &mut PgConnection,
    corpus: i64,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!("select chunks from corpus.corpora where id = $1 for update", corpus)
        .fetch_optional(connection)
        .await
}

/// Removes a document and takes it out of the corpus's totals; false when there was none.
pub(super) async fn delete_document(
    connection: &mut PgConnection,
    corpus: i64,
    name: &str,
) -> sqlx::Result<bool> {
    let id = sqlx::query_scalar!(
        "select id from corpus.documents where corpus_id = $1 and name = $2",
        corpus,
        name,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(id) = id else { return Ok(false) };
    sqlx::query!(
        "update corpus.corpora set root = null,
           chunks = chunks - (select count(*) from corpus.chunks where document_id = $2),
           words = words - (
             select coalesce(sum(p.frequency), 0)::bigint
             from corpus.postings p join corpus.chunks c on c.key = p.chunk_key where c.document_id = $2
           )
         where id = $1",
        corpus,
        id,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("delete from corpus.documents where id = $1", id).execute(connection).await?;
    Ok(true)
}

pub(super) async fn insert_document(
    connection: &mut PgConnection,
    corpus: i64,
    document: &Document,
    bytes: u64,
    rows: &Rows,
) -> sqlx::Result<()> {
    let id = sqlx::query_scalar!(
        "insert into corpus.documents (corpus_id, name, hash, media, title, bytes)
         values ($1, $2, $3, $4, $5, $6) returning id",
        corpus,
        document.name,
        document.hash.as_slice(),
        document.media.as_str(),
        document.title,
        bytes as i64,
    )
    .fetch_one(&mut *connection)
    .await?;

    let ids = slices(&rows.ids);
    sqlx::query!(
        "insert into corpus.chunks (corpus_id, document_id, id, start_byte, end_byte, text, section, leaf)
         select $1, $2, * from unnest($3::bytea[], $4::integer[], $5::integer[], $6::text[], $7::text[], $8::bytea[])",
        corpus,
        id,
        &ids,
        &rows.starts,
        &rows.ends,
        &rows.texts,
        &rows.sections,
        &slices(&rows.leaves),
    )
    .execute(&mut *connection)
    .await?;

    let embeddings: Vec<HalfVector> = rows.embeddings.iter().map(|bytes| half(bytes)).collect();
    sqlx::query!(
        "insert into corpus.embeddings (chunk_key, corpus_id, chunk_id, embedding)
         select c.key, $1, c.id, new.embedding
         from unnest($2::bytea[], $3::halfvec[]) as new (id, embedding)
         join corpus.chunks c on c.corpus_id = $1 and c.id = new.id",
        corpus,
        &ids,
        &embeddings as _,
    )
    .execute(&mut *connection)
    .await?;

    sqlx::query!(
        "insert into corpus.postings (corpus_id, word, chunk_key, frequency, words)
         select $1, new.word, c.key, new.frequency, new.words
         from unnest($2::bytea[], $3::text[], $4::integer[], $5::integer[]) as new (id, word, frequency, words)
         join corpus.chunks c on c.corpus_id = $1 and c.id = new.id",
        corpus,
        &slices(&rows.postings.chunk_ids),
        &rows.postings.words,
        &rows.postings.frequencies,
        &rows.postings.totals,
    )
    .execute(&mut *connection)
    .await?;

    sqlx::query!(
        "update corpus.corpora set root = null, chunks = chunks + $2, words = words + $3 where id = $1",
        corpus,
        rows.ids.len() as i64,
        rows.words,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The corpus's root; computed and stored when a change has voided it.
pub(super) async fn seal(pool: &PgPool, corpus: i64) -> sqlx::Result<B256> {
    let stored = sqlx::query_scalar!("select root from corpus.corpora where id = $1", corpus)
        .fetch_one(pool)
        .await?;
    if let Some(root) = stored {
        return Ok(hash(&root));
    }
    let mut transaction = pool.begin().await?;
    lock_corpus(&mut transaction, corpus).await?;
    let root = read_root(&mut transaction, corpus).await?;
    sqlx::query!("update corpus.corpora set root = $2 where id = $1", corpus, root.as_slice())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(root)
}

/// The root as this connection's snapshot sees it.
pub(crate) async fn read_root(connection: &mut PgConnection, corpus: i64) -> sqlx::Result<B256> {
    let (_, leaves) = read_leaves(connection, corpus).await?;
    Ok(merkle::root(&leaves))
}

/// Ids and leaves of all chunks in the order of ids.
pub(super) async fn read_leaves(
    connection: &mut PgConnection,
    corpus: i64,
) -> sqlx::Result<(Vec<B256>, Vec<B256>)> {
    let rows =
        sqlx::query!("select id, leaf from corpus.chunks where corpus_id = $1 order by id", corpus)
            .fetch_all(connection)
            .await?;
    Ok(rows.iter().map(|row| (hash(&row.id), hash(&row.leaf))).unzip())
}

/// A chunk's passage and quantised embedding.
pub(super) async fn chunk(
    connection: &mut PgConnection,
    corpus: i64,
    id: B256,
) -> sqlx::Result<Option<(String, Vec<i8>)>> {
    let row = sqlx::query!(
        r#"select c.text, c.section, e.embedding as "embedding: HalfVector"
           from corpus.chunks c join corpus.embeddings e on e.chunk_key = c.key
           where c.corpus_id = $1 and c.id = $2"#,
        corpus,
        id.as_slice(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| {
        let passage = if row.section.is_empty() {
            row.text
        } else {
            format!("{}\n{}", row.section, row.text)
        };
        (passage, whole(&row.embedding))
    }))
}

/// The stored form of a quantised embedding.
pub(crate) fn half(embedding: &[i8]) -> HalfVector {
    let components: Vec<f32> = embedding.iter().map(|byte| f32::from(*byte)).collect();
    HalfVector::from_f32_slice(&components)
}

/// The quantised embedding behind its stored form.
pub(crate) fn whole(embedding: &HalfVector) -> Vec<i8> {
    embedding.as_slice().iter().map(|component| component.to_f32() as i8).collect()
}

/// A stored hash; named constraints keep other lengths out of its columns.
pub(crate) fn hash(bytes: &[u8]) -> B256 {
    B256::right_padding_from(&bytes[..bytes.len().min(32)])
}

#[derive(Debug)]
struct CorpusRow {
    id: i64,
    name: String,
    model_hash: Vec<u8>,
    tokens_max: i32,
    overlap_tokens: i32,
}

impl From<CorpusRow> for Corpus {
    fn from(row: CorpusRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            model_hash: hash(&row.model_hash),
            rules: rules(row.tokens_max, row.overlap_tokens),
        }
    }
}

fn rules(tokens_max: i32, overlap_tokens: i32) -> ChunkRules {
    ChunkRules { tokens_max: tokens_max as usize, overlap_tokens: overlap_tokens as usize }
}

fn slices(hashes: &[B256]) -> Vec<Vec<u8>> {
    hashes.iter().map(|hash| hash.to_vec()).collect()
}
