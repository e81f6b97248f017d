//! Leaving a branch: find the ancestor, check the new branch, swap.

use std::time::Duration;

use super::branch;
use super::converge::{Follower, Local, StepError};
use super::heads::head_numbers;
use super::outcome::Outcome;
use crate::chain::{BlockRef, Header, Heads};
use crate::limits::SWAP_BLOCKS_MAX;
use crate::source::Endpoint;
use crate::source::pool::Index;
use crate::store::Store;

impl<E: Endpoint + 'static, S: Store> Follower<E, S> {
    /// Finds the ancestor, reads and checks the new branch, and only then swaps the branches in one write.
    pub(super) async fn reorganize(
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
        let facts = blocks.iter().map(|block| block.facts.len()).sum();
        let last = blocks.last().map_or(ancestor.number, |block| block.header.number);
        if let Some(outcome) = self.apply(Some(ancestor), blocks, numbers).await? {
            return Ok(outcome);
        }
        self.pool.reward(index);
        metrics::counter!("auspex_indexer_reorgs_total", "chain" => self.chain_id.to_string())
            .increment(1);
        metrics::histogram!("auspex_indexer_reorg_depth_blocks", "chain" => self.chain_id.to_string())
            .record(depth as f64);
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
}
