//! The layers on software Vulkan: against PyTorch, against the CPU, and against themselves.

use auspex_avx512::pages::Pages;
use safetensors::{Dtype, tensor::TensorView};

use super::{
    super::{
        config::DecoderConfig,
        limits::BLOCK_TOKENS,
        matrix::{self, Matrix, Rows, Storage},
        model::{DecoderModel, Span},
        parity::{self, MODELS, Scene, TOLERANCE, bits},
        shards::Shards,
        weights::{Raw, Role},
    },
    Cache, GpuMatrix, GpuModel, Pass, Staged, read,
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

/// What holds in every storage: the CPU is near, and neither pieces of the prompt nor other sequences
/// change a bit. Single tokens, a few rows and many are computed by different kernels.
fn agrees(name: &'static str, storage: Storage, tolerance: f32) {
    let scene = Scene::read(name);
    let prompt = &scene.reference.prompt;
    let model = whole(&scene, storage);
    let own = last_logits(&model, prompt, &[41]);
    let expected = parity::last_logits(&scene.model(storage), prompt, &[41]);
    let error = difference(&own, &expected) / largest_of(&expected);
    eprintln!("{name} {storage}: {error:e}");
    assert!(error <= tolerance, "{name} {storage}: {error}");
    for pieces in [&[32, 1, 1, 1, 1, 1, 1, 1, 1, 1][..], &[17, 1, 2, 21], &[16, 9, 16], &[40, 1]] {
        let cut = last_logits(&model, prompt, pieces);
        assert_eq!(bits(&cut), bits(&own), "{name} {storage} {pieces:?}");
    }
    let mut cache = cache(&model, 9);
    let spans = [
        Span { blocks: &[0, 1, 2], start: 0, tokens: &prompt[7..] },
        Span { blocks: &[8, 3, 5], start: 0, tokens: prompt },
        Span { blocks: &[4], start: 0, tokens: &prompt[..3] },
    ];
    let together = model.pass(&mut cache, &spans, &[33, 34 + 40, 34 + 41 + 2]).unwrap();
    assert_eq!(bits(together.row(1)), bits(&own), "{name} {storage} among others");
}

#[test]
fn floats_agree_with_the_cpu_and_with_themselves() {
    agrees("llama3", Storage::F32, TOLERANCE);
    agrees("qwen3", Storage::F16, TOLERANCE);
}

#[test]
fn integers_agree_with_the_cpu_and_with_themselves() {
    // An input that is rounded to 8 bits to the other side would move all that follows.
    agrees("qwen2", Storage::Int8, 2e-2);
    agrees("qwen3", Storage::Int4, 2e-2);
}

#[test]
fn contexts_of_many_chunks_have_the_same_bits_in_pieces_and_are_near_the_cpus() {
    let mut scene = Scene::read("qwen2");
    // A window that ends inside a chunk and spans more than are computed in a row, and none.
    scene.config.windows = vec![Some(300), None];
    scene.config.positions = 448;
    let tokens: Vec<u32> = (0..430).map(|index| 5 + index * 7 % 300).collect();
    let model = whole(&scene, Storage::F32);
    // Many rows go through their chunks one after the other, few rows have them computed side by side.
    let many = last_logits(&model, &tokens, &[256, 174]);
    for pieces in [&[256, 173, 1][..], &[230, 100, 28, 70, 1, 1]] {
        assert_eq!(bits(&last_logits(&model, &tokens, pieces)), bits(&many), "{pieces:?}");
    }
    let expected = parity::last_logits(&scene.model(Storage::F32), &tokens, &[430]);
    let error = difference(&many, &expected);
    assert!(error <= TOLERANCE * largest_of(&expected), "{error}");
}

/// Random weights of one layer with so many heads of queries and of keys, of so many components.
fn random_weights(config: &DecoderConfig) -> Vec<u8> {
    let (hidden, inner) = (config.hidden, config.inner);
    let (queries, keys) = (config.heads * config.head_size, config.key_heads * config.head_size);
    let mut state = 11_u32;
    let mut tensor = |name: &str, shape: &[usize]| {
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / 16_777_216.0 - 0.5).to_le_bytes()
        };
        let bytes: Vec<u8> = (0..shape.iter().product()).flat_map(next).collect();
        (name.to_owned(), shape.to_vec(), bytes)
    };
    let mut tensors = vec![
        tensor("model.embed_tokens.weight", &[config.vocabulary, hidden]),
        tensor("model.norm.weight", &[hidden]),
    ];
    for (part, shape) in [
        ("self_attn.q_proj.weight", vec![queries, hidden]),
        ("self_attn.k_proj.weight", vec![keys, hidden]),
        ("self_attn.v_proj.weight", vec![keys, hidden]),
        ("self_attn.o_proj.weight", vec![hidden, queries]),
        ("mlp.gate_proj.weight", vec![inner, hidden]),
        ("mlp.up_proj.weight", vec![inner, hidden]),
        ("mlp.down_proj.weight", vec![hidden, inner]),
        ("input_layernorm.weight", vec![hidden]),
        ("post_attention_layernorm.weight", vec![hidden]),
    ] {
        tensors.push(tensor(&format!("model.layers.0.{part}"), &shape));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn heads_of_published_models_agree_with_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    // Qwen2.5-0.5B and 72B, Llama-3.2-1B; none of them is what the small models have.
    for (heads, key_heads, head_size) in [(14, 2, 64), (16, 2, 128), (8, 2, 64)] {
        let config = DecoderConfig {
            heads,
            key_heads,
            head_size,
            layers: 1,
            windows: vec![None],
            ..Scene::read("llama3").config
        };
        std::fs::write(&path, random_weights(&config)).unwrap();
        let shards = || Shards::open(std::slice::from_ref(&path)).unwrap();
        let cpu = DecoderModel::load(&mut shards(), config.clone(), Storage::F32).unwrap();
        let own =
            GpuModel::load(&mut shards(), config.clone(), Storage::F32, gpu(), u64::MAX).unwrap();
        let tokens: Vec<u32> = (0..150).map(|index| 5 + index * 7 % 300).collect();
        let expected = parity::last_logits(&cpu, &tokens, &[150]);
        let whole = last_logits(&own, &tokens, &[150]);
        let error = difference(&whole, &expected) / largest_of(&expected);
        assert!(error <= TOLERANCE, "{heads} heads of {head_size}: {error:e}");
        let pieces = last_logits(&own, &tokens, &[149, 1]);
        assert_eq!(bits(&pieces), bits(&whole), "{heads} heads of {head_size}");
    }
}

