//! Which of our blocks are safe and final, and how far back the hash chain is kept. Pure.

use alloy::primitives::B256;

use super::converge::Local;
use crate::chain::{Block, BlockRef, Heads};
use crate::limits::{REORG_DEPTH_MAX, WINDOW_BLOCKS_MIN};
use crate::store::{Cursor, HeadNumbers};

/// The lowest block whose hash is still needed.
pub(crate) fn keep_from(cursor: &Cursor) -> u64 {
    let tip = cursor.tip.number;
    let window = cursor.finalized.min(tip.saturating_sub(WINDOW_BLOCKS_MIN));
    // A chain without finality would keep its hashes for ever.
    window.max(tip.saturating_sub(REORG_DEPTH_MAX))
}

/// Which of our blocks are safe and final after a step. A head counts only where it is a block of ours: a number alone says
/// nothing about which branch it is on.
pub(super) fn head_numbers(
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
