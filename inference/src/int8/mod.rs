//! The encoder in integers: profile `deterministic-int8`.
//!
//! Weights and the inputs of linear layers are signed bytes with one scale for each output and for
//! each row; sums have 32 bits. Norms, rotary positions, softmax, GELU and SiLU are computed in fixed
//! point and by tables.
//! Integer sums are exact, so the bits do not depend on an order: not on threads, batches or
//! vector instructions, and not on the kind of device either.

mod attention;
mod fixed;
mod gpu;
mod linear;
mod norm;
mod quantize;
mod rotary;
mod sums;

use std::{ops::Range, path::Path};

use pulp::NullaryFnOnce;
use rayon::prelude::*;

pub(crate) use self::gpu::Int8Gpu;
use self::{
    attention::{Head, SIZE_MAX, Scratch, attend},
    fixed::{STATE_BITS, STATE_MAX, Tables},
    linear::{INPUTS_MAX, Linear},
    norm::{Affine, WIDTH_MAX},
    quantize::{Quantized, quantize},
    rotary::Turns,
    sums::Way,
};
use crate::{
    batch::{Batch, split_by_tokens},
    config::{Architecture, BertConfig},
    error::LoadError,
    kernels::{LANES, product::Threads, vectorized},
    team::Team,
    weights::Weights,
};

/// Tokens of one task when a batch has enough of them to give each thread its own sequences.
const TASK_TOKENS: usize = 128;

/// Fraction bits of embeddings. They are small and only their normalised form is used, so they
/// have more than states have.
const EMBEDDING_BITS: u32 = 18;

/// What a state of 1 is in [`Int8Model::hidden_states`].
pub(crate) const STATE_ONE: f32 = (1 << STATE_BITS) as f32;

/// Weights of the encoder as integers.
#[derive(Debug)]
pub(crate) struct Int8Model {
    /// `[vocab_size][hidden_size]`
    words: Vec<i32>,
    /// What is added to a word: `[types][places][hidden_size]`, for up to two token types.
    additions: Vec<i32>,
    /// Positions that have an addition of their own: one where positions are rotary.
    places: usize,
    turns: Option<Turns>,
    norm: Affine,
    layers: Vec<Layer>,
    tables: Tables,
    hidden: usize,
    head_size: usize,
    team: Team,
}

#[derive(Debug)]
struct Layer {
    /// Query, key and value side by side.
    projection: Linear,
    output: Linear,
    attention_norm: Affine,
    /// Where it is gated, the gates stand behind the values.
    expand: Linear,
    activation: Activation,
    contract: Linear,
    norm: Affine,
}

/// What follows the expanding layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activation {
    Gelu,
    SwiGlu,
}

impl Int8Model {
    /// Refuses shapes whose sums could pass 32 bits, or that have no whole panels.
    pub(crate) fn check(path: &Path, config: &BertConfig) -> Result<(), LoadError> {
        let sizes = [
            ("hidden_size / num_attention_heads", config.head_size(), SIZE_MAX),
            ("hidden_size", config.hidden_size, WIDTH_MAX),
            ("intermediate_size", config.intermediate_size, INPUTS_MAX),
        ];
        for (field, size, most) in sizes {
            if !size.is_multiple_of(LANES) || most < size {
                return Err(LoadError::Config {
                    path: path.to_owned(),
                    reason: format!(
                        "{field} is {size}, in int8 it is a multiple of {LANES} and at most {most}"
                    ),
                });
            }
        }
        Ok(())
    }

