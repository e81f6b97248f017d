//! Going on from the indexed tip: by ranges below the finalized block, by single blocks above it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::converge::{Follower, StepError};
use super::heads::head_numbers;
use super::outcome::Outcome;
use super::read::Reader;
use crate::chain::{Block, Heads};
use crate::limits::LIVE_BLOCKS_MAX;
use crate::source::pool::Index;
use crate::source::{Endpoint, Fault};
use crate::store::{HeadNumbers, Store};

/// Blocks that are being read before their turn comes.
#[derive(Debug)]
pub(super) struct ReadAhead {
    last: u64,
    reading: Reading,
}

#[derive(Debug)]
enum Reading {
    UnderWay(AbortOnDropHandle<Result<Vec<Block>, Fault>>),
    Done(Result<Arc<Vec<Block>>, Fault>),
}

impl ReadAhead {
    /// The blocks, as soon as they are there.
    async fn read(self) -> Result<Arc<Vec<Block>>, Fault> {
        match self.reading {
            Reading::UnderWay(task) => joined(task.await),
            Reading::Done(read) => read,
        }
    }

    /// The blocks if they are there already.
    async fn read_so_far(&mut self) -> Option<&Arc<Vec<Block>>> {
        if let Reading::UnderWay(task) = &mut self.reading
            && task.is_finished()
        {
            self.reading = Reading::Done(joined(task.await));
        }
        match &self.reading {
            Reading::Done(Ok(blocks)) => Some(blocks),
            Reading::Done(Err(_)) | Reading::UnderWay(_) => None,
        }
    }
}

fn joined(read: Result<Result<Vec<Block>, Fault>, JoinError>) -> Result<Arc<Vec<Block>>, Fault> {
    let lost = |error| Err(Fault::Unavailable(format!("reading a range: {error}")));
    read.unwrap_or_else(lost).map(Arc::new)
}

impl<E: Endpoint + 'static, S: Store> Follower<E, S> {
    /// At or below the finalized block: the next range, with the ones after it already being read.
    pub(super) async fn extend_by_range(
        &mut self,
        index: Index,
        heads: &Heads,
        finalized: u64,
    ) -> Result<Outcome, StepError> {
        let Some(local) = &self.local else { return Ok(Outcome::Lost) };
        let tip = local.chain.tip();
        let mut next = self.ahead.back().map_or(tip.number, |ahead| ahead.last) + 1;
        while self.ahead.len() < self.pool.concurrency(index) && next <= finalized {
            let last = finalized.min(next + self.width.blocks() - 1);
            self.ahead.push_back(self.read_ahead(index, next, last));
            next = last + 1;
        }
        let Some(front) = self.ahead.pop_front() else { return Ok(Outcome::Idle) };
        let blocks = match front.read().await {
            Ok(blocks) => blocks,
            Err(Fault::TooLarge(text)) if self.width.refused() => {
                self.ahead.clear();
                let blocks = self.width.blocks();
                tracing::debug!(blocks, %text, "the log range was made smaller");
                let reason = "the endpoint wants smaller questions".to_owned();
                return Ok(Outcome::Waiting { reason, pause: Duration::ZERO });
            }
            Err(fault) => {
                let may_be_width = match &fault {
                    Fault::Unavailable(_) | Fault::RateLimited(_) | Fault::Unsupported(_) => true,
                    Fault::TooLarge(_) | Fault::Absent(_) | Fault::Lie(_) => false,
                };
                if may_be_width && self.width.failed() {
                    let blocks = self.width.blocks();
                    tracing::debug!(blocks, %fault, "the log range was made smaller");
                }
                return Err(fault.into());
            }
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
        let mut following = self.ahead.pop_front();
        let next = match &mut following {
            Some(following) => following.read_so_far().await,
            None => None,
        };
        let width = blocks.len() as u64;
        if let Some(outcome) = self.apply_before(None, blocks, numbers, next).await? {
            self.ahead.clear();
            return Ok(outcome);
        }
        if let Some(following) = following {
            self.ahead.push_front(following);
        }
        self.pool.reward(index);
        self.width.served(width, facts as u64);
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
        ReadAhead { last, reading: Reading::UnderWay(AbortOnDropHandle::new(task)) }
    }

    /// Above the finalized block: the next blocks, each by its hash.
    pub(super) async fn extend_by_block(
        &mut self,
        index: Index,
        heads: &Heads,
    ) -> Result<Outcome, StepError> {
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
        let facts = blocks.iter().map(|block| block.facts.len()).sum();
        let last = blocks.last().map_or(tip.number, |block| block.header.number);
        if let Some(outcome) = self.apply(None, blocks, numbers).await? {
            return Ok(outcome);
        }
        self.pool.reward(index);
        Ok(Outcome::Extended { first: tip.number + 1, last, facts })
    }
}
