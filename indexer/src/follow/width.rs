//! How many blocks a log query below the finalized block spans. Pure.

use crate::limits::{
    RANGE_BLOCKS_MAX, RANGE_BLOCKS_MIN, RANGE_BLOCKS_START, RANGE_FAILURES_MAX, RANGE_LOGS_AIM,
    RANGES_BEFORE_GROWTH,
};

/// The width of the next ranges: by what the last ones held, and never above what an endpoint seems to allow.
#[derive(Debug)]
pub(super) struct RangeWidth {
    blocks: u64,
    /// Half of what was last refused, and twice as much after each run of ranges that were served.
    ceiling: u64,
    /// Ranges that were served since the ceiling last changed.
    served: u32,
    /// Failures in a row for which an endpoint gave other reasons.
    failures: u32,
}

impl RangeWidth {
    pub(super) fn new() -> Self {
        Self { blocks: RANGE_BLOCKS_START, ceiling: RANGE_BLOCKS_MAX, served: 0, failures: 0 }
    }

    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// An endpoint found a range too large. False when it cannot be made smaller.
    pub(super) fn refused(&mut self) -> bool {
        if self.blocks <= RANGE_BLOCKS_MIN {
            return false;
        }
        self.blocks = (self.blocks / 2).max(RANGE_BLOCKS_MIN);
        self.ceiling = self.blocks;
        self.served = 0;
        self.failures = 0;
        true
    }

    /// A range could not be read for another reason. After some of these in a row the range is made smaller all the same: not
    /// every provider says that it was too large in words that are known. True when it was.
    pub(super) fn failed(&mut self) -> bool {
        self.failures += 1;
        if self.failures < RANGE_FAILURES_MAX {
            return false;
        }
        self.failures = 0;
        self.refused()
    }

    /// Makes ranges as wide as it takes for their aim of logs, by what one of them held. It was begun a while ago, and the ones
    /// that are being read since then may be wider already.
    pub(super) fn served(&mut self, width: u64, logs: u64) {
        self.failures = 0;
        self.served += 1;
        if RANGES_BEFORE_GROWTH <= self.served {
            self.served = 0;
            self.ceiling = (self.ceiling * 2).min(RANGE_BLOCKS_MAX);
        }
        let wanted = (width * RANGE_LOGS_AIM / logs.max(1)).clamp(RANGE_BLOCKS_MIN, width * 2);
        self.blocks = if wanted < width {
            self.blocks.min(wanted)
        } else {
            self.blocks.max(wanted).min(self.ceiling)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_to_their_aim_and_shrink_when_they_hold_much() {
        let mut width = RangeWidth::new();
        for _ in 0..10 {
            width.served(width.blocks(), 0);
        }
        assert_eq!(width.blocks(), RANGE_BLOCKS_MAX);
        width.served(RANGE_BLOCKS_MAX, 2 * RANGE_LOGS_AIM);
        assert_eq!(width.blocks(), RANGE_BLOCKS_MAX / 2);
    }

    #[test]
    fn what_was_refused_is_tried_again_only_after_a_while() {
        let mut width = RangeWidth::new();
        assert!(width.refused());
        let half = RANGE_BLOCKS_START / 2;
        for _ in 1..RANGES_BEFORE_GROWTH {
            width.served(width.blocks(), 0);
            assert_eq!(width.blocks(), half);
        }
        width.served(width.blocks(), 0);
        assert_eq!(width.blocks(), RANGE_BLOCKS_START);
    }

    #[test]
    fn failures_in_a_row_make_ranges_smaller_whatever_their_reason() {
        let mut width = RangeWidth::new();
        for _ in 1..RANGE_FAILURES_MAX {
            assert!(!width.failed());
        }
        width.served(width.blocks(), RANGE_LOGS_AIM);
        for _ in 1..RANGE_FAILURES_MAX {
            assert!(!width.failed());
        }
        assert!(width.failed());
        assert_eq!(width.blocks(), RANGE_BLOCKS_START / 2);
        while width.refused() {}
        assert_eq!(width.blocks(), RANGE_BLOCKS_MIN);
    }
}
