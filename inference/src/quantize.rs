//! Vectors of signed bytes, which can be committed in a Merkle root and compared on chain.

/// Largest magnitude of a quantised component.
pub const QUANTIZED_MAX: i8 = 127;

/// Maps each component `x` of a unit vector to `x * 127`, rounded half away from zero and clamped
/// to -127 ..= 127.
///
/// The product is taken in `f64`, which holds it exactly, so the only rounding is the one to a whole
/// number and the result is the same on every machine. -128 never occurs, which keeps the range symmetric: negating a vector negates its quantised form. A
/// component that is not a number becomes 0.
pub fn quantize(vector: &[f32]) -> Vec<i8> {
    let scale = f64::from(QUANTIZED_MAX);
    // `round` is half away from zero; `as` saturates, so the cast itself cannot wrap.
    vector
        .iter()
        .map(|component| (f64::from(*component) * scale).round().clamp(-scale, scale) as i8)
        .collect()
}

/// The inner product of two quantised vectors; exact, so the order of summation is free.
///
/// # Panics
///
/// If the lengths differ, or exceed 131,071, beyond which a sum of products could overflow.
pub fn dot_i8(left: &[i8], right: &[i8]) -> i32 {
    assert_eq!(left.len(), right.len(), "vectors of {} and {} bytes", left.len(), right.len());
    assert!(left.len() <= DOT_LENGTH_MAX, "vectors of {} bytes", left.len());
    left.iter().zip(right).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

/// Longest vectors for [`dot_i8`]: so many products of at most 128 * 128 stay below 2^31.
const DOT_LENGTH_MAX: usize = (i32::MAX / (128 * 128)) as usize;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn halves_round_away_from_zero() {
        // 0.5 is the only magnitude up to 1 whose product, 63.5, lies between two whole numbers.
        assert_eq!(quantize(&[0.5, -0.5]), [64, -64]);
        let below = 0.5_f32.next_down();
        assert_eq!(quantize(&[below, -below]), [63, -63]);
    }

    #[test]
    fn a_product_that_single_precision_would_round_to_a_half_is_exact() {
        // 127 times this is -69.499_997, which the nearest `f32` takes for -69.5.
        assert_eq!(quantize(&[-0.547_244_1]), [-69]);
    }

    #[test]
    fn the_ends_are_clamped_and_symmetric() {
        assert_eq!(quantize(&[1.0, -1.0, 7.0, -7.0]), [127, -127, 127, -127]);
        assert_eq!(quantize(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]), [0, 127, -127]);
    }

    #[test]
    fn the_product_of_extremes_does_not_overflow() {
        let longest = vec![-128_i8; DOT_LENGTH_MAX];
        assert_eq!(dot_i8(&longest, &longest), 16_384 * DOT_LENGTH_MAX as i32);
    }

    proptest! {
        #[test]
        fn a_component_is_off_by_at_most_half_a_step(vector in prop::collection::vec(-1.0_f32..=1.0, 0..500)) {
            for (byte, component) in quantize(&vector).iter().zip(&vector) {
                prop_assert!((f64::from(*byte) - f64::from(*component) * 127.0).abs() <= 0.5);
            }
        }

        #[test]
        fn negation_negates(vector in prop::collection::vec(-2.0_f32..=2.0, 0..100)) {
            let negated: Vec<f32> = vector.iter().map(|component| -component).collect();
            let expected: Vec<i8> = quantize(&vector).iter().map(|byte| -byte).collect();
            prop_assert_eq!(quantize(&negated), expected);
        }

        #[test]
        fn dot_equals_the_wide_sum(pairs in prop::collection::vec(any::<(i8, i8)>(), 0..2000)) {
            let (left, right): (Vec<i8>, Vec<i8>) = pairs.iter().copied().unzip();
            let wide: i64 = pairs.iter().map(|(a, b)| i64::from(*a) * i64::from(*b)).sum();
            prop_assert_eq!(i64::from(dot_i8(&left, &right)), wide);
        }
    }
}
