//! The layers against PyTorch and transformers, on the models in `tests/decoder`, which
//! `scripts/make_decoder_reference.py` made.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{
    cache::Cache,
    config::DecoderConfig,
    files::DecoderFiles,
    limits::BLOCK_TOKENS,
    matrix::{Rows, Storage},
    model::{DecoderModel, Span},
    shards::Shards,
    template::{ChatTemplate, Message},
    tokens::{TextStream, Tokens},
};

pub(super) const MODELS: [&str; 3] = ["llama3", "qwen2", "qwen3"];

/// Largest difference from PyTorch, relative to the largest value of the same kind.
pub(super) const TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
pub(super) struct Reference {
    pub(super) prompt: Vec<u32>,
    pub(super) greedy: Vec<u32>,
    pub(super) gaps: Vec<f32>,
    pub(super) layers: usize,
    texts: Vec<Text>,
    chats: Vec<Chat>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

#[derive(Deserialize)]
struct Chat {
    messages: Vec<Message>,
    tools: Option<serde_json::Value>,
    add_generation_prompt: bool,
    text: String,
}

pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) files: DecoderFiles,
    pub(super) config: DecoderConfig,
    pub(super) reference: Reference,
    pub(super) numbers: Vec<f32>,
}

impl Scene {
    pub(super) fn read(name: &'static str) -> Self {
        let dir = directory(name);
        let files = DecoderFiles::read(&dir).unwrap();
        let config = DecoderConfig::parse(&files.config.path, &files.config.bytes).unwrap();
        let reference = std::fs::read_to_string(dir.join("reference.json")).unwrap();
        let bytes = std::fs::read(dir.join("reference.f32")).unwrap();
        let numbers = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Self { name, files, config, reference: serde_json::from_str(&reference).unwrap(), numbers }
    }

    pub(super) fn model(&self, storage: Storage) -> DecoderModel {
        let mut shards = Shards::open(&self.files.shards).unwrap();
        DecoderModel::load(&mut shards, self.config.clone(), storage).unwrap()
    }

    fn tokens(&self) -> Tokens {
        Tokens::parse(&self.files.tokenizer.path, &self.files.tokenizer.bytes, &self.config)
            .unwrap()
    }
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decoder").join(name)
}

/// The logits of the last token after `pieces` of `tokens` were read one after the other.
pub(super) fn last_logits(model: &DecoderModel, tokens: &[u32], pieces: &[usize]) -> Vec<f32> {
    let blocks: Vec<u32> = (0..tokens.len().div_ceil(BLOCK_TOKENS) as u32).rev().collect();
    let mut cache = Cache::new(&model.config, blocks.len());
    let mut start = 0;
    let mut logits = Vec::new();
    for piece in pieces {
        let span = Span { blocks: &blocks, start, tokens: &tokens[start..start + piece] };
        let states = model.read(&mut cache, &[span], |_| ());
        logits = model.logits(&states, &[piece - 1]).values;
        start += piece;
    }
    assert_eq!(start, tokens.len());
    logits
}

#[test]
fn every_layer_and_the_logits_agree_with_pytorch() {
    for name in MODELS {
        let scene = Scene::read(name);
        let model = scene.model(Storage::F32);
        let prompt = &scene.reference.prompt;
        let blocks: Vec<u32> = (0..prompt.len().div_ceil(BLOCK_TOKENS) as u32).collect();
        let mut cache = Cache::new(&model.config, blocks.len());
        let span = Span { blocks: &blocks, start: 0, tokens: prompt };
        let mut seen: Vec<Rows> = Vec::new();
        let states = model.read(&mut cache, &[span], |states| seen.push(states.clone()));
        let rows: Vec<usize> = (0..prompt.len()).collect();
        seen.push(model.logits(&states, &rows));
        assert_eq!(seen.len(), scene.reference.layers + 2);

        let mut rest = scene.numbers.as_slice();
        for (index, own) in seen.iter().enumerate() {
            let (expected, later) = rest.split_at(own.values.len());
            rest = later;
            let size = expected.iter().fold(0.0_f32, |size, value| size.max(value.abs()));
            let pairs = own.values.iter().zip(expected);
            let error = pairs.map(|(own, expected)| (own - expected).abs()).fold(0.0, f32::max);
            eprintln!("{name}, states {index}: {:e} of {size}", error / size);
            assert!(error <= TOLERANCE * size, "{name}, states {index}: {error} of {size}");
        }
        assert!(rest.is_empty());
    }
}

#[test]
fn a_prompt_in_pieces_has_the_same_bits() {
    for name in MODELS {
        let scene = Scene::read(name);
        for storage in [Storage::F32, Storage::F16, Storage::Int8, Storage::Int4] {
            let model = scene.model(storage);
            let prompt = &scene.reference.prompt;
            let whole = last_logits(&model, prompt, &[41]);
            for pieces in [&[1; 41][..], &[16, 25], &[17, 1, 1, 22], &[40, 1]] {
                let cut = last_logits(&model, prompt, pieces);
                assert_eq!(bits(&cut), bits(&whole), "{name} {storage} {pieces:?}");
            }
        }
    }
}

