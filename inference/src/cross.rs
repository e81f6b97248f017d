//! A cross-encoder: two texts in, one score out.

use std::{path::Path, sync::Arc};

use crate::{
    batch::{Batch, in_batches},
    config::BertConfig,
    cpu::CpuModel,
    error::{EncodeError, LoadError},
    files::{ModelFile, ModelFiles},
    int8::{Int8Model, STATE_ONE},
    kernels::exp::exp,
    limits::{BATCH_TOKENS_MAX, PAIR_TOKENS_MAX},
    profile::Profile,
    tokens::{Sequence, Tokens},
    weights::Weights,
};

/// A BERT that reads a question and a document together and says how well they fit
/// (`BertForSequenceClassification` with one label, as ms-marco-MiniLM and its relatives are), on the
/// CPU: a score is a function of its two texts and of [`model_hash`](Self::model_hash) alone, bit by bit.
///
/// A pair is cut at [`PAIR_TOKENS_MAX`] tokens, at the end of its longer text.
#[derive(Debug)]
pub struct CrossEncoder {
    tokens: Arc<Tokens>,
    layers: Layers,
    head: Head,
    hidden: usize,
    hash: [u8; 32],
}

/// The layers in one of their forms.
#[derive(Debug)]
enum Layers {
    Floats(Box<CpuModel>),
    Int8(Box<Int8Model>),
}

/// What makes one score of the first token's state.
#[derive(Debug)]
struct Head {
    /// `[hidden][hidden]`, a row for each output.
    pooler: Vec<f32>,
    pooler_bias: Vec<f32>,
    classifier: Vec<f32>,
    classifier_bias: f32,
}

impl CrossEncoder {
    /// Loads the model in `dir`, which holds `config.json`, `tokenizer.json` and `model.safetensors`
    /// (all `f32`) as Hugging Face publishes them.
    ///
    /// # Errors
    ///
    /// As [`Encoder::load`](crate::Encoder::load), and if the model has no head for one score.
    pub fn load(dir: &Path) -> Result<Self, LoadError> {
        Self::load_profile(dir, Profile::DeterministicCpu)
    }

    /// As [`load`](Self::load), in the arithmetic of `profile`. In [`Profile::DeterministicInt8`] the
    /// layers are integers; the head, one row of them for a pair, is summed in `f64` in one order.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and if the profile does not run this model.
    pub fn load_profile(dir: &Path, profile: Profile) -> Result<Self, LoadError> {
        let files = ModelFiles::read(dir)?;
        let path = &files.config.path;
        let config = BertConfig::parse(path, &files.config.bytes)?;
        config.only_bert(path, "a cross-encoder")?;
        match profile {
            Profile::DeterministicCpu | Profile::Fast => CpuModel::check(path, &config)?,
            Profile::DeterministicInt8 => Int8Model::check(path, &config)?,
        }
        let refused = |reason: String| LoadError::Config { path: path.clone(), reason };
        if config.labels() != 1 {
            return Err(refused(format!("it has {} labels, re-ranking needs 1", config.labels())));
        }
        if config.type_vocab_size < 2 {
            return Err(refused("type_vocab_size is 1, a pair of texts needs 2".to_owned()));
        }
        let ModelFile { path, bytes } = &files.tokenizer;
        let tokens = Tokens::parse(path, bytes, &config, PAIR_TOKENS_MAX)?;
        let pair = tokens.pair(0, "a", "a").ok();
        if pair.is_none_or(|pair| pair.second == 0 || pair.second == pair.len()) {
            let reason = "it does not join two texts with token types 0 and 1".to_owned();
            return Err(LoadError::Tokenizer { path: path.clone(), reason });
        }
        let weights = Weights::parse(&files.weights.path, &files.weights.bytes)?;
        let hidden = config.hidden_size;
        let head = Head {
            pooler: weights.read("pooler.dense.weight", &[hidden, hidden])?,
            pooler_bias: weights.read("pooler.dense.bias", &[hidden])?,
            classifier: weights.read_head("classifier.weight", &[1, hidden])?,
            classifier_bias: weights.read_head("classifier.bias", &[1])?[0],
        };
        let layers = match profile {
            Profile::DeterministicCpu | Profile::Fast => {
                Layers::Floats(Box::new(CpuModel::load(&weights, &config, PAIR_TOKENS_MAX)?))
            }
            Profile::DeterministicInt8 => {
                Layers::Int8(Box::new(Int8Model::load(&weights, &config, PAIR_TOKENS_MAX)?))
            }
        };
        let hash = files.hash(profile);
        Ok(Self { tokens: Arc::new(tokens), layers, head, hidden, hash })
    }

