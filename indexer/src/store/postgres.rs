//! The store in PostgreSQL: one connection that holds the chain's advisory lock and makes every write, so that lock and
//! writes live and die together.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use super::chain_rows::{self, signed};
use super::projection_rows;
use super::{Applied, Cursor, Repair, Step, Store, StoreError};
use crate::chain::{BlockRef, Fact};
use crate::follow::keep_from;
use crate::limits::STATEMENT_TIMEOUT;
use crate::project::Context;
use crate::verify;

/// One chain's rows in one database.
#[derive(Debug)]
pub struct PgStore {
    options: PgConnectOptions,
    chain_id: i64,
    connection: Option<PgConnection>,
}

impl PgStore {
    /// Fails when the chain id is over 2^63 - 1.
    pub fn new(options: &PgConnectOptions, chain_id: u64) -> Result<Self, StoreError> {
        let timeout = format!("{}ms", STATEMENT_TIMEOUT.as_millis());
        let options = options
            .clone()
            .application_name(&format!("auspex-indexer-{chain_id}"))
            .options([("statement_timeout", timeout.as_str())]);
        Ok(Self { options, chain_id: signed(chain_id)?, connection: None })
    }

    /// Becomes the one that follows this chain. False while another process is.
    pub async fn lead(&mut self) -> Result<bool, StoreError> {
        if let Some(connection) = &mut self.connection
            && connection.ping().await.is_ok()
        {
            return Ok(true);
        }
        self.connection = None;
        let mut connection = PgConnection::connect_with(&self.options).await?;
        let key = format!("auspex indexer chain {}", self.chain_id);
        let locked = sqlx::query_scalar!(
            r#"select pg_try_advisory_lock(hashtextextended($1, 0)) as "locked!""#,
            key
        )
        .fetch_one(&mut connection)
        .await?;
        if !locked {
            connection.close().await?;
            return Ok(false);
        }
        self.connection = Some(connection);
        Ok(true)
    }

    /// Writes that a node answered with this head.
    pub async fn touch(&mut self, head: u64) -> Result<(), StoreError> {
        let chain_id = self.chain_id;
        let connection = self.connection()?;
        chain_rows::touch(connection, chain_id, head).await
    }

    /// Derives every projection of the chain from its facts alone, in one transaction. Returns the number of facts.
    pub async fn rebuild(&mut self, context: Context<'_>) -> Result<u64, StoreError> {
        let chain_id = self.chain_id;
        let connection = self.connection()?;
        let mut transaction = connection.begin().await?;
        let Some(cursor) = chain_rows::cursor(&mut transaction, chain_id).await? else {
            return Ok(0);
        };
        for kind in crate::project::row::Kind::ALL {
            super::statements::clear(&mut transaction, *kind, chain_id).await?;
        }
        let range = (cursor.start, cursor.tip.number);
        let count = derive_again(&mut transaction, context, range, Telling::Nobody).await?;
        transaction.commit().await?;
        Ok(count)
    }

    fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        self.connection.as_mut().ok_or(StoreError::Database(sqlx::Error::PoolClosed))
    }

    async fn try_repair(
        &mut self,
        context: Context<'_>,
        repair: &Repair<'_>,
    ) -> Result<Applied, StoreError> {
        let chain_id = self.chain_id;
        let mut transaction = self.connection()?.begin().await?;
        let connection = &mut *transaction;
        if !chain_rows::is_at(connection, chain_id, repair.expected).await? {
            return Ok(Applied::Lost);
        }
        projection_rows::take_back(connection, chain_id, repair.ancestor).await?;
        chain_rows::add_facts(connection, chain_id, repair.facts.iter()).await?;
        let range = (repair.ancestor.number + 1, repair.expected.tip.number);
        derive_again(connection, context, range, Telling::Outbox).await?;
        let cursor = Cursor { epoch: repair.expected.epoch + 1, ..repair.expected.clone() };
        chain_rows::move_to(connection, chain_id, &cursor).await?;
        transaction.commit().await?;
        Ok(Applied::Done(cursor))
    }

    async fn try_apply(
        &mut self,
        context: Context<'_>,
        step: &Step<'_>,
    ) -> Result<Applied, StoreError> {
        let chain_id = self.chain_id;
        let mut transaction = self.connection()?.begin().await?;
        let connection = &mut *transaction;
        if !chain_rows::is_at(connection, chain_id, step.expected).await? {
            return Ok(Applied::Lost);
        }
        if let Some(ancestor) = step.roll_back {
            projection_rows::take_back(connection, chain_id, ancestor).await?;
            chain_rows::take_back(connection, chain_id, ancestor).await?;
        }
        let cursor = step.cursor_after();
        chain_rows::add_blocks(connection, chain_id, step.blocks, keep_from(&cursor)).await?;
        let facts: Vec<Fact> =
            step.blocks.iter().flat_map(|block| block.facts.iter().cloned()).collect();
        if !facts.is_empty() {
            let contracts: Vec<_> = context.watch.sequenced().collect();
            let last = chain_rows::last_sequences(connection, chain_id, &contracts).await?;
            let last = |contract| last.get(&contract).copied().unwrap_or(0);
            if let Err(gap) = verify::sequences(context.watch, last, step.blocks) {
                return Ok(Applied::Gap(gap));
            }
            chain_rows::add_facts(connection, chain_id, facts.iter()).await?;
            let changes = projection_rows::derive(connection, context, &facts).await?;
            let documents = projection_rows::write(connection, chain_id, &changes).await?;
            projection_rows::announce(connection, chain_id, &changes, &documents).await?;
        }
        chain_rows::move_to(connection, chain_id, &cursor).await?;
        transaction.commit().await?;
        Ok(Applied::Done(cursor))
    }
}

