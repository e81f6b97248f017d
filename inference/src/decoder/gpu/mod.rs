//! The layers of a decoder on a GPU, by own WGSL kernels.
//!
//! Weights are uploaded once, in the form that the kernels read; keys and values stay in the device's
//! memory; a pass is one upload (tokens, positions, blocks), its kernels, and one reading of the logits
//! that are wanted.
//!
//! **Invariant:** on one device with one driver an output is a function of the model's files, the storage,
//! the prompt and the parameters, as on the CPU: the order of every sum depends on a token and its
//! position alone, so that neither other sequences nor pieces of a prompt nor the reuse of a known
//! beginning change it. Between devices, and between a device and the CPU, sums are in another order or
//! division and square root are rounded otherwise; they agree within rounding.

mod attention;
mod matrix;
mod pack;
mod pass;
mod rows;
mod shape;
#[cfg(test)]
mod tests;

use self::{
    attention::Attention,
    matrix::GpuMatrix,
    pass::Pass,
    rows::{Left, Norms, Staged},
};
use super::{
    config::DecoderConfig,
    limits::PASS_TOKENS_MAX,
    matrix::{Rows, Storage},
    model::Span,
    shards::Shards,
    weights::{self, Weights},
};
use crate::{
    error::LoadError,
    gpu::{Buffer, Gpu},
};
pub(crate) use attention::{GpuCache as Cache, SPLIT_FROM};

/// A decoder in a device's memory. It has no state: keys and values are in a [`Cache`].
#[derive(Debug)]
pub(crate) struct GpuModel {
    pub(crate) config: DecoderConfig,
    gpu: Gpu,
    layers: Vec<Layer>,
    norm: Buffer,
    embedding: Option<GpuMatrix>,
    head: GpuMatrix,
    norms: Norms,
    scratch: Scratch,
    bytes: usize,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Buffer,
    projection: GpuMatrix,
    attention: Attention,
    output: GpuMatrix,
    norm: Buffer,
    expand: GpuMatrix,
    contract: GpuMatrix,
}

/// What passes compute in between, for as many rows as a pass may have.
#[derive(Debug)]
struct Scratch {
    states: Left,
    normed: Left,
    projected: Buffer,
    queries: Buffer,
    attended: Staged,
    gated: Staged,
}

/// Buffers that one kernel reads or writes.
const BUFFERS: usize = 10;

impl GpuModel {
    /// Reads a model into the memory of a device. Buffers of weights have at most `largest` bytes, which
    /// is no more than the device can read.
    pub(crate) fn load(
        shards: &mut Shards,
        config: DecoderConfig,
        storage: Storage,
        gpu: Gpu,
        largest: u64,
    ) -> Result<Self, LoadError> {
        let device = gpu.clone();
        device.lasting(|| Self::upload(shards, config, storage, gpu, largest))
    }

    fn upload(
        shards: &mut Shards,
        config: DecoderConfig,
        storage: Storage,
        gpu: Gpu,
        largest: u64,
    ) -> Result<Self, LoadError> {
        let path = shards.path();
        let failed = |reason: String| LoadError::Weights { path: path.clone(), reason };
        if gpu.buffers_max() < BUFFERS {
            let buffers = gpu.buffers_max();
            return Err(failed(format!(
                "the device reads {buffers} buffers at once, needed are {BUFFERS}"
            )));
        }
        attention::check(&gpu, &config).map_err(failed)?;
        let pack = |raw: weights::Raw| GpuMatrix::upload(&gpu, &raw, &config, largest);
        let weights = Weights::load(shards, &config, storage, pack)?;
        let bytes = weights.bytes(GpuMatrix::bytes);
        let turns = attention::turns(&gpu, &config);
        let layers = weights.layers.into_iter().zip(&config.windows).map(|(layer, window)| Layer {
            attention_norm: gpu.upload(&layer.attention_norm),
            projection: layer.projection,
            attention: Attention::new(&gpu, &config, *window, layer.head_norms.as_ref(), &turns),
            output: layer.output,
            norm: gpu.upload(&layer.norm),
            expand: layer.expand,
            contract: layer.contract,
        });
        Ok(Self {
            layers: layers.collect(),
            norm: gpu.upload(&weights.norm),
            embedding: weights.embedding,
            head: weights.head,
            norms: Norms::new(storage, config.hidden, config.epsilon),
            scratch: Scratch::new(&gpu, &config, storage),
            bytes,
            config,
            gpu,
        })
    }

