//! A decoder on the device that was asked for.

use std::sync::Arc;

use super::{
    cache::Cache,
    config::DecoderConfig,
    gpu::{self, GpuModel},
    matrix::{Rows, Storage},
    model::{DecoderModel, Span},
    shards::Shards,
};
use crate::{
    device::{DeviceChoice, Resolved, resolve},
    error::LoadError,
    gpu::Gpu,
};

/// The layers in one of their forms.
#[derive(Clone, Debug)]
pub(crate) enum Network {
    Cpu(Arc<DecoderModel>),
    /// On the adapter with this choice.
    Gpu(Arc<GpuModel>, DeviceChoice),
}

/// A network with the keys and values of what it has read.
#[derive(Debug)]
pub(crate) enum Reader {
    Cpu { model: Arc<DecoderModel>, cache: Cache },
    Gpu { model: Arc<GpuModel>, cache: gpu::Cache },
}

impl Network {
    /// Reads a model into the memory of the device that `choice` means on this machine.
    pub(crate) fn load(
        shards: &mut Shards,
        config: DecoderConfig,
        storage: Storage,
        choice: DeviceChoice,
    ) -> Result<Self, LoadError> {
        let Resolved { device, choice } = resolve(choice)?;
        match choice {
            DeviceChoice::Cpu => {
                Ok(Self::Cpu(Arc::new(DecoderModel::load(shards, config, storage)?)))
            }
            DeviceChoice::Auto | DeviceChoice::Wgpu(_) => {
                let gpu = Gpu::open(&device);
                let largest = gpu.largest_buffer();
                let model = GpuModel::load(shards, config, storage, gpu, largest)?;
                Ok(Self::Gpu(Arc::new(model), choice))
            }
        }
    }

    /// Where the model runs: never [`DeviceChoice::Auto`].
    pub(crate) fn device(&self) -> DeviceChoice {
        match self {
            Self::Cpu(_) => DeviceChoice::Cpu,
            Self::Gpu(_, choice) => *choice,
        }
    }

    /// What computes, as profiles name it: a GPU by its own name, because its bits are its own.
    pub(crate) fn machine(&self) -> String {
        match self {
            Self::Cpu(_) => "cpu".to_owned(),
            Self::Gpu(model, _) => format!("wgpu-{}", plain(&model.gpu().name())),
        }
    }

    pub(crate) fn config(&self) -> &DecoderConfig {
        match self {
            Self::Cpu(model) => &model.config,
            Self::Gpu(model, _) => &model.config,
        }
    }

    /// Bytes of weights that writing one token reads.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Cpu(model) => model.bytes(),
            Self::Gpu(model, _) => model.bytes(),
        }
    }

    /// How many tokens the self-test reads, and the two ends that it reads in pieces behind the rest of
    /// them: together they run every kernel there is.
    pub(crate) fn trial(&self) -> (usize, [&'static [usize]; 2]) {
        match self {
            Self::Cpu(_) => (35, [&[], &[1, 1]]),
            // Many rows, a few and one, and more chunks of attention than are computed in a row.
            Self::Gpu(..) => (gpu::SPLIT_FROM + 4, [&[4], &[57, 1, 1, 1]]),
        }
    }

    /// Takes the memory for keys and values of so many blocks. `Err` says why the device has too little.
    pub(crate) fn reader(&self, blocks: usize) -> Result<Reader, String> {
        Ok(match self {
            Self::Cpu(model) => {
                let cache = Cache::new(&model.config, blocks);
                Reader::Cpu { model: Arc::clone(model), cache }
            }
            Self::Gpu(model, _) => {
                let cache = gpu::Cache::new(model.gpu(), &model.config, blocks)?;
                Reader::Gpu { model: Arc::clone(model), cache }
            }
        })
    }
}

impl Reader {
    /// Reads `spans`; gives back the logits of the `chosen` among all their tokens, row by row. `Err` says
    /// why the device failed: what it would compute afterwards cannot be trusted.
    pub(crate) fn pass(&mut self, spans: &[Span<'_>], chosen: &[usize]) -> Result<Rows, String> {
        match self {
            Self::Cpu { model, cache } => {
                let states = model.read(cache, spans, |_| ());
                Ok(model.logits(&states, chosen))
            }
            Self::Gpu { model, cache } => model.pass(cache, spans, chosen),
        }
    }
}

/// A name in lower-case letters, digits and single hyphens.
fn plain(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join("-").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_adapters_become_plain() {
        assert_eq!(plain("llvmpipe (LLVM 15.0.6, 256 bits)"), "llvmpipe-llvm-15-0-6-256-bits");
        assert_eq!(plain("NVIDIA H100 PCIe"), "nvidia-h100-pcie");
        assert_eq!(plain(""), "");
    }
}
