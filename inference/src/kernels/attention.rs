//! Attention of a sequence to itself.

use std::ops::Range;

use pulp::NullaryFnOnce;

use super::{
    LANES, Lane,
    exp::exp,
    max,
    panels::Panels,
    product::{Left, panel_product},
    sum, vectorized,
};

/// Queries whose scores are computed, weighed and used before those of the next ones: with 128 keys they
/// take 12 KiB, so they stay in the first-level cache.
const QUERIES: usize = 24;

/// Buffers of one head, kept between calls.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The keys as the right side of a product: panels of keys, one lane for each component.
    keys: Vec<Lane>,
    /// Panels of keys, one lane for each of up to [`QUERIES`] queries: first scores, then weights.
    weights: Vec<Lane>,
}

/// One head of one sequence.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    /// Panels of all heads' queries, then keys, then values, of all sequences of a batch.
    pub(crate) projected: &'a Panels,
    /// The sequence.
    pub(crate) rows: Range<usize>,
    /// Number of the head.
    pub(crate) head: usize,
    /// Width of a head, a multiple of [`LANES`].
    pub(crate) size: usize,
    /// The head's panels of the result, `projected.rows` lanes each.
    pub(crate) out: &'a mut [Lane],
    pub(crate) scratch: &'a mut Scratch,
}

/// Writes `softmax(queries * keys / sqrt(size)) * values` into the sequence's rows of `out`.
pub(crate) fn attend(head: Head<'_>) {
    vectorized(head);
}

impl NullaryFnOnce for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { projected, rows, head, size, out, scratch } = self;
        let width = size / LANES;
        let third = projected.count() / 3;
        let [queries, keys, values] = [0, 1, 2].map(|part| {
            let start = part * third + head * width;
            projected.columns(start..start + width)
        });
        let length = rows.len();
        let stride = projected.rows;
        let scale = 1.0 / (size as f32).sqrt();

        transpose(keys, stride, &rows, &mut scratch.keys);
        scratch.weights.resize(length.div_ceil(LANES) * QUERIES, [0.0; LANES]);
        for first_row in rows.clone().step_by(QUERIES) {
            let count = QUERIES.min(rows.end - first_row);
            let weights = &mut scratch.weights[..length.div_ceil(LANES) * count];
            let queries = Left { lanes: queries, stride, first_row, rows: count };
            let panels = weights.chunks_exact_mut(count);
            for (keys, scores) in scratch.keys.chunks_exact(size).zip(panels) {
                panel_product(queries, keys, scores);
            }
            softmax(weights, count, length, scale);

            let weights = Left { lanes: weights, stride: count, first_row: 0, rows: count };
            let outs = out.chunks_exact_mut(stride);
            for (values, out) in values.chunks_exact(stride).zip(outs) {
                let out = &mut out[first_row..first_row + count];
                panel_product(weights, &values[rows.clone()], out);
            }
        }
    }
}

/// Turns `rows` of panels of components into panels of rows; rows behind the last are zero.
#[inline(always)]
fn transpose(panels: &[Lane], stride: usize, rows: &Range<usize>, out: &mut Vec<Lane>) {
    out.clear();
    for start in rows.clone().step_by(LANES) {
        let end = rows.end.min(start + LANES);
        for panel in panels.chunks_exact(stride) {
            let mut square = [[0.0; LANES]; LANES];
            for (column, lanes) in panel[start..end].iter().enumerate() {
                for (row, value) in lanes.iter().enumerate() {
                    square[row][column] = *value;
                }
            }
            out.extend_from_slice(&square);
        }
    }
}

/// Softmax of every row of scores, times `scale`, in place: `count` rows, up to [`QUERIES`], of `length`
/// scores each. The lanes behind the last key become zero.
#[inline(always)]
fn softmax(scores: &mut [Lane], count: usize, length: usize, scale: f32) {
    let last = length.div_ceil(LANES) - 1;
    let used = length - last * LANES;
    // Lanes behind the last key take no part: they hold less than any score.
    for lanes in &mut scores[last * count..] {
        lanes[used..].fill(f32::NEG_INFINITY);
    }

    let mut largest = [[f32::NEG_INFINITY; LANES]; QUERIES];
    for panel in scores.chunks_exact(count) {
        for (largest, scores) in largest.iter_mut().zip(panel) {
            for (largest, score) in largest.iter_mut().zip(scores) {
                *largest = largest.max(*score);
            }
        }
    }
    let largest = largest.map(max);

    let mut sums = [[0.0; LANES]; QUERIES];
    for (panel, scores) in scores.chunks_exact_mut(count).enumerate() {
        for ((scores, largest), sums) in scores.iter_mut().zip(&largest).zip(&mut sums) {
            for score in scores.iter_mut() {
                *score = exp((*score - largest) * scale);
            }
            if panel == last {
                scores[used..].fill(0.0);
            }
            for (sum, score) in sums.iter_mut().zip(scores) {
                *sum += *score;
            }
        }
    }

    let sums = sums.map(sum);
    for panel in scores.chunks_exact_mut(count) {
        for (weights, sum) in panel.iter_mut().zip(&sums) {
            for weight in weights.iter_mut() {
                *weight /= sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

        #[test]
        fn a_head_is_softmax_of_scores_times_values(
            before in 0_usize..3, length in 1_usize..40, after in 0_usize..3, seed in any::<u32>(),
        ) {
            const SIZE: usize = 32;
            const HEADS: usize = 2;
            let rows = before + length + after;
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 4_194_304.0 - 2.0
            };
            let values: Vec<Vec<f32>> =
                (0..rows).map(|_| (0..3 * HEADS * SIZE).map(|_| next()).collect()).collect();
            let projected = Panels::from_rows(values.iter().map(Vec::as_slice), 3 * HEADS * SIZE);
            let range = before..before + length;

            for index in 0..HEADS {
                let untouched = 7.5;
                let mut out = vec![[untouched; LANES]; SIZE / LANES * rows];
                let mut scratch = Scratch::default();
                attend(Head {
                    projected: &projected,
                    rows: range.clone(),
                    head: index,
                    size: SIZE,
                    out: &mut out,
                    scratch: &mut scratch,
                });
                let expected = expected(&values[range.clone()], index * SIZE, HEADS * SIZE, SIZE);
                for (row, lanes) in out.iter().enumerate() {
                    let (panel, row) = (row / rows, row % rows);
                    for (lane, value) in lanes.iter().enumerate() {
                        if !range.contains(&row) {
                            prop_assert_eq!(*value, untouched);
                            continue;
                        }
                        let expected = expected[row - before][panel * LANES + lane];
                        prop_assert!((f64::from(*value) - expected).abs() < 2e-6);
                    }
                }
            }
        }
    }

    fn expected(rows: &[Vec<f32>], start: usize, third: usize, size: usize) -> Vec<Vec<f64>> {
        let part = |row: &Vec<f32>, index: usize| -> Vec<f64> {
            let start = index * third + start;
            row[start..start + size].iter().map(|value| f64::from(*value)).collect()
        };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut out = Vec::new();
        for query in rows {
            let scores =
                rows.iter().map(|key| dot(&part(query, 0), &part(key, 1)) / (size as f64).sqrt());
            let weights: Vec<f64> = scores.map(f64::exp).collect();
            let total: f64 = weights.iter().sum();
            let column = |index: usize| -> f64 {
                let values = rows.iter().map(|row| part(row, 2)[index]);
                values.zip(&weights).map(|(value, weight)| value * weight / total).sum()
            };
            out.push((0..size).map(column).collect());
        }
        out
    }
}
