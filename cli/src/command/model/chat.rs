//! `auspex model chat`: talk to a local decoder.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use anyhow::Context;
use auspex_inference::decoder::{Completion, Event, Generator, Message, Parameters};
use clap::Args;

use super::decoder::DecoderArguments;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct ChatArguments {
    /// What to say; without it, lines of standard input are said one after the other.
    text: Option<String>,
    #[command(flatten)]
    decoder: DecoderArguments,
    /// What the model is told before the conversation.
    #[arg(long)]
    system: Option<String>,
    /// Most tokens of one answer.
    #[arg(long, default_value_t = 512)]
    max_tokens: usize,
    /// 0 takes the best token always; what the model's publisher recommends when not given.
    #[arg(long)]
    temperature: Option<f32>,
    /// Decides all random choices.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// File with a JSON schema that answers follow.
    #[arg(long)]
    schema: Option<PathBuf>,
}

pub(crate) async fn run(arguments: ChatArguments, output: Output) -> anyhow::Result<()> {
    let generator = arguments.decoder.required().await?;
    let schema = match &arguments.schema {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("read {}", path.display()))?;
            let schema = serde_json::from_str(&text);
            Some(schema.with_context(|| format!("parse {}", path.display()))?)
        }
    };
    let defaults = generator.defaults().clone();
    let parameters = Parameters {
        max_tokens: arguments.max_tokens,
        temperature: arguments.temperature.unwrap_or(defaults.temperature),
        seed: arguments.seed,
        schema,
        ..defaults
    };
    let mut messages: Vec<Message> = arguments.system.into_iter().map(Message::system).collect();
    if let Some(text) = arguments.text {
        messages.push(Message::user(text));
        say(&generator, &messages, &parameters, output).await?;
        return Ok(());
    }
    output.say("Say something; an empty line or Ctrl-D ends.");
    loop {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).context("read standard input")?;
        if line.trim().is_empty() {
            return Ok(());
        }
        messages.push(Message::user(line.trim()));
        let answer = say(&generator, &messages, &parameters, output).await?;
        messages.push(Message { role: "assistant".to_owned(), content: answer });
    }
}

/// Shows the answer as it comes, and gives it back.
async fn say(
    generator: &Generator,
    messages: &[Message],
    parameters: &Parameters,
    output: Output,
) -> anyhow::Result<String> {
    let prompt = generator.chat_prompt(messages, None)?;
    let mut answer = generator.generate(prompt, parameters.clone())?;
    let mut text = String::new();
    let mut reading = None;
    let completion = loop {
        match answer.next().await {
            Event::Read { tokens, of } if tokens < of => {
                reading.get_or_insert_with(|| output.step(format!("reading {of} tokens")));
            }
            Event::Read { .. } => reading = None,
            Event::Text(piece) => {
                text.push_str(&piece);
                if !output.is_json() {
                    let mut screen = io::stdout().lock();
                    screen.write_all(piece.as_bytes())?;
                    screen.flush()?;
                }
            }
            Event::Done(completion) => break completion?,
        }
    };
    let document = document(&text, &completion);
    output.result(&document, |_| String::new())?;
    Ok(text)
}

fn document(text: &str, completion: &Completion) -> serde_json::Value {
    let hash = |hash: [u8; 32]| format!("0x{}", hex::encode(hash));
    let transcript = &completion.transcript;
    serde_json::json!({
        "text": text,
        "finish": format!("{:?}", completion.finish).to_lowercase(),
        "promptTokens": transcript.prompt.len(),
        "reusedTokens": completion.reused,
        "outputTokens": transcript.output.len(),
        "transcriptHash": hash(transcript.hash()),
        "modelHash": hash(transcript.model_hash),
        "tokenizerHash": hash(transcript.tokenizer_hash),
        "profile": transcript.profile,
    })
}
