//! The ceiling: PostgreSQL's own COPY of the same rows, already in its binary form, into a table with the same unique key.

use std::time::Instant;

use anyhow::{Context, ensure};
use futures::TryStreamExt;

use crate::database::Database;

/// Seconds that COPY takes for all facts.
pub(crate) async fn copy(database: &Database) -> anyhow::Result<f64> {
    let mut connection = database.connect().await?;
    let out = "copy (select * from indexer.facts order by block_number, log_index) to stdout (format binary)";
    let mut parts = connection.copy_out_raw(out).await?;
    let mut rows = Vec::new();
    while let Some(part) = parts.try_next().await? {
        rows.extend_from_slice(&part);
    }
    drop(parts);
    sqlx::raw_sql(
        "create table ceiling (like indexer.facts);
         alter table ceiling add constraint ceiling_key unique (chain_id, block_number, log_index);
         checkpoint",
    )
    .execute(&mut connection)
    .await?;
    let started = Instant::now();
    let mut copy = connection.copy_in_raw("copy ceiling from stdin (format binary)").await?;
    copy.send(rows.as_slice()).await?;
    let count = copy.finish().await.context("copy the rows")?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(count == database.facts().await?, "COPY wrote {count} rows");
    Ok(seconds)
}
