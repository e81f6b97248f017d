//! Which device runs the model: `auto | cpu | wgpu[:n]`.

use std::{fmt, str::FromStr};

use burn::tensor::{Device, DeviceKind, DeviceType};

/// The device that configuration asks for.
///
/// Adapters are numbered in the order in which the graphics interface lists them, software ones
/// included. A software rasteriser (lavapipe, WARP) is only ever used when it is named, because
/// the CPU itself is faster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// The first GPU, else the CPU.
    #[default]
    Auto,
    /// The CPU, which gives the same bits on every machine.
    Cpu,
    /// The adapter with this number; without one, the first GPU, else the first adapter.
    Wgpu(Option<usize>),
}

/// A device that is misspelt or not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The text is none of the allowed forms.
    #[error("device {0:?} is none of auto, cpu, wgpu, wgpu:N (N an adapter number from 0)")]
    Unknown(String),
    /// wgpu sees no adapter at all.
    #[error(
        "device {0} asked for, but no Vulkan, Metal or DirectX adapter is there; install a driver \
         (software Vulkan: the package mesa-vulkan-drivers) or choose cpu"
    )]
    NoAdapter(DeviceChoice),
    /// The adapter number is too high.
    #[error("device {choice} asked for, but only adapters 0 to {last} are there")]
    NoSuchAdapter {
        /// What was asked for.
        choice: DeviceChoice,
        /// The highest adapter number.
        last: usize,
    },
    /// The profile runs on the CPU alone.
    #[error(
        "profile deterministic-cpu does not run on {0}; choose device cpu, or the profile \
         deterministic-int8 or fast"
    )]
    CpuProfile(DeviceChoice),
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "wgpu" => return Ok(Self::Wgpu(None)),
            _ => {}
        }
        let Some(digits) = text.strip_prefix("wgpu:") else {
            return Err(DeviceError::Unknown(text.to_owned()));
        };
        // A sign would parse as a number, but it is not what the help text offers.
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(DeviceError::Unknown(text.to_owned()));
        }
        let number = digits.parse().map_err(|_| DeviceError::Unknown(text.to_owned()))?;
        Ok(Self::Wgpu(Some(number)))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Wgpu(None) => formatter.write_str("wgpu"),
            Self::Wgpu(Some(number)) => write!(formatter, "wgpu:{number}"),
        }
    }
}

/// One adapter that wgpu can reach, as `auspex model devices` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// The `n` of `wgpu:n`.
    pub number: usize,
    /// Whether it is a software rasteriser.
    pub software: bool,
}

/// The adapters of this machine, in the order of their numbers.
pub fn adapters() -> Vec<Adapter> {
    let software = Device::wgpu(DeviceKind::Cpu);
    Device::enumerate(DeviceType::Wgpu)
        .iter()
        .enumerate()
        .map(|(number, device)| Adapter { number, software: *device == software })
        .collect()
}

/// A device that is there, with the choice that leads to exactly this device again.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) device: Device,
    pub(crate) choice: DeviceChoice,
}

impl Resolved {
    pub(crate) fn cpu() -> Self {
        Self { device: Device::flex(), choice: DeviceChoice::Cpu }
    }
}

/// Finds the device that `choice` means on this machine.
pub(crate) fn resolve(choice: DeviceChoice) -> Result<Resolved, DeviceError> {
    if choice == DeviceChoice::Cpu {
        return Ok(Resolved::cpu());
    }
    let adapters = adapters();
    let gpu = adapters.iter().find(|adapter| !adapter.software).map(|adapter| adapter.number);
    let number = match (choice, gpu) {
        (DeviceChoice::Auto, None) | (DeviceChoice::Cpu, _) => return Ok(Resolved::cpu()),
        (DeviceChoice::Auto | DeviceChoice::Wgpu(None), Some(number)) => number,
        (DeviceChoice::Wgpu(None), None) => 0,
        (DeviceChoice::Wgpu(Some(number)), _) => number,
    };
    let Some(last) = adapters.len().checked_sub(1) else {
        return Err(DeviceError::NoAdapter(choice));
    };
    let Some(device) = Device::enumerate(DeviceType::Wgpu).get(number).cloned() else {
        return Err(DeviceError::NoSuchAdapter { choice, last });
    };
    Ok(Resolved { device, choice: DeviceChoice::Wgpu(Some(number)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back_as_written() {
        for text in ["auto", "cpu", "wgpu", "wgpu:0", "wgpu:12"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_names_the_allowed_values() {
        for text in ["", "gpu", "CPU", "wgpu:", "wgpu:-1", "wgpu:+1", "wgpu:x", "cuda:0"] {
            let error = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.contains("auto, cpu, wgpu, wgpu:N"), "{text:?}: {error}");
        }
        assert!(format!("wgpu:{}0", usize::MAX).parse::<DeviceChoice>().is_err());
    }
}
