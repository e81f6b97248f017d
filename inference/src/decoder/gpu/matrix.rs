//! Weight matrices in a device's memory, and their products, which read the packed weights.
//!
//! A row of weights is the inputs of one output, one after the other, in units: 16 floats, or a block of
//! 32 integers whose step lies in a buffer of its own. An element of a product is the sum of
//! 32 sums, each over every 32nd unit, added in their order, whatever rows are computed
//! with it and by which of the kernels.

use super::{
    super::{
        config::DecoderConfig,
        matrix::{Storage, pack::check_f16},
        weights::{Raw, Role},
    },
    pack::pack,
    pass::Pass,
    rows::{Left, Norms},
    shape::{Kernels, Shape},
};
use crate::gpu::{Buffer, Gpu};

/// Up to so many rows weights are read again rather than computed in tiles.
const FEW_MAX: usize = 16;

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
    kernels: Kernels,
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
            let part = Part { weights, steps, count, kernels: shape.kernels(*first, count) };
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
            let Part { count, kernels, .. } = part;
            let kernel = match rows {
                1 => &kernels.one_row,
                ..=FEW_MAX => &kernels.few_rows,
                _ => &kernels.many_rows,
            };
            let groups = [rows.div_ceil(kernel.rows), count.div_ceil(kernel.columns), 1];
            kernel.kernel.launch(groups, &buffers);
        }
    }

    /// Queues the reading of the rows of all tokens of a pass into `states`.
    pub(super) fn gather(&self, pass: &Pass, states: &Buffer) {
        for part in &self.parts {
            let Some(gather) = &part.kernels.gather else { continue };
            let mut buffers = vec![&part.weights, &pass.info, states];
            buffers.extend(&part.steps);
            gather.launch([pass.rows, 1, 1], &buffers);
        }
    }
}
