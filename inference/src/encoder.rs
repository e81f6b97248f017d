//! A sentence encoder: text in, unit vectors out.

use std::{ops::Range, path::Path, sync::Arc};

use crate::{
    batch::{Batch, in_batches},
    config::{BertConfig, check_pooling},
    cpu::CpuModel,
    device::{DeviceChoice, DeviceError, Resolved, resolve},
    error::{EncodeError, LoadError},
    files::{ModelFile, ModelFiles},
    int8::{Int8Gpu, Int8Model},
    limits::{BATCH_TOKENS_GPU, BATCH_TOKENS_MAX, SEQUENCE_TOKENS_MAX},
    model::{Model, products_on},
    pooling::{mean, normalize},
    profile::Profile,
    tokens::{Sequence, Tokens},
    weights::Weights,
};

/// An encoder with mean pooling, loaded and ready: BERT (all-MiniLM-L6-v2 and its relatives), and
/// nomic-embed-text, whose texts carry their task in front (`search_query: `, `search_document: `).
///
/// A text is cut at [`SEQUENCE_TOKENS_MAX`] tokens, its last
/// hidden states are averaged and the average is scaled to length 1, as sentence-transformers does.
/// What the bits of a vector depend on besides its text says the [`Profile`].
#[derive(Debug)]
pub struct Encoder {
    tokens: Arc<Tokens>,
    network: Network,
    device: DeviceChoice,
    profile: Profile,
    dimensions: usize,
    /// Of the files alone.
    files_hash: [u8; 32],
    hash: [u8; 32],
}

/// The encoder's layers in one of their forms.
#[derive(Debug)]
enum Network {
    /// Own operators, for the CPU: faster there than burn's, and the same bits on every machine.
    Cpu(Box<CpuModel>),
    /// Integers, for the CPU.
    Int8(Box<Int8Model>),
    /// The same integers, for a GPU.
    Int8Gpu(Box<Int8Gpu>),
    /// burn's tensors, for a GPU.
    Burn(Box<Model>),
}

impl Encoder {
    /// Loads the model in `dir`, which holds `config.json`, `tokenizer.json` and
    /// `model.safetensors` (all `f32`) as Hugging Face publishes them.
    ///
    /// # Errors
    ///
    /// Names the file, and in it the field or tensor, that is missing, damaged, over its limit in
    /// [`limits`](crate::limits), or of another architecture; or the device that is not there.
    pub fn load(dir: &Path, device: DeviceChoice) -> Result<Self, LoadError> {
        Self::load_profile(dir, device, Profile::Fast)
    }

    /// As [`load`](Self::load), in the arithmetic of `profile`.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and if the profile does not run this model or on this device.
    pub fn load_profile(
        dir: &Path,
        device: DeviceChoice,
        profile: Profile,
    ) -> Result<Self, LoadError> {
        let files = ModelFiles::read(dir)?;
        let config = BertConfig::parse(&files.config.path, &files.config.bytes)?;
        if let Some(pooling) = &files.pooling {
            check_pooling(&pooling.path, &pooling.bytes)?;
        }
        let ModelFile { path, bytes } = &files.tokenizer;
        let tokens = Tokens::parse(path, bytes, &config, SEQUENCE_TOKENS_MAX)?;
        let Resolved { device, choice } = match (profile, device) {
            (Profile::DeterministicCpu, DeviceChoice::Auto) => Resolved::cpu(),
            (Profile::DeterministicCpu, DeviceChoice::Wgpu(_)) => {
                return Err(DeviceError::CpuProfile(device).into());
            }
            _ => resolve(device)?,
        };
        let weights = Weights::parse(&files.weights.path, &files.weights.bytes)?;
        let network = match (profile, choice) {
            (Profile::DeterministicInt8, _) => {
                Int8Model::check(&files.config.path, &config)?;
                let model = Int8Model::load(&weights, &config, SEQUENCE_TOKENS_MAX)?;
                match choice {
                    DeviceChoice::Cpu => Network::Int8(Box::new(model)),
                    DeviceChoice::Auto | DeviceChoice::Wgpu(_) => {
                        Network::Int8Gpu(Box::new(Int8Gpu::upload(&model, &device)))
                    }
                }
            }
            (_, DeviceChoice::Cpu) => {
                CpuModel::check(&files.config.path, &config)?;
                let model = CpuModel::load(&weights, &config, SEQUENCE_TOKENS_MAX)?;
                Network::Cpu(Box::new(model))
            }
            _ => {
                let model = Model::load(
                    &weights,
                    &config,
                    &device,
                    SEQUENCE_TOKENS_MAX,
                    products_on(&device),
                )?;
                Network::Burn(Box::new(model))
            }
        };
        Ok(Self {
            tokens: Arc::new(tokens),
            network,
            device: choice,
            profile,
            dimensions: config.hidden_size,
            files_hash: files.hash(Profile::Fast),
            hash: files.hash(profile),
        })
    }

