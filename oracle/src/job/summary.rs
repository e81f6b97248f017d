//! Jobs as an operator sees them.

use alloy::primitives::B256;
use anyhow::Context;
use sqlx::PgPool;

/// A job as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub request_id: B256,
    pub state: String,
    pub reason: Option<String>,
    pub deadline: u64,
    pub failures: u32,
}

/// The jobs that moved last, newest first.
pub async fn recent(pool: &PgPool, limit: i64) -> anyhow::Result<Vec<Summary>> {
    let rows = sqlx::query!(
        "select request_id, state, reason, deadline, failures from oracle.jobs
         order by updated_at desc, request_id limit $1",
        limit
    )
    .fetch_all(pool)
    .await
    .context("read recent jobs")?;
    rows.into_iter()
        .map(|row| {
            Ok(Summary {
                request_id: B256::try_from(row.request_id.as_slice())?,
                state: row.state,
                reason: row.reason,
                deadline: u64::try_from(row.deadline)?,
                failures: u32::try_from(row.failures)?,
            })
        })
        .collect()
}

/// How many jobs are in each state.
pub async fn counts(pool: &PgPool) -> anyhow::Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(
        r#"select state, count(*) as "jobs!" from oracle.jobs group by state order by state"#
    )
    .fetch_all(pool)
    .await
    .context("count jobs")?;
    Ok(rows.into_iter().map(|row| (row.state, row.jobs)).collect())
}
