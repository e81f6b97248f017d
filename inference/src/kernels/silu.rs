//! SwiGLU's gate, from exactly rounded operations.

use pulp::NullaryFnOnce;

use super::{Lane, exp::exp, vectorized};

/// `x / (1 + e^-x)`, through the exponential of a negative number on both sides, with a relative
/// error of at most 3e-7.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    let e = exp(-x.abs());
    let numerator = if x < 0.0 { e } else { 1.0 };
    x * (numerator / (1.0 + e))
}

/// Replaces each value of `up` by its product with the gate `silu(gate)`.
pub(crate) fn gate(up: &mut [Lane], gate: &[Lane]) {
    vectorized(Gate { up, gate });
}

struct Gate<'a> {
    up: &'a mut [Lane],
    gate: &'a [Lane],
}

impl NullaryFnOnce for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (up, gate) in self.up.iter_mut().zip(self.gate) {
            for (up, gate) in up.iter_mut().zip(gate) {
                *up *= silu(*gate);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_of_both_signs_are_within_the_bound() {
        for bits in (0..80.0_f32.to_bits()).step_by(50_021) {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                let wide = f64::from(x);
                let expected = wide / (1.0 + (-wide).exp());
                let error = (f64::from(silu(x)) - expected).abs();
                assert!(error <= 3e-7 * expected.abs() + 1e-37, "{x}: {} {expected}", silu(x));
            }
        }
        assert_eq!(silu(0.0), 0.0);
    }
}
