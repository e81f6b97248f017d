//! The encoder as burn's tensor operations, for GPUs; shapes are in rows of tokens.
//!
//! Where the device computes in `f16`, products read their two sides in it and sum in `f32`; everything
//! between products stays in `f32`, because a norm's epsilon and the sums of residuals need its range.
//! `layers` has the weights; `sequences` has own kernels for what is done sequence by sequence, and `fused` for
//! what stands between products in `f16`.

mod fused;
mod layers;
mod sequences;

use burn::tensor::{
    Device, FloatDType, Int, Tensor, TensorData, module::attention, ops::AttentionModuleOptions,
};

use self::{
    fused::Fused,
    layers::{Activation, Layer, Loader, Norm},
    sequences::{Biased, Places, Sequences},
};
use crate::{
    batch::Batch,
    config::{Architecture, BertConfig},
    error::LoadError,
    rope::{Rope, RopeScaling},
    weights::Weights,
};

pub(crate) use layers::products_on;

/// Weights of the encoder on their device.
#[derive(Debug)]
pub(crate) struct Model {
    device: Device,
    /// `[vocab_size, hidden_size]`
    words: Tensor<2>,
    /// What is added to a word, with the first token type's row in it, because the encoder reads
    /// single texts, whose tokens are all of this type: `[max_position_embeddings, hidden_size]`, or
    /// `[1, hidden_size]` where positions are rotary.
    additions: Tensor<2>,
    rotary: Option<Rotary>,
    /// On a GPU, for heads that it takes.
    sequences: Option<Sequences>,
    /// Where there is that and products are in `f16`.
    fused: Option<Fused>,
    norm: Norm,
    layers: Vec<Layer>,
    heads: usize,
    head_size: usize,
    epsilon: f64,
}

/// Cosines and sines of every position, each for both halves of a head: `[tokens, head_size]`.
#[derive(Debug)]
struct Rotary {
    cosines: Tensor<2>,
    sines: Tensor<2>,
}

