//! What is remembered between two steps, and the one write that a step makes.

mod binary;
mod cache;
mod chain_rows;
mod connection;
mod copy;
pub mod postgres;
mod projection_rows;
mod row;
mod statements;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use alloy::primitives::{Address, B256};

use crate::chain::{Block, BlockRef, Fact};
use crate::contract::Factory;
use crate::limits::UNTOLD_LAG_MIN;
use crate::project::Context;
use crate::project::row::Kind;
use crate::verify::Gap;
pub(crate) use chain_rows::signed;

/// Hands out the text of the row versions of one projection that begin in a block range, in a fixed order.
pub(crate) async fn digest_lines(
    connection: &mut sqlx::PgConnection,
    kind: Kind,
    chain_id: u64,
    (first, last): (u64, u64),
    take: impl FnMut(&str),
) -> Result<(), StoreError> {
    let (chain_id, first, last) = (signed(chain_id)?, signed(first)?, signed(last)?);
    Ok(statements::digest_lines(connection, kind, chain_id, first, last, take).await?)
}

/// How far a chain is indexed, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub tip: BlockRef,
    /// Unix time of the tip in seconds.
    pub time: u64,
    /// Grows by one with every write; together with the tip it is what a write has to find unchanged.
    pub epoch: u64,
    /// The first block that is indexed.
    pub start: u64,
    pub head: u64,
    pub safe: u64,
    pub finalized: u64,
    /// The first block whose changes the outbox tells; null while the chain's past is still being read.
    pub told_from: Option<u64>,
    pub halted: Option<String>,
}

/// What the chain's tip looked like when a step was prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadNumbers {
    pub latest: u64,
    pub safe: u64,
    pub finalized: u64,
}

/// One step: take back what is above the ancestor, if anything, then go on with these blocks.
#[derive(Debug, Clone)]
pub struct Step<'a> {
    pub expected: &'a Cursor,
    pub roll_back: Option<BlockRef>,
    /// Verified, linked, and following the ancestor or the expected tip.
    pub blocks: &'a Arc<Vec<Block>>,
    pub heads: HeadNumbers,
    /// What the next step is likely to add, where it is known: the store may prepare for it while it writes this one.
    pub next: Option<&'a Arc<Vec<Block>>>,
}

impl Step<'_> {
    /// What the step's blocks stand on.
    pub fn base(&self) -> BlockRef {
        self.roll_back.unwrap_or(self.expected.tip)
    }

    /// The cursor after the step. The finalized block never goes back.
    pub fn cursor_after(&self) -> Cursor {
        let tip = self.blocks.last().map_or(self.base(), |block| block.header.block_ref());
        let time = self.blocks.last().map_or(self.expected.time, |block| block.header.time);
        let finalized = self.heads.finalized.max(self.expected.finalized).min(tip.number);
        let is_near = self.heads.latest <= tip.number.saturating_add(UNTOLD_LAG_MIN);
        let begins = is_near.then_some(self.base().number + 1);
        Cursor {
            tip,
            time,
            epoch: self.expected.epoch + 1,
            start: self.expected.start,
            head: self.heads.latest,
            safe: self.heads.safe.clamp(finalized, tip.number),
            finalized,
            told_from: self.expected.told_from.or(begins),
            halted: None,
        }
    }
}

/// Facts that belong among the stored ones, and the block above which the projections have to be derived again with them.
/// The chain stays where it is.
#[derive(Debug, Clone)]
pub struct Repair<'a> {
    pub expected: &'a Cursor,
    pub ancestor: BlockRef,
    /// None of them is stored, and all of them are verified and lie above the ancestor and not above the tip.
    pub facts: &'a [Fact],
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    Done(Cursor),
    /// The cursor is not where it was: somebody else follows this chain. Nothing was written.
    Lost,
    /// The blocks' event sequences do not go on from what is stored. Nothing was written.
    Gap(Gap),
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be reached or refused; the step may or may not have been written, which the cursor tells.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// What is stored cannot be read, or a batch cannot be written: a defect, not a condition.
    #[error("store: {0}")]
    Defect(String),
}

/// Where a follow loop keeps what it knows. The second implementation is the in-memory store of the simulation.
pub trait Store: Send {
    /// Null before the first step.
    fn cursor(&mut self) -> impl Future<Output = Result<Option<Cursor>, StoreError>> + Send;

    /// Begins at this block, which is not indexed itself; does nothing where a cursor exists.
    fn begin(
        &mut self,
        anchor: BlockRef,
        anchor_time: u64,
        parent_hash: B256,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The stored hash chain.
    fn hashes(&mut self) -> impl Future<Output = Result<BTreeMap<u64, B256>, StoreError>> + Send;

    /// Makes a step, whole or not at all.
    fn apply(
        &mut self,
        context: Context<'_>,
        step: &Step<'_>,
    ) -> impl Future<Output = Result<Applied, StoreError>> + Send;

    /// The block that holds this event of a contract, by its sequence number.
    fn block_of(
        &mut self,
        contract: Address,
        sequence: u64,
    ) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;

    /// The stored facts of a block range, both ends included, in chain order.
    fn facts(
        &mut self,
        first: u64,
        last: u64,
    ) -> impl Future<Output = Result<Vec<Fact>, StoreError>> + Send;

    /// The contracts that a factory created, as far as the stored facts tell, each with the block of its creation.
    fn created(
        &mut self,
        factory: &Factory,
    ) -> impl Future<Output = Result<BTreeMap<Address, u64>, StoreError>> + Send;

    /// Makes a repair, whole or not at all.
    fn repair(
        &mut self,
        context: Context<'_>,
        repair: &Repair<'_>,
    ) -> impl Future<Output = Result<Applied, StoreError>> + Send;

    /// Remembers why following stopped; deletes nothing.
    fn halt(&mut self, reason: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}
