//! Going on from the indexed tip: by ranges below the finalized block, by single blocks above it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::converge::{Follower, StepError};
use super::heads::head_numbers;
use super::outcome::Outcome;
use super::read::Reader;
use crate::chain::{Block, Heads};
use crate::limits::{
    LIVE_BLOCKS_MAX, RANGE_BLOCKS_MAX, RANGE_BLOCKS_MIN, RANGE_LOGS_HIGH, RANGE_LOGS_LOW,
};
use crate::source::pool::Index;
use crate::source::{Endpoint, Fault};
use crate::store::{HeadNumbers, Store};

/// Blocks that are being read before their turn comes.
#[derive(Debug)]
pub(super) struct ReadAhead {
    last: u64,
    task: AbortOnDropHandle<Result<Vec<Block>, Fault>>,
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
        if let Some(outcome) = self.apply(None, &blocks, numbers).await? {
            return Ok(outcome);
        }
        self.pool.reward(index);
        let facts = blocks.iter().map(|block| block.facts.len()).sum();
        let last = blocks.last().map_or(tip.number, |block| block.header.number);
        Ok(Outcome::Extended { first: tip.number + 1, last, facts })
    }
}
