//! Which sequences run together, and how they lie in one matrix.
//!
//! Sequences are laid end to end without padding: row by row, a matrix product gives a row the same
//! bits whatever the other rows are, and attention sees each sequence at its exact length. So a
//! vector does not depend on what else was in its batch.

use std::ops::Range;

use crate::{error::EncodeError, tokens::Sequence};

/// Sequences end to end, equal lengths next to each other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Token ids of all sequences.
    pub(crate) ids: Vec<u32>,
    /// For each id, whether it is of its sequence's second text: 0 or 1.
    pub(crate) kinds: Vec<u8>,
    /// Runs of sequences of one length, shortest first.
    pub(crate) runs: Vec<Run>,
    /// For each sequence in `ids`, its position in the list that was packed.
    pub(crate) order: Vec<usize>,
}

/// Sequences of one length.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// First row of the first sequence.
    pub(crate) start: usize,
    /// Tokens of each sequence.
    pub(crate) length: usize,
    /// Number of sequences.
    pub(crate) count: usize,
}

impl Run {
    /// All rows of the run.
    pub(crate) fn rows(&self) -> Range<usize> {
        self.start..self.start + self.length * self.count
    }
}

impl Batch {
    pub(crate) fn pack(sequences: &[&Sequence]) -> Self {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|index| sequences[*index].len());
        let mut batch = Self { ids: Vec::new(), kinds: Vec::new(), runs: Vec::new(), order };
        for index in &batch.order {
            let sequence = sequences[*index];
            match batch.runs.last_mut() {
                Some(run) if run.length == sequence.len() => run.count += 1,
                _ => batch.runs.push(Run {
                    start: batch.ids.len(),
                    length: sequence.len(),
                    count: 1,
                }),
            }
            batch.ids.extend_from_slice(&sequence.ids);
            batch.kinds.resize(batch.ids.len() - (sequence.len() - sequence.second), 0);
            batch.kinds.resize(batch.ids.len(), 1);
        }
        batch
    }

    /// Rows of each sequence, in the order of `ids`.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = Range<usize>> {
        self.runs.iter().flat_map(|run| {
            (0..run.count).map(move |index| {
                let start = run.start + index * run.length;
                start..start + run.length
            })
        })
    }
}

/// Runs `run` on batches of up to `budget` tokens and gives its results in the order of `sequences`.
pub(crate) fn in_batches<T: Clone + Default>(
    sequences: &[Sequence],
    budget: usize,
    run: impl Fn(&[&Sequence]) -> Result<Vec<T>, EncodeError>,
) -> Result<Vec<T>, EncodeError> {
    let mut results = vec![T::default(); sequences.len()];
    // Equal lengths next to each other make few and large runs of attention.
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|index| sequences[*index].len());
    let lengths: Vec<usize> = order.iter().map(|index| sequences[*index].len()).collect();
    for range in split_by_tokens(&lengths, budget) {
        let indices = &order[range];
        let batch: Vec<&Sequence> = indices.iter().map(|index| &sequences[*index]).collect();
        for (result, index) in run(&batch)?.into_iter().zip(indices) {
            results[*index] = result;
        }
    }
    Ok(results)
}

/// Cuts a list of sequence lengths into ranges of at most `budget` tokens each; a sequence that is
/// longer than the budget gets a range of its own.
pub(crate) fn split_by_tokens(lengths: &[usize], budget: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    let mut tokens = 0;
    for (index, length) in lengths.iter().enumerate() {
        if start < index && budget < tokens + length {
            ranges.push(start..index);
            start = index;
            tokens = 0;
        }
        tokens += length;
    }
    if start < lengths.len() {
        ranges.push(start..lengths.len());
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_sequence_is_found_where_the_batch_says(
            sequences in prop::collection::vec(
                (prop::collection::vec(any::<u32>(), 1..9), any::<prop::sample::Index>()), 0..20),
        ) {
            let sequence = |(ids, second): (Vec<u32>, prop::sample::Index)| {
                Sequence { second: second.index(ids.len() + 1), ids }
            };
            let sequences: Vec<Sequence> = sequences.into_iter().map(sequence).collect();
            let batch = Batch::pack(&sequences.iter().collect::<Vec<_>>());
            prop_assert_eq!(batch.order.len(), sequences.len());
            prop_assert_eq!(batch.kinds.len(), batch.ids.len());
            for (rows, index) in batch.sequences().zip(&batch.order) {
                let expected = &sequences[*index];
                prop_assert_eq!(&batch.ids[rows.clone()], &expected.ids);
                let first = batch.kinds[rows].iter().filter(|kind| **kind == 0).count();
                prop_assert_eq!(first, expected.second);
            }
            for pair in batch.runs.windows(2) {
                prop_assert!(pair[0].length < pair[1].length);
                prop_assert_eq!(pair[0].rows().end, pair[1].start);
            }
        }

        #[test]
        fn ranges_cover_everything_within_the_budget(
            lengths in prop::collection::vec(1_usize..50, 0..40),
            budget in 1_usize..100,
        ) {
            let ranges = split_by_tokens(&lengths, budget);
            let flat: Vec<usize> = ranges.iter().cloned().flatten().collect();
            prop_assert_eq!(flat, (0..lengths.len()).collect::<Vec<_>>());
            for range in ranges {
                let tokens: usize = lengths[range.clone()].iter().sum();
                prop_assert!(tokens <= budget || range.len() == 1);
            }
        }
    }
}
