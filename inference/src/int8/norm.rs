//! Layer normalisation of integers.

use super::fixed::{STATE_BITS, STATE_MAX, bits, shift, square_root, state};

/// Fraction bits of the square root of the width, divided by the root of a sum of squares.
const ROOT_BITS: u32 = 26;

/// Bits of the differences that are multiplied.
const DIFFERENCE_BITS: i32 = 13;

/// Widest row: the bounds of this file hold up to it.
pub(super) const WIDTH_MAX: usize = 1023;

/// Scale and shift of each column.
#[derive(Debug)]
pub(super) struct Affine {
    gamma: Vec<i32>,
    gamma_bits: i32,
    beta: Vec<i32>,
    /// `sqrt(width)` with [`ROOT_BITS`] fraction bits.
    root_of_width: i32,
    /// Bits of the differences that are squared: so many that a row's sum has 31 at most.
    square_bits: i32,
}

impl Affine {
    pub(super) fn new(gamma: &[f32], beta: &[f32]) -> Self {
        let largest = gamma.iter().fold(0.0_f32, |largest, gamma| largest.max(gamma.abs()));
        let mut gamma_bits = 13;
        while 0 < gamma_bits && 8192.0 <= largest * (1 << gamma_bits) as f32 {
            gamma_bits -= 1;
        }
        let width = gamma.len();
        let gamma = gamma.iter().map(|gamma| (gamma * (1 << gamma_bits) as f32).round() as i32);
        // Widths are at most `WIDTH_MAX`: the root with its fraction bits has 31 bits.
        let root = (width as f64).sqrt() * f64::from(1 << ROOT_BITS);
        Self {
            gamma: gamma.collect(),
            gamma_bits,
            beta: beta.iter().map(|beta| state(*beta)).collect(),
            root_of_width: root.floor() as i32,
            square_bits: (31 - bits(width as i32)) / 2,
        }
    }

    /// All numbers, for a GPU: the scales, the shifts, `gamma_bits`, `root_of_width`, `square_bits`.
    pub(super) fn numbers(&self) -> Vec<i32> {
        let last = [self.gamma_bits, self.root_of_width, self.square_bits];
        [self.gamma.as_slice(), &self.beta, &last].concat()
    }

    /// Replaces a row, in any fixed point, by its normalised form in states. The epsilon of the
    /// real function is far below a unit and is left out; a constant row becomes the shift.
    #[inline(always)]
    pub(super) fn norm(&self, row: &mut [i32]) {
        let mean = row.iter().sum::<i32>().div_euclid(row.len() as i32);
        let mut largest = 0;
        for value in row.iter_mut() {
            *value -= mean;
            largest = largest.max(value.abs());
        }
        if largest == 0 {
            row.copy_from_slice(&self.beta);
            return;
        }
        let down = bits(largest) - self.square_bits;
        let mut squares = 0;
        for value in row.iter() {
            let value = shift(*value, down);
            squares += value * value;
        }
        // The sum is scaled up by an even power of two, so that its root has 14 bits or more.
        let up = ((30 - bits(squares.max(1))) / 2).max(0);
        let root = square_root(squares.max(1) << (2 * up));
        let inverse = self.root_of_width / root;
        let down = bits(largest) - DIFFERENCE_BITS;
        let out = (ROOT_BITS - STATE_BITS) as i32 + DIFFERENCE_BITS - self.square_bits - up;
        for ((value, gamma), beta) in row.iter_mut().zip(&self.gamma).zip(&self.beta) {
            let normal = shift(shift(*value, down) * inverse, out);
            *value = (((normal * gamma) >> self.gamma_bits) + beta).clamp(-STATE_MAX, STATE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_near_their_real_normal_form(
            width in prop::sample::select(vec![64_usize, 384, 768, 1008]),
            magnitude in 4_u32..20,
            outlier in any::<bool>(),
            seed in any::<u32>(),
        ) {
            let mut next = seed;
            let mut row: Vec<i32> = (0..width).map(|_| {
                next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (next as i32) >> (31 - magnitude)
            }).collect();
            if outlier {
                row[0] = STATE_MAX;
            }
            let real: Vec<f64> = row.iter().map(|value| f64::from(*value)).collect();
            let mean = real.iter().sum::<f64>() / width as f64;
            let variance = real.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            let affine = Affine::new(&vec![1.5; width], &vec![0.25; width]);
            affine.norm(&mut row);
            // An outlier hides what lies below its last bit; a small row has few bits itself.
            let bound = 0.02 + 3.0 / variance.sqrt();
            for (value, real) in row.iter().zip(&real) {
                let expected = (real - mean) / variance.sqrt() * 1.5 + 0.25;
                let value = f64::from(*value) / 4096.0;
                prop_assert!((value - expected).abs() < bound + 0.01 * expected.abs(), "{value} {expected}");
            }
        }
    }

    #[test]
    fn a_constant_row_becomes_the_shift() {
        let mut row = [77; 64];
        Affine::new(&[2.0; 64], &[0.5; 64]).norm(&mut row);
        assert_eq!(row, [2048; 64]);
    }
}
