//! Encoders of other kinds than BERT's mean against PyTorch; `scripts/make_encoder_reference.py` made the
//! models and their references.

use std::path::{Path, PathBuf};

use auspex_inference::{
    CrossEncoder, DeviceChoice, Encoder, Profile, TOLERANCE_CPU, TOLERANCE_GPU,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    batching::{bits, with_threads},
    int8::software,
};

/// Largest difference of a logit; logits are near 0.1 here.
const LOGIT_TOLERANCE: f32 = 2e-6;

/// Least cosine of a vector in integers with PyTorch's.
const COSINE_MIN: f64 = 0.999;

/// Largest difference of a score in integers from PyTorch's, as a share of the range of all scores.
const SCORE_SHARE_MAX: f32 = 0.04;

/// SHA-256 of vectors and of scores in integers. A change of it is a change of what operators sign.
const BITS_OF_NOMIC_TEXTS: &str =
    "04301358335f91c12eb8d13202289c85f3d7bc95d9cca0666996f11abf0e3633";
const BITS_OF_PAIRS: &str = "5c888b8548005ad1e15c7718efd89165d3761212180aa6731d78a810bd027372";

#[derive(Deserialize)]
struct Nomic {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    vectors: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Cross {
    pairs: Vec<(String, String)>,
    logits: Vec<f32>,
}

#[test]
fn nomic_embeds_like_pytorch() {
    let reference: Nomic = reference("nomic");
    let encoder = Encoder::load(&directory("nomic"), DeviceChoice::Cpu).unwrap();
    let texts: Vec<&str> = reference.texts.iter().map(String::as_str).collect();
    let vectors = encoder.embed(&texts).unwrap();
    assert_eq!(vectors, encoder.embed_ids(&reference.ids).unwrap(), "tokens differ");
    for ((text, vector), expected) in texts.iter().zip(&vectors).zip(&reference.vectors) {
        close(vector, expected, TOLERANCE_CPU, text);
        let alone = with_threads(1, || encoder.embed(&[text]).unwrap());
        assert_eq!(bits(vector), bits(&alone[0]), "{text:?}");
    }
}

#[test]
fn nomic_on_software_vulkan_agrees_with_pytorch() {
    let reference: Nomic = reference("nomic");
    let encoder = Encoder::load(&directory("nomic"), software()).unwrap();
    let texts: Vec<&str> = reference.texts.iter().map(String::as_str).collect();
    let vectors = encoder.embed(&texts).unwrap();
    for ((text, vector), expected) in texts.iter().zip(&vectors).zip(&reference.vectors) {
        close(vector, expected, TOLERANCE_GPU, text);
    }
}

#[test]
fn nomic_reads_the_order_of_words() {
    let encoder = Encoder::load(&directory("nomic"), DeviceChoice::Cpu).unwrap();
    let vectors = encoder.embed(&["escrow split operator", "operator split escrow"]).unwrap();
    let difference = vectors[0].iter().zip(&vectors[1]).map(|(a, b)| (a - b).abs());
    assert!(1e-3 < difference.fold(0.0, f32::max));
}

#[test]
fn nomic_in_integers_is_near_pytorch_in_any_batch() {
    let reference: Nomic = reference("nomic");
    let encoder = nomic_int8(DeviceChoice::Cpu);
    let texts: Vec<&str> = reference.texts.iter().map(String::as_str).collect();
    let vectors = with_threads(2, || encoder.embed(&texts).unwrap());
    let mut least = 1.0_f64;
    for ((text, vector), expected) in texts.iter().zip(&vectors).zip(&reference.vectors) {
        let products = vector.iter().zip(expected);
        least = least.min(products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum());
        let alone = with_threads(1, || encoder.embed(&[text]).unwrap());
        assert_eq!(bits(vector), bits(&alone[0]), "{text:?}");
    }
    eprintln!("least cosine {least}, limit {COSINE_MIN}");
    assert!(COSINE_MIN <= least, "{least}");
    let mut hash = Sha256::new();
    vectors.iter().flatten().for_each(|value| hash.update(value.to_le_bytes()));
    assert_eq!(hex::encode(hash.finalize()), BITS_OF_NOMIC_TEXTS);
    let floats = Encoder::load(&directory("nomic"), DeviceChoice::Cpu).unwrap();
    assert_ne!(floats.model_hash(), encoder.model_hash());
}

#[test]
fn nomic_in_integers_on_software_vulkan_gives_the_bits_of_the_cpu() {
    let reference: Nomic = reference("nomic");
    let texts: Vec<&str> = reference.texts.iter().map(String::as_str).collect();
    let gpu = nomic_int8(software()).embed(&texts).unwrap();
    for ((text, vector), expected) in
        texts.iter().zip(&gpu).zip(nomic_int8(DeviceChoice::Cpu).embed(&texts).unwrap())
    {
        assert_eq!(bits(vector), bits(&expected), "{text:?}");
    }
}

#[test]
fn pairs_in_integers_score_near_pytorch_in_any_batch() {
    let reference: Cross = reference("cross");
    let model = CrossEncoder::load_profile(&directory("cross"), Profile::DeterministicInt8);
    let model = model.unwrap();
    let mut scores = Vec::new();
    let mut largest = 0.0_f32;
    for ((query, document), expected) in reference.pairs.iter().zip(&reference.logits) {
        let alone = with_threads(1, || model.score(query, &[document]).unwrap());
        let documents: Vec<&str> = reference.pairs.iter().map(|pair| pair.1.as_str()).collect();
        let together = with_threads(3, || model.score(query, &documents).unwrap());
        let index = documents.iter().position(|other| other == document).unwrap();
        assert_eq!(bits(&alone), bits(&together[index..=index]), "{document:?}");
        largest = largest.max((alone[0] - expected).abs());
        scores.extend(alone);
    }
    let spread = |values: &[f32]| {
        let (low, high) = (f32::INFINITY, f32::NEG_INFINITY);
        let low = values.iter().copied().fold(low, f32::min);
        values.iter().copied().fold(high, f32::max) - low
    };
    let limit = SCORE_SHARE_MAX * spread(&reference.logits);
    eprintln!("largest difference {largest}, limit {limit}");
    assert!(largest <= limit, "{largest}, limit {limit}");
    let mut hash = Sha256::new();
    scores.iter().for_each(|score| hash.update(score.to_le_bytes()));
    assert_eq!(hex::encode(hash.finalize()), BITS_OF_PAIRS);
    let floats = CrossEncoder::load(&directory("cross")).unwrap();
    assert_ne!(floats.model_hash(), model.model_hash());
}

#[test]
fn pairs_score_like_pytorch_in_any_batch() {
    let reference: Cross = reference("cross");
    let model = CrossEncoder::load(&directory("cross")).unwrap();
    for ((query, document), expected) in reference.pairs.iter().zip(&reference.logits) {
        let alone = with_threads(1, || model.score(query, &[document]).unwrap());
        close(&alone, &[*expected], LOGIT_TOLERANCE, document);
        let documents: Vec<&str> = reference.pairs.iter().map(|pair| pair.1.as_str()).collect();
        let together = with_threads(2, || model.score(query, &documents).unwrap());
        let index = documents.iter().position(|other| other == document).unwrap();
        assert_eq!(bits(&alone), bits(&together[index..=index]), "{document:?}");
    }
    assert!(model.score("nothing to rank", &[]).unwrap().is_empty());
}

#[test]
fn an_overlong_pair_loses_the_end_of_its_longer_text() {
    let model = CrossEncoder::load(&directory("cross")).unwrap();
    let long = "the split ".repeat(400);
    let longer = format!("{long} and something else entirely");
    let scores = model.score("Who may refund?", &[&long, &longer, "the split"]).unwrap();
    assert_eq!(scores[0], scores[1]);
    assert_ne!(scores[0], scores[2]);
}

#[test]
fn a_model_without_a_head_is_no_cross_encoder() {
    let error = CrossEncoder::load(&crate::model_dir::model_dir()).unwrap_err().to_string();
    assert!(error.contains("classifier.weight") || error.contains("labels"), "{error}");
    let error = CrossEncoder::load(&directory("nomic")).unwrap_err().to_string();
    assert!(error.contains("which a cross-encoder does not run"), "{error}");
}

fn nomic_int8(device: DeviceChoice) -> Encoder {
    Encoder::load_profile(&directory("nomic"), device, Profile::DeterministicInt8).unwrap()
}

#[track_caller]
fn close(values: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(values.len(), expected.len());
    for (value, expected) in values.iter().zip(expected) {
        let difference = (value - expected).abs();
        assert!(
            difference <= tolerance,
            "{what:?}: {value}, not {expected}: off by {difference:e}"
        );
    }
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encoder").join(name)
}

fn reference<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let text = std::fs::read_to_string(directory(name).join("reference.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}
