//! The outbox's SQL.

use sqlx::PgPool;

use super::event::{Event, EventData, shaped};

/// The newest event's id; 0 when there is none.
pub(super) async fn last(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"select coalesce(max(id), 0) as "id!" from indexer.outbox"#)
        .fetch_one(pool)
        .await
}

/// The oldest event's id; `None` when there is none.
pub(super) async fn first(pool: &PgPool) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar!("select min(id) from indexer.outbox").fetch_one(pool).await
}

/// Whether events between `last` and `next` may have been trimmed away: `next` is the first one that there is after `last`. Ids
/// have holes where a write was taken back, so that a missing one says nothing as long as an older one is kept.
pub(super) async fn is_trimmed_between(
    pool: &PgPool,
    last: i64,
    next: i64,
) -> Result<bool, sqlx::Error> {
    if next <= last + 1 {
        return Ok(false);
    }
    Ok(first(pool).await?.is_none_or(|oldest| next <= oldest))
}

/// Up to `limit` events after `after`, oldest first.
pub(super) async fn page(pool: &PgPool, after: i64, limit: i64) -> Result<Vec<Event>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select
            o.id, o.chain_id, o.block_number, encode(o.block_hash, 'hex') as "block_hash!", o.entity, o.entity_id,
            o.change, o.payload,
            case
                when o.block_number <= c.finalized_number then 'finalized'
                when o.block_number <= c.safe_number then 'safe'
                else 'latest'
            end as "finality!"
        from indexer.outbox o
        left join indexer.cursors c on c.chain_id = o.chain_id
        where o.id > $1
        order by o.id
        limit $2
        "#,
        after,
        limit,
    )
    .fetch_all(pool)
    .await?;
    let events = rows.into_iter().map(|row| Event {
        id: row.id,
        change: row.change,
        data: EventData {
            value: row.payload.map(|payload| shaped(&row.entity, row.chain_id, payload)),
            entity: row.entity,
            id: row.entity_id,
            chain_id: row.chain_id.unsigned_abs(),
            block_number: row.block_number.unsigned_abs(),
            block_hash: format!("0x{}", row.block_hash),
            finality: row.finality,
        },
    });
    Ok(events.collect())
}
