//! Weight matrices in a device's memory, and their products, which read the packed weights.
//!
//! A row of weights is the inputs of one output, one after the other, in units: 16 floats, or a block of
//! [`BLOCK`] integers whose step lies in a buffer of its own. An element of a product is the sum of
//! [`LANES`](super) sums, each over every 32nd unit, added in their order, whatever rows are computed
//! with it and by which of the kernels.

use rayon::prelude::*;

use super::{
    super::{
        config::DecoderConfig,
        matrix::{
            BLOCK, Storage,
            pack::{check_f16, int4_levels, int8_levels, to_f16},
        },
        weights::{Raw, Role},
    },
    attention,
    pass::{CHOSEN_COUNT, Pass, ROW_COUNT, ROWS_AT},
    rows::{self, Left, Norms},
};
use crate::gpu::{Buffer, Constant, Gpu, Kernel, bindings};

/// Inputs that are read together where weights are floats.
const FLOATS: usize = 16;

/// Rows that the larger kernel for a few rows computes with one reading of the weights.
const FEW: usize = 4;

/// Up to so many rows weights are read again rather than computed in tiles.
const FEW_MAX: usize = 16;

/// Rows and outputs of a tile, and its threads.
const TILE: usize = 64;
const TILE_THREADS: u32 = 256;

/// Outputs that a thread of the kernels for a few rows computes, and the threads that share them.
const COLUMNS: usize = 4;
const LANES: usize = 32;

/// From so many outputs on, workgroups are larger, because a device has a limit to their number.
const MANY_OUTPUTS: usize = 65_536;

/// Threads that copy a row of a table.
const GATHER_THREADS: u32 = 64;

/// A matrix of weights, and a bias where the layer has one.
#[derive(Debug)]
pub(super) struct GpuMatrix {
    parts: Vec<Part>,
    bias: Option<Buffer>,
    /// Whether the kernels for a few rows normalise what they read.
    norm: bool,
    bytes: usize,
}

/// Outputs whose weights fit one buffer.
#[derive(Debug)]
struct Part {
    weights: Buffer,
    steps: Option<Buffer>,
    count: usize,
    one_row: Kernel,
    few_rows: Kernel,
    many_rows: Kernel,
    gather: Option<Kernel>,
    /// Threads of the kernels for a few rows.
    threads: u32,
}

impl GpuMatrix {
    /// Packs `raw` into buffers of at most `largest` bytes. `Err` says why that cannot be done.
    pub(super) fn upload(
        gpu: &Gpu,
        raw: &Raw,
        config: &DecoderConfig,
        largest: u64,
    ) -> Result<Self, String> {
        let Raw { weight, bias, inputs, role, storage } = raw;
        storage.check(*inputs)?;
        if *storage == Storage::F16 {
            check_f16(weight)?;
        }
        let outputs = weight.len() / inputs;
        let bytes_of_row = match storage {
            Storage::F32 => inputs * 4,
            Storage::F16 => inputs * 2,
            Storage::Int8 => *inputs,
            Storage::Int4 => inputs / 2,
        };
        let fitting = usize::try_from(largest).unwrap_or(usize::MAX) / bytes_of_row;
        // What becomes of an output of these depends on another one.
        let whole = matches!(role, Role::Expand | Role::Projection);
        if fitting == 0 || (whole && fitting < outputs) {
            return Err(format!(
                "a layer of {outputs} outputs needs a buffer of {} bytes, the device reads at most \
                 {largest}; choose smaller weights or another device",
                if whole { outputs * bytes_of_row } else { bytes_of_row }
            ));
        }
        let shape = Shape::new(raw, config, outputs);
        let mut bytes = 0;
        let parts = weight.chunks(fitting.min(outputs) * inputs).scan(0, |first, weight| {
            let count = weight.len() / inputs;
            let packed = pack(weight, *storage);
            bytes += packed.weights.len() + packed.steps.len();
            let steps = storage.is_integer().then(|| gpu.upload_bytes(packed.steps));
            let weights = gpu.upload_bytes(packed.weights);
            let part = shape.part(weights, steps, *first, count);
            *first += count;
            Some(part)
        });
        let parts = parts.collect();
        let bias = (!bias.is_empty()).then(|| gpu.upload(bias));
        Ok(Self { parts, bias, norm: shape.norm, bytes })
    }

    /// Bytes of the weights, which one row's product reads.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Queues the product of so many rows of `left`; what becomes of it, the matrix's role says. `outs` are
    /// what its kernels write to, and the turns where they place heads.
    pub(super) fn product(&self, pass: &Pass, left: &Left, rows: usize, outs: &[&Buffer]) {
        debug_assert!(!self.norm || FEW_MAX < rows, "few rows would be normalised again");
        self.run(pass, left, None, rows, outs);
    }

