//! GELU by the error function, from exactly rounded operations.

use super::exp::exp;

/// Behind this argument `erfc` is below 3e-9, and only has to fall further.
const TAIL: f32 = 4.2;

/// From this magnitude on the tail is far below the smallest difference of results.
const LARGE: f32 = 100.0;

/// `-ln(erfc(t)) / t` on 0 ..= [`TAIL`] as a polynomial, fitted for the least largest error of
/// `t * erfc(t)`, which is 2.3e-9.
const POLYNOMIAL: [f32; 9] = [
    1.128_380_5,
    0.636_599_9,
    0.102_876_15,
    -0.019_399_746,
    0.000_183_342_62,
    0.001_390_029_3,
    -0.000_505_126_7,
    8.652_099e-5,
    -6.161_816_6e-6,
];

/// `x / 2 * (1 + erf(x / sqrt 2))` of a number, off by at most 1e-7 or by one unit in the last place,
/// whichever is more.
///
/// With the tail `h = |x| / 2 * erfc(|x| / sqrt 2)` this is `x - h` on the positive side and `-h`
/// on the negative one, so nothing cancels and there is no branch.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    let magnitude = x.abs().min(LARGE);
    let t = magnitude * std::f32::consts::FRAC_1_SQRT_2;
    let u = t.min(TAIL);
    let [a, b, c, d, e, f, g, h, i] = POLYNOMIAL;
    let high = i.mul_add(u, h).mul_add(u, g).mul_add(u, f).mul_add(u, e);
    let slope = high.mul_add(u, d).mul_add(u, c).mul_add(u, b).mul_add(u, a);
    let tail = 0.5 * magnitude * exp(-(slope * t));
    x.max(0.0) - tail
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By Taylor's series up to 3 and by Laplace's continued fraction behind it.
    fn erfc(t: f64) -> f64 {
        if t < -3.0 {
            return 2.0 - erfc(-t);
        }
        if t < 3.0 {
            let mut term = t;
            let mut sum = t;
            for n in 1..200 {
                term *= -t * t / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return 1.0 - sum * std::f64::consts::FRAC_2_SQRT_PI;
        }
        let fraction = (1..200).rev().fold(t, |below, n| t + f64::from(n) / 2.0 / below);
        (-t * t).exp() / fraction / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn the_reference_is_right() {
        for (t, expected) in [(0.5, 0.479_500_122_186_953_5), (2.0, 0.004_677_734_981_047_266)] {
            assert!((erfc(t) - expected).abs() < 1e-15);
        }
        assert!((erfc(3.5) / 7.430_983_723_414_128e-7 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn floats_of_both_signs_are_within_the_bound() {
        let mut largest = 0.0_f64;
        for bits in (0..f32::INFINITY.to_bits()).step_by(50_021) {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                let wide = f64::from(x);
                let expected = 0.5 * wide * erfc(-wide / std::f64::consts::SQRT_2);
                let unit = f64::from(f32::EPSILON) * expected.abs();
                let error = (f64::from(gelu(x)) - expected).abs();
                assert!(error <= unit.max(1e-7), "{x}: {} not {expected}", gelu(x));
                largest = largest.max(error / unit.max(1e-7));
            }
        }
        assert!(0.1 < largest, "the bound is far from tight: {largest}");
    }

    #[test]
    fn zero_is_zero() {
        assert_eq!(gelu(0.0), 0.0);
        assert_eq!(gelu(-0.0), 0.0);
    }
}
