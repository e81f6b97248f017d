//! The store in PostgreSQL: one connection that holds the chain's advisory lock and makes every write, so that lock and
//! writes live and die together.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use alloy::primitives::{Address, B256};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::task::{JoinHandle, spawn_blocking};

use super::chain_rows::{self, signed};
use super::connection::StoreConnection;
use super::projection_rows::{self, Derivation, Derived, Source, Telling, joined};
use super::{Applied, Cursor, Repair, Step, Store, StoreError};
use crate::abort::{Point, reach};
use crate::chain::{Block, BlockRef, Fact};
use crate::contract::{Factory, RegisterError, Sources, register};
use crate::follow::keep_from;
use crate::limits::{PARTITION_BLOCKS, REBUILD_FACTS_MAX, STATEMENT_TIMEOUT};
use crate::project::Context;
use crate::project::state::CurrentRows;
use crate::verify;

/// What is known before a step.
#[derive(Debug)]
enum Known {
    /// Rows that are current, among others.
    Rows(CurrentRows),
    /// What the next step is likely to change, derived with such rows while the last step was written.
    Prepared(JoinHandle<Derivation>),
}

/// One chain's rows in one database.
#[derive(Debug)]
pub struct PgStore {
    options: PgConnectOptions,
    chain_id: i64,
    connection: Option<StoreConnection>,
    /// How many times this store has become the one that follows.
    term: u64,
    /// What is known after this store's last step, and the cursor's epoch then. Nobody else writes while the epoch stays.
    known: Option<(u64, Known)>,
    /// The partitions that are known to be there, by their blocks' number over [`PARTITION_BLOCKS`].
    partitions: Option<RangeInclusive<u64>>,
}

impl PgStore {
    /// Fails when the chain id is over 2^63 - 1.
    pub fn new(options: &PgConnectOptions, chain_id: u64) -> Result<Self, StoreError> {
        let timeout = format!("{}ms", STATEMENT_TIMEOUT.as_millis());
        let options = options
            .clone()
            .application_name(&format!("auspex-indexer-{chain_id}"))
            .options([("statement_timeout", timeout.as_str())]);
        Ok(Self {
            options,
            chain_id: signed(chain_id)?,
            connection: None,
            term: 0,
            known: None,
            partitions: None,
        })
    }

    /// Becomes the one that follows this chain. False while another process is.
    pub async fn lead(&mut self) -> Result<bool, StoreError> {
        if let Some(connection) = &mut self.connection
            && connection.ping().await.is_ok()
        {
            return Ok(true);
        }
        self.connection = None;
        let mut connection = StoreConnection::open(&self.options).await?;
        let key = format!("auspex indexer chain {}", self.chain_id);
        let locked = sqlx::query_scalar!(
            r#"select pg_try_advisory_lock(hashtextextended($1, 0)) as "locked!""#,
            key
        )
        .fetch_one(&mut *connection)
        .await?;
        if !locked {
            connection.close().await?;
            return Ok(false);
        }
        self.connection = Some(connection);
        self.term += 1;
        Ok(true)
    }

    /// Changes when another process may have followed meanwhile.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Remembers what is followed from here on. Fails where that would leave a hole.
    pub async fn register(&mut self, sources: &Sources) -> Result<(), RegisterError> {
        let chain_id = self.chain_id;
        register(self.connection()?, chain_id, sources).await
    }

    /// Writes that a node answered with this head.
    pub async fn touch(&mut self, head: u64) -> Result<(), StoreError> {
        let chain_id = self.chain_id;
        let connection = self.connection()?;
        chain_rows::touch(connection, chain_id, head).await
    }

