//! Which contracts a database holds the history of.

use alloy::primitives::{Address, hex};
use anyhow::{Context, ensure};
use sqlx::PgPool;

use super::FollowedContract;
use crate::store::signed;

/// Remembers what is followed on a chain. Fails when blocks that could hold a contract's events were already indexed
/// without it: their logs are not there, and nothing would say so.
pub async fn register(
    pool: &PgPool,
    chain_id: u64,
    contracts: &[FollowedContract],
) -> anyhow::Result<()> {
    let chain = signed(chain_id)?;
    let mut transaction = pool.begin().await.context("begin a transaction")?;
    let indexed = sqlx::query_scalar!(
        "select number from indexer.cursors where chain_id = $1 for share",
        chain
    )
    .fetch_optional(&mut *transaction)
    .await
    .context("read the cursor")?;
    for contract in contracts {
        for event in &contract.events {
            let known = sqlx::query_scalar!(
                "select count(*) from indexer.followed_events where chain_id = $1 and address = $2 and topic0 = $3",
                chain,
                contract.address.as_slice(),
                event.topic0.as_slice(),
            )
            .fetch_one(&mut *transaction)
            .await
            .context("read the followed events")?;
            if known != Some(0) {
                continue;
            }
            let is_new = indexed.is_none_or(|number| number < start(contract));
            ensure!(
                is_new,
                "contract {} ({}): event {} is new, but blocks from its first block {} on are already indexed (up to {}) \
                 without it; index into a new database, or name a later start block",
                contract.name,
                contract.address,
                event.signature,
                contract.start_block,
                indexed.unwrap_or_default()
            );
            sqlx::query!(
                "insert into indexer.followed_events (chain_id, address, topic0, name, start_number)
                 values ($1, $2, $3, $4, $5)",
                chain,
                contract.address.as_slice(),
                event.topic0.as_slice(),
                event.type_name,
                start(contract),
            )
            .execute(&mut *transaction)
            .await
            .context("write a followed event")?;
            index(&mut transaction, chain, contract.address, event.topic0.as_slice()).await?;
        }
    }
    transaction.commit().await.context("commit")?;
    Ok(())
}

fn start(contract: &FollowedContract) -> i64 {
    i64::try_from(contract.start_block).unwrap_or(i64::MAX)
}

/// An index over the facts of one event, so that a page of it costs what it holds. Its text is made of numbers and hex only.
async fn index(
    transaction: &mut sqlx::PgConnection,
    chain: i64,
    address: Address,
    topic0: &[u8],
) -> anyhow::Result<()> {
    let (address, topic0) = (hex::encode(address), hex::encode(topic0));
    let sql = format!(
        "create index if not exists facts_of_{chain}_{}_{} on indexer.facts (block_number, log_index) \
         where chain_id = {chain} and address = '\\x{address}'::bytea and topic0 = '\\x{topic0}'::bytea",
        &address[..12],
        &topic0[..12],
    );
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(transaction).await.context("create an index")?;
    Ok(())
}