    /// The unit vectors of `texts`, in their order, [`dimensions`](Self::dimensions) long each.
    ///
    /// # Errors
    ///
    /// If a text is over [`TEXT_BYTES_MAX`](crate::limits::TEXT_BYTES_MAX) or the device fails.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EncodeError> {
        let sequences = texts
            .iter()
            .enumerate()
            .map(|(index, text)| self.tokens.sequence(index, text))
            .collect::<Result<Vec<_>, _>>()?;
        self.embed_sequences(&sequences)
    }

    /// As [`embed`](Self::embed), of token ids as the tokenizer gives them, special ones included.
    ///
    /// # Errors
    ///
    /// If a sequence is empty, longer than the model reads or has an id outside the vocabulary, or
    /// if the device fails.
    pub fn embed_ids(&self, sequences: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EncodeError> {
        for (index, ids) in sequences.iter().enumerate() {
            self.tokens.check_ids(index, ids)?;
        }
        let sequences: Vec<Sequence> = sequences.iter().cloned().map(Sequence::single).collect();
        self.embed_sequences(&sequences)
    }

    /// The number of components of a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The device that the model runs on: never [`DeviceChoice::Auto`].
    pub fn device(&self) -> DeviceChoice {
        self.device
    }

    /// The arithmetic that the model was loaded in.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What decides the vectors, as one SHA-256: over the line `auspex-model-1` followed by the
    /// output of `sha256sum config.json tokenizer.json model.safetensors`, and in
    /// [`Profile::DeterministicInt8`], whose vectors are others, by the line
    /// `profile deterministic-int8`.
    pub fn model_hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Number of tokens of `text`, uncut and without special tokens. A text of up to
    /// [`content_tokens_max`](Self::content_tokens_max) tokens is read whole.
    ///
    /// # Errors
    ///
    /// If the text is over [`TEXT_BYTES_MAX`](crate::limits::TEXT_BYTES_MAX).
    pub fn count_tokens(&self, text: &str) -> Result<usize, EncodeError> {
        self.tokens.count(text)
    }

    /// Byte range of every token of `text`, uncut and without special tokens, ascending; each
    /// starts and ends on a character boundary. Tokens that normalisation makes of one character
    /// share its range.
    ///
    /// # Errors
    ///
    /// If the text is over [`TEXT_BYTES_MAX`](crate::limits::TEXT_BYTES_MAX).
    pub fn token_offsets(&self, text: &str) -> Result<Vec<Range<usize>>, EncodeError> {
        self.tokens.offsets(text)
    }

    /// How many tokens of a text the model reads: 254 for all-MiniLM-L6-v2.
    pub fn content_tokens_max(&self) -> usize {
        self.tokens.content_max()
    }

    /// The [`model_hash`](Self::model_hash) of the same files in `f32`.
    pub(crate) fn files_hash(&self) -> [u8; 32] {
        self.files_hash
    }

    pub(crate) fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.tokens)
    }

    fn embed_sequences(&self, sequences: &[Sequence]) -> Result<Vec<Vec<f32>>, EncodeError> {
        in_batches(sequences, self.batch_tokens(), |batch| self.encode(batch))
    }

    /// Whether a shape that comes for the first time has kernels compiled.
    pub(crate) fn compiles_by_shape(&self) -> bool {
        match &self.network {
            Network::Cpu(_) | Network::Int8(_) | Network::Int8Gpu(_) => false,
            Network::Burn(_) => true,
        }
    }

    /// Tokens of a batch that this device computes well.
    pub(crate) fn batch_tokens(&self) -> usize {
        match &self.network {
            Network::Cpu(_) | Network::Int8(_) | Network::Int8Gpu(_) => BATCH_TOKENS_MAX,
            Network::Burn(_) => BATCH_TOKENS_GPU,
        }
    }

    /// The vectors of one batch; sequences come from [`Tokens`] and are not empty.
    pub(crate) fn encode(&self, sequences: &[&Sequence]) -> Result<Vec<Vec<f32>>, EncodeError> {
        if sequences.is_empty() {
            return Ok(Vec::new());
        }
        let batch = Batch::pack(sequences);
        let failed =
            |reason: String| EncodeError::Device { device: self.device.to_string(), reason };
        let rows = |states: Vec<f32>| -> Vec<Vec<f64>> {
            let width = self.dimensions;
            let rows =
                |rows: Range<usize>| mean(&states[rows.start * width..rows.end * width], width);
            batch.sequences().map(rows).collect()
        };
        let means = match &self.network {
            Network::Cpu(model) => rows(model.hidden_states(&batch)),
            Network::Int8(model) => rows(model.hidden_states(&batch)),
            Network::Int8Gpu(model) => rows(model.hidden_states(&batch).map_err(failed)?),
            Network::Burn(model) => model.means(&batch).map_err(failed)?,
        };
        let mut vectors = vec![Vec::new(); sequences.len()];
        for (mean, index) in means.into_iter().zip(&batch.order) {
            let vector = normalize(mean);
            if !vector.iter().all(|value| value.is_finite()) {
                return Err(failed("a vector has components that are not numbers".to_owned()));
            }
            vectors[*index] = vector;
        }
        Ok(vectors)
    }
}