    /// Queues the product of all rows of a pass, of states that are normalised first: where weights are
    /// floats and rows are few, by the same kernel.
    pub(super) fn product_of_states(
        &self,
        pass: &Pass,
        states: &Left,
        scales: &Buffer,
        (norms, normed): (&Norms, &Left),
        outs: &[&Buffer],
    ) {
        if self.norm && pass.rows <= FEW_MAX {
            self.run(pass, states, Some(scales), pass.rows, outs);
        } else {
            norms.all(pass, &states.values, scales, normed);
            self.run(pass, normed, None, pass.rows, outs);
        }
    }

    fn run(
        &self,
        pass: &Pass,
        left: &Left,
        norm_scales: Option<&Buffer>,
        rows: usize,
        outs: &[&Buffer],
    ) {
        // Neighbouring workgroups compute other rows with the same weights, which are then read from a
        // cache.
        for part in &self.parts {
            let mut buffers = vec![&part.weights, &left.values, &pass.info];
            buffers.extend(&part.steps);
            buffers.extend(&left.scales);
            buffers.extend(&self.bias);
            buffers.extend(norm_scales);
            buffers.extend(outs);
            if FEW_MAX < rows {
                let groups = [rows.div_ceil(TILE), part.count.div_ceil(TILE), 1];
                part.many_rows.launch(groups, &buffers);
                continue;
            }
            let columns = part.threads as usize / LANES * COLUMNS;
            let (kernel, together) =
                if rows == 1 { (&part.one_row, 1) } else { (&part.few_rows, FEW) };
            let groups = [rows.div_ceil(together), part.count.div_ceil(columns), 1];
            kernel.launch(groups, &buffers);
        }
    }

    /// Queues the reading of the rows of all tokens of a pass into `states`.
    pub(super) fn gather(&self, pass: &Pass, states: &Buffer) {
        for part in &self.parts {
            let Some(gather) = &part.gather else { continue };
            let mut buffers = vec![&part.weights, &pass.info, states];
            buffers.extend(&part.steps);
            gather.launch([pass.rows, 1, 1], &buffers);
        }
    }
}

/// What the kernels of a matrix are made for.
struct Shape<'a> {
    config: &'a DecoderConfig,
    inputs: usize,
    outputs: usize,
    role: Role,
    storage: Storage,
    biased: bool,
    /// Whether the kernels for a few rows normalise what they read.
    norm: bool,
}

/// Threads of the kernels for a few rows, as long as the device's limit to workgroups allows.
const THREADS: u32 = 64;

impl<'a> Shape<'a> {
    fn new(raw: &Raw, config: &'a DecoderConfig, outputs: usize) -> Self {
        let Raw { bias, inputs, role, storage, .. } = raw;
        let of_states = matches!(role, Role::Expand | Role::Projection);
        Self {
            config,
            inputs: *inputs,
            outputs,
            role: *role,
            storage: *storage,
            biased: !bias.is_empty(),
            norm: of_states
                && !storage.is_integer()
                && Self::threads(outputs) == rows::NORM_THREADS,
        }
    }

    fn threads(count: usize) -> u32 {
        if MANY_OUTPUTS < count { 256 } else { THREADS }
    }

    fn part(&self, weights: Buffer, steps: Option<Buffer>, first: usize, count: usize) -> Part {
        let threads = Self::threads(count);
        let (left, tile) = if self.storage.is_integer() {
            (["", include_str!("left_blocks.wgsl")], include_str!("tile_blocks.wgsl"))
        } else {
            let left = [include_str!("sum.wgsl"), include_str!("left_floats.wgsl")];
            (left, include_str!("tile_floats.wgsl"))
        };
        let few = |rows: usize| {
            let body = [left[0], left[1], include_str!("vector.wgsl")];
            self.kernel(&body, threads, (first, count), rows, self.norm)
        };
        Part {
            one_row: few(1),
            few_rows: few(FEW),
            many_rows: self.kernel(&[tile], TILE_THREADS, (first, count), TILE, false),
            gather: (self.role == Role::Vocabulary).then(|| self.gather(first, count)),
            weights,
            steps,
            count,
            threads,
        }
    }

