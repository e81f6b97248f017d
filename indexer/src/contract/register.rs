//! Which sources of facts a database holds the whole history of.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, hex};
use anyhow::Context;
use sqlx::{Connection, PgConnection, PgPool};

use super::source::{Hole, Known, Reached, SourceKey, Sources};
use super::{Factory, FollowedContract, Place};
use crate::store::{StoreError, signed};

/// Why following does not begin.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error(transparent)]
    Hole(#[from] Hole),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for RegisterError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Fails when blocks that could hold a wanted log were already indexed without it, and makes the indexes that pages of
/// contracts' events need. Changes nothing of what is remembered: somebody else may be following.
pub async fn prepare(
    pool: &PgPool,
    chain_id: u64,
    sources: &Sources,
    contracts: &[FollowedContract],
) -> anyhow::Result<()> {
    let chain = signed(chain_id)?;
    let mut transaction = pool.begin().await.context("begin a transaction")?;
    let stored = stored(&mut transaction, chain).await?;
    stored.followed_from(sources)?;
    for contract in contracts {
        for event in &contract.events {
            match &contract.place {
                Place::At(address) => {
                    let (address, topic0) = (*address, event.topic0);
                    let key = SourceKey { address, topic0, created_by: String::new() };
                    if !stored.known.contains_key(&key) {
                        index(&mut transaction, chain, address, topic0).await?;
                    }
                }
                Place::CreatedBy(factory) => {
                    let (address, topic0) = (factory.address, event.topic0);
                    let key = SourceKey { address, topic0, created_by: factory.key() };
                    if !stored.known.contains_key(&key) {
                        index_anywhere(&mut transaction, chain, topic0).await?;
                    }
                }
            }
        }
        if let Place::CreatedBy(factory) = &contract.place {
            index_creations(&mut transaction, chain, factory).await?;
        }
    }
    transaction.commit().await.context("commit")?;
    Ok(())
}

/// Remembers what is followed from here on, and what no longer is. Only the one that follows the chain may: what another
/// process is configured for says nothing of what the facts hold. Fails like [`prepare`].
pub(crate) async fn register(
    connection: &mut PgConnection,
    chain: i64,
    sources: &Sources,
) -> Result<(), RegisterError> {
    let mut transaction = connection.begin().await?;
    let stored = stored(&mut transaction, chain).await?;
    let followed_from = stored.followed_from(sources)?;
    if stored.reached.is_none() {
        // Nothing is indexed: what was registered before says nothing.
        sqlx::query!("delete from indexer.followed_events where chain_id = $1", chain)
            .execute(&mut *transaction)
            .await?;
    }
    for ((key, source), from) in sources.wanted.iter().zip(followed_from) {
        sqlx::query!(
            "insert into indexer.followed_events
                 (chain_id, address, topic0, created_by, name, start_number, followed_from)
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (chain_id, address, topic0, created_by) do update set
                 name = excluded.name, start_number = excluded.start_number,
                 followed_from = excluded.followed_from, left_number = null, left_epoch = null",
            chain,
            key.address.as_slice(),
            key.topic0.as_slice(),
            key.created_by,
            source.name,
            signed(source.start)?,
            signed(from)?,
        )
        .execute(&mut *transaction)
        .await?;
    }
    if let Some(Reached { number, epoch }) = stored.reached {
        let is_left = |key: &SourceKey, known: &Known| {
            known.left.is_none() && !sources.wanted.contains_key(key)
        };
        for (key, _) in stored.known.iter().filter(|(key, known)| is_left(key, known)) {
            sqlx::query!(
                "update indexer.followed_events set left_number = $5, left_epoch = $6
                 where chain_id = $1 and address = $2 and topic0 = $3 and created_by = $4",
                chain,
                key.address.as_slice(),
                key.topic0.as_slice(),
                key.created_by,
                signed(number)?,
                signed(epoch)?,
            )
            .execute(&mut *transaction)
            .await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}

/// What a database says of a chain.
#[derive(Debug)]
struct Stored {
    /// None while nothing is indexed.
    reached: Option<Reached>,
    known: BTreeMap<SourceKey, Known>,
}

impl Stored {
    /// For each wanted source in order, the first block from which on the facts hold all of it when it is followed from here on.
    fn followed_from(&self, sources: &Sources) -> Result<Vec<u64>, Hole> {
        let Some(reached) = self.reached else {
            return Ok(vec![sources.first; sources.wanted.len()]);
        };
        // A database that was written before roles were remembered: they were followed all along.
        let knows_roles = self.known.keys().any(SourceKey::is_role);
        let from = sources.wanted.iter().map(|(key, source)| {
            if key.is_role() && !knows_roles {
                return Ok(source.start);
            }
            source.followed_from(key, self.known.get(key).copied(), reached)
        });
        from.collect()
    }
}

async fn stored(connection: &mut PgConnection, chain: i64) -> Result<Stored, RegisterError> {
    let cursor =
        sqlx::query!("select number, epoch from indexer.cursors where chain_id = $1", chain)
            .fetch_optional(&mut *connection)
            .await?;
    let reached = cursor.map(|cursor| Reached {
        number: cursor.number.max(0).unsigned_abs(),
        epoch: cursor.epoch.max(0).unsigned_abs(),
    });
    let rows = sqlx::query!(
        "select address, topic0, created_by, followed_from, left_number, left_epoch
         from indexer.followed_events where chain_id = $1",
        chain
    )
    .fetch_all(connection)
    .await?;
    let known = rows.into_iter().map(|row| {
        let key = SourceKey {
            address: Address::from_slice(&row.address),
            topic0: B256::from_slice(&row.topic0),
            created_by: row.created_by,
        };
        let left = row.left_number.zip(row.left_epoch).map(|(number, epoch)| Reached {
            number: number.max(0).unsigned_abs(),
            epoch: epoch.max(0).unsigned_abs(),
        });
        (key, Known { from: row.followed_from.max(0).unsigned_abs(), left })
    });
    Ok(Stored { reached, known: known.collect() })
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
