//! The encoder in integers: profile `deterministic-int8`.
//!
//! Weights and the inputs of linear layers are signed bytes with one scale for each output and for
//! each row; sums have 32 bits. Norms, softmax and GELU are computed in fixed point and by tables.
//! Integer sums are exact, so the bits do not depend on an order: not on threads, batches or
//! vector instructions, and not on the kind of device either.

mod attention;
mod fixed;
mod gpu;
mod linear;
mod norm;
mod quantize;
mod sums;

use std::{ops::Range, path::Path};

use pulp::NullaryFnOnce;
use rayon::prelude::*;

pub(crate) use self::gpu::Int8Gpu;
use self::{
    attention::{Head, SIZE_MAX, Scratch, attend},
    fixed::{STATE_MAX, Tables},
    linear::{INPUTS_MAX, Linear},
    norm::{Affine, WIDTH_MAX},
    quantize::{Quantized, quantize},
    sums::Way,
};
use crate::{
    batch::{Batch, split_by_tokens},
    config::BertConfig,
    error::LoadError,
    kernels::{LANES, product::Threads, vectorized},
    weights::Weights,
};

/// Tokens of one task when a batch has enough of them to give each thread its own sequences.
const TASK_TOKENS: usize = 128;

/// Fraction bits of embeddings. They are small and only their normalised form is used, so they
/// have more than states have.
const EMBEDDING_BITS: u32 = 18;

/// Weights of the encoder as integers.
#[derive(Debug)]
pub(crate) struct Int8Model {
    /// `[vocab_size][hidden_size]`
    words: Vec<i32>,
    /// `[max_position_embeddings][hidden_size]`, with the first token type's row added.
    positions: Vec<i32>,
    norm: Affine,
    layers: Vec<Layer>,
    tables: Tables,
    hidden: usize,
    head_size: usize,
}

#[derive(Debug)]
struct Layer {
    /// Query, key and value side by side.
    projection: Linear,
    output: Linear,
    attention_norm: Affine,
    expand: Linear,
    contract: Linear,
    norm: Affine,
}

impl Int8Model {
    /// Refuses shapes whose sums could pass 32 bits, or that have no whole panels.
    pub(crate) fn check(path: &Path, config: &BertConfig) -> Result<(), LoadError> {
        config.only_bert(path, "profile deterministic-int8")?;
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

    pub(crate) fn load(weights: &Weights<'_>, config: &BertConfig) -> Result<Self, LoadError> {
        let hidden = config.hidden_size;
        let words =
            weights.read("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?;
        let mut positions = weights.read(
            "embeddings.position_embeddings.weight",
            &[config.max_position_embeddings, hidden],
        )?;
        let types = weights
            .read("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, hidden])?;
        for row in positions.chunks_exact_mut(hidden) {
            for (value, kind) in row.iter_mut().zip(&types) {
                *value += kind;
            }
        }
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(weights, &format!("encoder.layer.{index}"), config))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            words: words.into_iter().map(embedding).collect(),
            positions: positions.into_iter().map(embedding).collect(),
            norm: affine(weights, "embeddings.LayerNorm", config)?,
            layers,
            tables: Tables::new(),
            hidden,
            head_size: config.head_size(),
        })
    }

    /// The last layer's states of every token: `[tokens, hidden_size]`, row-major, as whole
    /// numbers, which `f32` holds exactly.
    pub(crate) fn hidden_states(&self, batch: &Batch) -> Vec<f32> {
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
                self.run(&batch.ids[start..end], &local, threads)
            })
            .collect();
        states.into_iter().flatten().map(|state| state as f32).collect()
    }

    fn run(&self, ids: &[u32], sequences: &[Range<usize>], threads: Threads) -> Vec<i32> {
        let mut states = self.embed(ids, sequences);
        self.norm(&self.norm, &mut states);
        let bytes = |states: &[i32], layer: &Linear| -> Quantized {
            quantize(states, states.len() / ids.len(), layer.way())
        };
        for layer in &self.layers {
            let Layer { projection, output, expand, contract, .. } = layer;
            let projected = projection.apply(&bytes(&states, projection), None, threads);
            let attended = vectorized(Attend { model: self, projected: &projected, sequences });
            add(&mut states, &output.apply(&bytes(&attended, output), None, threads));
            self.norm(&layer.attention_norm, &mut states);
            let gelu = Some(&self.tables);
            let expanded = expand.apply(&bytes(&states, expand), gelu, threads);
            add(&mut states, &contract.apply(&bytes(&expanded, contract), None, threads));
            self.norm(&layer.norm, &mut states);
        }
        states
    }

    fn embed(&self, ids: &[u32], sequences: &[Range<usize>]) -> Vec<i32> {
        let row = |table: &[i32], index: usize| {
            table[index * self.hidden..(index + 1) * self.hidden].to_vec()
        };
        let mut embedded = Vec::with_capacity(ids.len() * self.hidden);
        for sequence in sequences {
            for (position, id) in ids[sequence.clone()].iter().enumerate() {
                let words = row(&self.words, *id as usize);
                let positions = row(&self.positions, position);
                embedded.extend(
                    words.iter().zip(positions).map(|(a, b)| (a + b).clamp(-STATE_MAX, STATE_MAX)),
                );
            }
        }
        embedded
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
    fn load(weights: &Weights<'_>, name: &str, config: &BertConfig) -> Result<Self, LoadError> {
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
            contract: linear(&["output.dense"], inner, hidden)?,
            norm: affine(weights, &format!("{name}.output.LayerNorm"), config)?,
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
