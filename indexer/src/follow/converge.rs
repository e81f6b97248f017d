//! The step: look at the tip, and either wait, go on, or go back to where the chain parted.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::extend::ReadAhead;
use super::heads::{head_numbers, keep_from};
use super::heal::Omission;
use super::outcome::{Outcome, Policy};
use super::read::Reader;
use super::width::RangeWidth;
use crate::chain::{Block, BlockRef, Heads};
use crate::contract::Children;
use crate::fork::{LocalChain, Relation};
use crate::limits::{CHILDREN_MAX, GAP_ATTEMPTS_MAX, HEAD_STILL_MAX};
use crate::project::Context;
use crate::source::pool::{Index, Pool};
use crate::source::{Endpoint, Fault};
use crate::store::{Applied, Cursor, HeadNumbers, Step, Store, StoreError};
use crate::verify::{Check, Level};
use crate::watch::WatchList;

/// Follows one chain. Everything that it knows is in the store; what it holds itself can be lost at any time.
#[derive(Debug)]
pub struct Follower<E, S> {
    pub(super) chain_id: u64,
    start: u64,
    pub(super) watch: Arc<WatchList>,
    pub(super) policy: Arc<Policy>,
    pub(super) pool: Arc<Pool<E>>,
    pub(super) store: S,
    pub(super) local: Option<Local>,
    pub(super) ahead: VecDeque<ReadAhead>,
    pub(super) width: RangeWidth,
    /// The heads, who said so, and when by the pool's clock.
    heads: Option<(Duration, Index, Heads)>,
    /// The head that is the indexed tip, and since when it is, or when the other endpoints were last asked for theirs.
    still: Option<(BlockRef, Duration)>,
    /// Endpoints whose chain leaves ours below the finalized block.
    contradicting: BTreeSet<Index>,
    /// Steps in a row that found a gap in an event sequence; the next read goes by receipts.
    pub(super) gaps: u32,
    /// What is missing from an event sequence, and how far its repair has come.
    pub(super) omission: Option<Omission>,
}

#[derive(Debug)]
pub(super) struct Local {
    pub(super) cursor: Cursor,
    pub(super) chain: LocalChain,
    /// What factories created on the stored branch.
    pub(super) children: Children,
}

const HEADS_AGE_MAX: Duration = Duration::from_secs(2);