impl Model {
    /// `tokens_max` is the longest sequence that the model will be given, `products` the type that products
    /// read.
    pub(crate) fn load(
        weights: &Weights<'_>,
        config: &BertConfig,
        device: &Device,
        tokens_max: usize,
        products: FloatDType,
    ) -> Result<Self, LoadError> {
        let hidden = config.hidden_size;
        let load = Loader { weights, device, products };
        let architecture = config.architecture();
        let types = load
            .matrix("embeddings.token_type_embeddings.weight", [config.type_vocab_size, hidden])?;
        let first_type = types.narrow(0, 0, 1);
        let (additions, rotary, norm) = match architecture {
            Architecture::Bert => {
                let shape = [config.max_position_embeddings, hidden];
                let positions = load.matrix("embeddings.position_embeddings.weight", shape)?;
                (positions + first_type, None, "embeddings.LayerNorm")
            }
            Architecture::NomicBert { theta } => {
                let rotary = Rotary::new(theta, config.head_size(), tokens_max, device);
                (first_type, Some(rotary), "emb_ln")
            }
        };
        let theta = match architecture {
            Architecture::Bert => None,
            Architecture::NomicBert { theta } => Some(theta),
        };
        let (heads, head_size) = (config.num_attention_heads, config.head_size());
        // The CPU has no such kernels.
        let (own, half) = (*device != Device::flex(), products == FloatDType::F16);
        let biased = architecture == Architecture::Bert;
        let halves = half.then_some(Biased(biased));
        let sequences = own
            .then(|| Sequences::new(device, heads, head_size, theta, tokens_max, halves))
            .flatten();
        let activation = if biased { Activation::Gelu } else { Activation::SwiGlu };
        let widths = [hidden, config.intermediate_size];
        let fused = (half && sequences.is_some())
            .then(|| Fused::new(device, widths, activation, biased, config.layer_norm_eps));
        let layers = (0..config.num_hidden_layers)
            .map(|index| match architecture {
                Architecture::Bert => Layer::bert(&load, &format!("encoder.layer.{index}"), config),
                Architecture::NomicBert { .. } => {
                    Layer::nomic(&load, &format!("encoder.layers.{index}"), config)
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            device: device.clone(),
            words: load.matrix("embeddings.word_embeddings.weight", [config.vocab_size, hidden])?,
            additions,
            rotary,
            sequences,
            fused,
            norm: load.norm(norm, hidden)?,
            layers,
            heads,
            head_size,
            epsilon: config.layer_norm_eps,
        })
    }

    /// The mean of the last layer's hidden states of every sequence, in the batch's order. They are taken on
    /// the device, because reading all states would take as long as computing them. `Err` says why the
    /// device failed.
    pub(crate) fn means(&self, batch: &Batch) -> Result<Vec<Vec<f64>>, String> {
        let (states, places) = self.run(batch);
        let hidden = self.heads * self.head_size;
        let means = match &places {
            Some((sequences, places)) => sequences.means(states, places),
            None => {
                let means = batch.runs.iter().map(|run| {
                    let rows = states.clone().narrow(0, run.start, run.rows().len());
                    let sequences: Tensor<3> = rows.reshape([run.count, run.length, hidden]);
                    sequences.mean_dim(1).reshape([run.count, hidden])
                });
                Tensor::cat(means.collect(), 0)
            }
        };
        let data = means.try_into_data().map_err(|error| error.to_string())?;
        let means: Vec<f32> =
            data.try_into_vec().map_err(|error| format!("read the means: {error:?}"))?;
        let wide = |mean: &[f32]| mean.iter().copied().map(f64::from).collect();
        Ok(means.chunks_exact(hidden).map(wide).collect())
    }

    /// The last layer's hidden states of every token, `[tokens, hidden_size]`, and where the sequences are in
    /// them.
    fn run(&self, batch: &Batch) -> (Tensor<2>, Option<(&Sequences, Places)>) {
        let places = self.sequences.as_ref().map(|sequences| (sequences, sequences.places(batch)));
        let mut states = self.norm.apply(self.embed(batch), self.epsilon);
        if let (Some(fused), Some((sequences, at))) = (&self.fused, &places) {
            self.run_fused(&states, fused, sequences, at);
            return (states, places);
        }
        for layer in &self.layers {
            let attended = match &places {
                Some((sequences, places)) => {
                    sequences.attend(states.clone(), &layer.projection, places)
                }
                None => self.attend(&layer.projection.apply(states.clone()), batch),
            };
            states =
                layer.attention_norm.apply(states + layer.output.apply(attended), self.epsilon);
            let expanded = layer.expand(states.clone());
            states = layer.norm.apply(states + layer.contract.apply(expanded), self.epsilon);
        }
        (states, places)
    }

    /// Runs the layers on states that are changed in place: four products for each layer, and between them
    /// one kernel each.
    fn run_fused(&self, states: &Tensor<2>, fused: &Fused, sequences: &Sequences, places: &Places) {
        let mut halves = states.clone().cast(FloatDType::F16);
        for layer in &self.layers {
            let attended = sequences.attend(halves, &layer.projection, places);
            halves = fused.update(states, attended, &layer.output, &layer.attention_norm);
            let expanded = fused.expand(halves, &layer.expand);
            halves = fused.update(states, expanded, &layer.contract, &layer.norm);
        }
    }

    /// The last layer's hidden states of every token: `[tokens, hidden_size]`.
    #[cfg(test)]
    pub(crate) fn states(&self, batch: &Batch) -> Tensor<2> {
        self.run(batch).0
    }

    fn embed(&self, batch: &Batch) -> Tensor<2> {
        let words = self.words.clone().select(0, self.indices(batch.ids.iter().copied()));
        if self.rotary.is_some() {
            return words + self.additions.clone();
        }
        let positions = batch.sequences().flat_map(|rows| 0..rows.len() as u32);
        words + self.additions.clone().select(0, self.indices(positions))
    }

    fn indices(&self, values: impl Iterator<Item = u32>) -> Tensor<1, Int> {
        // Ids and positions are below a table's size, which `limits` keeps far below 2^31.
        let values: Vec<i32> = values.map(|value| value as i32).collect();
        let length = values.len();
        Tensor::from_data(TensorData::new(values, [length]), &self.device)
    }

    /// Attention of every sequence to itself, as [`Sequences::attend`], length by length.
    fn attend(&self, projected: &Tensor<2>, batch: &Batch) -> Tensor<2> {
        let hidden = self.heads * self.head_size;
        let runs = batch.runs.iter().map(|run| {
            let rows = projected.clone().narrow(0, run.start, run.rows().len());
            let part = |index: usize| {
                rows.clone()
                    .narrow(1, index * hidden, hidden)
                    .reshape([run.count, run.length, self.heads, self.head_size])
                    .swap_dims(1, 2)
            };
            let turned = |part: Tensor<4>| match &self.rotary {
                Some(rotary) => rotary.turn(part),
                None => part,
            };
            let options = AttentionModuleOptions::default();
            let (query, key) = (turned(part(0)), turned(part(1)));
            let attended = attention(query, key, part(2), None, None, options);
            attended.swap_dims(1, 2).reshape([run.rows().len(), hidden])
        });
        Tensor::cat(runs.collect(), 0)
    }
}

impl Rotary {
    fn new(theta: f64, head_size: usize, tokens_max: usize, device: &Device) -> Self {
        let rope = Rope::new(theta, head_size, RopeScaling::Default);
        let turns: Vec<Vec<f32>> =
            (0..tokens_max).map(|position| rope.position(position)).collect();
        // A position has its cosines and then its sines, each for one half of a head.
        let table = |half: usize| {
            let size = head_size / 2;
            let row = |turns: &Vec<f32>| turns[half * size..(half + 1) * size].repeat(2);
            let values: Vec<f32> = turns.iter().flat_map(row).collect();
            Tensor::from_data(TensorData::new(values, [tokens_max, head_size]), device)
        };
        Self { cosines: table(0), sines: table(1) }
    }

    /// Turns `[sequences, heads, tokens, head_size]` by the tokens' positions.
    fn turn(&self, heads: Tensor<4>) -> Tensor<4> {
        let [_, _, length, size] = heads.dims();
        let half = size / 2;
        let table = |table: &Tensor<2>| -> Tensor<4> {
            table.clone().narrow(0, 0, length).reshape([1, 1, length, size])
        };
        let (left, right) = (heads.clone().narrow(3, 0, half), heads.clone().narrow(3, half, half));
        let crossed = Tensor::cat(vec![right.neg(), left], 3);
        heads * table(&self.cosines) + crossed * table(&self.sines)
    }
}
