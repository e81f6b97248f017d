//! The profile `deterministic-int8`: near the vectors in `f32`, and the same bits everywhere.

use std::sync::OnceLock;

use auspex_inference::{DeviceChoice, Encoder, Profile, adapters};
use sha2::{Digest, Sha256};

use crate::{
    golden::Golden,
    model_dir::{cpu, model_dir},
};

/// Least cosine between the two vectors of a text.
const COSINE_MIN: f64 = 0.985;

/// SHA-256 of the golden texts' vectors. A change of it is a change of what operators sign.
const BITS_OF_GOLDEN_TEXTS: &str =
    "21873ef851b5bf56486494e10e1bf7435cc70c24972eaa86e451310c16ad43ad";

#[test]
fn vectors_are_near_those_in_f32() {
    let golden = Golden::read();
    let texts = golden.texts();
    let exact = cpu().embed(&texts).unwrap();
    let mut least = 1.0_f64;
    for ((text, vector), exact) in texts.iter().zip(int8().embed(&texts).unwrap()).zip(&exact) {
        let cosine: f64 =
            vector.iter().zip(exact).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        assert!(COSINE_MIN <= cosine, "{text:?}: {cosine}");
        least = least.min(cosine);
    }
    eprintln!("least cosine {least}, limit {COSINE_MIN}");
}

#[test]
fn batches_threads_and_machines_give_the_same_bits() {
    let golden = Golden::read();
    let texts = golden.texts();
    let with_threads = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| int8().embed(&texts).unwrap())
    };
    let together = with_threads(1);
    assert_eq!(together, with_threads(2));
    assert_eq!(together, with_threads(3));
    for (text, expected) in texts.iter().zip(&together) {
        assert_eq!(int8().embed(&[text]).unwrap()[0], *expected, "{text:?}");
    }
    let mut hash = Sha256::new();
    together.iter().flatten().for_each(|value| hash.update(value.to_le_bytes()));
    assert_eq!(hex::encode(hash.finalize()), BITS_OF_GOLDEN_TEXTS);
}

#[test]
fn a_device_that_has_no_integer_path_is_refused() {
    let Some(adapter) = adapters().into_iter().next() else { return };
    let device = DeviceChoice::Wgpu(Some(adapter.number));
    let error = Encoder::load_profile(&model_dir(), device, Profile::Int8).unwrap_err();
    assert!(error.to_string().contains("deterministic-int8 does not run on wgpu"), "{error}");
}

fn int8() -> &'static Encoder {
    static ENCODER: OnceLock<Encoder> = OnceLock::new();
    ENCODER.get_or_init(|| {
        Encoder::load_profile(&model_dir(), DeviceChoice::Cpu, Profile::Int8).unwrap()
    })
}
