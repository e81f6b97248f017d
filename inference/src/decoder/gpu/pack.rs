//! From PyTorch's layout, `weight[output][input]`, to the words that kernels read.

use rayon::prelude::*;

use super::super::matrix::{
    BLOCK, Storage,
    pack::{int4_levels, int8_levels, to_f16},
};

/// Weights in the form that kernels read: whole words.
#[derive(Default)]
pub(super) struct Packed {
    pub(super) weights: Vec<u8>,
    /// The steps of blocks, as `f16`, row after row.
    pub(super) steps: Vec<u8>,
}

/// Packs rows of weights, which the storage can hold.
pub(super) fn pack(weight: &[f32], storage: Storage) -> Packed {
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
