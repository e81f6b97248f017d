//! `auspex model`: devices, the embedding model and decoders.

mod bench;
mod chat;
pub(crate) mod decoder;
pub(crate) mod serve;

use std::path::PathBuf;

use anyhow::Context;
use auspex_devnet::provision::{Progress, ToolsConfig};
use auspex_inference::{DeviceChoice, Encoder, Engine, Profile, adapters};
use auspex_oracle::model::serve::{Model, serve};
use clap::{Args, Subcommand};

use crate::output::{Output, fields, table};

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// List the devices that models can run on.
    #[command(after_help = "Example:\n  auspex model devices")]
    Devices,
    /// Show the embedding model and the hash that offers and results pin.
    #[command(after_help = "Example:\n  auspex model show --model-dir ~/models/all-MiniLM-L6-v2")]
    Show(ModelArguments),
    /// The model process of a node: greets, then embeds what its input says. Started by `auspex oracle run`.
    #[command(hide = true, after_help = "Example:\n  auspex model worker --device cpu")]
    Worker(ModelArguments),
    /// The process of a node's writing model: greets, then writes what its input orders. Started by `auspex oracle run`.
    #[command(
        hide = true,
        after_help = "Example:\n  auspex model writer --decoder-dir ~/models/Qwen2.5-0.5B-Instruct"
    )]
    Writer(decoder::DecoderArguments),
    /// Talk to a local decoder; with --json, one document with the hash of the transcript.
    #[command(
        after_help = "Example:\n  auspex model chat --decoder-dir ~/models/Qwen2.5-0.5B-Instruct \"Who may refund?\""
    )]
    Chat(Box<chat::ChatArguments>),
    /// Measure a decoder on this machine.
    #[command(
        after_help = "Example:\n  auspex model bench --decoder-dir ~/models/Qwen2.5-0.5B-Instruct --weights int8"
    )]
    Bench(bench::BenchArguments),
    /// Load a decoder, test it, and show its hash.
    #[command(
        after_help = "Example:\n  auspex model verify --decoder-dir ~/models/Qwen2.5-0.5B-Instruct"
    )]
    Verify(decoder::DecoderArguments),
    /// Serve models behind OpenAI's interface: /v1/chat/completions, /v1/embeddings, /v1/rerank, /v1/models, and /metrics.
    #[command(
        after_help = "Example:\n  auspex model serve --decoder-dir ~/models/Qwen2.5-0.5B-Instruct --listen 127.0.0.1:8088"
    )]
    Serve(Box<serve::ServeArguments>),
    /// Embed a text.
    #[command(after_help = "Example:\n  auspex model embed \"How does a refund work?\" --json")]
    Embed {
        text: String,
        #[command(flatten)]
        model: ModelArguments,
    },
}

impl ModelCommand {
    /// True for the commands that serve others and log like a node.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self, Self::Worker(_) | Self::Writer(_) | Self::Serve(_))
    }
}

/// Which model, and where it runs.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArguments {
    /// Directory with config.json, tokenizer.json and model.safetensors; the installed all-MiniLM-L6-v2 when not given.
    #[arg(long, env = "AUSPEX_MODEL_DIR")]
    pub(crate) model_dir: Option<PathBuf>,
    /// Where the model runs: auto, cpu, wgpu or wgpu:N.
    #[arg(long, env = "AUSPEX_DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Its arithmetic: deterministic-cpu, deterministic-int8 (the same bits on any device) or fast; deterministic-cpu when
    /// not given, and fast on a GPU that --device names.
    #[arg(long, env = "AUSPEX_PROFILE")]
    pub(crate) profile: Option<Profile>,
}

impl ModelArguments {
    /// The model's directory, installing the default model when it is missing.
    pub(crate) async fn directory(&self) -> anyhow::Result<PathBuf> {
        match &self.model_dir {
            Some(directory) => Ok(directory.clone()),
            None => ToolsConfig::from_environment()?
                .model_dir(Progress::auto())
                .await
                .context("install the embedding model"),
        }
    }

