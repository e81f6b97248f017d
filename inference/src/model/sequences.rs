//! What is done for each sequence of a batch, by own kernels: attention and the mean. They take all
//! sequences at once, whatever their lengths; burn's would have to be started for each length again.

use burn::tensor::{Device, Tensor};

use super::{
    fused::{self, bias_of},
    layers::Linear,
};
use crate::{
    batch::Batch,
    gpu::{Buffer, Constant, Gpu, Kernel, bindings},
    rope::{Rope, RopeScaling},
};

/// Queries of a workgroup, each with a thread of its own.
const QUERIES: usize = 64;

/// Keys that a workgroup has in the memory that its threads share.
const KEYS: usize = 16;

/// Largest head whose queries and sums fit a thread's registers.
const HEAD_SIZE_MAX: usize = 128;

/// Whether products that lack their bias have one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Biased(pub(super) bool);

/// The kernels of one model.
#[derive(Debug)]
pub(super) struct Sequences {
    gpu: Gpu,
    device: Device,
    attend: Attend,
    mean: Kernel,
    /// Cosines and sines of every position, where positions are rotary.
    turns: Option<Buffer>,
    heads: usize,
    hidden: usize,
}

/// Attention to what a product made in one of two types.
#[derive(Debug)]
enum Attend {
    Floats(Kernel),
    /// Of products that lack their bias.
    Halves(Kernel),
}

/// Where the sequences of a batch are.
#[derive(Debug)]
pub(super) struct Places {
    /// For each group of queries the first row and the length of its sequence, and its first query in it.
    groups: Buffer,
    group_count: usize,
    /// For each sequence its first row and its length.
    sequences: Buffer,
    sequence_count: usize,
}

impl Sequences {
    /// For heads of `size` components on `device`, which is one of wgpu's, with the base of rotary
    /// positions where they are, in sequences of up to `tokens_max`; `halves` where products are in `f16`.
    /// `None` where such heads are better left to burn.
    pub(super) fn new(
        device: &Device,
        heads: usize,
        size: usize,
        theta: Option<f64>,
        tokens_max: usize,
        halves: Option<Biased>,
    ) -> Option<Self> {
        let gpu = Gpu::open(device);
        let shared = KEYS * size * 2 * size_of::<f32>();
        if HEAD_SIZE_MAX < size || !size.is_multiple_of(8) || gpu.shared_memory() < shared {
            return None;
        }
        let turns = theta.map(|theta| {
            let rope = Rope::new(theta, size, RopeScaling::Default);
            let turns: Vec<f32> = (0..tokens_max).flat_map(|at| rope.position(at)).collect();
            gpu.upload(&turns)
        });
        let constants = [
            ("HEADS", Constant::Unsigned(heads)),
            ("QUARTERS", Constant::Unsigned(size / 4)),
            ("KEYS", Constant::Unsigned(KEYS)),
            ("SCALE", Constant::Float(1.0 / (size as f32).sqrt())),
        ];
        let attend = |element: &str, access: &[&str], biased: bool| {
            let mut buffers = vec![("projected", element), ("places", "u32"), ("out", element)];
            let turned = if turns.is_some() {
                buffers.push(("turns", "vec4<f32>"));
                include_str!("turned.wgsl")
            } else {
                include_str!("unturned.wgsl")
            };
            if biased {
                buffers.push(("bias", "vec4<f32>"));
            }
            let declared = bindings(&buffers);
            let body: &[&str] = &[turned, include_str!("attend.wgsl")];
            let parts = [&[declared.as_str()], access, body].concat();
            Kernel::new(&parts, QUERIES as u32, &constants)
        };
        let attend = match halves {
            None => {
                let access = [include_str!("attend_floats.wgsl")];
                Attend::Floats(attend("vec4<f32>", &access, false))
            }
            Some(Biased(biased)) => {
                let access = [
                    include_str!("halves.wgsl"),
                    bias_of(biased),
                    include_str!("attend_halves.wgsl"),
                ];
                Attend::Halves(attend("vec2<u32>", &access, biased))
            }
        };
        let mean = bindings(&[("states", "vec4<f32>"), ("places", "u32"), ("out", "vec4<f32>")]);
        Some(Self {
            attend,
            mean: Kernel::new(&[&mean, include_str!("mean.wgsl")], QUERIES as u32, &constants),
            turns,
            device: device.clone(),
            gpu,
            heads,
            hidden: heads * size,
        })
    }

    pub(super) fn places(&self, batch: &Batch) -> Places {
        // Rows are below a batch's size, which `limits` keeps far below 2^32.
        let (mut groups, mut sequences) = (Vec::new(), Vec::new());
        for rows in batch.sequences() {
            let (first, length) = (rows.start as u32, rows.len() as u32);
            sequences.extend([first, length]);
            for query in (0..length).step_by(QUERIES) {
                groups.extend([first, length, query, 0]);
            }
        }
        Places {
            group_count: groups.len() / 4,
            sequence_count: sequences.len() / 2,
            groups: self.gpu.upload(&groups),
            sequences: self.gpu.upload(&sequences),
        }
    }

    /// Attention of every sequence to itself: what `layer` makes of `rows` are queries, keys and values side
    /// by side, `[tokens, 3 * hidden_size]`; what is attended is `[tokens, hidden_size]`, both in the type of
    /// the layer's products.
    pub(super) fn attend(&self, rows: Tensor<2>, layer: &Linear, places: &Places) -> Tensor<2> {
        let count = rows.dims()[0];
        let (kernel, projected, out, bias) = match &self.attend {
            Attend::Floats(kernel) => {
                let out = Tensor::<2>::empty([count, self.hidden], &self.device);
                (kernel, layer.apply(rows), out, None)
            }
            Attend::Halves(kernel) => {
                let projected = rows.matmul(layer.weight.clone());
                let out = fused::halves(count, self.hidden, &self.device);
                (kernel, projected, out, fused::bias(layer))
            }
        };
        let (projected, to) = (Gpu::floats(projected), Gpu::floats(out.clone()));
        let mut buffers = vec![&projected, &places.groups, &to];
        buffers.extend(&self.turns);
        buffers.extend(&bias);
        kernel.launch([places.group_count, self.heads, 1], &buffers);
        out
    }

    /// The mean of the rows of every sequence: `[tokens, hidden_size]` to `[sequences, hidden_size]`.
    pub(super) fn means(&self, states: Tensor<2>, places: &Places) -> Tensor<2> {
        let out = Tensor::<2>::empty([places.sequence_count, self.hidden], &self.device);
        let (states, to) = (Gpu::floats(states), Gpu::floats(out.clone()));
        self.mean.launch([places.sequence_count, 1, 1], &[&states, &places.sequences, &to]);
        out
    }
}
