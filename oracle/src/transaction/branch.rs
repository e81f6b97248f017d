//! The newest blocks of the chain, linked by their parents' hashes: what was recorded in one of them stands for as long as it
//! is in the branch, without a question per transaction.

use std::collections::BTreeMap;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::B256;

use crate::chain::{Chain, ChainError, Head};
use crate::limits::{BRANCH_BLOCKS_MAX, BRANCH_GAP_MAX};

/// Blocks by their numbers; each but the lowest is the child of the one below.
#[derive(Debug, Default)]
pub struct Branch {
    hashes: BTreeMap<u64, B256>,
}

impl Branch {
    /// True when the block is known to be in the branch. False says nothing: it may be too old, or too new.
    pub fn holds(&self, number: u64, hash: B256) -> bool {
        self.hashes.get(&number) == Some(&hash)
    }

    /// Makes `head` part of the branch. The blocks between are read; a gap over the limit begins the branch anew.
    pub async fn follow(&mut self, chain: &Chain, head: Head) -> Result<(), ChainError> {
        let mut lowest = head;
        let mut fresh = Vec::new();
        while !self.holds(lowest.number, lowest.hash) {
            fresh.push((lowest.number, lowest.hash));
            let below = lowest.number.checked_sub(1);
            let Some(below) = below.filter(|_| fresh.len() < BRANCH_GAP_MAX) else {
                self.hashes.clear();
                break;
            };
            if self.holds(below, lowest.parent) {
                break;
            }
            // Nothing is known that low: there is nothing to link to.
            if self.hashes.first_key_value().is_none_or(|(first, _)| below < *first) {
                self.hashes.clear();
                break;
            }
            match chain.head(BlockNumberOrTag::Number(below)).await? {
                Some(block) if block.hash == lowest.parent => lowest = block,
                // The chain changes while it is read.
                _ => {
                    self.hashes.clear();
                    return Ok(());
                }
            }
        }
        self.put(fresh);
        Ok(())
    }

    /// Puts blocks on top, highest first; what stood in their place or above is gone.
    fn put(&mut self, fresh: Vec<(u64, B256)>) {
        if let Some((lowest, _)) = fresh.last() {
            self.hashes.split_off(lowest);
        }
        self.hashes.extend(fresh);
        while BRANCH_BLOCKS_MAX < self.hashes.len() {
            self.hashes.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(byte: u8) -> B256 {
        B256::repeat_byte(byte)
    }

    #[test]
    fn another_block_takes_out_what_stood_in_its_place_and_above() {
        let mut branch = Branch::default();
        branch.put(vec![(12, hash(12)), (11, hash(11)), (10, hash(10))]);
        assert!(branch.holds(12, hash(12)));
        branch.put(vec![(11, hash(21))]);
        assert!(branch.holds(10, hash(10)) && branch.holds(11, hash(21)));
        assert!(!branch.holds(11, hash(11)) && !branch.holds(12, hash(12)));
    }

    #[test]
    fn the_oldest_blocks_are_forgotten() {
        let mut branch = Branch::default();
        let most = BRANCH_BLOCKS_MAX as u64;
        branch.put((0..=most).rev().map(|number| (number, hash(1))).collect());
        assert!(!branch.holds(0, hash(1)) && branch.holds(1, hash(1)));
        assert_eq!(branch.hashes.len(), BRANCH_BLOCKS_MAX);
    }
}
