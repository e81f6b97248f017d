//! A decoder that is ready: layers, tokenizer, template and what its publisher recommends.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{
    config::{DecoderConfig, token_ids},
    files::DecoderFiles,
    limits::BLOCK_TOKENS,
    matrix::Storage,
    model::Span,
    network::Network,
    sampling::Parameters,
    shards::Shards,
    template::ChatTemplate,
    tokens::Tokens,
};
use crate::{device::DeviceChoice, error::LoadError};

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
    /// Where the model runs: never [`DeviceChoice::Auto`].
    pub(crate) device: DeviceChoice,
    /// What computes, see [`Transcript::profile`](super::Transcript::profile).
    pub(crate) profile: String,
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

/// The version of the operators in a transcript's profile; it changes with their bits.
const PROFILE_VERSION: u32 = 1;

/// Reads the decoder in `dir` into the memory of `device`.
pub(crate) fn load(
    dir: &Path,
    storage: Storage,
    device: DeviceChoice,
) -> Result<(Network, Facts), LoadError> {
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
    let network = Network::load(&mut shards, config, storage, device)?;
    let facts = Facts {
        tokens,
        template,
        defaults,
        ends,
        model_hash: files.hash()?,
        tokenizer_hash: files.tokenizer_hash(),
        storage,
        device: network.device(),
        profile: format!("{}-{storage}-{PROFILE_VERSION}", network.machine()),
        positions,
        vocabulary,
        weight_bytes: network.bytes(),
    };
    Ok((network, facts))
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

/// Largest difference of a logit on a GPU between one way of reading and another, relative to the largest
/// logit. Integers are rounded to 8 bits in between, where the last bit of a sum moves a whole step.
const TOLERANCE_FLOATS: f32 = 1e-3;
const TOLERANCE_INTEGERS: f32 = 5e-2;

/// Reads some tokens in two ways, at once and in pieces, and compares the logits: on the CPU bit by bit, on a GPU
/// within a tolerance, because its driver is not ours. `Err` says what is wrong. It also brings the weights
/// into memory and has every kernel compiled, so that the first request does not have to.
pub(crate) fn self_test(network: &Network, storage: Storage) -> Result<(), String> {
    let config = network.config();
    let (count, ends) = network.trial();
    let count = count.min(config.positions);
    let tokens: Vec<u32> =
        (0..count).map(|index| (index * 7919 % config.vocabulary) as u32).collect();
    let blocks: Vec<u32> = (0..count.div_ceil(BLOCK_TOKENS) as u32).collect();
    let run = |end: &[usize]| -> Result<Vec<f32>, String> {
        let mut reader = network.reader(blocks.len())?;
        let rest = count.saturating_sub(end.iter().sum());
        let (mut start, mut logits) = (0, Vec::new());
        for piece in [&[rest], end].concat() {
            let tokens = &tokens[start..(start + piece).min(count)];
            if tokens.is_empty() {
                continue;
            }
            let span = Span { blocks: &blocks, start, tokens };
            logits = reader.pass(&[span], &[tokens.len() - 1])?.values;
            start += tokens.len();
        }
        Ok(logits)
    };
    let [whole, pieces] = ends.map(run);
    let (whole, pieces) = (whole?, pieces?);
    if let Some(id) = whole.iter().position(|logit| !logit.is_finite()) {
        return Err(format!("the logit of token {id} is {}", whole[id]));
    }
    let bits = |left: &f32, right: &f32| left.to_bits() == right.to_bits();
    let Some(id) = whole.iter().zip(&pieces).position(|(left, right)| !bits(left, right)) else {
        return Ok(());
    };
    let largest = whole.iter().fold(0.0_f32, |largest, logit| largest.max(logit.abs()));
    let tolerance = match network {
        Network::Cpu(_) => 0.0,
        Network::Gpu(..) if storage.is_integer() => TOLERANCE_INTEGERS,
        Network::Gpu(..) => TOLERANCE_FLOATS,
    };
    let near = |left: &f32, right: &f32| (left - right).abs() <= tolerance * largest;
    let far = whole.iter().zip(&pieces).position(|(left, right)| !near(left, right));
    if let Some(id) = far {
        return Err(format!(
            "the logit of token {id} is {} in one cut of a prompt and {} in another",
            whole[id], pieces[id]
        ));
    }
    tracing::warn!(
        device = %network.device(),
        one = whole[id],
        other = pieces[id],
        "this device's logits depend on how a prompt is cut; answers may differ in their last bits"
    );
    Ok(())
}