#[test]
fn greedy_sequences_are_pytorchs() {
    let scene = Scene::read("llama3");
    let model = whole(&scene, Storage::F32);
    let reference = &scene.reference;
    let mut sequence = reference.prompt.clone();
    let blocks: Vec<u32> =
        (0..(sequence.len() + reference.greedy.len()).div_ceil(BLOCK_TOKENS) as u32).collect();
    let mut cache = cache(&model, blocks.len());
    let mut start = 0;
    for (expected, gap) in reference.greedy.iter().zip(&reference.gaps) {
        let span = Span { blocks: &blocks, start, tokens: &sequence[start..] };
        let last = sequence.len() - start - 1;
        let logits = model.pass(&mut cache, &[span], &[last]).unwrap().values;
        start = sequence.len();
        assert!(TOLERANCE * largest_of(&logits) < *gap, "the reference's gap decides nothing");
        let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
        assert_eq!(best as u32, *expected, "after {start} tokens");
        sequence.push(*expected);
    }
}

#[test]
fn a_vocabulary_of_many_buffers_gives_the_same_logits() {
    let scene = Scene::read("llama3");
    let prompt = &scene.reference.prompt[..9];
    // A row of the vocabulary has 64 bytes, the largest matrix that is kept whole is smaller than this.
    let expand = 2 * scene.config.inner * scene.config.hidden * 2;
    let whole = last_logits(&whole(&scene, Storage::F16), prompt, &[9]);
    let parts = last_logits(&model(&scene, Storage::F16, expand as u64), prompt, &[9]);
    assert!(expand < scene.config.vocabulary * scene.config.hidden * 2);
    assert_eq!(bits(&parts), bits(&whole));

    let mut shards = Shards::open(&scene.files.shards).unwrap();
    let small =
        GpuModel::load(&mut shards, scene.config.clone(), Storage::F16, gpu(), expand as u64 - 1);
    let error = small.unwrap_err().to_string();
    assert!(error.contains("q_proj") && error.contains("reads at most"), "{error}");
}

