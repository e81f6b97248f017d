//! The SQL behind the board.

use alloy::primitives::{Address, B256};
use sqlx::PgPool;
use sqlx::types::Json;
use sqlx::types::JsonValue;

use super::super::limits::BOARD_MESSAGES_PER_SIGNER_MAX;

/// What the board has to know about a request.
#[derive(Debug)]
pub(in crate::serve) struct Subject {
    pub(in crate::serve) chain_id: i64,
    pub(in crate::serve) status: String,
    pub(in crate::serve) signers: Option<Vec<Vec<u8>>>,
}

/// A request and the signers that it pinned.
pub(in crate::serve) async fn subject(
    pool: &PgPool,
    request_id: B256,
) -> Result<Option<Subject>, sqlx::Error> {
    sqlx::query_as!(
        Subject,
        r#"
        select r.chain_id, r.status, e.signers as "signers?"
        from indexer.requests r
        left join indexer.epochs e
            on e.chain_id = r.chain_id and e.operator_set_hash = r.operator_set_hash and upper_inf(e.block_range)
        where upper_inf(r.block_range) and r.id = $1 and r.chain_id in (select chain_id from indexer.cursors)
        "#,
        format!("{request_id:#x}"),
    )
    .fetch_optional(pool)
    .await
}

/// A message on the board.
#[derive(Debug)]
pub(super) struct MessageRow {
    pub(super) n: i64,
    pub(super) envelope: Json<JsonValue>,
}

pub(super) async fn messages(
    pool: &PgPool,
    chain_id: i64,
    request_id: B256,
    after: i64,
    limit: i64,
) -> Result<Vec<MessageRow>, sqlx::Error> {
    sqlx::query_as!(
        MessageRow,
        r#"
        select n, envelope as "envelope!: Json<JsonValue>"
        from indexer.messages
        where chain_id = $1 and request_id = $2 and n > $3
        order by n
        limit $4
        "#,
        chain_id,
        request_id.as_slice(),
        after,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    New(i64),
    Known,
    /// The signer has left as many messages about this request as it may.
    Full,
}

/// Puts a message on the board, once, and numbers it. Writers of one request take turns, so that numbers have no gaps and
/// become visible in order. To be called only in tasks that are not cancelled.
pub(super) async fn post(
    pool: &PgPool,
    chain_id: i64,
    request_id: B256,
    signer: Address,
    digest: B256,
    envelope: &JsonValue,
) -> Result<Stored, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended(encode($1::bytea, 'hex'), $2))",
        request_id.as_slice(),
        chain_id,
    )
    .execute(&mut *transaction)
    .await?;
    let found = sqlx::query!(
        r#"
        select
            coalesce(max(n), 0) as "last!",
            count(*) filter (where signer = $3) as "by_signer!",
            coalesce(bool_or(signer = $3 and digest = $4), false) as "known!"
        from indexer.messages
        where chain_id = $1 and request_id = $2
        "#,
        chain_id,
        request_id.as_slice(),
        signer.as_slice(),
        digest.as_slice(),
    )
    .fetch_one(&mut *transaction)
    .await?;
    if found.known {
        return Ok(Stored::Known);
    }
    if BOARD_MESSAGES_PER_SIGNER_MAX <= found.by_signer {
        return Ok(Stored::Full);
    }
    let n = found.last + 1;
    sqlx::query!(
        r#"
        insert into indexer.messages (chain_id, request_id, n, signer, digest, envelope)
        values ($1, $2::bytea, $3, $4::bytea, $5::bytea, $6)
        "#,
        chain_id,
        request_id.as_slice() as &[u8],
        n,
        signer.as_slice() as &[u8],
        digest.as_slice() as &[u8],
        envelope,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Stored::New(n))
}