/// Who hears of rows that are derived again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    Nobody,
    Outbox,
}

/// Derives the projections of a block range, both ends included, from the stored facts. Returns the number of facts.
async fn derive_again(
    connection: &mut PgConnection,
    context: Context<'_>,
    (mut first, tip): (u64, u64),
    telling: Telling,
) -> Result<u64, StoreError> {
    let chain_id = signed(context.chain_id)?;
    let mut count = 0;
    let mut width = REBUILD_BLOCKS_START;
    while first <= tip {
        let last = tip.min(first + width - 1);
        let facts = chain_rows::facts(connection, chain_id, first, last).await?;
        let changes = projection_rows::derive(connection, context, &facts).await?;
        let documents = projection_rows::write(connection, chain_id, &changes).await?;
        if telling == Telling::Outbox {
            projection_rows::announce(connection, chain_id, &changes, &documents).await?;
        }
        count += facts.len() as u64;
        if facts.len() < REBUILD_FACTS_LOW {
            width *= 2;
        } else if REBUILD_FACTS_HIGH < facts.len() {
            width = (width / 2).max(1);
        }
        first = last + 1;
    }
    Ok(count)
}

/// Blocks of one batch of a rebuild at the start, and the facts between which it adapts.
const REBUILD_BLOCKS_START: u64 = 1_000;
const REBUILD_FACTS_LOW: usize = 5_000;
const REBUILD_FACTS_HIGH: usize = 20_000;

impl Store for PgStore {
    async fn cursor(&mut self) -> Result<Option<Cursor>, StoreError> {
        let chain_id = self.chain_id;
        chain_rows::cursor(self.connection()?, chain_id).await
    }

    async fn begin(
        &mut self,
        anchor: BlockRef,
        anchor_time: u64,
        parent_hash: B256,
    ) -> Result<(), StoreError> {
        let chain_id = self.chain_id;
        let mut transaction = self.connection()?.begin().await?;
        chain_rows::begin(&mut transaction, chain_id, anchor, anchor_time, parent_hash).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn hashes(&mut self) -> Result<BTreeMap<u64, B256>, StoreError> {
        let chain_id = self.chain_id;
        chain_rows::hashes(self.connection()?, chain_id).await
    }

    async fn apply(
        &mut self,
        context: Context<'_>,
        step: &Step<'_>,
    ) -> Result<Applied, StoreError> {
        let applied = self.try_apply(context, step).await;
        if applied.is_err() {
            // Whether the write took place is not known; a new connection reads what is.
            self.connection = None;
        }
        applied
    }

    async fn block_of(
        &mut self,
        contract: Address,
        sequence: u64,
    ) -> Result<Option<u64>, StoreError> {
        let chain_id = self.chain_id;
        chain_rows::block_of(self.connection()?, chain_id, contract, sequence).await
    }

    async fn facts(&mut self, first: u64, last: u64) -> Result<Vec<Fact>, StoreError> {
        let chain_id = self.chain_id;
        chain_rows::facts(self.connection()?, chain_id, first, last).await
    }

    async fn repair(
        &mut self,
        context: Context<'_>,
        repair: &Repair<'_>,
    ) -> Result<Applied, StoreError> {
        let applied = self.try_repair(context, repair).await;
        if applied.is_err() {
            self.connection = None;
        }
        applied
    }

    async fn halt(&mut self, reason: &str) -> Result<(), StoreError> {
        let chain_id = self.chain_id;
        chain_rows::halt(self.connection()?, chain_id, reason).await
    }
}
