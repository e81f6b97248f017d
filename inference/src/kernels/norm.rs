//! Layer normalisation.

use pulp::NullaryFnOnce;

use super::{LANES, Lane, panels::Panels, sum, vectorized};

/// Scale and shift of each column.
#[derive(Debug)]
pub(crate) struct Affine {
    pub(crate) gamma: Vec<Lane>,
    pub(crate) beta: Vec<Lane>,
    pub(crate) epsilon: f32,
}

impl Affine {
    pub(crate) fn new(gamma: &[f32], beta: &[f32], epsilon: f64) -> Self {
        let lanes = |values: &[f32]| values.as_chunks::<LANES>().0.to_vec();
        Self { gamma: lanes(gamma), beta: lanes(beta), epsilon: epsilon as f32 }
    }
}

/// Adds `update`, if there is one, and then replaces each row by
/// `(row - mean) / sqrt(variance + epsilon) * gamma + beta`.
///
/// Mean and variance of a row are sums over its panels from left to right in [`LANES`] parts; all
/// rows of a panel are visited before the next panel, because that is the order in memory.
pub(crate) fn norm(states: &mut Panels, update: Option<&Panels>, affine: &Affine) {
    vectorized(Norm { states, update, affine });
}

struct Norm<'a> {
    states: &'a mut Panels,
    update: Option<&'a Panels>,
    affine: &'a Affine,
}

impl NullaryFnOnce for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { states, update, affine } = self;
        let rows = states.rows;
        let columns = (affine.gamma.len() * LANES) as f32;

        let mut sums = vec![[0.0; LANES]; rows];
        for (index, panel) in states.lanes.chunks_exact_mut(rows).enumerate() {
            if let Some(update) = update {
                for (values, update) in panel.iter_mut().zip(update.columns(index..index + 1)) {
                    for (value, update) in values.iter_mut().zip(update) {
                        *value += update;
                    }
                }
            }
            for (sums, values) in sums.iter_mut().zip(panel) {
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += *value;
                }
            }
        }
        let means: Vec<f32> = sums.iter().map(|sums| sum(*sums) / columns).collect();

        sums.fill([0.0; LANES]);
        for panel in states.lanes.chunks_exact_mut(rows) {
            for ((sums, values), mean) in sums.iter_mut().zip(panel).zip(&means) {
                for (sum, value) in sums.iter_mut().zip(values) {
                    *value -= mean;
                    *sum = value.mul_add(*value, *sum);
                }
            }
        }
        let scale = |sums: &Lane| 1.0 / (sum(*sums) / columns + affine.epsilon).sqrt();
        let scales: Vec<f32> = sums.iter().map(scale).collect();

        let panels = states.lanes.chunks_exact_mut(rows);
        for ((panel, gamma), beta) in panels.zip(&affine.gamma).zip(&affine.beta) {
            for (values, scale) in panel.iter_mut().zip(&scales) {
                for ((value, gamma), beta) in values.iter_mut().zip(gamma).zip(beta) {
                    *value = (*value * scale).mul_add(*gamma, *beta);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_normalised_one_by_one() {
        let rows: Vec<Vec<f32>> = (0..5)
            .map(|row| (0..48).map(|column| ((row * 48 + column) % 11) as f32 - 3.0).collect())
            .collect();
        let gamma: Vec<f32> = (0..48).map(|column| 1.0 + column as f32 / 48.0).collect();
        let beta: Vec<f32> = (0..48).map(|column| column as f32 / 10.0).collect();
        let affine = Affine::new(&gamma, &beta, 1e-12);
        let mut states = Panels::from_rows(rows.iter().map(Vec::as_slice), 48);
        norm(&mut states, None, &affine);
        let normed = states.row_major();
        for (index, row) in rows.iter().enumerate() {
            let wide: Vec<f64> = row.iter().map(|value| f64::from(*value)).collect();
            let mean = wide.iter().sum::<f64>() / 48.0;
            let variance = wide.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 48.0;
            for (column, value) in normed[index * 48..(index + 1) * 48].iter().enumerate() {
                let expected = (wide[column] - mean) / variance.sqrt() * f64::from(gamma[column])
                    + f64::from(beta[column]);
                assert!((f64::from(*value) - expected).abs() < 1e-6, "{value} {expected}");
            }
        }
    }

    #[test]
    fn a_constant_row_becomes_the_shift() {
        let mut states = Panels::from_rows([[2.5; 16].as_slice()].into_iter(), 16);
        norm(&mut states, None, &Affine::new(&[3.0; 16], &[0.5; 16], 1e-12));
        assert_eq!(states.row_major(), [0.5; 16]);
    }
}
