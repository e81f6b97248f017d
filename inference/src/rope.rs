//! Rotary positions.
//!
//! Sines and cosines come from operations that IEEE 754 rounds exactly, because those of a
//! system's library differ in their last bit from machine to machine.

use std::f64::consts::{FRAC_PI_2, PI};

/// How frequencies are changed for contexts that are longer than those of the first training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RopeScaling {
    Default,
    /// Every frequency is divided by `factor`.
    Linear {
        factor: f64,
    },
    Llama3(Llama3Scaling),
}

/// Llama 3's scaling: frequencies whose wave is longer than `original / low` are divided by
/// `factor`, those whose wave is shorter than `original / high` stay, and between them the two
/// are mixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Llama3Scaling {
    pub(crate) factor: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) original: f64,
}

/// Cosine and sine of every position and frequency.
#[derive(Debug)]
pub(crate) struct Rope {
    frequencies: Vec<f32>,
    half: usize,
}

impl Rope {
    /// Turns of heads of `head_size` components, an even number, with base `theta`, which is above 1.
    pub(crate) fn new(theta: f64, head_size: usize, scaling: RopeScaling) -> Self {
        let half = head_size / 2;
        let step = root(theta, half);
        let mut frequency = 1.0;
        let mut frequencies = Vec::with_capacity(half);
        for _ in 0..half {
            frequencies.push(scale(frequency, scaling) as f32);
            frequency /= step;
        }
        Self { frequencies, half }
    }

    /// Cosines, then sines, of one position: `head_size` values. The angle is rounded to `f32`
    /// before, as in the reference.
    pub(crate) fn position(&self, position: usize) -> Vec<f32> {
        let angles: Vec<f32> =
            self.frequencies.iter().map(|frequency| position as f32 * frequency).collect();
        let cosines = angles.iter().map(|angle| sine(f64::from(*angle) + FRAC_PI_2) as f32);
        let sines = angles.iter().map(|angle| sine(f64::from(*angle)) as f32);
        cosines.chain(sines).collect()
    }

    /// Turns one head, whose halves are the two coordinates of each pair.
    pub(crate) fn turn(&self, head: &mut [f32], turns: &[f32]) {
        let (left, right) = head.split_at_mut(self.half);
        let (cosines, sines) = turns.split_at(self.half);
        for ((x, y), (cosine, sine)) in left.iter_mut().zip(right).zip(cosines.iter().zip(sines)) {
            let turned = *x * cosine - *y * sine;
            *y = *y * cosine + *x * sine;
            *x = turned;
        }
    }
}

fn scale(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::Default => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3(Llama3Scaling { factor, low, high, original }) => {
            let wave = 2.0 * PI / frequency;
            if wave < original / high {
                return frequency;
            }
            if original / low < wave {
                return frequency / factor;
            }
            let share = (original / wave - low) / (high - low);
            (1.0 - share) * frequency / factor + share * frequency
        }
    }
}

/// The `degree`-th root of `value`, which is above 1, by Newton's method on `x^degree`.
fn root(value: f64, degree: usize) -> f64 {
    /// From above the method never overshoots; each step takes off at least a share `1 / degree`
    /// of what is too much, and near the root the number of right digits doubles.
    const STEPS: usize = 20_000;
    let power = |x: f64, exponent: usize| (0..exponent).fold(1.0, |product, _| product * x);
    let mut x = 1.0 + (value - 1.0) / degree as f64;
    for _ in 0..STEPS {
        let next = x - (x - value / power(x, degree - 1)) / degree as f64;
        if next >= x {
            break;
        }
        x = next;
    }
    x
}

/// `sin(x)` for `0 <= x < 2^30`: the multiple of pi is taken off in two parts, the rest goes into
/// the Taylor series, whose first left-out term is below 1e-17.
fn sine(x: f64) -> f64 {
    /// Pi in two parts; the first has few enough bits that its product with a multiple is exact.
    const PI_HIGH: f64 = 3.141_592_621_803_283_7;
    const PI_LOW: f64 = 3.178_650_954_705_639e-8;
    let multiple = (x / PI).round();
    let rest = multiple.mul_add(-PI_LOW, multiple.mul_add(-PI_HIGH, x));
    let square = rest * rest;
    let mut sum = 0.0;
    for term in (1..=12).rev() {
        let divisor = f64::from(2 * term * (2 * term + 1));
        sum = -(1.0 + sum) * square / divisor;
    }
    let value = rest * (1.0 + sum);
    if multiple % 2.0 == 0.0 { value } else { -value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sines_are_right_up_to_the_longest_context() {
        let mut x = 0.0_f64;
        while x < 40_000.0 {
            assert!((sine(x) - x.sin()).abs() < 1e-11, "{x}: {} {}", sine(x), x.sin());
            x += 0.7137;
        }
    }

    #[test]
    fn roots_are_right() {
        for (value, degree) in [(10_000.0, 32), (500_000.0, 64), (1e6, 16), (500.0, 8), (3.0, 1)] {
            let expected = f64::powf(value, 1.0 / degree as f64);
            assert!((root(value, degree) / expected - 1.0).abs() < 1e-13, "{value} {degree}");
        }
    }

    #[test]
    fn llama_3_keeps_short_waves_and_stretches_long_ones() {
        let scaling = RopeScaling::Llama3(Llama3Scaling {
            factor: 8.0,
            low: 1.0,
            high: 4.0,
            original: 8192.0,
        });
        assert_eq!(scale(1.0, scaling), 1.0);
        assert_eq!(scale(1e-5, scaling), 1e-5 / 8.0);
        let between = scale(2.0 * PI / 4096.0, scaling) / (2.0 * PI / 4096.0);
        assert!((between - (1.0 / 3.0 + 2.0 / 3.0 / 8.0)).abs() < 1e-12, "{between}");
    }

    #[test]
    fn a_turn_keeps_the_length() {
        let rope = Rope { frequencies: vec![1.0, 0.01], half: 2 };
        let mut head = [3.0, 1.0, 4.0, 2.0];
        rope.turn(&mut head, &rope.position(5));
        assert!((head[0].hypot(head[2]) - 5.0).abs() < 1e-6);
        let (sine, cosine) = 5.0_f32.sin_cos();
        assert!((head[0] - (3.0 * cosine - 4.0 * sine)).abs() < 1e-6);
        assert!((head[2] - (4.0 * cosine + 3.0 * sine)).abs() < 1e-6);
    }
}