/// Outputs for which workgroups are larger, and inputs of more units than lanes and of fewer.
#[test]
fn products_of_many_outputs_are_the_cpus_whatever_the_rows() {
    let scene = Scene::read("llama3");
    let gpu = gpu();
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    for (inputs, outputs, storage) in [
        (64, 70_000, Storage::F16),
        (64, 70_000, Storage::Int8),
        (1_056, 65, Storage::F16),
        (1_056, 65, Storage::Int8),
    ] {
        let weight: Vec<f32> = (0..inputs * outputs).map(|_| next()).collect();
        let rows = Rows { values: (0..19 * inputs).map(|_| next()).collect(), columns: inputs };
        let matrix = Matrix::new(&mut Pages::default(), &weight, &[], inputs, storage).unwrap();
        let expected = matrix.product(&matrix::Left::new(&rows, storage)).into_rows(outputs);
        let raw = Raw { weight, bias: Vec::new(), inputs, role: Role::Vocabulary, storage };
        let own = GpuMatrix::upload(&gpu, &raw, &scene.config, u64::MAX).unwrap();
        let staged = Staged::upload(&gpu, storage, &rows);
        // One row, a few with some left over, and many.
        for count in [1, 6, 19] {
            let chosen: Vec<usize> = (0..count).collect();
            let span = Span { blocks: &[0, 1], start: 0, tokens: &[0; 19] };
            let pass = Pass::new(&gpu, &[span], &chosen, 128, outputs).unwrap();
            let out = gpu.empty(count * outputs);
            own.product(&pass, staged.left(count), count, &[&out]);
            let out = read(&out, count, outputs).unwrap();
            let expected = &expected.values[..count * outputs];
            let error = difference(&out.values, expected) / largest_of(expected);
            assert!(error <= 1e-5, "{inputs} to {outputs}, {storage}, {count} rows: {error:e}");
        }
    }
}

#[test]
fn what_a_device_cannot_hold_is_refused_with_its_limit() {
    let mut scene = Scene::read("llama3");
    let gpu = gpu();
    let blocks = usize::try_from(gpu.largest_buffer()).unwrap() / 64;
    let error = Cache::new(&gpu, &scene.config, blocks).unwrap_err();
    assert!(error.contains("choose fewer"), "{error}");
    let config = &mut scene.config;
    config.head_size = 1024;
    let mut shards = Shards::open(&scene.files.shards).unwrap();
    let refused = GpuModel::load(&mut shards, scene.config.clone(), Storage::F32, gpu, u64::MAX);
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("head_dim is 1024"), "{error}");
}

#[test]
fn a_token_that_is_unknown_is_refused() {
    let scene = Scene::read("llama3");
    let model = whole(&scene, Storage::F16);
    let mut cache = cache(&model, 1);
    let token = scene.config.vocabulary as u32;
    let span = Span { blocks: &[0], start: 0, tokens: &[token] };
    let error = model.pass(&mut cache, &[span], &[0]).unwrap_err();
    assert!(error.contains("none of the"), "{error}");
}