    /// `tokens_max` is the longest sequence that the model will be given.
    pub(crate) fn load(
        weights: &Weights<'_>,
        config: &BertConfig,
        tokens_max: usize,
    ) -> Result<Self, LoadError> {
        let hidden = config.hidden_size;
        let architecture = config.architecture();
        let words =
            weights.read("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?;
        let types = weights
            .read("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, hidden])?;
        let (positions, turns, norm) = match architecture {
            Architecture::Bert => {
                let shape = [config.max_position_embeddings, hidden];
                let table = weights.read("embeddings.position_embeddings.weight", &shape)?;
                (table, None, "embeddings.LayerNorm")
            }
            Architecture::NomicBert { theta } => {
                let turns = Turns::new(theta, config.head_size(), tokens_max);
                (vec![0.0; hidden], Some(turns), "emb_ln")
            }
        };
        // Only the first two token types ever occur: of a first and of a second text.
        let mut additions = Vec::new();
        for kind in types.chunks_exact(hidden).take(2) {
            for row in positions.chunks_exact(hidden) {
                additions.extend(row.iter().zip(kind).map(|(a, b)| embedding(a + b)));
            }
        }
        let layers = (0..config.num_hidden_layers)
            .map(|index| match architecture {
                Architecture::Bert => {
                    Layer::bert(weights, &format!("encoder.layer.{index}"), config)
                }
                Architecture::NomicBert { .. } => {
                    Layer::nomic(weights, &format!("encoder.layers.{index}"), config)
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            words: words.into_iter().map(embedding).collect(),
            places: positions.len() / hidden,
            additions,
            turns,
            norm: affine(weights, norm, config)?,
            layers,
            tables: Tables::new(),
            hidden,
            head_size: config.head_size(),
            team: Team::new().map_err(LoadError::Threads)?,
        })
    }

    /// The last layer's states of every token: `[tokens, hidden_size]`, row-major, as whole
    /// numbers, which `f32` holds exactly; [`STATE_ONE`] is 1.
    pub(crate) fn hidden_states(&self, batch: &Batch) -> Vec<f32> {
        self.team.run(|| self.pass(batch))
    }

    fn pass(&self, batch: &Batch) -> Vec<f32> {
        let sequences: Vec<_> = batch.sequences().collect();
        let lengths: Vec<usize> = sequences.iter().map(|rows| rows.len()).collect();
        let tasks = split_by_tokens(&lengths, TASK_TOKENS);
        let threads = if tasks.len() < rayon::current_num_threads() {
            Threads::Spread
        } else {
            Threads::Alone
        };
        let states: Vec<Vec<i32>> = tasks
            .into_par_iter()
            .map(|task| {
                let sequences = &sequences[task];
                let start = sequences.first().map_or(0, |rows| rows.start);
                let end = sequences.last().map_or(0, |rows| rows.end);
                let local: Vec<_> =
                    sequences.iter().map(|rows| rows.start - start..rows.end - start).collect();
                let (ids, kinds) = (&batch.ids[start..end], &batch.kinds[start..end]);
                self.run(ids, kinds, &local, threads)
            })
            .collect();
        states.into_iter().flatten().map(|state| state as f32).collect()
    }

    fn run(
        &self,
        ids: &[u32],
        kinds: &[u8],
        sequences: &[Range<usize>],
        threads: Threads,
    ) -> Vec<i32> {
        let mut states = self.embed(ids, kinds, sequences);
        self.norm(&self.norm, &mut states);
        let bytes = |states: &[i32], layer: &Linear| -> Quantized {
            quantize(states, states.len() / ids.len(), layer.way())
        };
        for layer in &self.layers {
            let Layer { projection, output, contract, .. } = layer;
            let mut projected = projection.apply(&bytes(&states, projection), None, threads);
            if let Some(turns) = &self.turns {
                vectorized(Turn {
                    turns,
                    hidden: self.hidden,
                    projected: &mut projected,
                    sequences,
                });
            }
            let attended = vectorized(Attend { model: self, projected: &projected, sequences });
            add(&mut states, &output.apply(&bytes(&attended, output), None, threads));
            self.norm(&layer.attention_norm, &mut states);
            let expanded = self.expand(layer, &bytes(&states, &layer.expand), threads);
            add(&mut states, &contract.apply(&bytes(&expanded, contract), None, threads));
            self.norm(&layer.norm, &mut states);
        }
        states
    }

    fn embed(&self, ids: &[u32], kinds: &[u8], sequences: &[Range<usize>]) -> Vec<i32> {
        let row = |table: &[i32], index: usize| {
            table[index * self.hidden..(index + 1) * self.hidden].to_vec()
        };
        let mut embedded = Vec::with_capacity(ids.len() * self.hidden);
        for sequence in sequences {
            let tokens = ids[sequence.clone()].iter().zip(&kinds[sequence.clone()]);
            for (position, (id, kind)) in tokens.enumerate() {
                let words = row(&self.words, *id as usize);
                let additions = row(&self.additions, self.place(*kind, position));
                embedded.extend(
                    words.iter().zip(additions).map(|(a, b)| (a + b).clamp(-STATE_MAX, STATE_MAX)),
                );
            }
        }
        embedded
    }

    /// The row of `additions` for a token.
    fn place(&self, kind: u8, position: usize) -> usize {
        usize::from(kind) * self.places + position.min(self.places - 1)
    }

    /// The expanding layer with its activation.
    fn expand(&self, layer: &Layer, states: &Quantized, threads: Threads) -> Vec<i32> {
        match layer.activation {
            Activation::Gelu => layer.expand.apply(states, Some(&self.tables), threads),
            Activation::SwiGlu => {
                let expanded = layer.expand.apply(states, None, threads);
                let inner = layer.contract.inputs();
                vectorized(Gate { tables: &self.tables, expanded: &expanded, inner })
            }
        }
    }

    fn norm(&self, affine: &Affine, states: &mut [i32]) {
        vectorized(Norm { affine, states, width: self.hidden });
    }
}

struct Norm<'a> {
    affine: &'a Affine,
    states: &'a mut [i32],
    width: usize,
}

impl NullaryFnOnce for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for row in self.states.chunks_exact_mut(self.width) {
            self.affine.norm(row);
        }
    }
}

/// Turns queries and keys by their tokens' positions.
struct Turn<'a> {
    turns: &'a Turns,
    hidden: usize,
    projected: &'a mut [i32],
    sequences: &'a [Range<usize>],
}

