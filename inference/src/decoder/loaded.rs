//! A decoder that is ready: layers, tokenizer, template and what its publisher recommends.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{
    cache::Cache,
    config::{DecoderConfig, token_ids},
    files::DecoderFiles,
    limits::BLOCK_TOKENS,
    matrix::Storage,
    model::{DecoderModel, Span},
    sampling::Parameters,
    shards::Shards,
    template::ChatTemplate,
    tokens::Tokens,
};
use crate::error::LoadError;

/// What handles and tools know of a loaded decoder.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) tokens: Tokens,
    pub(crate) template: Option<ChatTemplate>,
    /// How the publisher samples.
    pub(crate) defaults: Parameters,
    /// Tokens that end an output.
    pub(crate) ends: Vec<u32>,
    pub(crate) model_hash: [u8; 32],
    pub(crate) tokenizer_hash: [u8; 32],
    pub(crate) storage: Storage,
    /// Most positions of a sequence.
    pub(crate) positions: usize,
    pub(crate) vocabulary: usize,
    /// Bytes of weights that writing one token reads.
    pub(crate) weight_bytes: usize,
}

#[derive(Default, Deserialize)]
struct GenerationFields {
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    #[serde(default)]
    eos_token_id: Value,
}

/// Reads the decoder in `dir`.
pub(crate) fn load(dir: &Path, storage: Storage) -> Result<(DecoderModel, Facts), LoadError> {
    let files = DecoderFiles::read(dir)?;
    let config = DecoderConfig::parse(&files.config.path, &files.config.bytes)?;
    let tokens = Tokens::parse(&files.tokenizer.path, &files.tokenizer.bytes, &config)?;
    let template = ChatTemplate::of(&files)?;
    let (defaults, mut ends) = generation(&files)?;
    ends.extend(&config.ends);
    ends.sort_unstable();
    ends.dedup();
    let (positions, vocabulary) = (config.positions, config.vocabulary);
    let mut shards = Shards::open(&files.shards)?;
    let model = DecoderModel::load(&mut shards, config, storage)?;
    let facts = Facts {
        tokens,
        template,
        defaults,
        ends,
        model_hash: files.hash()?,
        tokenizer_hash: files.tokenizer_hash(),
        storage,
        positions,
        vocabulary,
        weight_bytes: model.bytes(),
    };
    Ok((model, facts))
}

fn generation(files: &DecoderFiles) -> Result<(Parameters, Vec<u32>), LoadError> {
    let defaults = Parameters::default();
    let Some(file) = &files.generation else { return Ok((defaults, Vec::new())) };
    let failed = |reason: String| LoadError::Config { path: file.path.clone(), reason };
    let fields: GenerationFields =
        serde_json::from_slice(&file.bytes).map_err(|error| failed(error.to_string()))?;
    let ends = token_ids(&fields.eos_token_id).map_err(failed)?;
    let penalty = fields.repetition_penalty.unwrap_or(defaults.repetition_penalty);
    let parameters = if fields.do_sample == Some(false) {
        Parameters { repetition_penalty: penalty, ..defaults }
    } else {
        Parameters {
            temperature: fields.temperature.unwrap_or(defaults.temperature),
            top_k: fields.top_k.unwrap_or(defaults.top_k),
            top_p: fields.top_p.unwrap_or(defaults.top_p),
            min_p: fields.min_p.unwrap_or(defaults.min_p),
            repetition_penalty: penalty,
            ..defaults
        }
    };
    parameters.check().map_err(|error| failed(error.to_string()))?;
    Ok((parameters, ends))
}

/// Reads a few tokens at once and in pieces, and compares the logits bit by bit; `Err` says what is
/// wrong. It also brings the weights into memory, so that the first request does not have to.
pub(crate) fn self_test(model: &DecoderModel) -> Result<(), String> {
    const TOKENS: usize = 2 * BLOCK_TOKENS + 3;
    let count = TOKENS.min(model.config.positions);
    let tokens: Vec<u32> =
        (0..count).map(|index| (index * 7919 % model.config.vocabulary) as u32).collect();
    let blocks: Vec<u32> = (0..count.div_ceil(BLOCK_TOKENS) as u32).collect();
    let run = |pieces: &[usize]| {
        let mut cache = Cache::new(&model.config, blocks.len());
        let (mut start, mut logits) = (0, Vec::new());
        for piece in pieces {
            let span = Span { blocks: &blocks, start, tokens: &tokens[start..start + piece] };
            let states = model.read(&mut cache, &[span], |_| ());
            logits = model.logits(&states, &[piece - 1]).values;
            start += piece;
        }
        logits
    };
    let whole = run(&[count]);
    if let Some(id) = whole.iter().position(|logit| !logit.is_finite()) {
        return Err(format!("the logit of token {id} is {}", whole[id]));
    }
    let pieces = run(&[count - 2, 1, 1]);
    let differs = whole.iter().zip(&pieces).position(|(a, b)| a.to_bits() != b.to_bits());
    differs.map_or(Ok(()), |id| {
        Err(format!(
            "the logit of token {id} is {} at once and {} in pieces",
            whole[id], pieces[id]
        ))
    })
}
