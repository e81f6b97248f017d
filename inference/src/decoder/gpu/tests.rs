//! The layers on software Vulkan: against PyTorch, against the CPU, and against themselves.

use super::{
    super::{
        limits::BLOCK_TOKENS,
        matrix::Storage,
        model::Span,
        parity::{MODELS, Scene, TOLERANCE, bits},
        shards::Shards,
    },
    Cache, GpuModel, read,
};
use crate::{
    device::{DeviceChoice, adapters, resolve},
    gpu::Gpu,
};

fn gpu() -> Gpu {
    let adapters = adapters();
    let software = adapters.iter().find(|adapter| adapter.software);
    let number = software.expect("no software Vulkan: run `make setup`").number;
    Gpu::open(&resolve(DeviceChoice::Wgpu(Some(number))).unwrap().device)
}

fn model(scene: &Scene, storage: Storage, largest: u64) -> GpuModel {
    let mut shards = Shards::open(&scene.files.shards).unwrap();
    GpuModel::load(&mut shards, scene.config.clone(), storage, gpu(), largest).unwrap()
}

fn whole(scene: &Scene, storage: Storage) -> GpuModel {
    model(scene, storage, u64::MAX)
}

fn cache(model: &GpuModel, blocks: usize) -> Cache {
    Cache::new(model.gpu(), &model.config, blocks).unwrap()
}

/// The logits of the last token after `pieces` of `tokens` were read one after the other, with the blocks
/// of the cache out of order.
fn last_logits(model: &GpuModel, tokens: &[u32], pieces: &[usize]) -> Vec<f32> {
    let blocks: Vec<u32> = (0..tokens.len().div_ceil(BLOCK_TOKENS) as u32).rev().collect();
    let mut cache = cache(model, blocks.len());
    let (mut start, mut logits) = (0, Vec::new());
    for piece in pieces {
        let span = Span { blocks: &blocks, start, tokens: &tokens[start..start + piece] };
        logits = model.pass(&mut cache, &[span], &[piece - 1]).unwrap().values;
        start += piece;
    }
    assert_eq!(start, tokens.len());
    logits
}

fn largest_of(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |size, value| size.max(value.abs()))
}

fn difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    let pairs = left.iter().zip(right);
    pairs.map(|(left, right)| (left - right).abs()).fold(0.0, f32::max)
}

#[test]
fn every_layer_and_the_logits_agree_with_pytorch() {
    for name in MODELS {
        let scene = Scene::read(name);
        let model = whole(&scene, Storage::F32);
        let prompt = &scene.reference.prompt;
        let blocks: Vec<u32> = (0..prompt.len().div_ceil(BLOCK_TOKENS) as u32).collect();
        let mut cache = cache(&model, blocks.len());
        let span = Span { blocks: &blocks, start: 0, tokens: prompt };
        let rows: Vec<usize> = (0..prompt.len()).collect();
        let mut seen = Vec::new();
        let logits = model.observed(&mut cache, &[span], &rows, |states, rows| {
            seen.push(read(states, rows, model.config.hidden)?);
            Ok(())
        });
        seen.push(logits.unwrap());
        assert_eq!(seen.len(), scene.reference.layers + 2);

        let mut rest = scene.numbers.as_slice();
        for (index, own) in seen.iter().enumerate() {
            let (expected, later) = rest.split_at(own.values.len());
            rest = later;
            let size = largest_of(expected);
            let error = difference(&own.values, expected);
            eprintln!("{name}, states {index}: {:e} of {size}", error / size);
            assert!(error <= TOLERANCE * size, "{name}, states {index}: {error} of {size}");
        }
        assert!(rest.is_empty());
    }
}

#[test]
fn every_storage_agrees_with_the_cpu() {
    for name in MODELS {
        let scene = Scene::read(name);
        let prompt = &scene.reference.prompt;
        // An input that is rounded to 8 bits to the other side moves all that follows.
        for (storage, tolerance) in [
            (Storage::F32, TOLERANCE),
            (Storage::F16, TOLERANCE),
            (Storage::Int8, 2e-2),
            (Storage::Int4, 2e-2),
        ] {
            let expected =
                super::super::parity::last_logits(&scene.model(storage), prompt, &[prompt.len()]);
            let model = whole(&scene, storage);
            let own = last_logits(&model, prompt, &[prompt.len()]);
            let error = difference(&own, &expected) / largest_of(&expected);
            eprintln!("{name} {storage}: {error:e}");
            assert!(error <= tolerance, "{name} {storage}: {error}");
        }
    }
}

#[test]
fn a_prompt_in_pieces_has_the_same_bits() {
    // Single tokens, few and many rows are computed by different kernels.
    let scene = Scene::read("qwen3");
    let prompt = &scene.reference.prompt;
    for storage in [Storage::F32, Storage::F16, Storage::Int8, Storage::Int4] {
        let model = whole(&scene, storage);
        let whole = last_logits(&model, prompt, &[41]);
        for pieces in [&[32, 1, 1, 1, 1, 1, 1, 1, 1, 1][..], &[17, 1, 1, 22], &[16, 9, 16], &[40, 1]] {
            let cut = last_logits(&model, prompt, pieces);
            assert_eq!(bits(&cut), bits(&whole), "{storage} {pieces:?}");
        }
    }
}
