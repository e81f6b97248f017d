//! The step: look at the tip, and either wait, go on, or go back to where the chain parted.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use tokio_util::task::AbortOnDropHandle;

use super::branch;
use super::read::Reader;
use crate::chain::{Block, BlockRef, Header, Heads};
use crate::fork::{LocalChain, Relation};
use crate::limits::{
    GAP_ATTEMPTS_MAX, LIVE_BLOCKS_MAX, RANGE_BLOCKS_MAX, RANGE_BLOCKS_MIN, RANGE_BLOCKS_START,
    RANGE_LOGS_HIGH, RANGE_LOGS_LOW, REORG_DEPTH_MAX, SWAP_BLOCKS_MAX, WINDOW_BLOCKS_MIN,
};
use crate::project::Context;
use crate::source::pool::{Index, Pool};
use crate::source::{Endpoint, Fault};
use crate::store::{Applied, Cursor, HeadNumbers, Step, Store, StoreError};
use crate::verify::{Check, Level};
use crate::watch::WatchList;

/// How much is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Above the finalized block.
    pub live: Level,
    /// At or below it.
    pub backfill: Level,
    /// Count and log what fails, but use it.
    pub observe_only: bool,
    /// The share of blocks with logs whose receipts are read at level `linked`, between 0 and 1.
    pub sample: f64,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The indexed tip is the endpoint's head.
    Idle,
    Extended {
        first: u64,
        last: u64,
        facts: usize,
    },
    RolledBack {
        ancestor: u64,
        depth: u64,
        last: u64,
        facts: usize,
    },
    /// Nothing can be done now; why, and for how long at least.
    Waiting {
        reason: String,
        pause: Duration,
    },
    /// An endpoint's answer could not be used; another one is asked next.
    Refused {
        endpoint: String,
        fault: Fault,
    },
    /// Somebody else moved the cursor.
    Lost,
    /// Going on would mean to take back what is final, or to accept a gap. Looked at again from time to time.
    Halted {
        reason: String,
    },
}

/// Follows one chain. Everything that it knows is in the store; what it holds itself can be lost at any time.
#[derive(Debug)]
pub struct Follower<E, S> {
    chain_id: u64,
    start: u64,
    watch: Arc<WatchList>,
    policy: Arc<Policy>,
    pool: Arc<Pool<E>>,
    store: S,
    local: Option<Local>,
    ahead: VecDeque<ReadAhead>,
    range_blocks: u64,
    /// The heads, who said so, and when by the pool's clock.
    heads: Option<(Duration, Index, Heads)>,
    /// Endpoints whose chain leaves ours below the finalized block.
    contradicting: BTreeSet<Index>,
    /// Steps in a row that found a gap in an event sequence; the next read goes by receipts.
    gaps: u32,
}

#[derive(Debug)]
struct Local {
    cursor: Cursor,
    chain: LocalChain,
}

/// Blocks that are being read before their turn comes.
#[derive(Debug)]
struct ReadAhead {
    last: u64,
    task: AbortOnDropHandle<Result<Vec<Block>, Fault>>,
}