    /// Derives every projection of the chain from its facts alone, in one transaction. Returns the number of facts that
    /// projections are made of.
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
        reach(Point::RebuildCleared);
        let range = (cursor.start, cursor.tip.number);
        let count = derive_again(&mut transaction, context, range, Telling::Nobody).await?;
        reach(Point::RebuildWritten);
        transaction.commit().await?;
        reach(Point::RebuildCommitted);
        Ok(count)
    }

    fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        self.connection.as_deref_mut().ok_or(StoreError::Database(sqlx::Error::PoolClosed))
    }

    async fn try_repair(
        &mut self,
        context: Context<'_>,
        repair: &Repair<'_>,
    ) -> Result<Applied, StoreError> {
        let chain_id = self.chain_id;
        self.ensure_partitions(repair.facts.iter()).await?;
        let mut transaction = self.connection()?.begin().await?;
        let connection = &mut *transaction;
        if !chain_rows::is_at(connection, chain_id, repair.expected).await? {
            return Ok(Applied::Lost);
        }
        let telling = telling(repair.expected);
        projection_rows::take_back(connection, chain_id, repair.ancestor, telling).await?;
        reach(Point::RepairTakenBack);
        chain_rows::add_facts(connection, chain_id, repair.facts.iter()).await?;
        let range = (repair.ancestor.number + 1, repair.expected.tip.number);
        derive_again(connection, context, range, telling).await?;
        let cursor = Cursor { epoch: repair.expected.epoch + 1, ..repair.expected.clone() };
        chain_rows::move_to(connection, chain_id, &cursor).await?;
        reach(Point::RepairWritten);
        transaction.commit().await?;
        reach(Point::RepairCommitted);
        Ok(Applied::Done(cursor))
    }

    async fn try_apply(
        &mut self,
        context: Context<'_>,
        step: &Step<'_>,
    ) -> Result<Applied, StoreError> {
        let chain_id = self.chain_id;
        let is_empty = step.blocks.iter().all(|block| block.facts.is_empty());
        let derivation = match self.take_known(step) {
            Known::Prepared(derivation) => derivation,
            Known::Rows(rows) => {
                projection_rows::begin_deriving(context, Arc::clone(step.blocks), rows)
            }
        };
        self.ensure_partitions(step.blocks.iter().flat_map(|block| &block.facts)).await?;
        let mut transaction = self.connection()?.begin().await?;
        let connection = &mut *transaction;
        if !chain_rows::is_at(connection, chain_id, step.expected).await? {
            return Ok(Applied::Lost);
        }
        reach(Point::StepLocked);
        let cursor = step.cursor_after();
        let telling = telling(&cursor);
        if telling == Telling::Nobody {
            chain_rows::commit_without_waiting(connection).await?;
        }
        if let Some(ancestor) = step.roll_back {
            projection_rows::take_back(connection, chain_id, ancestor, telling).await?;
            chain_rows::take_back(connection, chain_id, ancestor).await?;
            reach(Point::StepTakenBack);
        }
        chain_rows::add_blocks(connection, chain_id, step.blocks, keep_from(&cursor)).await?;
        if !is_empty {
            let contracts: Vec<_> = context.watch.sequenced().collect();
            let last = chain_rows::last_sequences(connection, chain_id, &contracts).await?;
            let last = |contract| last.get(&contract).copied().unwrap_or(0);
            if let Err(gap) = verify::sequences(context.watch, last, step.blocks) {
                return Ok(Applied::Gap(gap));
            }
        }
        let derived = if derivation.is_finished() {
            // Prepared while the last step was written: it is worked out while the facts are.
            let derivation = joined(derivation).await?.of(context, step.blocks);
            let derived = derivation.look_up(connection, context).await?;
            add_facts(connection, chain_id, step.blocks).await?;
            derived
        } else {
            add_facts(connection, chain_id, step.blocks).await?;
            let derivation = joined(derivation).await?.of(context, step.blocks);
            derivation.look_up(connection, context).await?
        };
        let Derived { changes, current } = joined(derived).await?;
        let known = match step.next {
            Some(next) => {
                Known::Prepared(projection_rows::begin_deriving(context, Arc::clone(next), current))
            }
            None => Known::Rows(current),
        };
        projection_rows::write(connection, chain_id, &changes).await?;
        if !is_empty {
            reach(Point::StepProjected);
        }
        if telling == Telling::Outbox {
            projection_rows::announce(connection, chain_id, &changes).await?;
        }
        chain_rows::move_to(connection, chain_id, &cursor).await?;
        reach(Point::StepWritten);
        transaction.commit().await?;
        reach(Point::StepCommitted);
        self.known = Some((cursor.epoch, known));
        // Giving back the memory of thousands of rows takes a while, in which the connection can do more.
        let blocks = Arc::clone(step.blocks);
        spawn_blocking(move || drop((changes, blocks)));
        Ok(Applied::Done(cursor))
    }

    /// Makes the partitions that these facts go into, unless they are known to be there. A write of its own: within a step it
    /// would hold its lock to the end, and two chains' steps could wait for each other.
    async fn ensure_partitions<'a>(
        &mut self,
        facts: impl Iterator<Item = &'a Fact>,
    ) -> Result<(), StoreError> {
        let (mut first, mut last) = (u64::MAX, 0);
        for fact in facts {
            first = first.min(fact.block_number);
            last = last.max(fact.block_number);
        }
        let needed = first / PARTITION_BLOCKS..=last / PARTITION_BLOCKS;
        let is_known =
            |number| self.partitions.as_ref().is_some_and(|known| known.contains(number));
        if last < first || (is_known(needed.start()) && is_known(needed.end())) {
            return Ok(());
        }
        chain_rows::ensure_partitions(self.connection()?, first, last).await?;
        self.partitions = Some(needed);
        Ok(())
    }

    /// What is known before a step. Until the step is committed nothing is.
    fn take_known(&mut self, step: &Step<'_>) -> Known {
        match self.known.take() {
            Some((epoch, known)) if epoch == step.expected.epoch && step.roll_back.is_none() => {
                known
            }
            Some(_) | None => Known::Rows(CurrentRows::new()),
        }
    }
}

