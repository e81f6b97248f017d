//! Decoders behind their engine: outputs, streams, cancellation, reuse.

use std::path::{Path, PathBuf};

use auspex_inference::decoder::{
    Event, Finish, GenerateError, Generator, Message, Options, Parameters, PromptError, Storage,
    limits,
};

use crate::int8::software;

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decoder").join(name)
}

fn start(name: &str, storage: Storage, cache_tokens: usize) -> Generator {
    Generator::start(&directory(name), Options { storage, cache_tokens, ..Options::default() })
        .unwrap()
}

fn reference(name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(directory(name).join("reference.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn greedy(max_tokens: usize) -> Parameters {
    Parameters { max_tokens, ..Parameters::default() }
}

fn hot(seed: u64, max_tokens: usize) -> Parameters {
    Parameters { temperature: 1.5, top_p: 0.95, seed, max_tokens, ..Parameters::default() }
}

#[tokio::test]
async fn greedy_outputs_are_pytorchs() {
    for name in ["llama3", "qwen2", "qwen3"] {
        let reference = reference(name);
        let generator = start(name, Storage::F32, 256);
        let expected = ids(&reference["greedy"]);
        let output = generator.generate(ids(&reference["prompt"]), greedy(expected.len())).unwrap();
        let (text, completion) = output.whole().await.unwrap();
        assert_eq!(completion.transcript.output, expected, "{name}");
        assert_eq!(completion.finish, Finish::Length);
        assert_eq!(text, generator.text(&expected));
    }
}

#[tokio::test]
async fn outputs_are_the_same_alone_together_and_after_reuse() {
    let prompt = ids(&reference("qwen2")["prompt"]);
    let jobs: Vec<(Vec<u32>, Parameters)> = (0..12)
        .map(|job| (prompt[..prompt.len() - job % 5].to_vec(), hot(job as u64, 10 + job)))
        .collect();
    let mut alone = Vec::new();
    for (prompt, parameters) in &jobs {
        let generator = start("qwen2", Storage::Int8, 256);
        let output = generator.generate(prompt.clone(), parameters.clone()).unwrap();
        alone.push(output.whole().await.unwrap());
    }
    // The cache holds some of them at a time, the others wait.
    let generator = start("qwen2", Storage::Int8, 256);
    for round in 0..2 {
        let outputs: Vec<_> = jobs
            .iter()
            .map(|(prompt, parameters)| {
                generator.generate(prompt.clone(), parameters.clone()).unwrap()
            })
            .collect();
        for (output, (text, expected)) in outputs.into_iter().zip(&alone) {
            let (together, completion) = output.whole().await.unwrap();
            assert_eq!(&together, text);
            assert_eq!(completion.transcript, expected.transcript);
            assert_eq!(completion.transcript.hash(), expected.transcript.hash());
            assert_eq!(expected.reused, 0);
            assert!(round == 0 || completion.reused == 32, "{}", completion.reused);
        }
    }
}

#[tokio::test]
async fn other_seeds_give_other_outputs_and_the_same_seed_the_same() {
    let generator = start("qwen3", Storage::F16, 256);
    let prompt = generator.chat_prompt(&[Message::user("Who may refund?")], None).unwrap();
    let mut outputs = Vec::new();
    for seed in [1, 1, 2] {
        let output = generator.generate(prompt.clone(), hot(seed, 20)).unwrap();
        outputs.push(output.whole().await.unwrap().1.transcript.output);
    }
    assert_eq!(outputs[0], outputs[1]);
    assert_ne!(outputs[0], outputs[2]);
}

#[tokio::test]
async fn a_stop_sequence_ends_the_text_before_it() {
    let generator = start("qwen3", Storage::F32, 256);
    let prompt = ids(&reference("qwen3")["prompt"]);
    let (text, _) = generator.generate(prompt.clone(), hot(3, 40)).unwrap().whole().await.unwrap();
    let middle = text.char_indices().nth(text.chars().count() / 2).unwrap().0;
    let stop: String = text[middle..].chars().take(2).collect();
    let parameters = Parameters { stop: vec![stop.clone()], ..hot(3, 40) };
    let (stopped, completion) =
        generator.generate(prompt, parameters).unwrap().whole().await.unwrap();
    assert_eq!(completion.finish, Finish::Stop);
    assert_eq!(stopped, text[..text.find(&stop).unwrap()]);
}

#[tokio::test]
async fn an_output_follows_its_schema() {
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "answer": {"enum": ["yes", "no"]},
            "words": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 3},
            "score": {"type": "integer"},
        },
        "required": ["answer", "words", "score"],
    });
    let generator = start("llama3", Storage::Int8, 512);
    let prompt = generator.text_prompt("The escrow").unwrap();
    for seed in 0..6 {
        let parameters = Parameters { schema: Some(schema.clone()), ..hot(seed, 200) };
        let output = generator.generate(prompt.clone(), parameters).unwrap();
        let (text, completion) = output.whole().await.unwrap();
        assert_eq!(completion.finish, Finish::End, "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(["yes", "no"].contains(&value["answer"].as_str().unwrap()), "{text}");
        assert!(value["score"].is_i64() && value["words"].as_array().unwrap().len() <= 3, "{text}");
    }
}

