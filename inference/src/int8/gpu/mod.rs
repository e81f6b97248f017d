//! The encoder in integers on a GPU, by own WGSL kernels: the same bits as on the CPU, because
//! every operation is one on 32-bit integers.

use burn::tensor::Device;

use super::{
    Activation, Int8Model,
    attention::factor,
    linear::{Linear, low_bits},
    norm::Affine,
};
use crate::{
    batch::Batch,
    gpu::{Buffer, Constant, Gpu, Kernel},
    limits::SEQUENCE_TOKENS_MAX,
};

/// Threads that share a row.
const ROW_THREADS: u32 = 64;

/// Threads of a tile of a linear layer, and the tile's rows and columns, as `linear.wgsl` has them.
const TILE_THREADS: u32 = 256;
const TILE: usize = 64;

/// The model in a device's memory.
#[derive(Debug)]
pub(crate) struct Int8Gpu {
    gpu: Gpu,
    words: Buffer,
    additions: Buffer,
    /// Where positions are rotary.
    turns: Option<Buffer>,
    tables: Buffer,
    norm: Buffer,
    layers: Vec<Layer>,
    activation: Activation,
    kernels: Kernels,
    /// Positions that have an addition of their own.
    places: usize,
    hidden: usize,
    inner: usize,
    heads: usize,
}

#[derive(Debug)]
struct Layer {
    projection: Buffer,
    output: Buffer,
    attention_norm: Buffer,
    expand: Buffer,
    contract: Buffer,
    norm: Buffer,
}

#[derive(Debug)]
struct Kernels {
    words: Kernel,
    additions: Kernel,
    turn: Kernel,
    norm: Kernel,
    quantize: Kernel,
    quantize_inner: Kernel,
    projection: Kernel,
    output: Kernel,
    expand: Kernel,
    contract: Kernel,
    gelu: Kernel,
    gate: Kernel,
    attention: Kernel,
}

impl Int8Gpu {
    /// Copies `model` to `device`, which is one of wgpu's.
    pub(crate) fn upload(model: &Int8Model, device: &Device) -> Self {
        let Int8Model { hidden, head_size, .. } = *model;
        let first = model.layers.first();
        let inner = first.map_or(0, |layer| layer.contract.inputs());
        let activation = first.map_or(Activation::Gelu, |layer| layer.activation);
        let gpu = Gpu::open(device);
        let turns = model.turns.as_ref().map(|turns| gpu.upload(&turns.numbers()));
        let linear = |layer: &Linear| gpu.upload(&layer.columns());
        let norm = |norm: &Affine| gpu.upload(&norm.numbers());
        let layer = |layer: &super::Layer| Layer {
            projection: linear(&layer.projection),
            output: linear(&layer.output),
            attention_norm: norm(&layer.attention_norm),
            expand: linear(&layer.expand),
            contract: linear(&layer.contract),
            norm: norm(&layer.norm),
        };
        Self {
            words: gpu.upload(&model.words),
            additions: gpu.upload(&model.additions),
            turns,
            tables: gpu.upload(&model.tables.numbers()),
            norm: norm(&model.norm),
            layers: model.layers.iter().map(layer).collect(),
            gpu,
            activation,
            kernels: Kernels::new(hidden, inner, head_size, activation),
            places: model.places,
            hidden,
            inner,
            heads: hidden / head_size,
        }
    }

