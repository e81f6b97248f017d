//! Which contracts a database holds the history of.

use alloy::primitives::{Address, B256, hex};
use anyhow::{Context, ensure};
use sqlx::PgPool;

use super::{Factory, FollowedContract, Place};
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
            let (address, created_by) = match &contract.place {
                Place::At(address) => (*address, String::new()),
                Place::CreatedBy(factory) => (factory.address, factory.key()),
            };
            let followed = Followed {
                address,
                topic0: event.topic0,
                created_by,
                what: format!("event {}", event.signature),
                name: &event.type_name,
            };
            if !remember(&mut transaction, chain, indexed, contract, &followed).await? {
                continue;
            }
            match &contract.place {
                Place::At(address) => {
                    index(&mut transaction, chain, *address, event.topic0).await?;
                }
                Place::CreatedBy(_) => {
                    index_anywhere(&mut transaction, chain, event.topic0).await?;
                }
            }
        }
        if let Place::CreatedBy(factory) = &contract.place {
            let followed = Followed {
                address: factory.address,
                topic0: factory.creation,
                created_by: String::new(),
                what: format!("the creations of factory {}", factory.address),
                name: &contract.name,
            };
            remember(&mut transaction, chain, indexed, contract, &followed).await?;
            index_creations(&mut transaction, chain, factory).await?;
        }
    }
    transaction.commit().await.context("commit")?;
    Ok(())
}

/// One event of one contract, or of all those that a factory creates.
struct Followed<'a> {
    address: Address,
    topic0: B256,
    /// Empty, or what tells the created contracts' events from the factory's own.
    created_by: String,
    what: String,
    name: &'a str,
}

/// Remembers that an event is followed. False when that was known.
async fn remember(
    transaction: &mut sqlx::PgConnection,
    chain: i64,
    indexed: Option<i64>,
    contract: &FollowedContract,
    followed: &Followed<'_>,
) -> anyhow::Result<bool> {
    let Followed { address, topic0, created_by, what, name } = followed;
    let known = sqlx::query_scalar!(
        "select count(*) from indexer.followed_events
         where chain_id = $1 and address = $2 and topic0 = $3 and created_by = $4",
        chain,
        address.as_slice(),
        topic0.as_slice(),
        created_by,
    )
    .fetch_one(&mut *transaction)
    .await
    .context("read the followed events")?;
    if known != Some(0) {
        return Ok(false);
    }
    ensure!(
        indexed.is_none_or(|number| number < start(contract)),
        "contract {} ({}): {what} is new, but blocks from its first block {} on are already indexed (up to {}) \
         without it; index into a new database, or name a later start block",
        contract.name,
        contract.place,
        contract.start_block,
        indexed.unwrap_or_default()
    );
    sqlx::query!(
        "insert into indexer.followed_events (chain_id, address, topic0, created_by, name, start_number)
         values ($1, $2, $3, $4, $5, $6)",
        chain,
        address.as_slice(),
        topic0.as_slice(),
        created_by,
        *name,
        start(contract),
    )
    .execute(&mut *transaction)
    .await
    .context("write a followed event")?;
    Ok(true)
}

fn start(contract: &FollowedContract) -> i64 {
    i64::try_from(contract.start_block).unwrap_or(i64::MAX)
}

/// An index over the facts of one event, so that a page of it costs what it holds. Its text is made of numbers and hex only.
async fn index(
    transaction: &mut sqlx::PgConnection,
    chain: i64,
    address: Address,
    topic0: B256,
) -> anyhow::Result<()> {
    let (address, topic0) = (hex::encode(address), hex::encode(topic0));
    let sql = format!(
        "create index if not exists facts_of_{chain}_{}_{} on indexer.facts (block_number, log_index) \
         where chain_id = {chain} and address = '\\x{address}'::bytea and topic0 = '\\x{topic0}'::bytea",
        &address[..12],
        &topic0[..12],
    );
    create(transaction, sql).await
}

/// The same for an event of contracts whose addresses are not known beforehand.
async fn index_anywhere(
    transaction: &mut sqlx::PgConnection,
    chain: i64,
    topic0: B256,
) -> anyhow::Result<()> {
    let topic0 = hex::encode(topic0);
    let sql = format!(
        "create index if not exists facts_of_{chain}_any_{} on indexer.facts (block_number, log_index) \
         where chain_id = {chain} and topic0 = '\\x{topic0}'::bytea",
        &topic0[..12],
    );
    create(transaction, sql).await
}

/// What finds out whether, and since when, a contract is one that the factory created.
async fn index_creations(
    transaction: &mut sqlx::PgConnection,
    chain: i64,
    factory: &Factory,
) -> anyhow::Result<()> {
    let (address, topic0) = (hex::encode(factory.address), hex::encode(factory.creation));
    let created = factory.created_sql("facts");
    let sql = format!(
        "create index if not exists facts_created_{chain}_{}_{}_{} on indexer.facts (({created}), block_number) \
         where chain_id = {chain} and address = '\\x{address}'::bytea and topic0 = '\\x{topic0}'::bytea",
        &address[..12],
        &topic0[..12],
        factory.word_name(),
    );
    create(transaction, sql).await
}

async fn create(transaction: &mut sqlx::PgConnection, sql: String) -> anyhow::Result<()> {
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(transaction).await.context("create an index")?;
    Ok(())
}