impl<E: Endpoint + 'static, S: Store> Follower<E, S> {
    /// `start` is the first block that can hold a watched log.
    pub fn new(
        chain_id: u64,
        start: u64,
        watch: WatchList,
        policy: Policy,
        pool: Arc<Pool<E>>,
        store: S,
    ) -> Self {
        Self {
            chain_id,
            start: start.max(1),
            watch: Arc::new(watch),
            policy: Arc::new(policy),
            pool,
            store,
            local: None,
            ahead: VecDeque::new(),
            width: RangeWidth::new(),
            heads: None,
            still: None,
            contradicting: BTreeSet::new(),
            gaps: 0,
            omission: None,
        }
    }

    /// The cursor as last seen.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.local.as_ref().map(|local| &local.cursor)
    }

    /// The heads as last seen.
    pub fn heads(&self) -> Option<&Heads> {
        self.heads.as_ref().map(|(_, _, heads)| heads)
    }

    pub fn pool(&self) -> &Pool<E> {
        &self.pool
    }

    pub fn store(&mut self) -> &mut S {
        &mut self.store
    }

    /// Makes one step. Only the store can fail; endpoints are expected to.
    pub async fn converge(&mut self) -> Result<Outcome, StoreError> {
        let index = match self.pool.pick() {
            Ok(index) => index,
            Err(pause) => {
                return Ok(Outcome::Waiting { reason: "no endpoint can be asked".into(), pause });
            }
        };
        match self.step(index).await {
            Ok(outcome) => Ok(outcome),
            Err(StepError::Store(error)) => {
                // What is stored now is not known until it is read again.
                self.forget();
                Err(error)
            }
            Err(StepError::Fault(fault)) => self.refuse(index, fault).await,
        }
    }

    /// Drops everything that is not in the store.
    pub fn forget(&mut self) {
        self.local = None;
        self.heads = None;
        self.ahead.clear();
        self.omission = None;
    }

    async fn step(&mut self, index: Index) -> Result<Outcome, StepError> {
        self.check_chain(index).await?;
        self.load(index).await?;
        let Some(local) = &self.local else {
            return Ok(Outcome::Waiting {
                reason: "nothing is indexed".into(),
                pause: Duration::ZERO,
            });
        };
        let tip = local.chain.tip();
        if 1 < self.gaps && self.omission.is_some() {
            return self.heal(index).await;
        }
        let heads = self.look(index, tip).await?;
        let Some(local) = &self.local else { return Ok(Outcome::Lost) };
        match local.chain.relate(heads.latest.block_ref()) {
            Relation::Same => {
                self.pool.reward(index);
                if let Some(ahead) = self.endpoint_ahead(index, tip).await {
                    self.pool.prefer(ahead);
                    let reason = format!(
                        "endpoint {} stands still at block {}, endpoint {} is ahead",
                        self.pool.endpoint(index).name(),
                        tip.number,
                        self.pool.endpoint(ahead).name()
                    );
                    return Ok(Outcome::Waiting { reason, pause: Duration::ZERO });
                }
                self.settle_heads(&heads).await
            }
            Relation::Behind => {
                self.pool.rotate(index);
                let reason = format!(
                    "endpoint {} is at block {}, behind the indexed block {}",
                    self.pool.endpoint(index).name(),
                    heads.latest.number,
                    tip.number
                );
                Ok(Outcome::Waiting { reason, pause: Duration::ZERO })
            }
            Relation::Conflict => self.reorganize(index, &heads, heads.latest.clone()).await,
            Relation::Ahead => {
                let finalized = heads.finalized.map_or(0, |block| block.number);
                if tip.number < finalized {
                    self.extend_by_range(index, &heads, finalized).await
                } else {
                    self.extend_by_block(index, &heads).await
                }
            }
        }
    }

    async fn check_chain(&mut self, index: Index) -> Result<(), StepError> {
        if self.pool.is_chain_checked(index) {
            return Ok(());
        }
        let chain_id = self.pool.endpoint(index).chain_id().await?;
        if chain_id != self.chain_id {
            let detail =
                format!("expected chain {}, the endpoint serves {chain_id}", self.chain_id);
            return Err(Fault::lie(Check::ChainId, detail).into());
        }
        self.pool.chain_checked(index);
        Ok(())
    }

    /// Reads the cursor and the hash chain, and begins at the block before the first one where there is none.
    async fn load(&mut self, index: Index) -> Result<(), StepError> {
        if self.local.is_some() {
            return Ok(());
        }
        let mut cursor = self.store.cursor().await?;
        if cursor.is_none() {
            let number = self.start - 1;
            let headers = self.reader(index).headers(number, number).await?;
            let Some(anchor) = headers.first() else {
                return Err(Fault::Absent(format!(
                    "block {number}, before the first one to index"
                ))
                .into());
            };
            self.store.begin(anchor.block_ref(), anchor.time, anchor.parent_hash).await?;
            cursor = self.store.cursor().await?;
        }
        let hashes = self.store.hashes().await?;
        let mut created = Vec::new();
        for factory in self.watch.factories() {
            created.push(self.store.created(factory).await?);
        }
        self.local = cursor.map(|cursor| {
            let anchor = cursor.start.saturating_sub(1);
            let chain = LocalChain::new(hashes, cursor.tip, anchor, cursor.finalized);
            Local { cursor, chain, children: Children::new(created) }
        });
        Ok(())
    }

    /// The heads, freshly asked for unless blocks far below them are being read.
    async fn look(&mut self, index: Index, tip: BlockRef) -> Result<Heads, StepError> {
        if let Some((at, from, heads)) = &self.heads
            && *from == index
            && self.pool.clock().now().saturating_sub(*at) < HEADS_AGE_MAX
            && heads.finalized.is_some_and(|finalized| tip.number < finalized.number)
        {
            return Ok(heads.clone());
        }
        let heads = self.reader(index).heads().await?;
        self.heads = Some((self.pool.clock().now(), index, heads.clone()));
        Ok(heads)
    }

    /// Another endpoint whose head is above the tip, once this one has told the tip for a while: a node that stands still goes
    /// on answering, and nothing that it says is wrong.
    async fn endpoint_ahead(&mut self, index: Index, tip: BlockRef) -> Option<Index> {
        let now = self.pool.clock().now();
        match self.still {
            Some((head, since)) if head == tip => {
                if now.saturating_sub(since) < HEAD_STILL_MAX {
                    return None;
                }
            }
            Some(_) | None => {
                self.still = Some((tip, now));
                return None;
            }
        }
        self.still = Some((tip, now));
        let others = self.pool.others(index);
        let readers: Vec<_> = others.iter().map(|other| self.reader(*other)).collect();
        let heads = join_all(readers.iter().map(|reader| async move {
            reader.heads().await.ok().map(|heads| heads.latest.number)
        }));
        let heads = heads.await;
        let ahead = |head: &Option<u64>| head.is_some_and(|number| tip.number < number);
        others.into_iter().zip(heads).find(|(_, head)| ahead(head)).map(|(other, _)| other)
    }

    /// At the tip: writes what became safe or final, if anything did.
    async fn settle_heads(&mut self, heads: &Heads) -> Result<Outcome, StepError> {
        let Some(local) = &self.local else { return Ok(Outcome::Idle) };
        let numbers = head_numbers(local, None, &[], heads);
        let cursor = &local.cursor;
        let known = (cursor.head, cursor.safe, cursor.finalized);
        if known == (numbers.latest, numbers.safe, numbers.finalized) && cursor.halted.is_none() {
            return Ok(Outcome::Idle);
        }
        let outcome = self.apply(None, Vec::new(), numbers).await?;
        Ok(outcome.unwrap_or(Outcome::Idle))
    }

    /// Writes a step. None when it was done; otherwise what happened in its place.
    pub(super) async fn apply(
        &mut self,
        roll_back: Option<BlockRef>,
        blocks: Vec<Block>,
        heads: HeadNumbers,
    ) -> Result<Option<Outcome>, StepError> {
        self.apply_before(roll_back, Arc::new(blocks), heads, None).await
    }

    /// The same, with what the next step is likely to add.
    pub(super) async fn apply_before(
        &mut self,
        roll_back: Option<BlockRef>,
        blocks: Arc<Vec<Block>>,
        heads: HeadNumbers,
        next: Option<&Arc<Vec<Block>>>,
    ) -> Result<Option<Outcome>, StepError> {
        let Some(local) = &mut self.local else { return Ok(Some(Outcome::Lost)) };
        // Logs that are read from every contract are kept only of those that a factory created.
        let (blocks, created) = if self.watch.factories().is_empty() {
            (blocks, Children::default())
        } else {
            let base = roll_back.unwrap_or(local.cursor.tip);
            let (selected, created) = local.children.select(&self.watch, base, &blocks);
            (Arc::new(selected), created)
        };
        if CHILDREN_MAX < local.children.count() + created.count() {
            let reason = format!(
                "the factories of chain {} created more than {CHILDREN_MAX} contracts, which is the limit",
                self.chain_id
            );
            return Err(StoreError::Defect(reason).into());
        }
        let context = Context { chain_id: self.chain_id, watch: &self.watch };
        let step = Step { expected: &local.cursor, roll_back, blocks: &blocks, heads, next };
        match self.store.apply(context, &step).await? {
            Applied::Done(cursor) => {
                if let Some(ancestor) = roll_back {
                    local.chain.roll_back(ancestor);
                    local.children.roll_back(ancestor);
                }
                local.chain.extend(blocks.iter().map(|block| block.header.block_ref()));
                local.chain.finalize(cursor.finalized, keep_from(&cursor));
                local.cursor = cursor;
                local.children.extend(created);
                self.contradicting.clear();
                self.gaps = 0;
                self.omission = None;
                Ok(None)
            }
            Applied::Lost => {
                self.forget();
                Ok(Some(Outcome::Lost))
            }
            Applied::Gap(gap) => {
                let base = step.base();
                if !self.omission.as_ref().is_some_and(|omission| omission.is_of(&gap, base)) {
                    self.omission = Some(Omission::new(&gap, base));
                }
                Err(Fault::Lie(gap.lie).into())
            }
        }
    }

    /// Punishes an endpoint, and halts where no endpoint is left that could be right.
    async fn refuse(&mut self, index: Index, fault: Fault) -> Result<Outcome, StoreError> {
        self.ahead.clear();
        self.heads = None;
        self.pool.punish(index, &fault);
        let halts = match &fault {
            Fault::Lie(lie) if lie.check == Check::Finalized => {
                self.contradicting.insert(index);
                self.contradicting.len() == self.pool.len()
            }
            Fault::Lie(lie) if lie.check == Check::Sequence => {
                self.gaps += 1;
                GAP_ATTEMPTS_MAX.max(self.pool.len() as u32) <= self.gaps
            }
            Fault::Lie(_)
            | Fault::Unavailable(_)
            | Fault::RateLimited(_)
            | Fault::TooLarge(_)
            | Fault::Absent(_)
            | Fault::Unsupported(_) => false,
        };
        let endpoint = self.pool.endpoint(index).name().to_owned();
        if !halts {
            return Ok(Outcome::Refused { endpoint, fault });
        }
        let reason = format!("{fault} (endpoint {endpoint}); nothing was deleted");
        if let Some(local) = &mut self.local
            && local.cursor.halted.as_ref() != Some(&reason)
        {
            self.store.halt(&reason).await?;
            local.cursor.halted = Some(reason.clone());
        }
        Ok(Outcome::Halted { reason })
    }

    /// After a gap the receipts are read, which leave nothing out.
    pub(super) fn level(&self, usual: Level) -> Level {
        if self.gaps == 0 { usual } else { Level::Full }
    }

    pub(super) fn reader(&self, index: Index) -> Reader<'_, E> {
        Reader { endpoint: self.pool.endpoint(index), watch: &self.watch, policy: &self.policy }
    }
}

#[derive(Debug)]
pub(super) enum StepError {
    Store(StoreError),
    Fault(Fault),
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Fault> for StepError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