    pub(crate) fn profile(&self) -> Profile {
        self.profile.unwrap_or_else(|| Profile::for_device(self.device))
    }

    /// The model, loaded.
    pub(crate) async fn load(&self) -> anyhow::Result<Encoder> {
        let directory = self.directory().await?;
        let (device, profile) = (self.device, self.profile());
        let encoder = move || Encoder::load_profile(&directory, device, profile);
        Ok(tokio::task::spawn_blocking(encoder).await.context("load the model")??)
    }

    /// The model on a thread of its own, tested and ready.
    pub(crate) async fn start(&self) -> anyhow::Result<Engine> {
        let directory = self.directory().await?;
        let (device, profile) = (self.device, self.profile());
        let engine = move || Engine::start_profile(&directory, device, profile);
        Ok(tokio::task::spawn_blocking(engine).await.context("start the model")??)
    }
}

pub(crate) async fn run(command: ModelCommand, output: Output) -> anyhow::Result<()> {
    match command {
        ModelCommand::Devices => {
            let mut devices = vec![serde_json::json!({"device": "cpu", "kind": "CPU"})];
            devices.extend(adapters().iter().map(|adapter| {
                let kind = if adapter.software { "software Vulkan" } else { "GPU" };
                serde_json::json!({"device": format!("wgpu:{}", adapter.number), "kind": kind})
            }));
            output.result(&devices, |devices| {
                let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
                table(
                    ["device", "kind"],
                    devices.iter().map(|d| [text(&d["device"]), text(&d["kind"])]),
                )
            })
        }
        ModelCommand::Chat(arguments) => chat::run(*arguments, output).await,
        ModelCommand::Bench(arguments) => bench::run(arguments, output).await,
        ModelCommand::Verify(arguments) => bench::verify(arguments, output).await,
        ModelCommand::Serve(arguments) => serve::run(*arguments, output).await,
        ModelCommand::Show(model) => {
            let encoder = model.load().await?;
            let facts = serde_json::json!({
                "modelHash": format!("0x{}", hex::encode(encoder.model_hash())),
                "dimensions": encoder.dimensions(),
                "device": encoder.device().to_string(),
                "profile": encoder.profile().to_string(),
                "contentTokensMax": encoder.content_tokens_max(),
            });
            output.result(&facts, |facts| {
                fields([
                    ("model hash", facts["modelHash"].as_str().unwrap_or("-").to_owned()),
                    ("dimensions", facts["dimensions"].to_string()),
                    ("device", facts["device"].as_str().unwrap_or("-").to_owned()),
                    ("profile", facts["profile"].as_str().unwrap_or("-").to_owned()),
                    ("tokens per text", facts["contentTokensMax"].to_string()),
                ])
            })
        }
        ModelCommand::Worker(model) => {
            volunteer_for_the_oom_killer();
            serve_node(Model::Embedding(model.start().await?)).await
        }
        ModelCommand::Writer(decoder) => {
            volunteer_for_the_oom_killer();
            serve_node(Model::Writing(decoder.required().await?)).await
        }
        ModelCommand::Embed { text, model } => {
            let encoder = model.load().await?;
            let vectors = encoder.embed(&[&text])?;
            let vector = vectors.into_iter().next().unwrap_or_default();
            output.result(&vector, |vector| {
                let shown: Vec<String> = vector.iter().map(|value| format!("{value:.6}")).collect();
                shown.join(" ")
            })
        }
    }
}

/// When memory runs out, the kernel takes this process first: it is started again, and the node lives.
fn volunteer_for_the_oom_killer() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
}

async fn serve_node(model: Model) -> anyhow::Result<()> {
    let input = tokio::io::BufReader::new(tokio::io::stdin());
    serve(model, input, tokio::io::stdout()).await
}