    /// How well each of `documents` answers `query`: the model's logits, without bounds. Only their
    /// order means something; [`probability`] maps them to 0 ..= 1.
    ///
    /// # Errors
    ///
    /// If a text is over [`TEXT_BYTES_MAX`](crate::limits::TEXT_BYTES_MAX) or a score is no number.
    pub fn score(&self, query: &str, documents: &[&str]) -> Result<Vec<f32>, EncodeError> {
        let pairs = documents.iter().enumerate();
        let sequences = pairs
            .map(|(index, document)| self.tokens.pair(index, query, document))
            .collect::<Result<Vec<_>, _>>()?;
        let scores = in_batches(&sequences, BATCH_TOKENS_MAX, |batch| self.encode(batch))?;
        Ok(scores.into_iter().flatten().collect())
    }

    /// As [`Encoder::model_hash`](crate::Encoder::model_hash).
    pub fn model_hash(&self) -> [u8; 32] {
        self.hash
    }

    pub(crate) fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.tokens)
    }

    /// One score for each sequence, as a vector of one component.
    pub(crate) fn encode(&self, sequences: &[&Sequence]) -> Result<Vec<Vec<f32>>, EncodeError> {
        if sequences.is_empty() {
            return Ok(Vec::new());
        }
        let batch = Batch::pack(sequences);
        let (states, one) = match &self.layers {
            Layers::Floats(model) => (model.hidden_states(&batch), 1.0),
            Layers::Int8(model) => (model.hidden_states(&batch), STATE_ONE),
        };
        let mut scores = vec![Vec::new(); sequences.len()];
        for (rows, index) in batch.sequences().zip(&batch.order) {
            let first = &states[rows.start * self.hidden..(rows.start + 1) * self.hidden];
            // `one` is a power of two, so nothing is rounded.
            let first: Vec<f32> = first.iter().map(|state| state / one).collect();
            let score = self.head.score(&first);
            if !score.is_finite() {
                let reason = "a score is not a number".to_owned();
                return Err(EncodeError::Device { device: "cpu".to_owned(), reason });
            }
            scores[*index] = vec![score];
        }
        Ok(scores)
    }
}

/// The logistic function of a score: 0 to 1, one half at zero.
pub fn probability(score: f32) -> f32 {
    let e = exp(-score.abs());
    if score < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}

impl Head {
    fn score(&self, state: &[f32]) -> f32 {
        let outputs = self.pooler.chunks_exact(state.len()).zip(&self.pooler_bias);
        let pooled = outputs.map(|(row, bias)| tanh((dot(row, state) + f64::from(*bias)) as f32));
        let pooled: Vec<f32> = pooled.collect();
        (dot(&self.classifier, &pooled) + f64::from(self.classifier_bias)) as f32
    }
}

/// Sums in `f64` from left to right, so that the result depends on nothing but the values.
fn dot(left: &[f32], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// `tanh`, off by at most 2e-7, from exactly rounded operations: the system's library has other last
/// bits on other machines.
fn tanh(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs());
    let magnitude = (1.0 - e) / (1.0 + e);
    if x < 0.0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_within_their_bounds() {
        for step in -3000..3000 {
            let x = step as f32 / 100.0;
            assert!((f64::from(tanh(x)) - f64::from(x).tanh()).abs() <= 2e-7, "{x}");
            let expected = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(probability(x)) - expected).abs() <= 2e-7, "{x}");
        }
        assert_eq!((tanh(0.0), probability(0.0)), (0.0, 0.5));
    }
}
