//! From the hidden states of a sequence to its vector.

/// The mean of rows of `width` values each. Sums are taken in `f64` from the first row to the
/// last, so that the result depends on nothing but the rows.
pub(crate) fn mean(rows: &[f32], width: usize) -> Vec<f64> {
    let mut sums = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    let count = (rows.len() / width) as f64;
    sums.iter().map(|sum| sum / count).collect()
}

/// The vector scaled to Euclidean length 1; a zero vector stays zero.
pub(crate) fn normalize(vector: Vec<f64>) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    // PyTorch's `normalize` divides by at least this much.
    let length = length.max(1e-12);
    vector.into_iter().map(|value| (value / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_taken_over_rows() {
        assert_eq!(mean(&[1.0, 2.0, 3.0, 6.0], 2), [2.0, 4.0]);
    }

    #[test]
    fn vectors_have_length_one_except_zero() {
        assert_eq!(normalize(vec![3.0, -4.0]), [0.6, -0.8]);
        assert_eq!(normalize(vec![0.0, 0.0]), [0.0, 0.0]);
    }
}
