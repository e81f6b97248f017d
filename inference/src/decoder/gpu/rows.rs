//! Rows of activations on their way from one product to the next.

use super::{
    super::matrix::{BLOCK, Storage},
    pass::{CHOSEN_AT, Pass},
};
use crate::gpu::{Buffer, Constant, Gpu, Kernel, bindings};

/// Threads that share a row that is normalised, here and in products of a few rows.
pub(super) const NORM_THREADS: u32 = 64;

/// Threads of which each makes a block.
const BLOCK_THREADS: u32 = 64;

/// The left side of products in the form that a storage reads: floats, or blocks of 8 bits with their
/// scales and sums.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) values: Buffer,
    pub(super) scales: Option<Buffer>,
}

impl Left {
    /// Room for so many rows.
    pub(super) fn empty(gpu: &Gpu, storage: Storage, rows: usize, columns: usize) -> Self {
        if storage.is_integer() {
            let scales = gpu.empty(rows * columns / BLOCK * 2);
            Self { values: gpu.empty(rows * columns / 4), scales: Some(scales) }
        } else {
            Self { values: gpu.empty(rows * columns), scales: None }
        }
    }
}

/// Rows of floats that a kernel writes and a product reads, which may want them in blocks.
#[derive(Debug)]
pub(super) struct Staged {
    floats: Left,
    blocks: Option<(Left, Kernel)>,
    columns: usize,
}

impl Staged {
    pub(super) fn empty(gpu: &Gpu, storage: Storage, rows: usize, columns: usize) -> Self {
        let floats = Left::empty(gpu, Storage::F32, rows, columns);
        let blocks = storage.is_integer().then(|| {
            let declared = bindings(&[
                ("rows", "vec4<f32>"),
                ("levels", "vec4<u32>"),
                ("block_scales", "vec2<f32>"),
            ]);
            let parts =
                [&declared, include_str!("quantize.wgsl"), include_str!("quantize_rows.wgsl")];
            let constants = [("WIDTH", Constant::Unsigned(columns))];
            let kernel = Kernel::new(&parts, BLOCK_THREADS, &constants);
            (Left::empty(gpu, storage, rows, columns), kernel)
        });
        Self { floats, blocks, columns }
    }

    #[cfg(test)]
    pub(super) fn upload(gpu: &Gpu, storage: Storage, rows: &super::super::matrix::Rows) -> Self {
        let mut staged = Self::empty(gpu, storage, rows.count(), rows.columns);
        staged.floats.values = gpu.upload(&rows.values);
        staged
    }

    pub(super) fn floats(&self) -> &Buffer {
        &self.floats.values
    }

    /// What a product of the first `rows` reads, once it is made.
    pub(super) fn left(&self, rows: usize) -> &Left {
        let Some((left, kernel)) = &self.blocks else { return &self.floats };
        let mut buffers = vec![&self.floats.values, &left.values];
        buffers.extend(&left.scales);
        let groups = (self.columns / BLOCK).div_ceil(BLOCK_THREADS as usize);
        kernel.launch([groups, rows, 1], &buffers);
        left
    }
}

/// The kernels that normalise states.
#[derive(Debug)]
pub(super) struct Norms {
    all: Kernel,
    chosen: Kernel,
}

impl Norms {
    pub(super) fn new(storage: Storage, columns: usize, epsilon: f32) -> Self {
        let mut buffers = vec![("states", "vec4<f32>"), ("scales", "vec4<f32>"), ("info", "u32")];
        let store = if storage.is_integer() {
            buffers.extend([("levels", "vec4<u32>"), ("block_scales", "vec2<f32>")]);
            [include_str!("quantize.wgsl"), include_str!("norm_blocks.wgsl")]
        } else {
            buffers.push(("out", "vec4<f32>"));
            ["", include_str!("norm_floats.wgsl")]
        };
        let declared = bindings(&buffers);
        let kernel = |chosen: bool| {
            let constants = [
                ("WIDTH", Constant::Unsigned(columns)),
                ("EPSILON", Constant::Float(epsilon)),
                ("CHOSEN", Constant::Flag(chosen)),
                ("CHOSEN_AT", Constant::Unsigned(CHOSEN_AT)),
            ];
            let parts = [
                &declared,
                include_str!("sum.wgsl"),
                store[0],
                store[1],
                include_str!("norm.wgsl"),
            ];
            Kernel::new(&parts, NORM_THREADS, &constants)
        };
        Self { all: kernel(false), chosen: kernel(true) }
    }

    /// Queues the normalisation of all rows of a pass.
    pub(super) fn all(&self, pass: &Pass, states: &Buffer, scales: &Buffer, out: &Left) {
        Self::run(&self.all, pass.rows, pass, states, scales, out);
    }

    /// As [`all`](Self::all), of the rows whose logits are wanted.
    pub(super) fn chosen(&self, pass: &Pass, states: &Buffer, scales: &Buffer, out: &Left) {
        Self::run(&self.chosen, pass.chosen, pass, states, scales, out);
    }

    fn run(
        kernel: &Kernel,
        rows: usize,
        pass: &Pass,
        states: &Buffer,
        scales: &Buffer,
        out: &Left,
    ) {
        let mut buffers = vec![states, scales, &pass.info, &out.values];
        buffers.extend(&out.scales);
        kernel.launch([rows, 1, 1], &buffers);
    }
}
