//! The exponential function from exactly rounded operations.

/// Smallest argument; `exp` of anything below gives `exp(EXP_MIN)`, which is 1.6e-38.
const EXP_MIN: f32 = -87.0;

/// Adding and subtracting 1.5 * 2^23 rounds to an integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// ln 2 in two parts; the first has few enough bits that its product with any exponent is exact.
const LN2_HIGH: f32 = 0.693_145_75;
const LN2_LOW: f32 = 1.428_606_8e-6;

/// `(e^r - 1 - r) / r^2` on -ln 2 / 2 ..= ln 2 / 2 as a polynomial, fitted for the least largest
/// relative error of `e^r`, which is 3.1e-9.
const POLYNOMIAL: [f32; 5] =
    [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_745, 0.001_381_454];

/// `e^x` for `x <= 0`, with a relative error of at most 1e-7.
///
/// `x` is split into `n ln 2 + r`, the polynomial gives `e^r`, and 2^n is put together from bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.max(EXP_MIN);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let [a, b, c, d, e] = POLYNOMIAL;
    let p = e.mul_add(r, d).mul_add(r, c).mul_add(r, b).mul_add(r, a);
    let p = p.mul_add(r, 1.0).mul_add(r, 1.0);
    // The low bits of `shifted` are n; 127 is the bias of the exponent, and n is at least -126.
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    p * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thousandth_float_is_within_the_bound() {
        let mut largest = 0.0_f64;
        for bits in ((-0.0_f32).to_bits()..=EXP_MIN.to_bits()).step_by(1009) {
            let x = f32::from_bits(bits);
            let expected = f64::from(x).exp();
            largest = largest.max((f64::from(exp(x)) / expected - 1.0).abs());
        }
        assert!(largest <= 1e-7, "{largest:e}");
    }

    #[test]
    fn the_ends_are_exact() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), exp(EXP_MIN));
        assert!(exp(f32::NEG_INFINITY) < 2e-38);
    }
}