fn telling(cursor: &Cursor) -> Telling {
    if cursor.told_from.is_some() { Telling::Outbox } else { Telling::Nobody }
}

async fn add_facts(
    connection: &mut PgConnection,
    chain_id: i64,
    blocks: &[Block],
) -> Result<(), StoreError> {
    if blocks.iter().all(|block| block.facts.is_empty()) {
        return Ok(());
    }
    let facts = blocks.iter().flat_map(|block| &block.facts);
    chain_rows::add_facts(connection, chain_id, facts).await?;
    reach(Point::StepFacts);
    Ok(())
}

/// Derives the projections of a block range, both ends included, from the stored facts, a bounded number of them at a time.
/// Returns the number of facts that something was derived from.
async fn derive_again(
    connection: &mut PgConnection,
    context: Context<'_>,
    (mut first, tip): (u64, u64),
    telling: Telling,
) -> Result<u64, StoreError> {
    let chain_id = signed(context.chain_id)?;
    let contracts: Vec<_> = context.watch.projected().collect();
    let mut count = 0;
    let mut current = CurrentRows::new();
    while first <= tip {
        let last =
            chain_rows::end_of_batch(connection, chain_id, first, tip, REBUILD_FACTS_MAX).await?;
        let facts = chain_rows::facts(connection, chain_id, first, last, Some(&contracts)).await?;
        count += facts.len() as u64;
        let derivation = Derivation::new(context, Source::Stored(facts), current);
        let derived = derivation.look_up(connection, context).await?;
        let Derived { changes, current: known } = joined(derived).await?;
        projection_rows::write(connection, chain_id, &changes).await?;
        if telling == Telling::Outbox {
            projection_rows::announce(connection, chain_id, &changes).await?;
        }
        current = known;
        first = last + 1;
    }
    Ok(count)
}

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
        reach(Point::BeginWritten);
        transaction.commit().await?;
        reach(Point::Begun);
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
        chain_rows::facts(self.connection()?, chain_id, first, last, None).await
    }

    async fn created(&mut self, factory: &Factory) -> Result<BTreeMap<Address, u64>, StoreError> {
        let chain_id = self.chain_id;
        chain_rows::created(self.connection()?, chain_id, factory).await
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
        chain_rows::halt(self.connection()?, chain_id, reason).await?;
        reach(Point::Halted);
        Ok(())
    }
}
