//! What an endpoint's header means for the chain that is indexed: extend, wait, look for the ancestor, or stop. Pure.
//!
//! Invariants: only a header that contradicts an indexed one can take anything back; an absent block never does; and
//! nothing at or below the finalized block is ever taken back.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use crate::chain::{BlockRef, Header};

/// The indexed hash chain, as far back as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalChain {
    hashes: BTreeMap<u64, B256>,
    tip: BlockRef,
    /// The block before the first one that is indexed.
    anchor: u64,
    /// Nothing at or below it is taken back. Zero until the chain has a finalized block.
    finalized: u64,
}

/// How an endpoint's head lies to the indexed chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The indexed tip.
    Same,
    /// Below the tip and on the indexed chain, or below all that is kept: the endpoint lags.
    Behind,
    /// Above the tip. Whether it is on the indexed chain shows at the next block.
    Ahead,
    /// At or below the tip with another hash.
    Conflict,
}

/// Where a foreign branch leads, one block further down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descent {
    /// Its parent is indexed: the branches meet here.
    Ancestor(BlockRef),
    /// Its parent is foreign too, or the branch is still above the tip.
    Deeper,
    /// Nothing that was indexed is on the branch, and none of it is final: the chain was replaced from its start.
    Replaced(BlockRef),
    /// The branch parts from the indexed chain at or below the finalized block.
    BelowFinalized,
}

impl LocalChain {
    /// `hashes` has to hold the tip.
    pub fn new(hashes: BTreeMap<u64, B256>, tip: BlockRef, anchor: u64, finalized: u64) -> Self {
        Self { hashes, tip, anchor, finalized }
    }

    pub fn tip(&self) -> BlockRef {
        self.tip
    }

    pub fn finalized(&self) -> u64 {
        self.finalized
    }

    pub fn hash_at(&self, number: u64) -> Option<B256> {
        self.hashes.get(&number).copied()
    }

    /// How a head lies to this chain.
    pub fn relate(&self, head: BlockRef) -> Relation {
        if self.tip.number < head.number {
            return Relation::Ahead;
        }
        match self.hash_at(head.number) {
            Some(hash) if hash != head.hash => Relation::Conflict,
            Some(_) if head.number == self.tip.number => Relation::Same,
            Some(_) | None => Relation::Behind,
        }
    }

    /// Where the branch leads whose lowest known block is `lowest`.
    pub fn descend(&self, lowest: &Header) -> Descent {
        let Some(parent) = lowest.number.checked_sub(1) else { return Descent::BelowFinalized };
        if self.hash_at(parent) == Some(lowest.parent_hash) {
            return Descent::Ancestor(BlockRef { number: parent, hash: lowest.parent_hash });
        }
        if parent <= self.anchor && self.finalized < self.anchor {
            return Descent::Replaced(BlockRef { number: parent, hash: lowest.parent_hash });
        }
        let lowest_kept = self.hashes.keys().next().copied().unwrap_or(self.tip.number);
        if parent <= self.finalized || parent <= lowest_kept {
            return Descent::BelowFinalized;
        }
        Descent::Deeper
    }

    /// Takes back everything above the ancestor.
    pub fn roll_back(&mut self, ancestor: BlockRef) {
        self.hashes.retain(|number, _| *number < ancestor.number);
        self.hashes.insert(ancestor.number, ancestor.hash);
        self.tip = ancestor;
    }

    /// Goes on with verified, linked blocks.
    pub fn extend(&mut self, blocks: impl IntoIterator<Item = BlockRef>) {
        for block in blocks {
            self.hashes.insert(block.number, block.hash);
            self.tip = block;
        }
    }

    /// Learns what is final, and forgets the hashes that no reorg can reach any more.
    pub fn finalize(&mut self, finalized: u64, keep_from: u64) {
        self.finalized = self.finalized.max(finalized.min(self.tip.number));
        self.hashes = self.hashes.split_off(&keep_from);
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Bloom;
    use proptest::prelude::*;

    use super::*;

    fn hash(branch: u8, number: u64) -> B256 {
        let mut bytes = [branch; 32];
        bytes[24..].copy_from_slice(&number.to_be_bytes());
        B256::from(bytes)
    }

    fn header(branch: u8, number: u64, parent_hash: B256) -> Header {
        Header {
            number,
            hash: hash(branch, number),
            parent_hash,
            time: number,
            receipts_root: B256::ZERO,
            logs_bloom: Bloom::ZERO,
        }
    }

    /// Blocks 10 to 20 of branch 1; the anchor is block 10.
    fn local(finalized: u64) -> LocalChain {
        let hashes = (10..=20).map(|number| (number, hash(1, number))).collect();
        LocalChain::new(hashes, BlockRef { number: 20, hash: hash(1, 20) }, 10, finalized)
    }

    #[test]
    fn a_head_is_same_behind_ahead_or_in_conflict() {
        let local = local(12);
        let at = |branch, number| local.relate(BlockRef { number, hash: hash(branch, number) });
        assert_eq!(at(1, 20), Relation::Same);
        assert_eq!(at(2, 20), Relation::Conflict);
        assert_eq!(at(1, 15), Relation::Behind);
        assert_eq!(at(2, 15), Relation::Conflict);
        assert_eq!(at(2, 5), Relation::Behind);
        assert_eq!(at(2, 21), Relation::Ahead);
    }

    #[test]
    fn a_branch_is_followed_down_to_the_block_that_both_share() {
        let local = local(12);
        assert_eq!(local.descend(&header(2, 21, hash(2, 20))), Descent::Deeper);
        assert_eq!(local.descend(&header(2, 15, hash(2, 14))), Descent::Deeper);
        let ancestor = BlockRef { number: 14, hash: hash(1, 14) };
        assert_eq!(local.descend(&header(2, 15, hash(1, 14))), Descent::Ancestor(ancestor));
    }

    #[test]
    fn a_branch_that_parts_at_or_below_the_finalized_block_is_refused() {
        let local = local(12);
        assert_eq!(local.descend(&header(2, 14, hash(2, 13))), Descent::Deeper);
        assert_eq!(local.descend(&header(2, 13, hash(2, 12))), Descent::BelowFinalized);
        let finalized = BlockRef { number: 12, hash: hash(1, 12) };
        assert_eq!(local.descend(&header(2, 13, hash(1, 12))), Descent::Ancestor(finalized));
    }

    #[test]
    fn a_chain_without_finality_may_be_replaced_from_its_start() {
        let start = BlockRef { number: 10, hash: hash(2, 10) };
        assert_eq!(local(0).descend(&header(2, 11, hash(2, 10))), Descent::Replaced(start));
    }

    proptest! {
        #[test]
        fn finality_never_goes_back(
            steps in prop::collection::vec((0u64..40, 0u64..30), 1..20),
        ) {
            let mut local = local(12);
            let mut before = local.finalized();
            for (finalized, keep_from) in steps {
                local.finalize(finalized, keep_from.min(20));
                prop_assert!(before <= local.finalized());
                prop_assert!(local.finalized() <= local.tip().number);
                before = local.finalized();
            }
        }
    }
}
