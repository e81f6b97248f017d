//! Vectors against PyTorch's; `tests/golden/make_golden.py` made the reference.

use auspex_inference::{
    DeviceChoice, Encoder, TOLERANCE_CPU, TOLERANCE_GPU, adapters, limits::SEQUENCE_TOKENS_MAX,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::model_dir::{cpu, model_dir};

#[derive(Deserialize)]
pub(crate) struct Golden {
    model_hash: String,
    tokens: Vec<usize>,
    pub(crate) texts: Vec<String>,
    #[serde(skip)]
    vectors: Vec<Vec<f32>>,
}

impl Golden {
    pub(crate) fn read() -> Self {
        let mut golden: Self = serde_json::from_str(include_str!("../golden/texts.json")).unwrap();
        let (values, rest) = include_bytes!("../golden/vectors.f32").as_chunks::<4>();
        assert!(rest.is_empty());
        let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        golden.vectors = values.chunks_exact(384).map(<[f32]>::to_vec).collect();
        assert_eq!(golden.vectors.len(), golden.texts.len());
        golden
    }

    pub(crate) fn texts(&self) -> Vec<&str> {
        self.texts.iter().map(String::as_str).collect()
    }
}

#[test]
fn the_cpu_agrees_with_pytorch() {
    check(cpu(), TOLERANCE_CPU, 1);
}

/// The operators promise the same bits for any batch, instruction set and machine; operators of
/// one quorum compare vectors byte by byte. A change of this hash is a change of what they sign.
#[test]
fn the_cpu_gives_the_same_bits_on_every_machine() {
    let mut hash = Sha256::new();
    for vector in cpu().embed(&Golden::read().texts()).unwrap() {
        vector.iter().for_each(|value| hash.update(value.to_le_bytes()));
    }
    assert_eq!(hex::encode(hash.finalize()), BITS_OF_GOLDEN_TEXTS);
}

const BITS_OF_GOLDEN_TEXTS: &str =
    "4845b8b56c2ed65e28dce17ee5bb2b23f1e004fcf3d1d14636a73676dd1910ae";

#[test]
fn software_vulkan_agrees_with_pytorch() {
    let software = adapters().into_iter().find(|adapter| adapter.software);
    let Some(adapter) = software else {
        panic!(
            "no software Vulkan adapter among {:?}: run `make setup`, or install Debian's \
             mesa-vulkan-drivers and libvulkan1",
            adapters()
        );
    };
    let device = DeviceChoice::Wgpu(Some(adapter.number));
    let encoder = Encoder::load(&model_dir(), device).unwrap();
    assert_eq!(encoder.device(), device);
    // A rasteriser on the CPU is slow; the sample still has every layer at ten lengths.
    check(&encoder, TOLERANCE_GPU, 8);
}

#[test]
fn an_adapter_that_is_not_there_is_an_error() {
    let error = Encoder::load(&model_dir(), DeviceChoice::Wgpu(Some(99))).unwrap_err().to_string();
    assert!(error.contains("wgpu:99"), "{error}");
}

#[test]
fn tokens_are_those_of_the_reference_tokenizer() {
    let golden = Golden::read();
    for (text, tokens) in golden.texts.iter().zip(&golden.tokens) {
        let counted = cpu().count_tokens(text).unwrap();
        assert_eq!((counted + 2).min(SEQUENCE_TOKENS_MAX), *tokens, "{text:?}");
        assert_eq!(cpu().token_offsets(text).unwrap().len(), counted, "{text:?}");
    }
    assert_eq!(golden.tokens.iter().max(), Some(&SEQUENCE_TOKENS_MAX));
    assert_eq!(cpu().content_tokens_max(), SEQUENCE_TOKENS_MAX - 2);
}

#[test]
fn offsets_are_byte_ranges_of_the_text() {
    let text = "Zażółć: déjà vu, 天地 42";
    let words: Vec<&str> =
        cpu().token_offsets(text).unwrap().into_iter().map(|range| &text[range]).collect();
    assert_eq!(words.concat(), text.replace(' ', ""));
    for text in Golden::read().texts {
        let mut last = 0;
        for range in cpu().token_offsets(&text).unwrap() {
            assert!(last <= range.start && range.start <= range.end, "{text:?} {range:?}");
            assert!(text.get(range.clone()).is_some(), "{text:?} {range:?}");
            last = range.start;
        }
    }
}

#[test]
fn text_behind_the_last_token_has_no_influence() {
    let text = "word ".repeat(300);
    let longer = format!("{text} and something else entirely");
    let vectors = cpu().embed(&[&text, &longer]).unwrap();
    assert_eq!(vectors[0], vectors[1]);
}

/// Compares every `step`-th golden text.
fn check(encoder: &Encoder, tolerance: f32, step: usize) {
    let golden = Golden::read();
    assert_eq!(hex::encode(encoder.model_hash()), golden.model_hash);
    assert_eq!(encoder.dimensions(), 384);
    let texts: Vec<&str> = golden.texts().into_iter().step_by(step).collect();
    let vectors = encoder.embed(&texts).unwrap();
    assert_eq!(vectors.len(), texts.len());
    let mut largest = 0.0_f32;
    let references = golden.vectors.iter().step_by(step);
    for ((text, vector), reference) in texts.iter().zip(&vectors).zip(references) {
        assert_eq!(vector.len(), reference.len());
        for (value, expected) in vector.iter().zip(reference) {
            let difference = (value - expected).abs();
            assert!(difference <= tolerance, "{text:?}: {value} instead of {expected}");
            largest = largest.max(difference);
        }
    }
    eprintln!("{}: largest difference {largest:e}, limit {tolerance:e}", encoder.device());
}
