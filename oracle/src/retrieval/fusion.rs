//! Two ranked lists become one, on integers.

use std::collections::BTreeMap;

use alloy::primitives::B256;

/// One million: scores are in millionths.
pub(super) const MILLION: i64 = 1_000_000;

/// Weight of the dense leg; the lexical leg has the rest.
pub(super) const DENSE_WEIGHT: i64 = 700_000;

/// A chunk with its scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fused {
    pub(super) chunk_id: B256,
    /// Millionths, from 0 to 1,000,000.
    pub(super) score: u32,
    pub(super) dense: Option<i64>,
    pub(super) lexical: Option<i64>,
}

/// Min-max normalised weighted sum over the union of both legs; what a leg did not find has 0 there. Best first, ties by
/// chunk id.
pub(super) fn fuse(dense: &[(B256, i64)], lexical: &[(B256, i64)]) -> Vec<Fused> {
    let mut union: BTreeMap<B256, (Option<i64>, Option<i64>)> = BTreeMap::new();
    for (chunk, score) in dense {
        union.entry(*chunk).or_default().0 = Some(*score);
    }
    for (chunk, score) in lexical {
        union.entry(*chunk).or_default().1 = Some(*score);
    }
    let dense = Range::of(dense);
    let lexical = Range::of(lexical);
    let mut fused: Vec<Fused> = union
        .into_iter()
        .map(|(chunk_id, (found_dense, found_lexical))| {
            let weighted = DENSE_WEIGHT * dense.normalized(found_dense)
                + (MILLION - DENSE_WEIGHT) * lexical.normalized(found_lexical);
            Fused {
                chunk_id,
                // A weighted mean of two values up to a million.
                score: (weighted / MILLION) as u32,
                dense: found_dense,
                lexical: found_lexical,
            }
        })
        .collect();
    // Stable, and the union is in the order of ids.
    fused.sort_by_key(|hit| std::cmp::Reverse(hit.score));
    fused
}

/// The scores between which a leg is normalised.
#[derive(Debug, Clone, Copy)]
struct Range {
    lowest: i64,
    highest: i64,
}

impl Range {
    fn of(scores: &[(B256, i64)]) -> Self {
        let lowest = scores.iter().map(|(_, score)| *score).min().unwrap_or_default();
        let highest = scores.iter().map(|(_, score)| *score).max().unwrap_or_default();
        Self { lowest, highest }
    }

    /// Millionths, rounded down. A leg whose hits are all equal counts them as best.
    fn normalized(self, score: Option<i64>) -> i64 {
        let Some(score) = score else { return 0 };
        let width = i128::from(self.highest) - i128::from(self.lowest);
        if width == 0 {
            return MILLION;
        }
        let above = i128::from(score) - i128::from(self.lowest);
        (above * i128::from(MILLION) / width) as i64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u8) -> B256 {
        B256::repeat_byte(n)
    }

    #[test]
    fn legs_are_normalised_weighted_and_added() {
        let dense = [(id(1), 9_000), (id(2), 8_000), (id(3), 5_000)];
        let lexical = [(id(2), 700), (id(4), 400), (id(1), 100)];
        let fused: Vec<(B256, u32)> =
            fuse(&dense, &lexical).iter().map(|hit| (hit.chunk_id, hit.score)).collect();
        let expected = [(id(2), 825_000), (id(1), 700_000), (id(4), 150_000), (id(3), 0)];
        assert_eq!(fused, expected);
    }

    #[test]
    fn ties_go_by_id_and_equal_hits_are_all_best() {
        let fused = fuse(&[(id(2), 5), (id(1), 5)], &[]);
        let order: Vec<(B256, u32)> = fused.iter().map(|hit| (hit.chunk_id, hit.score)).collect();
        assert_eq!(order, [(id(1), 700_000), (id(2), 700_000)]);
        assert!(fuse(&[], &[]).is_empty());
    }

    proptest! {
        #[test]
        fn the_order_of_a_leg_does_not_matter(
            dense in prop::collection::btree_map(any::<u8>(), any::<i64>(), 0..40),
            lexical in prop::collection::btree_map(any::<u8>(), any::<i64>(), 0..40),
        ) {
            let list = |leg: &BTreeMap<u8, i64>| leg.iter().map(|(n, score)| (id(*n), *score)).collect::<Vec<_>>();
            let reversed = |leg: &BTreeMap<u8, i64>| list(leg).into_iter().rev().collect::<Vec<_>>();
            let fused = fuse(&list(&dense), &list(&lexical));
            prop_assert_eq!(&fused, &fuse(&reversed(&dense), &reversed(&lexical)));
            prop_assert!(fused.iter().all(|hit| i64::from(hit.score) <= MILLION));
            prop_assert!(fused.is_sorted_by_key(|hit| (std::cmp::Reverse(hit.score), hit.chunk_id)));
        }
    }
}