#[tokio::test]
async fn a_caller_that_leaves_frees_its_room() {
    let generator = start("qwen3", Storage::F32, 64);
    let prompt = ids(&reference("qwen3")["prompt"]);
    // Each needs the whole cache, so the last one runs only when the others are gone.
    for _ in 0..20 {
        let mut output = generator.generate(prompt.clone(), greedy(20)).unwrap();
        assert!(!matches!(output.next().await, Event::Done(Err(_))));
    }
    let output = generator.generate(prompt, greedy(20)).unwrap();
    assert_eq!(output.whole().await.unwrap().1.transcript.output.len(), 20);
}

#[tokio::test]
async fn a_prompt_longer_than_a_pass_is_read_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(directory("qwen2")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    let path = dir.path().join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["max_position_embeddings"] = 1024.into();
    std::fs::write(&path, config.to_string()).unwrap();
    let prompt: Vec<u32> = (0..700).map(|index| 5 + index * 7 % 300).collect();
    assert!(2 * limits::PASS_TOKENS_MAX < prompt.len());
    for storage in [Storage::F32, Storage::Int8, Storage::Int4] {
        let options = Options { storage, cache_tokens: 1024, ..Options::default() };
        let start = || Generator::start(dir.path(), options.clone()).unwrap();
        let generator = start();
        let mut output = generator.generate(prompt.clone(), greedy(8)).unwrap();
        // It is said how far the reading is, after each pass.
        for tokens in [limits::PASS_TOKENS_MAX, 2 * limits::PASS_TOKENS_MAX, prompt.len()] {
            let event = output.next().await;
            assert!(
                matches!(event, Event::Read { tokens: read, of: 700 } if read == tokens),
                "{event:?}"
            );
        }
        let at_once = output.whole().await.unwrap();
        assert_eq!(at_once.1.reused, 0);
        // The same prompt behind beginnings of it that are known: other pieces, the same bits.
        let generator = start();
        for length in [90, 300, 700] {
            let piece = prompt[..length].to_vec();
            let (text, completion) =
                generator.generate(piece, greedy(8)).unwrap().whole().await.unwrap();
            if length == prompt.len() {
                assert!(0 < completion.reused);
                assert_eq!(
                    (text, completion.transcript),
                    (at_once.0.clone(), at_once.1.transcript.clone())
                );
            }
        }
    }
}

#[tokio::test]
async fn software_vulkan_writes_what_pytorch_writes_alone_and_together() {
    let reference = reference("llama3");
    let (prompt, expected) = (ids(&reference["prompt"]), ids(&reference["greedy"]));
    let device = software();
    let options = Options { device, storage: Storage::F32, cache_tokens: 256 };
    let generator = Generator::start(&directory("llama3"), options).unwrap();
    assert_eq!(generator.device(), device);
    let jobs: Vec<_> = [hot(1, 12), greedy(expected.len()), hot(2, 9)]
        .into_iter()
        .map(|parameters| generator.generate(prompt.clone(), parameters).unwrap())
        .collect();
    let mut outputs = Vec::new();
    for job in jobs {
        outputs.push(job.whole().await.unwrap());
    }
    let (text, completion) = &outputs[1];
    assert_eq!(completion.transcript.output, expected);
    assert_eq!(text, &generator.text(&expected));
    // Whoever reads the transcript sees what computed it.
    let profile = &completion.transcript.profile;
    assert!(profile.starts_with("wgpu-llvmpipe") && profile.ends_with("-f32-1"), "{profile}");
    // The same again, alone and with a known beginning.
    let again = generator.generate(prompt, hot(1, 12)).unwrap().whole().await.unwrap();
    assert_eq!(again.1.reused, 32);
    assert_eq!(again.1.transcript, outputs[0].1.transcript);
}

#[test]
fn a_cache_that_the_device_cannot_hold_is_refused_by_its_size() {
    let options =
        Options { device: software(), storage: Storage::F16, cache_tokens: 1_000_000_000 };
    let error = Generator::start(&directory("llama3"), options).unwrap_err().to_string();
    assert!(error.contains("device wgpu:") && error.contains("choose fewer"), "{error}");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_its_limit() {
    let generator = start("llama3", Storage::F32, 100);
    assert_eq!(generator.positions(), 112);
    let refused = |prompt: Vec<u32>, parameters: Parameters| {
        generator.generate(prompt, parameters).map(|_| ()).unwrap_err()
    };
    assert_eq!(refused(vec![], greedy(1)), GenerateError::Prompt(PromptError::Empty));
    let error = refused(vec![5, 1_000_000], greedy(1)).to_string();
    assert!(error.contains("token 1000000") && error.contains("below"), "{error}");
    let error = refused(vec![5; 100], greedy(20)).to_string();
    assert!(error.contains("100 tokens") && error.contains("limit is 112"), "{error}");
    let error = refused(vec![5], Parameters { top_p: 2.0, ..greedy(1) }).to_string();
    assert!(error.contains("top_p is 2"), "{error}");
    let schema = Some(serde_json::json!({"type": "date"}));
    let error = refused(vec![5], Parameters { schema, ..greedy(1) }).to_string();
    assert!(error.contains("schema"), "{error}");
}

#[test]
fn a_directory_that_is_no_decoder_is_refused_by_name() {
    let error = Generator::start(&directory("nowhere"), Options::default()).unwrap_err();
    assert!(error.to_string().contains("config.json"), "{error}");
}
