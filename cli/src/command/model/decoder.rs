//! Which decoder a command runs, and how.

use std::path::PathBuf;

use anyhow::Context;
use auspex_inference::DeviceChoice;
use auspex_inference::decoder::{Generator, Options, Storage, limits};
use clap::Args;

const MISSING: &str =
    "no decoder is given; name the directory of a model with --decoder-dir or AUSPEX_DECODER_DIR";

/// A decoder on this machine.
#[derive(Debug, Clone, Args)]
pub(crate) struct DecoderArguments {
    /// Directory of a Llama 3, Qwen 2.5 or Qwen 3 model as Hugging Face publishes it.
    #[arg(long, env = "AUSPEX_DECODER_DIR")]
    pub(crate) decoder_dir: Option<PathBuf>,
    /// Where it runs: cpu, auto, wgpu or wgpu:N. On the CPU what it writes has the same bits on every machine; on a
    /// GPU they are that device's own.
    #[arg(long, env = "AUSPEX_DECODER_DEVICE", default_value = "cpu")]
    pub(crate) decoder_device: DeviceChoice,
    /// How its weights are kept: f32, f16, int8 or int4.
    #[arg(long, env = "AUSPEX_DECODER_WEIGHTS", default_value = "int8")]
    pub(crate) weights: Storage,
    /// Tokens whose keys and values are kept, over all conversations.
    #[arg(long, env = "AUSPEX_DECODER_CACHE_TOKENS", default_value_t = limits::CACHE_TOKENS)]
    pub(crate) cache_tokens: usize,
}

impl DecoderArguments {
    /// The running model; `None` when no directory is given.
    pub(crate) async fn start(&self) -> anyhow::Result<Option<Generator>> {
        let Some(directory) = self.decoder_dir.clone() else { return Ok(None) };
        let options = Options {
            device: self.decoder_device,
            storage: self.weights,
            cache_tokens: self.cache_tokens,
        };
        let shown = directory.display().to_string();
        let started =
            tokio::task::spawn_blocking(move || Generator::start(&directory, options)).await;
        Ok(Some(started.context("start the decoder")?.with_context(|| format!("load {shown}"))?))
    }

    /// The running model.
    pub(crate) async fn required(&self) -> anyhow::Result<Generator> {
        self.start().await?.context(MISSING)
    }

    /// The model's directory.
    pub(crate) fn directory(&self) -> anyhow::Result<PathBuf> {
        self.decoder_dir.clone().context(MISSING)
    }
}
