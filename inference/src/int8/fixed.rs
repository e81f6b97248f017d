//! Numbers with a fixed point, and the few functions of them that the encoder needs.
//!
//! Everything here is 32-bit integer addition, multiplication, division of positive numbers and
//! shifting, which every CPU and GPU does alike, and no intermediate result passes 31 bits.

use crate::kernels::{exp::exp, gelu::gelu, silu::silu};

/// Fraction bits of states: one unit is 1/4096.
pub(super) const STATE_BITS: u32 = 12;

/// Largest magnitude of a state, 256 in real terms; trained encoders stay below 64. It bounds the
/// sums over a row.
pub(super) const STATE_MAX: i32 = 1 << 20;

/// Number of bits of a positive number.
#[inline(always)]
pub(super) fn bits(value: i32) -> i32 {
    32 - value.leading_zeros() as i32
}

/// `value * 2^-shift`, rounded down; a negative shift multiplies.
#[inline(always)]
pub(super) fn shift(value: i32, shift: i32) -> i32 {
    if shift < 0 { value.wrapping_shl(shift.unsigned_abs()) } else { value >> shift.min(31) }
}

/// The largest integer whose square is at most `value`, bit by bit.
pub(super) fn square_root(value: i32) -> i32 {
    let mut root = 0;
    for bit in (0..16).rev() {
        let trial = root + (1 << bit);
        // 46340 is the largest root of a 31-bit number.
        if trial <= 46_340 && trial * trial <= value {
            root = trial;
        }
    }
    root
}

/// A real number as a state.
pub(super) fn state(value: f32) -> i32 {
    let scaled = (f64::from(value) * f64::from(1 << STATE_BITS)).round();
    scaled.clamp(-f64::from(STATE_MAX), f64::from(STATE_MAX)) as i32
}

/// `left * right` of two states, clamped to [`STATE_MAX`] and at most three units too low.
#[inline(always)]
pub(super) fn times(left: i32, right: i32) -> i32 {
    // In three parts of `right`, so that no product has more than 29 bits.
    let whole = left * (right >> STATE_BITS);
    let high = left * ((right >> (STATE_BITS / 2)) & 63);
    let low = left * (right & 63);
    let product = whole + (high >> (STATE_BITS / 2)) + (low >> STATE_BITS);
    product.clamp(-STATE_MAX, STATE_MAX)
}

/// How far a [`Tables::power`] is shifted down.
#[inline(always)]
pub(super) fn power_shift(octaves: i32) -> i32 {
    (octaves >> 10).min(31)
}

/// The step of GELU's table that is nearest to a state: 16 states make a step.
#[inline(always)]
pub(super) fn gelu_step(x: i32) -> i32 {
    ((x.abs() + 8) >> 4).min(2048)
}

/// Tables that are computed once, from exactly rounded operations.
#[derive(Debug)]
pub(super) struct Tables {
    /// `2^15 * 2^-(i / 1024)`
    power: Box<[i32; 1024]>,
    /// What GELU lacks of `max(x, 0)` at `|x| = i / 256`, as a state; zero from 8 on.
    tail: Box<[i32; 2049]>,
    /// What SiLU lacks of `max(x, 0)` at `|x| = i / 256`, as a state; zero from 16 on.
    gate_tail: Box<[i32; 4097]>,
}

impl Tables {
    pub(super) fn new() -> Self {
        let power = |index: usize| {
            let exponent = -(index as f32) / 1024.0 * std::f32::consts::LN_2;
            (exp(exponent) * 32_768.0).round() as i32
        };
        let tail = |index: usize| {
            let x = index as f32 / 256.0;
            ((x - gelu(x)) * (1 << STATE_BITS) as f32).round() as i32
        };
        let tail = |index| if index < 2048 { tail(index) } else { 0 };
        let gate_tail = |index: usize| {
            let x = index as f32 / 256.0;
            ((x - silu(x)) * (1 << STATE_BITS) as f32).round() as i32
        };
        let gate_tail = |index| if index < 4096 { gate_tail(index) } else { 0 };
        Self {
            power: Box::new(std::array::from_fn(power)),
            tail: Box::new(std::array::from_fn(tail)),
            gate_tail: Box::new(std::array::from_fn(gate_tail)),
        }
    }

    /// All tables, for a GPU: 1024 powers, then GELU's tails, then SiLU's.
    pub(super) fn numbers(&self) -> Vec<i32> {
        [self.power.as_slice(), self.tail.as_slice(), self.gate_tail.as_slice()].concat()
    }

    /// `2^15 * 2^(-octaves / 1024)` for `octaves >= 0`, before it is shifted by [`power_shift`].
    #[inline(always)]
    pub(super) fn power(&self, octaves: i32) -> i32 {
        self.power[(octaves & 1023) as usize]
    }

    /// What GELU lacks of `max(x, 0)` at the step of its table that [`gelu_step`] gives.
    #[inline(always)]
    pub(super) fn gelu_tail(&self, step: i32) -> i32 {
        self.tail[step as usize]
    }

    /// `value * silu(gate)` of two states.
    #[inline(always)]
    pub(super) fn gated(&self, value: i32, gate: i32) -> i32 {
        // 16 states make a step of the table; the nearest one is taken.
        let index = ((gate.abs() + 8) >> 4).min(4096);
        times(value, gate.max(0) - self.gate_tail[index as usize])
    }

    /// GELU of a state, as tests compare it.
    #[cfg(test)]
    pub(super) fn gelu(&self, x: i32) -> i32 {
        x.max(0) - self.gelu_tail(gelu_step(x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_the_largest_whose_square_fits() {
        for value in (0..i32::MAX - 50_021).step_by(50_021) {
            let root = i64::from(square_root(value));
            assert!(root * root <= i64::from(value) && i64::from(value) < (root + 1) * (root + 1));
        }
        assert_eq!(square_root(i32::MAX), 46_340);
    }

    #[test]
    fn functions_are_near_the_real_ones() {
        let tables = Tables::new();
        for octaves in 0..16 * 1024 {
            let real = 32_768.0 * (-f64::from(octaves) / 1024.0).exp2();
            let power = tables.power(octaves) >> power_shift(octaves);
            assert!((f64::from(power) - real).abs() <= 1.0, "{octaves}");
        }
        for x in -60_000..60_000 {
            let real = f64::from(gelu(x as f32 / 4096.0)) * 4096.0;
            assert!((f64::from(tables.gelu(x)) - real).abs() <= 10.0, "{x}");
            let real = f64::from(silu(x as f32 / 4096.0)) * 4096.0;
            assert!((f64::from(tables.gated(1 << STATE_BITS, x)) - real).abs() <= 10.0, "{x}");
        }
    }

    #[test]
    fn products_are_at_most_three_units_too_low_and_stay_in_range() {
        let values = [0, 1, -1, 63, 4095, -4096, 5000, -123_457, 999_999, STATE_MAX, -STATE_MAX];
        for left in values {
            for right in values {
                let real = (i64::from(left) * i64::from(right)) >> STATE_BITS;
                let real = real.clamp(-i64::from(STATE_MAX), i64::from(STATE_MAX));
                let product = i64::from(times(left, right));
                assert!((real - 3..=real).contains(&product), "{left} {right}: {product} {real}");
            }
        }
    }

    #[test]
    fn shifts_go_both_ways() {
        assert_eq!((shift(5, 1), shift(-5, 1), shift(5, -2), shift(-1, 40)), (2, -3, 20, -1));
        assert_eq!((bits(1), bits(255), bits(256)), (1, 8, 9));
    }
}
