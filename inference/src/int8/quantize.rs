//! States as signed bytes with a scale for each row.

use pulp::NullaryFnOnce;

use super::sums::{Rows, Way};
use crate::kernels::vectorized;

/// Largest magnitude of a byte; -128 is left out so that the range is symmetric.
pub(super) const BYTE_MAX: i32 = 127;

/// Fraction bits of a row's quantiser: 254 with so many has 30 bits.
const QUANTIZER_BITS: u32 = 22;

/// Rows of signed bytes. A byte `b` stands for `(b + zero) * reach / 127` states.
#[derive(Debug)]
pub(super) struct Quantized {
    pub(super) rows: Rows,
    pub(super) scales: Vec<Scale>,
}

/// How far a row's values reach from the middle between the lowest, the highest and zero, and that
/// middle as a byte: what GELU gives is hardly ever negative, and this way has all 8 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) reach: i32,
    pub(super) zero: i32,
}

/// Quantises rows of `width` states each, every row by its own scale.
pub(super) fn quantize(states: &[i32], width: usize, way: Way) -> Quantized {
    vectorized(Quantize { states, width, way })
}

struct Quantize<'a> {
    states: &'a [i32],
    width: usize,
    way: Way,
}

impl NullaryFnOnce for Quantize<'_> {
    type Output = Quantized;

    #[inline(always)]
    fn call(self) -> Quantized {
        let Self { states, width, way } = self;
        let count = states.len() / width;
        let mut rows = Rows::zeros(count, width, way);
        let mut scales = Vec::with_capacity(count);
        let mut bytes = vec![0; width];
        for (index, row) in states.chunks_exact(width).enumerate() {
            let (mut lowest, mut highest) = (0, 0);
            for value in row {
                lowest = lowest.min(*value);
                highest = highest.max(*value);
            }
            let middle = (lowest + highest) >> 1;
            let reach = (highest - middle).max(middle - lowest).max(1);
            let quantizer = (BYTE_MAX << QUANTIZER_BITS) / reach;
            let half = 1 << (QUANTIZER_BITS - 1);
            let step = |value: i32| (value * quantizer + half) >> QUANTIZER_BITS;
            let zero = step(middle);
            for (byte, value) in bytes.iter_mut().zip(row) {
                *byte = (step(*value) - zero).clamp(-BYTE_MAX, BYTE_MAX) as i8;
            }
            rows.set(index, &bytes);
            scales.push(Scale { reach, zero });
        }
        Quantized { rows, scales }
    }
}
