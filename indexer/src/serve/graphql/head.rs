//! How far a chain is indexed, and which block a query means.

use sqlx::PgConnection;

use super::argument::{Block, View};
use super::error::Refusal;
use crate::serve::parameter::Finality;

/// A chain's cursor.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) number: i64,
    pub(super) hash: Vec<u8>,
    pub(super) time: i64,
    pub(super) start: i64,
    pub(super) safe: i64,
    pub(super) finalized: i64,
    /// Indexing stopped for good and waits for a person.
    pub(super) halted: bool,
}

/// Reads the cursor.
pub(super) async fn read(connection: &mut PgConnection, chain_id: i64) -> Result<Head, Refusal> {
    let row = sqlx::query!(
        r#"
        select number, hash, time, start_number, safe_number, finalized_number, halted is not null as "halted!"
        from indexer.cursors
        where chain_id = $1
        "#,
        chain_id,
    )
    .fetch_optional(connection)
    .await?;
    let row = row.ok_or(Refusal::NotStarted(chain_id))?;
    Ok(Head {
        number: row.number,
        hash: row.hash,
        time: row.time,
        start: row.start_number,
        safe: row.safe_number,
        finalized: row.finalized_number,
        halted: row.halted,
    })
}

/// The block as of which a view is read. Rows of the newest block are read by their open end, which has an index.
pub(super) async fn resolve(
    connection: &mut PgConnection,
    chain_id: i64,
    deployment: &str,
    head: &Head,
    view: &View,
) -> Result<i64, Refusal> {
    let asked = match &view.block {
        Block::Newest => head.number,
        Block::Number(number) => {
            queryable(deployment, head, *number)?;
            *number
        }
        Block::NumberAtLeast(number) => {
            if head.number < *number {
                queryable(deployment, head, *number)?;
            }
            head.number
        }
        Block::Hash(hash) => {
            let number =
                number_of(connection, chain_id, hash).await?.ok_or(Refusal::BlockUnknown)?;
            queryable(deployment, head, number)?;
            number
        }
    };
    Ok(match view.finality {
        Finality::Latest => asked,
        Finality::Safe => asked.min(head.safe),
        Finality::Finalized => asked.min(head.finalized),
    })
}

fn queryable(deployment: &str, head: &Head, asked: i64) -> Result<(), Refusal> {
    let deployment = deployment.to_owned();
    if head.number < asked {
        return Err(Refusal::BlockTooNew { deployment, head: head.number, asked });
    }
    if asked < head.start {
        return Err(Refusal::BlockTooOld { deployment, start: head.start, asked });
    }
    Ok(())
}

/// The number of a block that is in the kept hash chain. One below it is not looked for: an index from hashes to facts would
/// cost the writer dearly, and what lies that deep stays, so that its number says the same.
async fn number_of(
    connection: &mut PgConnection,
    chain_id: i64,
    hash: &[u8],
) -> Result<Option<i64>, Refusal> {
    let number = sqlx::query_scalar!(
        "select number from indexer.blocks where chain_id = $1 and hash = $2",
        chain_id,
        hash,
    )
    .fetch_optional(connection)
    .await?;
    Ok(number)
}
