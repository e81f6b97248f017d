//! Attention of new positions to what was read before them, through the block table.
//!
//! A score is one sum over components, a softmax is over the positions in groups of a block, and
//! the weighted values are summed position after position: the order depends on the position
//! alone, so a prompt that is read in pieces has the same bits as one that is read at once.

use pulp::NullaryFnOnce;

use super::{cache::Cache, limits::BLOCK_TOKENS, matrix::Rows};
use crate::{
    kernels::{LANES, Lane, exp::exp, max, sum, vectorized},
    team,
};

/// Queries that are computed together: with two registers for each, eight of AVX2's 16.
const QUERIES: usize = 4;

/// One new position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position<'a> {
    /// The blocks of its sequence.
    pub(crate) blocks: &'a [u32],
    pub(crate) position: usize,
}

/// What one layer's attention reads.
#[derive(Debug)]
pub(crate) struct Attention<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) layer: usize,
    pub(crate) window: Option<usize>,
    /// All heads of one position after the other.
    pub(crate) queries: &'a Rows,
    pub(crate) head_size: usize,
    /// Queries that share a head of keys.
    pub(crate) group: usize,
}

impl Attention<'_> {
    /// The attended values, laid out as the queries.
    pub(crate) fn run(&self, positions: &[Position<'_>]) -> Rows {
        let mut out = Rows::zeros(positions.len(), self.queries.columns);
        let width = self.group * self.head_size;
        let heads = self.queries.columns / width;
        team::each(out.values.chunks_exact_mut(width).enumerate(), |groups| {
            let mut scores = Vec::new();
            for (index, out) in groups {
                let (row, head) = (index / heads, index % heads);
                let queries = &self.queries.row(row)[head * width..(head + 1) * width];
                let (at, scores) = (positions[row], &mut scores);
                vectorized(Group { attention: self, at, head, queries, out, scores });
            }
        });
        out
    }
}

/// The queries of one position that share a head of keys.
struct Group<'a> {
    attention: &'a Attention<'a>,
    at: Position<'a>,
    head: usize,
    queries: &'a [f32],
    out: &'a mut [f32],
    /// A buffer: for each block a lane for each query, first scores, then weights.
    scores: &'a mut Vec<Lane>,
}

impl NullaryFnOnce for Group<'_> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let chunk = QUERIES * self.attention.head_size;
        let (queries, out) = (self.queries, std::mem::take(&mut self.out));
        for (queries, out) in queries.chunks(chunk).zip(out.chunks_mut(chunk)) {
            match queries.len() / self.attention.head_size {
                1 => self.queries::<1>(queries, out),
                2 => self.queries::<2>(queries, out),
                3 => self.queries::<3>(queries, out),
                _ => self.queries::<QUERIES>(queries, out),
            }
        }
    }
}

impl Group<'_> {
    #[inline(always)]
    fn queries<const R: usize>(&mut self, queries: &[f32], out: &mut [f32]) {
        let Attention { cache, layer, window, head_size, .. } = *self.attention;
        let Position { blocks, position } = self.at;
        let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
        let (start, end) = (first / BLOCK_TOKENS, position / BLOCK_TOKENS + 1);
        let table = &blocks[start..end];

        let rows: [&[f32]; R] =
            std::array::from_fn(|row| &queries[row * head_size..(row + 1) * head_size]);
        self.scores.clear();
        for block in table {
            let keys = &cache.keys(layer, *block, self.head)[..head_size];
            let mut sums = [[0.0; LANES]; R];
            for (component, keys) in keys.iter().enumerate() {
                for (sums, row) in sums.iter_mut().zip(&rows) {
                    let factor = row[component];
                    for (sum, key) in sums.iter_mut().zip(keys) {
                        *sum = factor.mul_add(*key, *sum);
                    }
                }
            }
            self.scores.extend_from_slice(&sums);
        }
        let seen = first - start * BLOCK_TOKENS..position + 1 - start * BLOCK_TOKENS;
        softmax::<R>(self.scores, seen, 1.0 / (head_size as f32).sqrt());

        let width = head_size / LANES;
        for part in 0..width {
            let mut sums = [[0.0; LANES]; R];
            for (block, weights) in table.iter().zip(self.scores.chunks_exact(R)) {
                let values = &cache.values(layer, *block, self.head)[..head_size];
                for slot in 0..BLOCK_TOKENS {
                    let value = values[slot * width + part];
                    for (sums, weights) in sums.iter_mut().zip(weights) {
                        let weight = weights[slot];
                        for (sum, value) in sums.iter_mut().zip(&value) {
                            *sum = weight.mul_add(*value, *sum);
                        }
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                let place = row * head_size + part * LANES;
                out[place..place + LANES].copy_from_slice(sums);
            }
        }
    }
}

/// Softmax of each query's scores, times `scale`, over the positions that are `seen`; the weights
/// of all others become zero.
#[inline(always)]
fn softmax<const R: usize>(scores: &mut [Lane], seen: std::ops::Range<usize>, scale: f32) {
    for query in 0..R {
        let mut largest = [f32::NEG_INFINITY; LANES];
        for (block, lanes) in scores.iter_mut().skip(query).step_by(R).enumerate() {
            for (slot, score) in lanes.iter_mut().enumerate() {
                if !seen.contains(&(block * LANES + slot)) {
                    *score = f32::NEG_INFINITY;
                }
            }
            for (largest, score) in largest.iter_mut().zip(lanes) {
                *largest = largest.max(*score);
            }
        }
        let largest = max(largest);
        let mut sums = [0.0; LANES];
        for (block, lanes) in scores.iter_mut().skip(query).step_by(R).enumerate() {
            for (slot, score) in lanes.iter_mut().enumerate() {
                let weight = exp((*score - largest) * scale);
                *score = if seen.contains(&(block * LANES + slot)) { weight } else { 0.0 };
            }
            for (sum, weight) in sums.iter_mut().zip(lanes) {
                *sum += *weight;
            }
        }
        let total = sum(sums);
        for lanes in scores.iter_mut().skip(query).step_by(R) {
            for weight in lanes {
                *weight /= total;
            }
        }
    }
}
