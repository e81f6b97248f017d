//! The check that a model passes before it serves.
//!
//! Drivers and fused kernels have given wrong results without an error; an oracle that signs what
//! it computes finds out before its first answer.

use std::path::Path;

use serde::Deserialize;

use crate::{device::DeviceChoice, encoder::Encoder, profile::Profile};

/// Vectors of PyTorch for a model that is known by its hash, made by
/// `tests/golden/make_golden.py`.
const GOLDEN: &str = include_str!("self_test.json");

/// Largest difference of a component from the reference on the CPU, where sums run in `f32` in
/// another order than in PyTorch.
pub const TOLERANCE_CPU: f32 = 2e-6;

/// Largest difference of a component from the reference on a GPU, where products read `f16` if the device
/// computes in it. Unit vectors of 384 components that differ by no more have a cosine above 0.9999.
pub const TOLERANCE_GPU: f32 = 5e-4;

#[derive(Deserialize)]
struct Golden {
    model_hash: String,
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

/// Least cosine of a vector in integers with the reference in `f32`.
const COSINE_MIN: f64 = 0.985;

/// Embeds the golden texts together and one by one, and compares both with each other and with a
/// reference: the built-in vectors if the model is the known one, and, on a GPU, the same model on the
/// CPU where the built-in ones do not decide. `Err` says what differs.
pub(crate) fn self_test(encoder: &Encoder, dir: &Path) -> Result<(), String> {
    let golden: Golden =
        serde_json::from_str(GOLDEN).map_err(|error| format!("built-in vectors: {error}"))?;
    let texts: Vec<&str> = golden.texts.iter().map(String::as_str).collect();
    let known = golden.model_hash == hex::encode(encoder.files_hash());
    let cpu = encoder.device() == DeviceChoice::Cpu;

    let batch = encoder.embed(&texts).map_err(|error| error.to_string())?;
    let same_bits = cpu || encoder.profile() != Profile::Fast;
    let allowed = if same_bits { 0.0 } else { TOLERANCE_GPU };
    for (text, together) in texts.iter().zip(&batch) {
        let alone = encoder.embed(&[text]).map_err(|error| error.to_string())?;
        compare("alone and in a batch", &alone, std::slice::from_ref(together), allowed)?;
    }
    match encoder.profile() {
        Profile::DeterministicInt8 if known => direction(&batch, &golden.vectors)?,
        Profile::DeterministicCpu | Profile::Fast if known => {
            let tolerance = if cpu { TOLERANCE_CPU } else { TOLERANCE_GPU };
            return compare("from PyTorch", &batch, &golden.vectors, tolerance);
        }
        Profile::DeterministicCpu | Profile::DeterministicInt8 | Profile::Fast => {}
    }
    if cpu {
        return Ok(());
    }
    let reference = Encoder::load_profile(dir, DeviceChoice::Cpu, encoder.profile());
    let reference = reference.map_err(|error| error.to_string())?;
    let reference = reference.embed(&texts).map_err(|error| error.to_string())?;
    compare("from the CPU", &batch, &reference, allowed)
}

/// Refuses vectors that point elsewhere than their references.
fn direction(vectors: &[Vec<f32>], references: &[Vec<f32>]) -> Result<(), String> {
    for (vector, reference) in vectors.iter().zip(references) {
        let products = vector.iter().zip(reference);
        let cosine: f64 = products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        // A cosine that is no number is not near either.
        let near = COSINE_MIN <= cosine;
        if !near {
            return Err(format!(
                "a vector has cosine {cosine} with PyTorch's, the least is {COSINE_MIN}"
            ));
        }
    }
    Ok(())
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
    fn a_turned_vector_and_one_of_no_numbers_are_refused() {
        let reference = [vec![0.6, 0.8]];
        direction(&reference, &reference).unwrap();
        assert!(direction(&[vec![0.8, 0.6]], &reference).is_err());
        assert!(direction(&[vec![f32::NAN, 0.8]], &reference).is_err());
    }

    #[test]
    fn a_difference_names_its_limit() {
        let error = compare("from PyTorch", &[vec![1.0]], &[vec![1.25]], 0.125).unwrap_err();
        assert_eq!(error, "vectors from PyTorch differ by 2.5e-1, the limit is 1.25e-1");
    }
}
