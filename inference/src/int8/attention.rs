//! Attention of a sequence to itself, in integers.

use std::ops::Range;

use super::{
    fixed::{STATE_BITS, Tables, bits, power_shift},
    sums::{Pairs, ROWS, RowPairs, Sums, pairs},
};
use crate::kernels::LANES;

/// Fraction bits of queries and keys.
const SCORE_BITS: u32 = 8;

/// Largest magnitude of a query's or key's component, 16 in real terms: a product of two heads of
/// up to 127 components then has 31 bits at most.
const SCORE_MAX: i32 = 4095;

/// Fraction bits of values, which are 16-bit numbers of up to 32 in real terms.
const VALUE_BITS: u32 = 10;

/// Fraction bits of the factor that turns differences of scores into octaves.
const FACTOR_BITS: u32 = 15;

/// Fraction bits of differences before the factor.
const OCTAVE_BITS: u32 = 10;

/// One head of one sequence.
#[derive(Debug)]
pub(super) struct Head<'a> {
    /// Rows of all heads' queries, then keys, then values.
    pub(super) projected: &'a [i32],
    pub(super) hidden: usize,
    pub(super) rows: Range<usize>,
    pub(super) head: usize,
    pub(super) size: usize,
    /// `hidden` states for each row of the batch; the head writes its own columns.
    pub(super) out: &'a mut [i32],
}

/// Buffers of one head, kept between calls.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Panels of keys, by pairs of components.
    keys: Vec<Pairs>,
    /// Panels of components of values, by pairs of keys.
    values: Vec<Pairs>,
    /// One group of queries, by pairs of components.
    queries: Vec<RowPairs>,
    /// For each panel of keys, the scores of the group.
    scores: Vec<[Sums; ROWS]>,
    /// For each panel of keys, how many octaves a row's scores are below its largest.
    octaves: Vec<Sums>,
    /// One group's shares, by pairs of keys.
    shares: Vec<RowPairs>,
}

/// Writes `softmax(queries * keys / sqrt(size)) * values` into the head's columns of `out`.
#[inline(always)]
pub(super) fn attend(head: Head<'_>, tables: &Tables, scratch: &mut Scratch) {
    let Head { projected, hidden, rows, head, size, out } = head;
    let part = |index: usize, row: usize| {
        let start = row * 3 * hidden + index * hidden + head * size;
        &projected[start..start + size]
    };
    let Scratch { keys, values, queries, scores, octaves, shares } = scratch;
    let length = rows.len();
    let panels = length.div_ceil(LANES);
    let key_pairs = length.div_ceil(2);
    refill(keys, [[0; 2]; LANES], panels * size / 2);
    refill(values, [[0; 2]; LANES], size / LANES * key_pairs);
    refill(octaves, [0; LANES], panels);
    for (index, row) in rows.clone().enumerate() {
        let panel = &mut keys[index / LANES * size / 2..];
        for (pairs, key) in panel.iter_mut().zip(part(1, row).as_chunks::<2>().0) {
            pairs[index % LANES] = key.map(|value| narrow(value, SCORE_BITS, SCORE_MAX));
        }
        for (panel, value) in part(2, row).as_chunks::<LANES>().0.iter().enumerate() {
            let pairs = &mut values[panel * key_pairs + index / 2];
            for (pair, value) in pairs.iter_mut().zip(value) {
                pair[index % 2] = narrow(*value, VALUE_BITS, i32::from(i16::MAX));
            }
        }
    }
    let factor = factor(size);
    for first in (0..length).step_by(ROWS) {
        let count = ROWS.min(length - first);
        refill(queries, [[0; 2]; ROWS], size / 2);
        for row in 0..count {
            let query = part(0, rows.start + first + row).as_chunks::<2>().0;
            for (pairs, query) in queries.iter_mut().zip(query) {
                pairs[row] = query.map(|value| narrow(value, SCORE_BITS, SCORE_MAX));
            }
        }
        scores.resize(panels, [[0; LANES]; ROWS]);
        for (keys, scores) in keys.chunks_exact(size / 2).zip(scores.iter_mut()) {
            pairs(queries, keys, scores);
        }
        refill(shares, [[0; 2]; ROWS], key_pairs);
        let mut whole = [None; ROWS];
        for (row, whole) in whole[..count].iter_mut().enumerate() {
            *whole = share(scores, octaves, row, length, factor, tables, shares);
        }
        for (panel, values) in values.chunks_exact(key_pairs).enumerate() {
            let mut sums = [[0; LANES]; ROWS];
            pairs(shares, values, &mut sums);
            for (row, sums) in sums[..count].iter().enumerate() {
                let start = (rows.start + first + row) * hidden + head * size + panel * LANES;
                let out = &mut out[start..start + LANES];
                for (lane, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
                    let sum = match whole[row] {
                        None => *sum,
                        Some(key) => {
                            let value = values[key / 2][lane][key % 2];
                            i32::from(value) << SHARE_BITS
                        }
                    };
                    *out = sum >> (SHARE_BITS + VALUE_BITS - STATE_BITS);
                }
            }
        }
    }
}

