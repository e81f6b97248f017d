//! Stopping without leaving a request behind: a draining node finishes what it has promised and begins nothing new.

use anyhow::Context;
use serde::Serialize;
use sqlx::PgPool;

/// What a draining node still has to finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    pub draining: bool,
    /// Requests that were not begun; they wait for a node that is not draining, or for another operator.
    pub not_begun: i64,
    /// Requests with our signature whose delivery is not on the safe chain yet.
    pub promised: i64,
    /// Transactions that are not final.
    pub transactions: i64,
}

impl Progress {
    /// True when the node can be stopped and nothing waits for it.
    pub fn is_done(&self) -> bool {
        self.draining && self.promised == 0 && self.transactions == 0
    }
}

/// Begins or ends draining, for all processes of the operator.
pub async fn set(pool: &PgPool, draining: bool) -> anyhow::Result<()> {
    let changed = sqlx::query!(
        "update oracle.identity set
            draining_since = case when $1 then coalesce(draining_since, now()) end",
        draining
    )
    .execute(pool)
    .await
    .context("store whether the node drains")?;
    anyhow::ensure!(
        changed.rows_affected() == 1,
        "the database belongs to no operator yet: no node has ever started on it"
    );
    Ok(())
}

/// How far it is.
pub async fn progress(pool: &PgPool) -> anyhow::Result<Progress> {
    let row = sqlx::query!(
        r#"
        select
            coalesce((select draining_since is not null from oracle.identity), false) as "draining!",
            (select count(*) from oracle.jobs where state = 'queued') as "not_begun!",
            (
                select count(*) from oracle.jobs where state in ('signed', 'delivering', 'delivered')
            ) as "promised!",
            (
                select count(*) from oracle.intents
                where state in ('queued', 'sent', 'included', 'reverted')
            ) as "transactions!"
        "#
    )
    .fetch_one(pool)
    .await
    .context("read what is left to do")?;
    Ok(Progress {
        draining: row.draining,
        not_begun: row.not_begun,
        promised: row.promised,
        transactions: row.transactions,
    })
}