#[test]
fn a_sequence_among_others_and_on_any_number_of_threads_has_the_same_bits() {
    let scene = Scene::read("qwen2");
    let prompt = &scene.reference.prompt;
    for storage in [Storage::F32, Storage::Int8] {
        let model = scene.model(storage);
        let alone = last_logits(&model, prompt, &[41]);
        let together = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut cache = Cache::new(&model.config, 9);
                let spans = [
                    Span { blocks: &[0, 1, 2], start: 0, tokens: &prompt[7..] },
                    Span { blocks: &[8, 3, 5], start: 0, tokens: prompt },
                    Span { blocks: &[4], start: 0, tokens: &prompt[..3] },
                ];
                let states = model.read(&mut cache, &spans, |_| ());
                model.logits(&states, &[34 + 40]).values
            })
        };
        assert_eq!(bits(&together(1)), bits(&alone), "{storage}");
        assert_eq!(bits(&together(3)), bits(&alone), "{storage}");
    }
}

#[test]
fn greedy_sequences_are_pytorchs() {
    for name in MODELS {
        let scene = Scene::read(name);
        let model = scene.model(Storage::F32);
        let mut sequence = scene.reference.prompt.clone();
        for (expected, gap) in scene.reference.greedy.iter().zip(&scene.reference.gaps) {
            let pieces = [sequence.len() - 1, 1];
            let logits = last_logits(&model, &sequence, &pieces);
            let size = logits.iter().fold(0.0_f32, |size, value| size.max(value.abs()));
            assert!(TOLERANCE * size < *gap, "{name}: the reference's gap {gap} decides nothing");
            let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
            assert_eq!(best as u32, *expected, "{name} after {} tokens", sequence.len());
            sequence.push(*expected);
        }
    }
}

#[test]
fn smaller_storages_stay_near() {
    for name in MODELS {
        let scene = Scene::read(name);
        let exact = last_logits(&scene.model(Storage::F32), &scene.reference.prompt, &[41]);
        for (storage, least) in
            [(Storage::F16, 0.99999), (Storage::Int8, 0.99), (Storage::Int4, 0.5)]
        {
            let near = last_logits(&scene.model(storage), &scene.reference.prompt, &[41]);
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let cosine = dot(&exact, &near) / (dot(&exact, &exact) * dot(&near, &near)).sqrt();
            eprintln!("{name} {storage}: {cosine}");
            assert!(least <= cosine, "{name} {storage}: {cosine}");
        }
    }
}

#[test]
fn the_tokenizer_is_the_references() {
    for name in MODELS {
        let scene = Scene::read(name);
        let tokens = scene.tokens();
        for Text { text, ids, decoded } in &scene.reference.texts {
            assert_eq!(&tokens.encode(text, false).unwrap(), ids, "{name} {text:?}");
            assert_eq!(&tokens.decode(ids, false), decoded, "{name} {text:?}");
        }
    }
}

#[test]
fn streamed_text_is_whole_characters_of_the_same_text() {
    let scene = Scene::read("qwen3");
    let tokens = scene.tokens();
    for Text { ids, .. } in &scene.reference.texts {
        let mut stream = TextStream::default();
        let mut text = String::new();
        for id in ids {
            let piece = stream.push(&tokens, *id);
            assert!(!piece.contains('\u{fffd}'), "{piece:?}");
            text.push_str(&piece);
        }
        text.push_str(&stream.finish(&tokens));
        assert_eq!(text, tokens.decode(ids, true));
    }
    // Half of a character at the end is shown as what it is.
    let half = tokens.encode("\u{1f980}", false).unwrap();
    let mut stream = TextStream::default();
    assert_eq!(stream.push(&tokens, half[0]), "");
    assert_eq!(stream.finish(&tokens), "\u{fffd}");
}

#[test]
fn token_bytes_are_the_text() {
    let scene = Scene::read("llama3");
    let tokens = scene.tokens();
    let bytes = tokens.bytes().unwrap();
    let text = "Zażółć gęślą jaźń, 天地\n\t 42";
    let ids = tokens.encode(text, false).unwrap();
    let joined: Vec<u8> = ids.iter().flat_map(|id| bytes[*id as usize].clone()).collect();
    assert_eq!(String::from_utf8(joined).unwrap(), text);
    assert!(bytes[tokens.encode("<|eot|>", false).unwrap()[0] as usize].is_empty());
}

#[test]
fn chats_are_rendered_as_the_reference_renders_them() {
    for name in MODELS {
        let scene = Scene::read(name);
        let template = ChatTemplate::of(&scene.files).unwrap().unwrap();
        for chat in &scene.reference.chats {
            let answer = chat.add_generation_prompt;
            let text = template.render(&chat.messages, chat.tools.as_ref(), answer).unwrap();
            assert_eq!(text, chat.text, "{}", scene.name);
        }
    }
}

#[test]
fn a_template_can_refuse_a_conversation() {
    let scene = Scene::read("llama3");
    let template = ChatTemplate::of(&scene.files).unwrap().unwrap();
    let message = Message { role: "tool".to_owned(), content: "1".to_owned() };
    let messages = [Message::user("x"), message];
    let error = template.render(&messages, None, true).unwrap_err().to_string();
    assert_eq!(error, "chat template: only user and assistant may speak");
}

pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