    /// Bytes of weights that writing one token reads.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Reads `spans` into the cache; gives back the logits of the `chosen` among all their tokens. `Err`
    /// says why the device failed.
    pub(crate) fn pass(
        &self,
        cache: &mut Cache,
        spans: &[Span<'_>],
        chosen: &[usize],
    ) -> Result<Rows, String> {
        self.observed(cache, spans, chosen, |_, _| Ok(()))
    }

    /// As [`pass`](Self::pass); `observe` sees the buffer of states, and the number of its rows, behind
    /// the embedding and behind every layer.
    fn observed(
        &self,
        cache: &mut Cache,
        spans: &[Span<'_>],
        chosen: &[usize],
        mut observe: impl FnMut(&Buffer, usize) -> Result<(), String>,
    ) -> Result<Rows, String> {
        let vocabulary = self.config.vocabulary;
        let pass = Pass::new(&self.gpu, spans, chosen, attention::CHUNK, vocabulary)?;
        let Scratch { states, normed, projected, queries, attended, gated } = &self.scratch;
        let rows = pass.rows;
        let norm = (&self.norms, normed);
        self.embedding.as_ref().unwrap_or(&self.head).gather(&pass, &states.values);
        observe(&states.values, rows)?;
        for (index, (layer, memory)) in self.layers.iter().zip(cache.layers()).enumerate() {
            let Layer { projection, attention, output, expand, contract, .. } = layer;
            let outs = attention.outs(memory, projected, queries);
            projection.product_of_states(&pass, states, &layer.attention_norm, norm, &outs);
            attention.run(&pass, memory, projected, queries, attended.floats());
            output.product(&pass, attended.left(rows), rows, &[&states.values]);
            expand.product_of_states(&pass, states, &layer.norm, norm, &[gated.floats()]);
            contract.product(&pass, gated.left(rows), rows, &[&states.values]);
            if index == 0 {
                // The device computes this layer while the others are queued.
                self.gpu.begin()?;
            }
            observe(&states.values, rows)?;
        }
        let count = pass.chosen;
        if count == 0 {
            // A pass that reads only the beginning of a prompt asks for none, but its failure is known.
            self.gpu.wait()?;
            return Ok(Rows::zeros(0, vocabulary));
        }
        self.norms.chosen(&pass, &states.values, &self.norm, normed);
        let logits = self.gpu.empty(count * vocabulary);
        self.head.product(&pass, normed, count, &[&logits]);
        read(&logits, count, vocabulary)
    }
}

impl Scratch {
    fn new(gpu: &Gpu, config: &DecoderConfig, storage: Storage) -> Self {
        const ROWS: usize = PASS_TOKENS_MAX;
        let queries = config.heads * config.head_size;
        let keys = config.key_heads * config.head_size;
        Self {
            states: Left::empty(gpu, Storage::F32, ROWS, config.hidden),
            normed: Left::empty(gpu, storage, ROWS, config.hidden),
            projected: gpu.empty(ROWS * (queries + 2 * keys)),
            queries: gpu.empty(ROWS * queries),
            attended: Staged::empty(gpu, storage, ROWS, queries),
            gated: Staged::empty(gpu, storage, ROWS, config.inner),
        }
    }
}

/// The first rows of a buffer.
fn read(buffer: &Buffer, rows: usize, columns: usize) -> Result<Rows, String> {
    let values = buffer.read(rows * columns, f32::from_le_bytes)?;
    Ok(Rows { values, columns })
}
