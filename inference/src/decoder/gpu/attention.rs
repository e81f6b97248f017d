//! Keys and values in a device's memory, and attention to them.

use rayon::prelude::*;

use super::{
    super::{config::DecoderConfig, limits::BLOCK_TOKENS},
    pass::{CHUNKS_AT, Pass, ROWS_AT},
};
use crate::{
    gpu::{Buffer, Constant, Gpu, Kernel, bindings},
    rope::Rope,
};

/// Positions that are attended to together, and the threads that do it.
pub(super) const CHUNK: usize = 128;

/// Threads that place one head of one token.
const PLACE_THREADS: u32 = 64;

/// Most heads that read keys together.
const TOGETHER_MAX: usize = 8;

/// Up to so many rows each chunk has a workgroup of its own; more rows fill a device by themselves.
const SPLIT_ROWS_MAX: usize = 32;

/// From so many positions on, chunks of a few rows are computed side by side.
pub(crate) const SPLIT_FROM: usize = WHOLE_CHUNKS * CHUNK;

/// Up to so many chunks are computed one after the other, because joining them takes a kernel more.
const WHOLE_CHUNKS: usize = 2;

/// Most words in which chunks are kept until they are joined: 64 MiB.
const SPLIT_WORDS_MAX: usize = 16 * 1024 * 1024;

/// Keys and values of the positions that were read, in blocks as in the CPU's cache.
#[derive(Debug)]
pub(crate) struct GpuCache {
    layers: Vec<[Buffer; 2]>,
}

impl GpuCache {
    /// All memory is taken here. `Err` says why the device cannot hold it.
    pub(crate) fn new(gpu: &Gpu, config: &DecoderConfig, blocks: usize) -> Result<Self, String> {
        let words = blocks * BLOCK_TOKENS * config.key_heads * config.head_size;
        let (bytes, largest) = (words as u64 * 4, gpu.largest_buffer());
        if largest < bytes {
            return Err(format!(
                "the keys of {} tokens take {bytes} bytes in each layer, the device reads at most \
                 {largest}; choose fewer",
                blocks * BLOCK_TOKENS
            ));
        }
        let layer = |_| [gpu.empty(words), gpu.empty(words)];
        Ok(Self { layers: gpu.lasting(|| (0..config.layers).map(layer).collect()) })
    }

    pub(super) fn layers(&self) -> impl Iterator<Item = &[Buffer; 2]> {
        self.layers.iter()
    }
}

/// Cosines and sines of every position of a sequence.
pub(super) fn turns(gpu: &Gpu, config: &DecoderConfig) -> Buffer {
    let rope = Rope::new(config.theta, config.head_size, config.scaling);
    let turns: Vec<f32> =
        (0..config.positions).into_par_iter().flat_map_iter(|at| rope.position(at)).collect();
    gpu.upload(&turns)
}

/// What all kernels that know heads know of them.
pub(super) fn constants(config: &DecoderConfig) -> Vec<(&'static str, Constant)> {
    vec![
        ("HEADS", Constant::Unsigned(config.heads)),
        ("KEY_HEADS", Constant::Unsigned(config.key_heads)),
        ("SIZE", Constant::Unsigned(config.head_size)),
        ("BLOCK", Constant::Unsigned(BLOCK_TOKENS)),
        ("ROWS_AT", Constant::Unsigned(ROWS_AT)),
        ("EPSILON", Constant::Float(config.epsilon)),
    ]
}

/// Heads that one workgroup computes: the largest share of a group that its registers hold.
fn together(config: &DecoderConfig) -> usize {
    let group = config.group();
    (1..=TOGETHER_MAX).rev().find(|count| group.is_multiple_of(*count)).unwrap_or(1)
}

/// `Err` says why this model's heads cannot be computed on this device.
pub(super) fn check(gpu: &Gpu, config: &DecoderConfig) -> Result<(), String> {
    let quarters = config.head_size / 4;
    if CHUNK < quarters {
        return Err(format!(
            "head_dim is {}, the limit on a GPU is {}; choose device cpu",
            config.head_size,
            4 * CHUNK
        ));
    }
    let together = together(config);
    // Queries, weights, the sums of lanes and of parts: as `attend.wgsl` has them.
    let shared = together * (quarters * 16 + CHUNK * 4 + 32 * 4 + 8) + CHUNK * 16;
    if gpu.shared_memory() < shared {
        return Err(format!(
            "heads of {} components need {shared} bytes that the threads of a workgroup share, the \
             device has {}; choose device cpu",
            config.head_size,
            gpu.shared_memory()
        ));
    }
    Ok(())
}

