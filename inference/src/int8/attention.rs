//! Attention of a sequence to itself, in integers.

use std::ops::Range;

use super::fixed::{STATE_BITS, Tables, bits};

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

/// Writes `softmax(queries * keys / sqrt(size)) * values` into the head's columns of `out`.
#[inline(always)]
pub(super) fn attend(head: Head<'_>, tables: &Tables) {
    let Head { projected, hidden, rows, head, size, out } = head;
    let part = |index: usize, row: usize| {
        let start = row * 3 * hidden + index * hidden + head * size;
        &projected[start..start + size]
    };
    let narrow = |values: &[i32], bits: u32, largest: i32, into: &mut Vec<i16>| {
        let clamp = |value: &i32| (value >> (STATE_BITS - bits)).clamp(-largest, largest) as i16;
        into.extend(values.iter().map(clamp));
    };
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for row in rows.clone() {
        narrow(part(1, row), SCORE_BITS, SCORE_MAX, &mut keys);
        narrow(part(2, row), VALUE_BITS, i32::from(i16::MAX), &mut values);
    }
    let factor = factor(size);

    let mut query = Vec::new();
    let mut weights = vec![0_i32; rows.len()];
    for row in rows {
        query.clear();
        narrow(part(0, row), SCORE_BITS, SCORE_MAX, &mut query);
        let mut largest = i32::MIN;
        for (score, key) in weights.iter_mut().zip(keys.chunks_exact(size)) {
            let products = query.iter().zip(key).map(|(a, b)| i32::from(*a) * i32::from(*b));
            *score = products.sum();
            largest = largest.max(*score);
        }
        let mut sum = 0;
        for weight in &mut weights {
            // Two scores may differ by more than 31 bits; so far apart, the lower weighs nothing.
            let difference = largest.saturating_sub(*weight) >> (2 * SCORE_BITS - OCTAVE_BITS);
            *weight = tables.power((difference.min(65_535) * factor) >> FACTOR_BITS);
            sum += *weight;
        }
        // The largest score has weight 2^15, so the sum has 16 bits or more.
        let down = bits(sum) - 16;
        let inverse = (1 << 30) / (sum >> down);
        let mut sums = [0_i32; SIZE_MAX];
        let sums = &mut sums[..size];
        for (weight, value) in weights.iter().zip(values.chunks_exact(size)) {
            let share = (weight * inverse) >> (15 + down);
            for (sum, value) in sums.iter_mut().zip(value) {
                *sum += share * i32::from(*value);
            }
        }
        let start = row * hidden + head * size;
        for (out, sum) in out[start..start + size].iter_mut().zip(sums) {
            *out = *sum >> (15 + VALUE_BITS - STATE_BITS);
        }
    }
}

/// What turns a difference of scores of heads of `size` components into octaves.
pub(super) fn factor(size: usize) -> i32 {
    let factor = f64::from(std::f32::consts::LOG2_E) / (size as f64).sqrt();
    (factor * f64::from(1 << FACTOR_BITS)).round() as i32
}

/// Widest head.
pub(super) const SIZE_MAX: usize = 127;