/// Turns the scores of one row into shares of 2^15. All of it for one key does not fit 16 bits; then
/// the key is returned, and the shares are zero.
///
/// Whole panels are computed, also behind the last key, because that keeps the loops plain. The reads
/// from the table stand apart, because they are all that vector instructions do not do.
#[inline(always)]
fn share(
    scores: &mut [[Sums; ROWS]],
    octaves: &mut [Sums],
    row: usize,
    length: usize,
    factor: i32,
    tables: &Tables,
    shares: &mut [RowPairs],
) -> Option<usize> {
    let behind = scores.len() * LANES - length;
    let mut high = [i32::MIN; LANES];
    if let Some(last) = scores.last_mut() {
        last[row][LANES - behind..].fill(i32::MIN);
    }
    for scores in scores.iter() {
        for (high, score) in high.iter_mut().zip(&scores[row]) {
            *high = (*high).max(*score);
        }
    }
    let largest = high.into_iter().fold(i32::MIN, i32::max);
    for (octaves, scores) in octaves.iter_mut().zip(scores.iter()) {
        for (octaves, score) in octaves.iter_mut().zip(&scores[row]) {
            // Two scores may differ by more than 31 bits; so far apart, the lower weighs nothing.
            let difference = largest.wrapping_sub(*score).cast_unsigned();
            let difference = difference.min(i32::MAX.cast_unsigned()).cast_signed();
            let octave = (difference >> (2 * SCORE_BITS - OCTAVE_BITS)).min(65_535) * factor;
            *octaves = octave >> FACTOR_BITS;
        }
    }
    for (octaves, scores) in octaves.iter().zip(scores.iter_mut()) {
        for (weight, octaves) in scores[row].iter_mut().zip(octaves) {
            *weight = tables.power(*octaves);
        }
    }
    if let Some(last) = scores.last_mut() {
        last[row][LANES - behind..].fill(0);
    }
    let mut sums = [0; LANES];
    for (octaves, scores) in octaves.iter().zip(scores.iter_mut()) {
        let lanes = sums.iter_mut().zip(&mut scores[row]).zip(octaves);
        for ((sum, weight), octaves) in lanes {
            *weight >>= power_shift(*octaves);
            *sum += *weight;
        }
    }
    let sum: i32 = sums.iter().sum();
    // The largest score has weight 2^15, so the sum has 16 bits or more.
    let down = bits(sum) - 16;
    let inverse = (1 << 30) / (sum >> down);
    if sum == 1 << SHARE_BITS {
        // One key has all the weight that there is.
        return (0..length).find(|key| scores[key / LANES][row][key % LANES] != 0);
    }
    let down = SHARE_BITS as i32 + down;
    for (panel, shares) in scores.iter().zip(shares.chunks_mut(LANES / 2)) {
        let mut part = [0; LANES];
        for (part, weight) in part.iter_mut().zip(&panel[row]) {
            *part = ((weight * inverse) >> down) as i16;
        }
        for (shares, pair) in shares.iter_mut().zip(part.as_chunks::<2>().0) {
            shares[row] = *pair;
        }
    }
    None
}

/// A state with fewer fraction bits and a smaller range.
#[inline(always)]
fn narrow(value: i32, bits: u32, largest: i32) -> i16 {
    (value >> (STATE_BITS - bits)).clamp(-largest, largest) as i16
}

fn refill<T: Clone>(buffer: &mut Vec<T>, value: T, length: usize) {
    buffer.clear();
    buffer.resize(length, value);
}

/// Fraction bits of shares.
const SHARE_BITS: u32 = 15;

/// What turns a difference of scores of heads of `size` components into octaves.
pub(super) fn factor(size: usize) -> i32 {
    let factor = f64::from(std::f32::consts::LOG2_E) / (size as f64).sqrt();
    (factor * f64::from(1 << FACTOR_BITS)).round() as i32
}

/// Widest head.
pub(super) const SIZE_MAX: usize = 127;