/// One layer's attention.
#[derive(Debug)]
pub(super) struct Attention {
    /// Where heads are normalised, what does that and places them, and the scales. Elsewhere the product
    /// that makes them does.
    place: Option<(Kernel, Buffer)>,
    whole: Kernel,
    split: Kernel,
    join: Kernel,
    turns: Buffer,
    gpu: Gpu,
    heads: usize,
    key_heads: usize,
    head_size: usize,
    together: usize,
    window: Option<usize>,
}

impl Attention {
    pub(super) fn new(
        gpu: &Gpu,
        config: &DecoderConfig,
        window: Option<usize>,
        head_norms: Option<&[Vec<f32>; 2]>,
        turns: &Buffer,
    ) -> Self {
        let together = together(config);
        let mut constants = constants(config);
        constants.extend([
            ("GROUP", Constant::Unsigned(config.group())),
            ("QUARTERS", Constant::Unsigned(config.head_size / 4)),
            ("TOGETHER", Constant::Unsigned(together)),
            ("CHUNK", Constant::Unsigned(CHUNK)),
            ("CHUNKS_AT", Constant::Unsigned(CHUNKS_AT)),
            ("WINDOW", Constant::Unsigned(window.unwrap_or(0))),
            ("SCALE", Constant::Float(1.0 / (config.head_size as f32).sqrt())),
        ]);
        let place = head_norms.map(|norms| {
            let declared = bindings(&[
                ("projected", "f32"),
                ("head_scales", "f32"),
                ("info", "u32"),
                ("queries", "f32"),
                ("keys", "f32"),
                ("values", "f32"),
                ("turns", "f32"),
            ]);
            let parts = [
                &declared,
                include_str!("sum.wgsl"),
                include_str!("heads.wgsl"),
                include_str!("place.wgsl"),
            ];
            (Kernel::new(&parts, PLACE_THREADS, &constants), gpu.upload(&norms.concat()))
        });
        let attend = bindings(&[
            ("queries", "vec4<f32>"),
            ("keys", "vec4<f32>"),
            ("values", "vec4<f32>"),
            ("info", "u32"),
            ("out", "vec4<f32>"),
        ]);
        let join = bindings(&[("chunks", "vec4<f32>"), ("info", "u32"), ("out", "vec4<f32>")]);
        let (numbers, join_chunks) =
            (include_str!("numbers.wgsl"), include_str!("join_chunks.wgsl"));
        let attend = |split: bool| {
            let parts = [&attend, numbers, join_chunks, include_str!("attend.wgsl")];
            let constants = [&constants[..], &[("SPLIT", Constant::Flag(split))]].concat();
            Kernel::new(&parts, CHUNK as u32, &constants)
        };
        let join = [&join, numbers, join_chunks, include_str!("join.wgsl")];
        Self {
            place,
            whole: attend(false),
            split: attend(true),
            join: Kernel::new(&join, CHUNK as u32, &constants),
            turns: turns.clone(),
            gpu: gpu.clone(),
            heads: config.heads,
            key_heads: config.key_heads,
            head_size: config.head_size,
            together,
            window,
        }
    }

    /// What the product of queries, keys and values writes to, and the turns where it places them.
    pub(super) fn outs<'a>(
        &'a self,
        [keys, values]: &'a [Buffer; 2],
        projected: &'a Buffer,
        queries: &'a Buffer,
    ) -> Vec<&'a Buffer> {
        match &self.place {
            None => vec![queries, keys, values, &self.turns],
            Some(_) => vec![projected],
        }
    }

    /// Queues a pass, behind the product that wrote to [`outs`](Self::outs) of the same buffers; what is
    /// attended goes into `out`.
    pub(super) fn run(
        &self,
        pass: &Pass,
        memory: &[Buffer; 2],
        projected: &Buffer,
        queries: &Buffer,
        out: &Buffer,
    ) {
        let [keys, values] = memory;
        let info = &pass.info;
        if let Some((place, head_scales)) = &self.place {
            let heads = self.heads + 2 * self.key_heads;
            let buffers = [projected, head_scales, info, queries, keys, values, &self.turns];
            place.launch([pass.rows, heads, 1], &buffers);
        }

        let groups = self.heads / self.together;
        // A window of this size lies in so many chunks at most.
        let in_window = self.window.map_or(usize::MAX, |window| window.div_ceil(CHUNK) + 1);
        let chunks = pass.chunks.min(in_window);
        // The place of a chunk is worked out from the longest row's number of chunks.
        let words = pass.rows * self.heads * pass.chunks * (self.head_size + 4);
        if chunks <= WHOLE_CHUNKS || SPLIT_ROWS_MAX < pass.rows || SPLIT_WORDS_MAX < words {
            self.whole.launch([pass.rows, groups, 1], &[queries, keys, values, info, out]);
            return;
        }
        let parts = self.gpu.empty(words);
        self.split.launch([pass.rows, groups, chunks], &[queries, keys, values, info, &parts]);
        self.join.launch([pass.rows, self.heads, 1], &[&parts, info, out]);
    }
}