    /// As [`Int8Model::hidden_states`]. `Err` says why the device failed.
    pub(crate) fn hidden_states(&self, batch: &Batch) -> Result<Vec<f32>, String> {
        let rows = batch.ids.len();
        let places = self.gpu.upload(&places(batch, self.places));
        let kernels = &self.kernels;
        let states = places.beside(rows * self.hidden);
        let update = places.beside(rows * self.hidden);
        let projected = places.beside(rows * 3 * self.hidden);
        let expanded_width = self.activation.outputs(self.inner);
        let expanded = places.beside(rows * expanded_width);
        let gated = match self.activation {
            Activation::Gelu => None,
            Activation::SwiGlu => Some(places.beside(rows * self.inner)),
        };
        let bytes = places.beside(rows * (self.hidden / 4 + 2));
        let inner_bytes = places.beside(rows * (self.inner / 4 + 2));
        let by_row = |kernel: &Kernel, buffers: &[&Buffer]| kernel.launch([rows, 1, 1], buffers);
        let linear =
            |kernel: &Kernel, from: &Buffer, layer: &Buffer, outputs: usize, to: &Buffer| {
                let tiles = [outputs.div_ceil(TILE), rows.div_ceil(TILE), 1];
                kernel.launch(tiles, &[from, layer, &places, to]);
            };

        by_row(&kernels.words, &[&self.words, &places, &states]);
        by_row(&kernels.additions, &[&self.additions, &places, &update]);
        by_row(&kernels.norm, &[&states, &update, &self.norm]);
        for layer in &self.layers {
            by_row(&kernels.quantize, &[&states, &bytes]);
            linear(&kernels.projection, &bytes, &layer.projection, 3 * self.hidden, &projected);
            if let Some(turns) = &self.turns {
                by_row(&kernels.turn, &[&projected, turns, &places]);
            }
            let buffers = [&projected, &self.tables, &places, &update];
            kernels.attention.launch([rows, self.heads, 1], &buffers);
            by_row(&kernels.quantize, &[&update, &bytes]);
            linear(&kernels.output, &bytes, &layer.output, self.hidden, &update);
            by_row(&kernels.norm, &[&states, &update, &layer.attention_norm]);
            by_row(&kernels.quantize, &[&states, &bytes]);
            linear(&kernels.expand, &bytes, &layer.expand, expanded_width, &expanded);
            let active = match &gated {
                None => {
                    by_row(&kernels.gelu, &[&expanded, &self.tables]);
                    &expanded
                }
                Some(gated) => {
                    by_row(&kernels.gate, &[&expanded, &self.tables, gated]);
                    gated
                }
            };
            by_row(&kernels.quantize_inner, &[active, &inner_bytes]);
            linear(&kernels.contract, &inner_bytes, &layer.contract, self.hidden, &update);
            by_row(&kernels.norm, &[&states, &update, &layer.norm]);
        }
        states.read(rows * self.hidden, |bytes| i32::from_le_bytes(bytes) as f32)
    }
}

impl Kernels {
    fn new(hidden: usize, inner: usize, size: usize, activation: Activation) -> Self {
        use Constant::{Signed, Unsigned};
        let by_row = |body: &str, width: usize, more: &[(&str, Constant)]| {
            let constants = [&[("WIDTH", Unsigned(width))], more].concat();
            kernel(body, ROW_THREADS, &constants)
        };
        let gather = |column: usize| {
            by_row(include_str!("gather.wgsl"), hidden, &[("COLUMN", Unsigned(column))])
        };
        let linear = |inputs: usize, outputs: usize| {
            let constants = [
                ("WORDS", Unsigned(inputs / 4)),
                ("OUTPUTS", Unsigned(outputs)),
                ("LOW_BITS", Unsigned(low_bits(inputs) as usize)),
            ];
            kernel(include_str!("linear.wgsl"), TILE_THREADS, &constants)
        };
        let attention = [
            ("HIDDEN", Unsigned(hidden)),
            ("SIZE", Unsigned(size)),
            ("TOKENS_MAX", Unsigned(SEQUENCE_TOKENS_MAX)),
            ("FACTOR", Signed(factor(size))),
        ];
        Self {
            words: gather(0),
            additions: gather(1),
            turn: by_row(include_str!("turn.wgsl"), 3 * hidden, &[("SIZE", Unsigned(size))]),
            norm: by_row(include_str!("norm.wgsl"), hidden, &[]),
            quantize: by_row(include_str!("quantize.wgsl"), hidden, &[]),
            quantize_inner: by_row(include_str!("quantize.wgsl"), inner, &[]),
            projection: linear(hidden, 3 * hidden),
            output: linear(hidden, hidden),
            expand: linear(hidden, activation.outputs(inner)),
            contract: linear(inner, hidden),
            gelu: by_row(include_str!("gelu.wgsl"), inner, &[]),
            gate: by_row(include_str!("gate.wgsl"), inner, &[]),
            attention: kernel(include_str!("attention.wgsl"), ROW_THREADS, &attention),
        }
    }
}

/// `body` behind the functions that all kernels share.
fn kernel(body: &str, threads: u32, constants: &[(&str, Constant)]) -> Kernel {
    Kernel::new(&[include_str!("fixed.wgsl"), body], threads, constants)
}

/// What the kernels know of the tokens: their number in the first of four values, then for each its
/// id, its row of the additions, the first row of its sequence and that sequence's length.
fn places(batch: &Batch, positions: usize) -> Vec<i32> {
    // Everything is below a table's size or a batch's, which `limits` keeps far below 2^31.
    let mut places = vec![batch.ids.len() as i32, 0, 0, 0];
    for rows in batch.sequences() {
        let (first, length) = (rows.start as i32, rows.len() as i32);
        let tokens = batch.ids[rows.clone()].iter().zip(&batch.kinds[rows]);
        for (position, (id, kind)) in tokens.enumerate() {
            let addition = usize::from(*kind) * positions + position.min(positions - 1);
            places.extend([*id as i32, addition as i32, first, length]);
        }
    }
    places
}

impl Activation {
    /// Outputs of the expanding layer for so many inputs of the contracting one.
    fn outputs(self, inner: usize) -> usize {
        match self {
            Self::Gelu => inner,
            Self::SwiGlu => 2 * inner,
        }
    }
}
