//! Which tensors a decoder has, and what they are for; the backends say how a matrix is kept.

use super::{config::DecoderConfig, matrix::Storage, shards::Shards};
use crate::error::LoadError;

/// The weights of a decoder, its matrices as `M`.
#[derive(Debug)]
pub(crate) struct Weights<M> {
    pub(crate) layers: Vec<Layer<M>>,
    pub(crate) norm: Vec<f32>,
    /// Present where the embedding is not the head.
    pub(crate) embedding: Option<M>,
    pub(crate) head: M,
}

#[derive(Debug)]
pub(crate) struct Layer<M> {
    pub(crate) attention_norm: Vec<f32>,
    /// Query, key and value, one below the other.
    pub(crate) projection: M,
    /// Scales of the heads of queries and of keys.
    pub(crate) head_norms: Option<[Vec<f32>; 2]>,
    pub(crate) output: M,
    pub(crate) norm: Vec<f32>,
    /// Gate and up, one below the other.
    pub(crate) expand: M,
    pub(crate) contract: M,
}

/// What a matrix is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Queries, keys and values.
    Projection,
    /// An update of the states: behind attention, and the contracting one.
    Update,
    /// Gates, then what passes them.
    Expand,
    /// A row for each token: the embedding, the head, or both.
    Vocabulary,
}

/// A matrix as it is in the files: `weight[output][input]`.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) weight: Vec<f32>,
    /// Empty, or as long as the outputs.
    pub(crate) bias: Vec<f32>,
    pub(crate) inputs: usize,
    pub(crate) role: Role,
    pub(crate) storage: Storage,
}

impl<M> Weights<M> {
    /// Reads the tensors one after the other; `pack` keeps a matrix, or says why it cannot.
    pub(crate) fn load(
        shards: &mut Shards,
        config: &DecoderConfig,
        storage: Storage,
        pack: impl FnMut(Raw) -> Result<M, String>,
    ) -> Result<Self, LoadError> {
        let mut load = Loader { shards, storage, pack };
        let hidden = config.hidden;
        let layers = (0..config.layers)
            .map(|index| Layer::load(&mut load, &format!("model.layers.{index}"), config))
            .collect::<Result<_, _>>()?;
        // The embedding and the head decide single tokens; 4 bits are too few for them.
        load.storage = if storage == Storage::Int4 { Storage::Int8 } else { storage };
        let tokens = config.vocabulary;
        let embedding = [("model.embed_tokens.weight", tokens)];
        let embedding = load.matrix(Role::Vocabulary, &embedding, hidden, false)?;
        // Some files say that they are not tied and still have no head of their own.
        let own_head = !config.tied && load.shards.has("lm_head.weight");
        let (embedding, head) = if own_head {
            let head =
                load.matrix(Role::Vocabulary, &[("lm_head.weight", tokens)], hidden, false)?;
            (Some(embedding), head)
        } else {
            (None, embedding)
        };
        let norm = load.shards.read("model.norm.weight", &[hidden])?;
        Ok(Self { layers, norm, embedding, head })
    }

    /// Bytes of weights that writing one token reads; `bytes` are those of a matrix.
    pub(crate) fn bytes(&self, bytes: impl Fn(&M) -> usize) -> usize {
        let matrices = self
            .layers
            .iter()
            .flat_map(|layer| [&layer.projection, &layer.output, &layer.expand, &layer.contract]);
        matrices.chain([&self.head]).map(bytes).sum()
    }
}

impl<M> Layer<M> {
    fn load<P: FnMut(Raw) -> Result<M, String>>(
        load: &mut Loader<'_, P>,
        name: &str,
        config: &DecoderConfig,
    ) -> Result<Self, LoadError> {
        let (hidden, inner, size) = (config.hidden, config.inner, config.head_size);
        let (queries, keys) = (config.heads * size, config.key_heads * size);
        let full = |part: &str| format!("{name}.{part}.weight");
        let head_norms = if config.head_norm {
            let mut norm = |part: &str| load.shards.read(&full(part), &[size]);
            Some([norm("self_attn.q_norm")?, norm("self_attn.k_norm")?])
        } else {
            None
        };
        let [query, key, value] =
            ["q_proj", "k_proj", "v_proj"].map(|part| full(&format!("self_attn.{part}")));
        let projection = [(query.as_str(), queries), (&key, keys), (&value, keys)];
        let (gate, up) = (full("mlp.gate_proj"), full("mlp.up_proj"));
        let (output, down) = (full("self_attn.o_proj"), full("mlp.down_proj"));
        let biased = config.projection_bias;
        Ok(Self {
            attention_norm: load.shards.read(&full("input_layernorm"), &[hidden])?,
            projection: load.matrix(Role::Projection, &projection, hidden, biased)?,
            head_norms,
            output: load.matrix(Role::Update, &[(&output, hidden)], queries, config.output_bias)?,
            norm: load.shards.read(&full("post_attention_layernorm"), &[hidden])?,
            expand: load.matrix(Role::Expand, &[(&gate, inner), (&up, inner)], hidden, false)?,
            contract: load.matrix(Role::Update, &[(&down, hidden)], inner, false)?,
        })
    }
}

struct Loader<'a, P> {
    shards: &'a mut Shards,
    storage: Storage,
    pack: P,
}

impl<P> Loader<'_, P> {
    /// One matrix from tensors with their numbers of outputs, one below the other.
    fn matrix<M>(
        &mut self,
        role: Role,
        parts: &[(&str, usize)],
        inputs: usize,
        biased: bool,
    ) -> Result<M, LoadError>
    where
        P: FnMut(Raw) -> Result<M, String>,
    {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for (name, outputs) in parts {
            weight.extend(self.shards.read(name, &[*outputs, inputs])?);
            if biased {
                let name = name.replace(".weight", ".bias");
                bias.extend(self.shards.read(&name, &[*outputs])?);
            }
        }
        let raw = Raw { weight, bias, inputs, role, storage: self.storage };
        (self.pack)(raw).map_err(|reason| LoadError::Weights {
            path: self.shards.path(),
            reason: format!("tensor {:?}: {reason}", parts.first().map_or("", |part| part.0)),
        })
    }
}
