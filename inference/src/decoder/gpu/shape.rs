//! The kernels of a matrix: which text they are made of, for a storage and what the matrix is for.

use super::{
    super::{
        config::DecoderConfig,
        matrix::{BLOCK, Storage},
        weights::{Raw, Role},
    },
    attention,
    pass::{CHOSEN_COUNT, ROW_COUNT, ROWS_AT},
    rows,
};
use crate::gpu::{Constant, Kernel, bindings};

/// Inputs that are read together where weights are floats.
const FLOATS: usize = 16;

/// Rows that the larger kernel for a few rows computes with one reading of the weights.
const FEW: usize = 4;

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

/// The kernels of some outputs.
#[derive(Debug)]
pub(super) struct Kernels {
    pub(super) one_row: Tiled,
    pub(super) few_rows: Tiled,
    pub(super) many_rows: Tiled,
    /// Where the matrix is a table of tokens.
    pub(super) gather: Option<Kernel>,
}

/// A kernel, and what one of its workgroups computes.
#[derive(Debug)]
pub(super) struct Tiled {
    pub(super) kernel: Kernel,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// What the kernels of a matrix are made for.
pub(super) struct Shape<'a> {
    config: &'a DecoderConfig,
    inputs: usize,
    outputs: usize,
    role: Role,
    storage: Storage,
    biased: bool,
    /// Whether the kernels for a few rows normalise what they read.
    pub(super) norm: bool,
}

/// Threads of the kernels for a few rows, as long as the device's limit to workgroups allows.
const THREADS: u32 = 64;

impl<'a> Shape<'a> {
    pub(super) fn new(raw: &Raw, config: &'a DecoderConfig, outputs: usize) -> Self {
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

    /// The kernels of the outputs from `first` on.
    pub(super) fn kernels(&self, first: usize, count: usize) -> Kernels {
        let threads = Self::threads(count);
        let (left, tile) = if self.storage.is_integer() {
            (["", include_str!("left_blocks.wgsl")], include_str!("tile_blocks.wgsl"))
        } else {
            let left = [include_str!("sum.wgsl"), include_str!("left_floats.wgsl")];
            (left, include_str!("tile_floats.wgsl"))
        };
        let few = |rows: usize| {
            let body = [left[0], left[1], include_str!("vector.wgsl")];
            let kernel = self.kernel(&body, threads, (first, count), rows, self.norm);
            Tiled { kernel, rows, columns: threads as usize / LANES * COLUMNS }
        };
        let many = self.kernel(&[tile], TILE_THREADS, (first, count), TILE, false);
        Kernels {
            one_row: few(1),
            few_rows: few(FEW),
            many_rows: Tiled { kernel: many, rows: TILE, columns: TILE },
            gather: (self.role == Role::Vocabulary).then(|| self.gather(first, count)),
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