impl NullaryFnOnce for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { turns, hidden, projected, sequences } = self;
        for rows in sequences {
            let rows = &mut projected[rows.start * 3 * hidden..rows.end * 3 * hidden];
            for (position, row) in rows.chunks_exact_mut(3 * hidden).enumerate() {
                turns.turn(&mut row[..2 * hidden], position);
            }
        }
    }
}

/// Values times the gates behind them, row by row.
struct Gate<'a> {
    tables: &'a Tables,
    expanded: &'a [i32],
    inner: usize,
}

impl NullaryFnOnce for Gate<'_> {
    type Output = Vec<i32>;

    #[inline(always)]
    fn call(self) -> Vec<i32> {
        let Self { tables, expanded, inner } = self;
        let mut out = Vec::with_capacity(expanded.len() / 2);
        for row in expanded.chunks_exact(2 * inner) {
            let (values, gates) = row.split_at(inner);
            let pairs = values.iter().zip(gates);
            out.extend(pairs.map(|(value, gate)| tables.gated(*value, *gate)));
        }
        out
    }
}

struct Attend<'a> {
    model: &'a Int8Model,
    projected: &'a [i32],
    sequences: &'a [Range<usize>],
}

impl NullaryFnOnce for Attend<'_> {
    type Output = Vec<i32>;

    #[inline(always)]
    fn call(self) -> Vec<i32> {
        let Self { model, projected, sequences } = self;
        let Int8Model { hidden, head_size, tables, .. } = model;
        let mut out = vec![0; projected.len() / 3];
        let mut scratch = Scratch::default();
        for rows in sequences {
            for head in 0..hidden / head_size {
                let rows = rows.clone();
                let (hidden, size) = (*hidden, *head_size);
                let head = Head { projected, hidden, rows, head, size, out: &mut out };
                attend(head, tables, &mut scratch);
            }
        }
        out
    }
}

impl Layer {
    fn bert(weights: &Weights<'_>, name: &str, config: &BertConfig) -> Result<Self, LoadError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |parts: &[&str], inputs: usize, outputs: usize| {
            let mut weight = Vec::new();
            let mut bias = Vec::new();
            for part in parts {
                let name = format!("{name}.{part}");
                weight.extend(weights.read(&format!("{name}.weight"), &[outputs, inputs])?);
                bias.extend(weights.read(&format!("{name}.bias"), &[outputs])?);
            }
            Ok::<_, LoadError>(Linear::new(&weight, &bias, inputs, Way::best()))
        };
        let attention = ["attention.self.query", "attention.self.key", "attention.self.value"];
        Ok(Self {
            projection: linear(&attention, hidden, hidden)?,
            output: linear(&["attention.output.dense"], hidden, hidden)?,
            attention_norm: affine(weights, &format!("{name}.attention.output.LayerNorm"), config)?,
            expand: linear(&["intermediate.dense"], hidden, inner)?,
            activation: Activation::Gelu,
            contract: linear(&["output.dense"], inner, hidden)?,
            norm: affine(weights, &format!("{name}.output.LayerNorm"), config)?,
        })
    }

    fn nomic(weights: &Weights<'_>, name: &str, config: &BertConfig) -> Result<Self, LoadError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |parts: &[&str], inputs: usize, outputs: usize| {
            let mut weight = Vec::new();
            for part in parts {
                weight.extend(weights.read(&format!("{name}.{part}.weight"), &[outputs, inputs])?);
            }
            let bias = vec![0.0; weight.len() / inputs];
            Ok::<_, LoadError>(Linear::new(&weight, &bias, inputs, Way::best()))
        };
        Ok(Self {
            projection: linear(&["attn.Wqkv"], hidden, 3 * hidden)?,
            output: linear(&["attn.out_proj"], hidden, hidden)?,
            attention_norm: affine(weights, &format!("{name}.norm1"), config)?,
            expand: linear(&["mlp.fc11", "mlp.fc12"], hidden, inner)?,
            activation: Activation::SwiGlu,
            contract: linear(&["mlp.fc2"], inner, hidden)?,
            norm: affine(weights, &format!("{name}.norm2"), config)?,
        })
    }
}

fn affine(weights: &Weights<'_>, name: &str, config: &BertConfig) -> Result<Affine, LoadError> {
    let gamma = weights.read(&format!("{name}.weight"), &[config.hidden_size])?;
    let beta = weights.read(&format!("{name}.bias"), &[config.hidden_size])?;
    Ok(Affine::new(&gamma, &beta))
}

fn embedding(value: f32) -> i32 {
    let scaled = f64::from(value) * f64::from(1 << EMBEDDING_BITS);
    scaled.round().clamp(-f64::from(STATE_MAX), f64::from(STATE_MAX)) as i32
}

fn add(states: &mut [i32], update: &[i32]) {
    for (state, update) in states.iter_mut().zip(update) {
        *state = (*state + update).clamp(-STATE_MAX, STATE_MAX);
    }
}
