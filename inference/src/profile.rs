//! The arithmetic of a model: what a caller may rely on, against how fast it is.

use std::{fmt, str::FromStr};

use crate::device::DeviceChoice;

/// The arithmetic of an encoder, and with it what its vectors depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `f32` on the CPU, every sum in one fixed order: the same bits for any batch, number of
    /// threads, instruction set and run.
    DeterministicCpu,
    /// Integers throughout, whose bits depend on no order and no device: the CPU and every GPU give
    /// the same. The vectors are others than in `f32`: near them, and nearly as good at ranking
    /// (STSBenchmark 0.8194 instead of 0.8203).
    DeterministicInt8,
    /// As fast as the device can. On the CPU these are the bits of
    /// [`DeterministicCpu`](Self::DeterministicCpu); a GPU reads `f16` in products where it can, and sums in
    /// `f32`: a vector is within [`TOLERANCE_GPU`](crate::TOLERANCE_GPU) of those of the CPU and may depend
    /// on its batch.
    #[default]
    Fast,
}

/// A profile that is misspelt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("profile {0:?} is none of deterministic-cpu, deterministic-int8, fast")]
pub struct ProfileError(String);

impl Profile {
    /// What an oracle runs when nobody says otherwise: the same bits for every operator unless a GPU
    /// was asked for by name.
    pub fn for_device(device: DeviceChoice) -> Self {
        match device {
            DeviceChoice::Auto | DeviceChoice::Cpu => Self::DeterministicCpu,
            DeviceChoice::Wgpu(_) => Self::Fast,
        }
    }
}

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        match text {
            "deterministic-cpu" => Ok(Self::DeterministicCpu),
            "deterministic-int8" => Ok(Self::DeterministicInt8),
            "fast" => Ok(Self::Fast),
            _ => Err(ProfileError(text.to_owned())),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::DeterministicCpu => "deterministic-cpu",
            Self::DeterministicInt8 => "deterministic-int8",
            Self::Fast => "fast",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_reads_back_as_written() {
        for profile in [Profile::DeterministicCpu, Profile::DeterministicInt8, Profile::Fast] {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        let error = "int8".parse::<Profile>().unwrap_err().to_string();
        assert!(error.contains("\"int8\" is none of deterministic-cpu"), "{error}");
    }
}
