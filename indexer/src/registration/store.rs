//! Which files are due, and what became of them.

use std::time::Duration;

use alloy::primitives::B256;
use bigdecimal::BigDecimal;
use serde_json::Value;
use sqlx::PgPool;
use sqlx::types::Json;

use super::fetch::FetchError;
use crate::limits::FILES_IN_FLIGHT_MAX;

/// An agent whose file should be fetched now.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) chain_id: i64,
    pub(super) agent_id: BigDecimal,
    pub(super) uri: String,
    /// Attempts at this URI so far.
    pub(super) attempts: i32,
}

/// Agents without a file, with another URI than the file's, or whose next attempt has come.
pub(super) async fn due(pool: &PgPool) -> sqlx::Result<Vec<Due>> {
    sqlx::query_as!(
        Due,
        r#"select a.chain_id, a.agent_id as "agent_id: BigDecimal", a.agent_uri as uri,
                  case when f.uri = a.agent_uri then f.attempts else 0 end as "attempts!"
           from indexer.agents a
           left join indexer.agent_files f on f.chain_id = a.chain_id and f.agent_id = a.agent_id
           where upper_inf(a.block_range) and a.agent_uri <> ''
             and (f.uri is distinct from a.agent_uri or f.next_attempt_at <= now())
           order by a.updated_at
           limit $1"#,
        FILES_IN_FLIGHT_MAX as i64 * 4,
    )
    .fetch_all(pool)
    .await
}

pub(super) async fn resolved(
    pool: &PgPool,
    agent: &Due,
    content_hash: B256,
    file: Value,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into indexer.agent_files
             (chain_id, agent_id, uri, status, file, content_hash, error, attempts, next_attempt_at, resolved_at)
         values ($1, $2, $3, 'resolved', $4, $5, null, $6, null, now())
         on conflict (chain_id, agent_id) do update set
             uri = excluded.uri, status = excluded.status, file = excluded.file,
             content_hash = excluded.content_hash, error = null, attempts = excluded.attempts,
             next_attempt_at = null, resolved_at = excluded.resolved_at",
        agent.chain_id,
        agent.agent_id,
        agent.uri,
        Json(file) as Json<Value>,
        content_hash.as_slice(),
        agent.attempts + 1,
    )
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) async fn failed(
    pool: &PgPool,
    agent: &Due,
    error: &FetchError,
    retry_after: Option<Duration>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into indexer.agent_files
             (chain_id, agent_id, uri, status, file, content_hash, error, attempts, next_attempt_at, resolved_at)
         values ($1, $2, $3, $4, null, null, $5, $6, now() + make_interval(secs => $7), null)
         on conflict (chain_id, agent_id) do update set
             uri = excluded.uri, status = excluded.status, file = null, content_hash = null,
             error = excluded.error, attempts = excluded.attempts,
             next_attempt_at = excluded.next_attempt_at, resolved_at = null",
        agent.chain_id,
        agent.agent_id,
        agent.uri,
        error.outcome(),
        error.to_string(),
        agent.attempts + 1,
        retry_after.map(|pause| pause.as_secs_f64()),
    )
    .execute(pool)
    .await?;
    Ok(())
}
