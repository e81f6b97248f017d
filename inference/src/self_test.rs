//! The check that a model passes before it serves.
//!
//! Drivers and fused kernels have given wrong results without an error; an oracle that signs what
//! it computes finds out before its first answer.

use std::path::Path;

use serde::Deserialize;

use crate::{device::DeviceChoice, encoder::Encoder};

/// Vectors of PyTorch for a model that is known by its hash, made by
/// `tests/golden/make_golden.py`.
const GOLDEN: &str = include_str!("self_test.json");

/// Largest difference of a component from the reference on the CPU, where sums run in `f32` in
/// another order than in PyTorch.
pub const TOLERANCE_CPU: f32 = 2e-6;

/// Largest difference of a component from the reference on a GPU, whose `exp`, `erf` and division
/// are the driver's.
pub const TOLERANCE_GPU: f32 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    model_hash: String,
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

/// Embeds the golden texts together and one by one, and compares both with each other and with
/// the reference: the built-in vectors if the model is the known one, else, for a model on a GPU,
/// the same model on the CPU. `Err` says what differs.
pub(crate) fn self_test(encoder: &Encoder, dir: &Path) -> Result<(), String> {
    let golden: Golden =
        serde_json::from_str(GOLDEN).map_err(|error| format!("built-in vectors: {error}"))?;
    let texts: Vec<&str> = golden.texts.iter().map(String::as_str).collect();
    let cpu = encoder.device() == DeviceChoice::Cpu;
    let tolerance = if cpu { TOLERANCE_CPU } else { TOLERANCE_GPU };

    let batch = encoder.embed(&texts).map_err(|error| error.to_string())?;
    for (text, together) in texts.iter().zip(&batch) {
        let alone = encoder.embed(&[text]).map_err(|error| error.to_string())?;
        let allowed = if cpu { 0.0 } else { TOLERANCE_GPU };
        compare("alone and in a batch", &alone, std::slice::from_ref(together), allowed)?;
    }
    if golden.model_hash == hex::encode(encoder.model_hash()) {
        return compare("from PyTorch", &batch, &golden.vectors, tolerance);
    }
    if cpu {
        return Ok(());
    }
    let reference = Encoder::load(dir, DeviceChoice::Cpu).map_err(|error| error.to_string())?;
    let reference = reference.embed(&texts).map_err(|error| error.to_string())?;
    compare("from the CPU", &batch, &reference, tolerance)
}

/// Largest difference between components; infinite where one is not a number or sizes differ.
pub(crate) fn difference(left: &[Vec<f32>], right: &[Vec<f32>]) -> f32 {
    let same_shape = left.len() == right.len()
        && left.iter().zip(right).all(|(left, right)| left.len() == right.len());
    if !same_shape {
        return f32::INFINITY;
    }
    let pairs = left.iter().flatten().zip(right.iter().flatten());
    let mut largest = 0.0_f32;
    for (left, right) in pairs {
        let difference = (left - right).abs();
        largest = if difference.is_nan() { f32::INFINITY } else { largest.max(difference) };
    }
    largest
}

fn compare(what: &str, left: &[Vec<f32>], right: &[Vec<f32>], limit: f32) -> Result<(), String> {
    let difference = difference(left, right);
    if limit < difference {
        return Err(format!("vectors {what} differ by {difference:e}, the limit is {limit:e}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_a_number_and_missing_components_are_differences() {
        let check = |left: &[f32], right: &[f32]| difference(&[left.to_vec()], &[right.to_vec()]);
        assert_eq!(check(&[1.0, 2.0], &[1.5, 2.0]), 0.5);
        assert_eq!(check(&[1.0], &[f32::NAN]), f32::INFINITY);
        assert_eq!(check(&[f32::NAN, 1.0], &[0.0, 1.0]), f32::INFINITY);
        assert_eq!(check(&[1.0], &[1.0, 2.0]), f32::INFINITY);
        assert_eq!(difference(&[], &[vec![]]), f32::INFINITY);
    }

    #[test]
    fn a_difference_names_its_limit() {
        let error = compare("from PyTorch", &[vec![1.0]], &[vec![1.25]], 0.125).unwrap_err();
        assert_eq!(error, "vectors from PyTorch differ by 2.5e-1, the limit is 1.25e-1");
    }
}
