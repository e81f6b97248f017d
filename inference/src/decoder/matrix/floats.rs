//! Products with weights that are floats.

use pulp::NullaryFnOnce;

use super::Rows;
use crate::kernels::{LANES, Lane, vectorized};

/// Rows that are computed together: with two registers for each they fill 12 of AVX2's 16.
const ROWS: usize = 6;

/// The weights of one input to [`LANES`] outputs.
pub(super) trait Weight: Copy + Sync {
    fn read(self) -> Lane;
}

impl Weight for Lane {
    #[inline(always)]
    fn read(self) -> Lane {
        self
    }
}

impl Weight for [u16; LANES] {
    #[inline(always)]
    fn read(self) -> Lane {
        halves(&self)
    }
}

/// The values of finite `f16`s. A loop and not `map`, which would be a call into code that was
/// compiled for every machine.
#[inline(always)]
pub(super) fn halves(bits: &[u16; LANES]) -> Lane {
    let mut values = [0.0; LANES];
    for (value, bits) in values.iter_mut().zip(bits) {
        *value = from_f16(*bits);
    }
    values
}

/// The value of a finite `f16`.
///
/// Its bits, moved to the place of an `f32`'s, mean the value times 2^-112, because the exponents'
/// biases are 15 and 127; this is exact for subnormal ones too.
#[inline(always)]
pub(crate) fn from_f16(bits: u16) -> f32 {
    /// 2^112
    const REBIAS: f32 = f32::from_bits((127 + 112) << 23);
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * REBIAS;
    f32::from_bits(magnitude.to_bits() | u32::from(bits & 0x8000) << 16)
}

/// One tile of a product: `out[row] = sum over inputs of left[row][input] * weights[input]`.
pub(super) fn tile<W: Weight>(left: &Rows, weights: &[W], out: &mut [Lane]) {
    vectorized(Tile { left, weights, out });
}

struct Tile<'a, W> {
    left: &'a Rows,
    weights: &'a [W],
    out: &'a mut [Lane],
}

impl<W: Weight> NullaryFnOnce for Tile<'_, W> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { left, weights, out } = self;
        let mut rows = left.values.chunks_exact(left.columns);
        let mut chunks = out.chunks_exact_mut(ROWS);
        for out in &mut chunks {
            block::<W, ROWS>(&mut rows, weights, out);
        }
        let out = chunks.into_remainder();
        match out.len() {
            1 => block::<W, 1>(&mut rows, weights, out),
            2 => block::<W, 2>(&mut rows, weights, out),
            3 => block::<W, 3>(&mut rows, weights, out),
            4 => block::<W, 4>(&mut rows, weights, out),
            5 => block::<W, 5>(&mut rows, weights, out),
            _ => {}
        }
    }
}

/// The next `R` rows.
#[inline(always)]
fn block<'a, W: Weight, const R: usize>(
    rows: &mut impl Iterator<Item = &'a [f32]>,
    weights: &[W],
    out: &mut [Lane],
) {
    let rows: [&[f32]; R] = std::array::from_fn(|_| {
        let row = rows.next().unwrap_or_default();
        // The compiler then knows that all rows are as long as the weights.
        &row[..weights.len()]
    });
    let mut sums = [[0.0; LANES]; R];
    for (input, weights) in weights.iter().enumerate() {
        let weights = weights.read();
        for (sums, row) in sums.iter_mut().zip(&rows) {
            let factor = row[input];
            for (sum, weight) in sums.iter_mut().zip(&weights) {
                *sum = factor.mul_add(*weight, *sum);
            }
        }
    }
    // Copied lane by lane: one copy of the whole array would keep it in memory during the loop.
    for (out, sums) in out.iter_mut().zip(sums) {
        *out = sums;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::pack::to_f16, *};

    #[test]
    fn halves_read_as_what_they_are() {
        assert_eq!(from_f16(0x3c00), 1.0);
        assert_eq!(from_f16(0xc000), -2.0);
        assert_eq!(from_f16(0x7bff), 65504.0);
        assert_eq!(from_f16(0x0001), 2.0_f32.powi(-24));
        assert_eq!(from_f16(0x8000).to_bits(), (-0.0_f32).to_bits());
    }

    #[test]
    fn every_finite_half_comes_back() {
        for bits in (0..=u16::MAX).filter(|bits| bits & 0x7c00 != 0x7c00) {
            assert_eq!(to_f16(from_f16(bits)), bits, "{bits:#x}");
        }
    }
}
