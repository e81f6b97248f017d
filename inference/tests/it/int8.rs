//! The profile `deterministic-int8`: near the vectors in `f32`, and the same bits everywhere.

use std::sync::OnceLock;

use auspex_inference::{DeviceChoice, Encoder, Engine, Profile, adapters};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::{
    batching::{bits, text, with_threads},
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
fn software_vulkan_gives_the_bits_of_the_cpu() {
    let gpu = Encoder::load_profile(&model_dir(), software(), Profile::DeterministicInt8).unwrap();
    assert_eq!(gpu.model_hash(), int8().model_hash());
    let golden = Golden::read();
    // A rasteriser on the CPU is slow; the sample has texts of ten lengths up to the longest.
    let texts: Vec<&str> = golden.texts().into_iter().step_by(4).collect();
    let together = gpu.embed(&texts).unwrap();
    for ((text, vector), expected) in texts.iter().zip(&together).zip(int8().embed(&texts).unwrap())
    {
        assert_eq!(bits(vector), bits(&expected), "{text:?}");
    }
    assert_eq!(bits(&gpu.embed(&texts[1..2]).unwrap()[0]), bits(&together[1]));
}

#[test]
fn an_engine_in_integers_tests_itself_on_both_devices() {
    for device in [DeviceChoice::Cpu, software()] {
        let engine =
            Engine::start_profile(&model_dir(), device, Profile::DeterministicInt8).unwrap();
        assert_eq!((engine.device(), engine.profile()), (device, Profile::DeterministicInt8));
        assert_eq!(engine.model_hash(), int8().model_hash());
    }
}

#[test]
fn the_model_hash_names_the_profile_where_the_vectors_are_others() {
    let exact = Encoder::load_profile(&model_dir(), DeviceChoice::Auto, Profile::DeterministicCpu);
    let exact = exact.unwrap();
    assert_eq!((exact.device(), exact.profile()), (DeviceChoice::Cpu, Profile::DeterministicCpu));
    assert_eq!(exact.model_hash(), cpu().model_hash());
    assert_ne!(int8().model_hash(), cpu().model_hash());
}

#[test]
fn the_profile_of_the_cpu_is_refused_elsewhere() {
    let error = Encoder::load_profile(&model_dir(), software(), Profile::DeterministicCpu);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("deterministic-cpu does not run on wgpu"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_equals_its_texts_bit_by_bit(
        texts in prop::collection::vec(text(), 1..10),
        threads in 1_usize..4,
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let together = with_threads(threads, || int8().embed(&texts).unwrap());
        for (text, vector) in texts.iter().zip(&together) {
            let alone = with_threads(1, || int8().embed(&[text]).unwrap());
            prop_assert_eq!(bits(vector), bits(&alone[0]), "{:?}", text);
        }
    }
}

/// `make setup` installs one where there is none.
pub(crate) fn software() -> DeviceChoice {
    let adapters = adapters();
    let software = adapters.iter().find(|adapter| adapter.software);
    DeviceChoice::Wgpu(Some(software.expect("no software Vulkan: run `make setup`").number))
}

fn int8() -> &'static Encoder {
    static ENCODER: OnceLock<Encoder> = OnceLock::new();
    ENCODER.get_or_init(|| {
        Encoder::load_profile(&model_dir(), DeviceChoice::Cpu, Profile::DeterministicInt8).unwrap()
    })
}