    fn kernel(
        &self,
        body: &[&str],
        threads: u32,
        (first, count): (usize, usize),
        rows: usize,
        norm: bool,
    ) -> Kernel {
        let (element, input) = self.elements();
        let mut buffers = vec![("weights", element), ("inputs", input), ("info", "u32")];
        if self.storage.is_integer() {
            buffers.extend([("steps", "u32"), ("input_scales", "vec2<f32>")]);
        }
        let bias_of = if self.biased {
            buffers.push(("bias", "f32"));
            "fn bias_of(column: u32) -> f32 { return bias[column]; }\n"
        } else {
            "fn bias_of(column: u32) -> f32 { return 0.0f; }\n"
        };
        let norm_scale = if norm {
            buffers.push(("norm_scales", "vec4<f32>"));
            "fn norm_scale(quarter: u32) -> vec4<f32> { return norm_scales[quarter]; }\n"
        } else {
            "fn norm_scale(quarter: u32) -> vec4<f32> { return vec4<f32>(1.0f); }\n"
        };
        let finish = match self.role {
            Role::Projection if !self.config.head_norm => {
                buffers.extend([("queries", "f32"), ("keys", "f32"), ("values", "f32")]);
                buffers.push(("turns", "f32"));
                [include_str!("heads.wgsl"), include_str!("finish_heads.wgsl")]
            }
            Role::Expand => {
                buffers.push(("out", "f32"));
                ["", include_str!("finish_gate.wgsl")]
            }
            Role::Projection | Role::Update | Role::Vocabulary => {
                buffers.push(("out", "f32"));
                ["", include_str!("finish_rows.wgsl")]
            }
        };
        let count_at = if self.role == Role::Vocabulary { CHOSEN_COUNT } else { ROW_COUNT };
        let mut constants = self.constants(first, count);
        constants.extend(attention::constants(self.config));
        constants.extend([
            ("OUTPUTS", Constant::Unsigned(self.outputs)),
            ("ROWS", Constant::Unsigned(rows)),
            ("COUNT_AT", Constant::Unsigned(count_at)),
            ("ADD", Constant::Flag(self.role == Role::Update)),
            ("NORM", Constant::Flag(norm)),
        ]);
        let declared = bindings(&buffers);
        let mut parts = vec![declared.as_str(), norm_scale, include_str!("numbers.wgsl")];
        parts.extend([self.text(), bias_of, finish[0], finish[1]]);
        parts.extend(body);
        Kernel::new(&parts, threads, &constants)
    }

    fn gather(&self, first: usize, count: usize) -> Kernel {
        let mut buffers = vec![("weights", self.elements().0), ("info", "u32"), ("states", "f32")];
        if self.storage.is_integer() {
            buffers.push(("steps", "u32"));
        }
        let mut constants = self.constants(first, count);
        constants.push(("ROWS_AT", Constant::Unsigned(ROWS_AT)));
        let parts = [&bindings(&buffers), self.text(), include_str!("gather.wgsl")];
        Kernel::new(&parts, GATHER_THREADS, &constants)
    }

    fn constants(&self, first: usize, count: usize) -> Vec<(&'static str, Constant)> {
        let unit = if self.storage.is_integer() { BLOCK } else { FLOATS };
        vec![
            ("INPUTS", Constant::Unsigned(self.inputs)),
            ("UNITS", Constant::Unsigned(self.inputs / unit)),
            ("FIRST", Constant::Unsigned(first)),
            ("COUNT", Constant::Unsigned(count)),
        ]
    }

    /// The elements of the buffers of weights and of inputs.
    fn elements(&self) -> (&'static str, &'static str) {
        match self.storage {
            Storage::F32 => ("vec4<f32>", "vec4<f32>"),
            Storage::F16 => ("vec4<u32>", "vec4<f32>"),
            Storage::Int8 | Storage::Int4 => ("vec4<u32>", "vec4<u32>"),
        }
    }

    /// How weights are read.
    fn text(&self) -> &'static str {
        match self.storage {
            Storage::F32 => include_str!("f32.wgsl"),
            Storage::F16 => include_str!("f16.wgsl"),
            Storage::Int8 => include_str!("int8.wgsl"),
            Storage::Int4 => include_str!("int4.wgsl"),
        }
    }
}

/// Weights in the form that kernels read: whole words.
#[derive(Default)]
struct Packed {
    weights: Vec<u8>,
    /// The steps of blocks, as `f16`, row after row.
    steps: Vec<u8>,
}

fn pack(weight: &[f32], storage: Storage) -> Packed {
    /// Values that a thread packs at a time.
    const RUN: usize = 16_384;
    if !storage.is_integer() {
        let pack = |values: &[f32]| -> Vec<u8> {
            if storage == Storage::F32 {
                values.iter().flat_map(|value| value.to_le_bytes()).collect()
            } else {
                values.iter().flat_map(|value| to_f16(*value).to_le_bytes()).collect()
            }
        };
        let runs: Vec<Vec<u8>> = weight.par_chunks(RUN).map(pack).collect();
        return Packed { weights: runs.concat(), steps: Vec::new() };
    }
    let runs: Vec<Packed> = weight
        .par_chunks(RUN)
        .map(|values| {
            let mut packed = Packed::default();
            for block in values.chunks_exact(BLOCK) {
                if storage == Storage::Int8 {
                    let (step, levels) = int8_levels(block);
                    packed.steps.extend(step.to_le_bytes());
                    packed.weights.extend(levels.map(|level| level as u8));
                } else {
                    let (step, levels) = int4_levels(block);
                    packed.steps.extend(step.to_le_bytes());
                    let levels: Vec<u8> = levels.map(|level| (level + 8) as u8).collect();
                    for eight in levels.as_chunks::<8>().0 {
                        packed.weights.extend((0..4).map(|at| eight[at] | eight[at + 4] << 4));
                    }
                }
            }
            packed
        })
        .collect();
    let mut all = Packed::default();
    for run in runs {
        all.weights.extend(run.weights);
        all.steps.extend(run.steps);
    }
    // Buffers hold whole words.
    all.steps.resize(all.steps.len().next_multiple_of(4), 0);
    all
}