/// While ranges are being read the tip is looked at this often.
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
            range_blocks: RANGE_BLOCKS_START,
            heads: None,
            contradicting: BTreeSet::new(),
            gaps: 0,
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
        let heads = self.look(index, tip).await?;
        let Some(local) = &self.local else { return Ok(Outcome::Lost) };
        match local.chain.relate(heads.latest.block_ref()) {
            Relation::Same => {
                self.pool.reward(index);
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
        self.local = cursor.map(|cursor| {
            let anchor = cursor.start.saturating_sub(1);
            let chain = LocalChain::new(hashes, cursor.tip, anchor, cursor.finalized);
            Local { cursor, chain }
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

    /// At the tip: writes what became safe or final, if anything did.
    async fn settle_heads(&mut self, heads: &Heads) -> Result<Outcome, StepError> {
        let Some(local) = &self.local else { return Ok(Outcome::Idle) };
        let numbers = head_numbers(local, None, &[], heads);
        let cursor = &local.cursor;
        let known = (cursor.head, cursor.safe, cursor.finalized);
        if known == (numbers.latest, numbers.safe, numbers.finalized) && cursor.halted.is_none() {
            return Ok(Outcome::Idle);
        }
        let outcome = self.apply(None, &[], numbers).await?;
        Ok(outcome.unwrap_or(Outcome::Idle))
    }

    /// At or below the finalized block: the next range, with the ones after it already being read.
    async fn extend_by_range(
        &mut self,
        index: Index,
        heads: &Heads,
        finalized: u64,
    ) -> Result<Outcome, StepError> {
        let Some(local) = &self.local else { return Ok(Outcome::Lost) };
        let tip = local.chain.tip();
        let mut next = self.ahead.back().map_or(tip.number, |ahead| ahead.last) + 1;
        while self.ahead.len() < self.pool.concurrency(index) && next <= finalized {
            let last = finalized.min(next + self.range_blocks - 1);
            self.ahead.push_back(self.read_ahead(index, next, last));
            next = last + 1;
        }
        let Some(front) = self.ahead.pop_front() else { return Ok(Outcome::Idle) };
        let blocks = match front.task.await {
            Ok(blocks) => blocks,
            Err(error) => {
                return Err(Fault::Unavailable(format!("reading a range: {error}")).into());
            }
        };
        let blocks = match blocks {
            Err(Fault::TooLarge(text)) if RANGE_BLOCKS_MIN < self.range_blocks => {
                self.ahead.clear();
                self.range_blocks = (self.range_blocks / 2).max(RANGE_BLOCKS_MIN);
                tracing::debug!(blocks = self.range_blocks, %text, "the log range was made smaller");
                let reason = "the endpoint wants smaller questions".to_owned();
                return Ok(Outcome::Waiting { reason, pause: Duration::ZERO });
            }
            blocks => blocks?,
        };
        let Some(first) = blocks.first() else { return Ok(Outcome::Idle) };
        if first.header.parent_hash != tip.hash {
            let top = first.header.clone();
            return self.reorganize(index, heads, top).await;
        }
        let facts = blocks.iter().map(|block| block.facts.len()).sum::<usize>();
        let Some(last) = blocks.last().map(|block| block.header.number) else {
            return Ok(Outcome::Idle);
        };
        // The endpoint calls these blocks final, and they follow our tip.
        let numbers = HeadNumbers { latest: heads.latest.number, safe: last, finalized: last };
        if let Some(outcome) = self.apply(None, &blocks, numbers).await? {
            return Ok(outcome);
        }
        self.pool.reward(index);
        if RANGE_LOGS_HIGH < facts {
            self.range_blocks = (self.range_blocks / 2).max(RANGE_BLOCKS_MIN);
        } else if facts < RANGE_LOGS_LOW {
            self.range_blocks =
                (self.range_blocks + self.range_blocks / 4 + 1).min(RANGE_BLOCKS_MAX);
        }
        Ok(Outcome::Extended { first: tip.number + 1, last, facts })
    }

    fn read_ahead(&self, index: Index, first: u64, last: u64) -> ReadAhead {
        let (pool, watch, policy) =
            (Arc::clone(&self.pool), Arc::clone(&self.watch), Arc::clone(&self.policy));
        let level = self.level(policy.backfill);
        let task = tokio::spawn(async move {
            let reader = Reader { endpoint: pool.endpoint(index), watch: &watch, policy: &policy };
            reader.range(first..last + 1, level).await
        });
        ReadAhead { last, task: AbortOnDropHandle::new(task) }
    }

    /// Above the finalized block: the next blocks, each by its hash.
    async fn extend_by_block(&mut self, index: Index, heads: &Heads) -> Result<Outcome, StepError> {
        self.ahead.clear();
        let Some(local) = &self.local else { return Ok(Outcome::Lost) };
        let tip = local.chain.tip();
        let last = heads.latest.number.min(tip.number + LIVE_BLOCKS_MAX);
        let headers = if tip.number + 1 == heads.latest.number {
            vec![heads.latest.clone()]
        } else {
            self.reader(index).headers(tip.number + 1, last).await?
        };
        let Some(first) = headers.first() else {
            return Err(Fault::Absent(format!("block {}", tip.number + 1)).into());
        };
        if first.parent_hash != tip.hash {
            let top = first.clone();
            return self.reorganize(index, heads, top).await;
        }
        let blocks = self.reader(index).blocks(headers, self.level(self.policy.live)).await?;
        let numbers = head_numbers(local, None, &blocks, heads);
        if let Some(outcome) = self.apply(None, &blocks, numbers).await? {
            return Ok(outcome);
        }
        self.pool.reward(index);
        let facts = blocks.iter().map(|block| block.facts.len()).sum();
        let last = blocks.last().map_or(tip.number, |block| block.header.number);
        Ok(Outcome::Extended { first: tip.number + 1, last, facts })
    }

    /// Finds the ancestor, reads and checks the new branch, and only then swaps the branches in one write.
    async fn reorganize(
        &mut self,
        index: Index,
        heads: &Heads,
        top: Header,
    ) -> Result<Outcome, StepError> {
        self.ahead.clear();
        let Some(local) = &self.local else { return Ok(Outcome::Lost) };
        let reader = self.reader(index);
        let branch::Branch { ancestor, mut headers } =
            branch::find(&reader, &local.chain, top).await?;
        if let Some(objection) = self.objection(index, local, ancestor, &headers).await {
            self.pool.rotate(index);
            return Ok(Outcome::Waiting { reason: objection, pause: Duration::ZERO });
        }
        headers.truncate(SWAP_BLOCKS_MAX as usize);
        let blocks = reader.blocks(headers, self.level(self.policy.live)).await?;
        let depth = local.chain.tip().number.saturating_sub(ancestor.number);
        let numbers = head_numbers(local, Some(ancestor), &blocks, heads);
        if let Some(outcome) = self.apply(Some(ancestor), &blocks, numbers).await? {
            return Ok(outcome);
        }
        self.pool.reward(index);
        metrics::counter!("auspex_indexer_reorgs_total", "chain" => self.chain_id.to_string())
            .increment(1);
        metrics::histogram!("auspex_indexer_reorg_depth_blocks", "chain" => self.chain_id.to_string())
            .record(depth as f64);
        let facts = blocks.iter().map(|block| block.facts.len()).sum();
        let last = blocks.last().map_or(ancestor.number, |block| block.header.number);
        Ok(Outcome::RolledBack { ancestor: ancestor.number, depth, last, facts })
    }

    /// Another endpoint that is at least as far and is on our branch speaks against leaving it: then nobody is believed
    /// until they agree, because one of the two is wrong.
    async fn objection(
        &self,
        index: Index,
        local: &Local,
        ancestor: BlockRef,
        branch: &[Header],
    ) -> Option<String> {
        let ours = local.chain.hash_at(ancestor.number + 1)?;
        let top = branch.last()?;
        for other in self.pool.others(index) {
            let reader = self.reader(other);
            let Ok(heads) = reader.heads().await else { continue };
            if heads.latest.number < top.number {
                continue;
            }
            let Ok(headers) = reader.headers(ancestor.number + 1, ancestor.number + 1).await else {
                continue;
            };
            if headers.first().is_some_and(|header| header.hash == ours) {
                return Some(format!(
                    "endpoints disagree on block {}: {} left the indexed branch, {} did not",
                    ancestor.number + 1,
                    self.pool.endpoint(index).name(),
                    self.pool.endpoint(other).name()
                ));
            }
        }
        None
    }

    /// Writes a step. None when it was done; otherwise what happened in its place.
    async fn apply(
        &mut self,
        roll_back: Option<BlockRef>,
        blocks: &[Block],
        heads: HeadNumbers,
    ) -> Result<Option<Outcome>, StepError> {
        let Some(local) = &mut self.local else { return Ok(Some(Outcome::Lost)) };
        let context = Context { chain_id: self.chain_id, watch: &self.watch };
        let step = Step { expected: &local.cursor, roll_back, blocks, heads };
        match self.store.apply(context, &step).await? {
            Applied::Done(cursor) => {
                if let Some(ancestor) = roll_back {
                    local.chain.roll_back(ancestor);
                }
                local.chain.extend(blocks.iter().map(|block| block.header.block_ref()));
                local.chain.finalize(cursor.finalized, keep_from(&cursor));
                local.cursor = cursor;
                self.contradicting.clear();
                self.gaps = 0;
                Ok(None)
            }
            Applied::Lost => {
                self.forget();
                Ok(Some(Outcome::Lost))
            }
            Applied::Gap(lie) => Err(Fault::Lie(lie).into()),
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
    fn level(&self, usual: Level) -> Level {
        if self.gaps == 0 { usual } else { Level::Full }
    }

    fn reader(&self, index: Index) -> Reader<'_, E> {
        Reader { endpoint: self.pool.endpoint(index), watch: &self.watch, policy: &self.policy }
    }
}

/// The lowest block whose hash is still needed.
pub(crate) fn keep_from(cursor: &Cursor) -> u64 {
    let tip = cursor.tip.number;
    let window = cursor.finalized.min(tip.saturating_sub(WINDOW_BLOCKS_MIN));
    // A chain without finality would keep its hashes for ever.
    window.max(tip.saturating_sub(REORG_DEPTH_MAX))
}

/// Which of our blocks are safe and final after a step. A head counts only where it is a block of ours: a number alone says
/// nothing about which branch it is on.
fn head_numbers(
    local: &Local,
    roll_back: Option<BlockRef>,
    blocks: &[Block],
    heads: &Heads,
) -> HeadNumbers {
    let base = roll_back.unwrap_or(local.chain.tip());
    let hash_after = |number: u64| -> Option<B256> {
        if number <= base.number {
            return if number == base.number {
                Some(base.hash)
            } else {
                local.chain.hash_at(number)
            };
        }
        let offset = usize::try_from(number - base.number - 1).ok()?;
        blocks.get(offset).map(|block| block.header.hash)
    };
    let ours = |head: Option<BlockRef>, known: u64| match head {
        Some(head) if hash_after(head.number) == Some(head.hash) => known.max(head.number),
        Some(_) | None => known,
    };
    let finalized = ours(heads.finalized, local.cursor.finalized);
    let safe = ours(heads.safe, local.cursor.safe.min(base.number)).max(finalized);
    HeadNumbers { latest: heads.latest.number, safe, finalized }
}

#[derive(Debug)]
enum StepError {
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
