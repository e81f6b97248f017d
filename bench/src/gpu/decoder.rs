//! Decoders: how fast one output is written, as a share of what the device reads, and a prompt is read.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use auspex_inference::decoder::{Generator, Options, Parameters, Storage};
use tokio::runtime::Runtime;

use crate::shapes::Decoder;
use crate::table::Row;
use crate::weights::{self, Kind};
use crate::{Bench, FIRST_REQUEST_MS_MAX, READ_SHARE_MIN, median};

pub(crate) const LLAMA_SHARE: &str = "Llama-3.2-1B f16, writing one output: share of reading";
pub(crate) const LLAMA_FIRST: &str = "Llama-3.2-1B f16: first request after ready";

/// Tokens of the prompt in front of an output that is measured.
const SHORT_PROMPT: usize = 16;

/// Tokens whose keys and values are kept.
const CACHE_TOKENS: usize = 4096;

/// What was measured of one decoder.
struct Figures {
    first_ms: f64,
    writing: f64,
    reading: f64,
    /// Percent of the device's own reading.
    share: f64,
}

pub(crate) fn measure(bench: &Bench, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let llama = one(bench, folder, &bench.shapes.llama, Storage::F16)?;
    let qwen = one(bench, folder, &bench.shapes.qwen, Storage::Int8)?;
    let prompt = bench.shapes.prompt_tokens;
    Ok(vec![
        Row::plain("Llama-3.2-1B f16, writing one output", llama.writing, "tokens/s"),
        Row::at_least(LLAMA_SHARE, llama.share, "%", READ_SHARE_MIN),
        Row::plain(format!("Llama-3.2-1B f16, reading {prompt} tokens"), llama.reading, "tokens/s"),
        Row::at_most(LLAMA_FIRST, llama.first_ms, "ms", FIRST_REQUEST_MS_MAX),
        Row::plain("Qwen2.5-0.5B int8, writing one output", qwen.writing, "tokens/s"),
        Row::plain("Qwen2.5-0.5B int8: share of reading", qwen.share, "%"),
        Row::plain(format!("Qwen2.5-0.5B int8, reading {prompt} tokens"), qwen.reading, "tokens/s"),
        Row::at_most(
            "Qwen2.5-0.5B int8: first request after ready",
            qwen.first_ms,
            "ms",
            FIRST_REQUEST_MS_MAX,
        ),
    ])
}

fn one(bench: &Bench, folder: &Path, shape: &Decoder, storage: Storage) -> anyhow::Result<Figures> {
    let directory = folder.join("decoder");
    weights::write(&directory, &shape.config(), &shape.tensors(), Kind::F16)?;
    let options = Options { device: bench.device, storage, cache_tokens: CACHE_TOKENS };
    let generator = Generator::start(&directory, options).context("start the decoder")?;
    let runtime = Runtime::new().context("start the runtime")?;
    // No two prompts begin alike, so that nothing is known from before.
    let mut prompts = 0;
    let mut prompt = |tokens: usize| -> Vec<u32> {
        prompts += 1;
        let token = |index: usize| (index * 7_919 + prompts * 104_729) % shape.vocabulary;
        (0..tokens).map(|index| token(index) as u32).collect()
    };
    let first_ms = 1e3 * run(&runtime, &generator, prompt(SHORT_PROMPT), 1)?;
    let (mut writing, mut reading) = (Vec::new(), Vec::new());
    let (input, output) = (bench.shapes.prompt_tokens, bench.shapes.output_tokens);
    for _ in 0..bench.rounds {
        let seconds = run(&runtime, &generator, prompt(input), 1)?;
        reading.push(input as f64 / seconds);
        // The difference of a long and a short output has neither the prompt nor the start in it.
        let short = run(&runtime, &generator, prompt(SHORT_PROMPT), 1)?;
        let long = run(&runtime, &generator, prompt(SHORT_PROMPT), output + 1)?;
        writing.push(output as f64 / (long - short));
    }
    let (writing, reading) = (median(writing), median(reading));
    let bytes = generator.weight_bytes() as f64;
    let share = 100.0 * writing * bytes / bench.limits.read_bytes_per_second;
    Ok(Figures { first_ms, writing, reading, share })
}

/// Seconds until an output of so many tokens is complete.
fn run(
    runtime: &Runtime,
    generator: &Generator,
    prompt: Vec<u32>,
    tokens: usize,
) -> anyhow::Result<f64> {
    let parameters = Parameters { max_tokens: tokens, ..Parameters::default() };
    let started = Instant::now();
    let (_, completion) = runtime.block_on(generator.generate(prompt, parameters)?.whole())?;
    let seconds = started.elapsed().as_secs_f64();
    let written = completion.transcript.output.len();
    ensure!(written == tokens, "{written} tokens were written, expected {tokens}");
    Ok(seconds)
}
