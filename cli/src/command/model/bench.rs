//! `auspex model bench` and `auspex model verify`: how fast a decoder is here, and whether it is right.

use std::time::Instant;

use anyhow::ensure;
use auspex_inference::decoder::{Completion, Generator, Parameters};
use clap::Args;

use super::decoder::DecoderArguments;
use crate::output::{Output, fields};

/// Tokens of the prompt in front of a measured output.
const SHORT_PROMPT: usize = 16;

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(flatten)]
    decoder: DecoderArguments,
    /// Tokens of the prompt whose reading is measured.
    #[arg(long, default_value_t = 512)]
    prompt_tokens: usize,
    /// Tokens whose writing is measured.
    #[arg(long, default_value_t = 64)]
    output_tokens: usize,
    /// How often each is measured; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
}

pub(crate) async fn run(arguments: BenchArguments, output: Output) -> anyhow::Result<()> {
    let generator = arguments.decoder.required().await?;
    let (mut reading, mut writing) = (Vec::new(), Vec::new());
    for round in 0..arguments.rounds {
        let started = Instant::now();
        let long = prompt(&generator, arguments.prompt_tokens, 2 * round)?;
        generate(&generator, long, 1).await?;
        reading.push(arguments.prompt_tokens as f64 / started.elapsed().as_secs_f64());

        let short = prompt(&generator, SHORT_PROMPT, 2 * round + 1)?;
        let started = Instant::now();
        generate(&generator, short.clone(), 1).await?;
        let first = started.elapsed().as_secs_f64();
        let started = Instant::now();
        let written = generate(&generator, short, arguments.output_tokens + 1).await?;
        let count = written.transcript.output.len();
        ensure!(
            1 < count,
            "the model ended its output at once; try --output-tokens with another model"
        );
        writing.push((count - 1) as f64 / (started.elapsed().as_secs_f64() - first));
    }
    let (reading, writing) = (median(reading), median(writing));
    let gigabytes = generator.weight_bytes() as f64 / 1e9;
    let document = serde_json::json!({
        "device": generator.device().to_string(),
        "weights": generator.storage().name(),
        "weightBytes": generator.weight_bytes(),
        "promptTokens": arguments.prompt_tokens,
        "promptTokensPerSecond": reading,
        "outputTokens": arguments.output_tokens,
        "outputTokensPerSecond": writing,
        "weightGigabytesPerSecond": writing * gigabytes,
    });
    output.result(&document, |_| {
        fields([
            ("device", generator.device().to_string()),
            ("weights", generator.storage().to_string()),
            ("weights that one token reads", format!("{gigabytes:.3} GB")),
            ("reading a prompt", format!("{reading:.1} tokens/s")),
            (
                "writing",
                format!("{writing:.1} tokens/s, {:.1} GB/s of weights", writing * gigabytes),
            ),
        ])
    })
}

/// Loads the model, which compares reading at once with reading in pieces, and shows what it is.
pub(crate) async fn verify(arguments: DecoderArguments, output: Output) -> anyhow::Result<()> {
    let generator = arguments.required().await?;
    let facts = serde_json::json!({
        "modelHash": format!("0x{}", hex::encode(generator.model_hash())),
        "device": generator.device().to_string(),
        "weights": generator.storage().name(),
        "weightBytes": generator.weight_bytes(),
        "positions": generator.positions(),
    });
    output.result(&facts, |facts| {
        fields([
            ("model hash", facts["modelHash"].as_str().unwrap_or("-").to_owned()),
            ("device", generator.device().to_string()),
            ("weights", generator.storage().to_string()),
            ("tokens of prompt and output", generator.positions().to_string()),
            ("self-test", "passed".to_owned()),
        ])
    })
}

/// Ids that no other round has in this order, so that nothing is known from before.
fn prompt(generator: &Generator, tokens: usize, round: u64) -> anyhow::Result<Vec<u32>> {
    ensure!(
        tokens < generator.positions(),
        "--prompt-tokens: the limit is {}",
        generator.positions()
    );
    let vocabulary = generator.vocabulary() as u64;
    Ok((0..tokens as u64)
        .map(|index| ((index * 7_919 + round * 104_729) % vocabulary) as u32)
        .collect())
}

async fn generate(
    generator: &Generator,
    prompt: Vec<u32>,
    max_tokens: usize,
) -> anyhow::Result<Completion> {
    let parameters = Parameters { max_tokens, ..Parameters::default() };
    Ok(generator.generate(prompt, parameters)?.whole().await?.1)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
