//! Putting back what an endpoint left out. An event sequence that does not go on tells that an earlier event is missing,
//! perhaps from blocks that were read long ago at level `linked`: those are read again by their receipts, which leave
//! nothing out, and what was missing is added to the facts.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy::primitives::Address;

use super::converge::{Follower, StepError};
use super::outcome::Outcome;
use crate::chain::{BlockRef, Fact};
use crate::contract::Children;
use crate::limits::{HEAL_BLOCKS, HEAL_FACTS_MAX};
use crate::project::Context;
use crate::source::pool::Index;
use crate::source::{Endpoint, Fault};
use crate::store::{Applied, Repair, Store};
use crate::verify::{self, Check, Gap, Level};

/// Events that are missing from a contract's sequence, and how far their repair has come.
#[derive(Debug)]
pub(super) struct Omission {
    contract: Address,
    /// The number of the last event before the gap.
    after: u64,
    /// Nothing above this block is stored, or is about to stay.
    base: BlockRef,
    detail: String,
    progress: Option<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// The block before the first one that is read again.
    ancestor: BlockRef,
    /// The last block that was.
    reached: BlockRef,
    missing: Vec<Fact>,
    /// What the blocks that were read again created.
    created: Children,
}

impl Omission {
    pub(super) fn new(gap: &Gap, base: BlockRef) -> Self {
        let detail = gap.lie.detail.clone();
        Self { contract: gap.contract, after: gap.after, base, detail, progress: None }
    }

    pub(super) fn is_of(&self, gap: &Gap, base: BlockRef) -> bool {
        (self.contract, self.after, self.base) == (gap.contract, gap.after, base)
    }
}

impl<E: Endpoint + 'static, S: Store> Follower<E, S> {
    /// One bounded part of a repair: reads some blocks again, and writes when all of them were read.
    pub(super) async fn heal(&mut self, index: Index) -> Result<Outcome, StepError> {
        let (Some(local), Some(mut omission)) = (&self.local, self.omission.take()) else {
            return Ok(Outcome::Lost);
        };
        let start = local.cursor.start;
        let next = match &omission.progress {
            Some(progress) => progress.reached.number + 1,
            None if omission.after == 0 => start,
            // The block of the last known event may hold the next one too.
            None => match self.store.block_of(omission.contract, omission.after).await? {
                Some(block) => block,
                // The gap lies within blocks that were just read, by their receipts: nothing that is stored can close it.
                None => return Err(Fault::lie(Check::Sequence, omission.detail).into()),
            },
        };
        let last = omission.base.number.min(next + HEAL_BLOCKS - 1);
        match self.read_again(index, &mut omission, next, last).await {
            Ok(true) => {}
            Ok(false) => {
                // The chain itself moved on: first that, and the gap shows again if it is still there.
                self.gaps = 0;
                let reason = "the blocks to read again were replaced".to_owned();
                return Ok(Outcome::Waiting { reason, pause: Duration::ZERO });
            }
            Err(error) => {
                self.omission = Some(omission);
                return Err(error);
            }
        }
        let missing = omission.progress.as_ref().map_or(0, |progress| progress.missing.len());
        if last < omission.base.number && missing < HEAL_FACTS_MAX {
            self.omission = Some(omission);
            return Ok(Outcome::ReadAgain { first: next, last });
        }
        self.put_back(omission).await
    }

    /// Reads some blocks by their receipts and keeps what is not stored. False when they are not on our branch.
    async fn read_again(
        &mut self,
        index: Index,
        omission: &mut Omission,
        first: u64,
        last: u64,
    ) -> Result<bool, StepError> {
        let Some(local) = &self.local else { return Ok(false) };
        let blocks = self.reader(index).range(first..last + 1, Level::Full).await?;
        let (Some(lowest), Some(highest)) = (blocks.first(), blocks.last()) else {
            return Ok(true);
        };
        let reached = highest.header.block_ref();
        let linked = omission.progress.as_ref().is_none_or(|progress| {
            let before = progress.reached;
            verify::link(before.number, before.hash, &lowest.header).is_ok()
        });
        if !linked || (last == omission.base.number && reached != omission.base) {
            return Ok(false);
        }
        let stored: BTreeSet<_> = self
            .store
            .facts(first, last)
            .await?
            .iter()
            .map(|fact| (fact.block_hash, fact.log_index))
            .collect();
        let ancestor = BlockRef { number: first - 1, hash: lowest.header.parent_hash };
        let new = Progress { ancestor, reached, missing: Vec::new(), created: Children::default() };
        let progress = omission.progress.get_or_insert(new);
        progress.reached = reached;
        let mut children = local.children.clone();
        children.extend(progress.created.clone());
        let (blocks, created) = children.select(&self.watch, omission.base, &blocks);
        progress.created.extend(created);
        let facts = blocks.into_iter().flat_map(|block| block.facts);
        let missing = facts.filter(|fact| !stored.contains(&(fact.block_hash, fact.log_index)));
        progress.missing.extend(missing);
        Ok(true)
    }

    /// Writes what was found. Nothing found means that the gap is in what the contract itself said, or that every endpoint
    /// tells the same lie.
    async fn put_back(&mut self, omission: Omission) -> Result<Outcome, StepError> {
        let Some(local) = &mut self.local else { return Ok(Outcome::Lost) };
        let Some(progress) = omission.progress.filter(|progress| !progress.missing.is_empty())
        else {
            return Err(Fault::lie(Check::Sequence, omission.detail).into());
        };
        let facts = progress.missing.as_slice();
        let repair = Repair { expected: &local.cursor, ancestor: progress.ancestor, facts };
        let context = Context { chain_id: self.chain_id, watch: &self.watch };
        match self.store.repair(context, &repair).await? {
            Applied::Done(cursor) => {
                local.cursor = cursor;
                local.children.extend(progress.created);
                // What comes next is still read by its receipts.
                self.gaps = 1;
                let (first, last) = (progress.ancestor.number + 1, progress.reached.number);
                let facts = facts.len();
                tracing::warn!(
                    chain = self.chain_id,
                    first,
                    last,
                    facts,
                    "events that an endpoint had left out were put back"
                );
                metrics::counter!("auspex_indexer_healed_facts_total", "chain" => self.chain_id.to_string())
                    .increment(facts as u64);
                Ok(Outcome::Healed { first, last, facts })
            }
            Applied::Lost | Applied::Gap(_) => {
                self.forget();
                Ok(Outcome::Lost)
            }
        }
    }
}
