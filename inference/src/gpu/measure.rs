//! What a device reaches by itself, for models to be compared with.

use std::time::Instant;

use burn::tensor::{DType, Device, FloatDType, Tensor};

use super::{Constant, Gpu, Kernel, bindings};
use crate::device::{DeviceChoice, DeviceError, resolve};

/// How much work a measurement is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Bytes of the buffer that is read; far more than caches hold. A device that cannot read as much at
    /// once reads as much as it can.
    pub buffer_bytes: usize,
    /// Rows, columns and depth of the product.
    pub side: usize,
    /// How often each is done; the fastest counts.
    pub rounds: usize,
}

/// What a device reaches by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceLimits {
    /// What it calls itself.
    pub name: String,
    /// Bytes per second of a kernel that only reads.
    pub read_bytes_per_second: f64,
    /// Operations per second of burn's product of two square matrices in `f16`, a multiplication and an
    /// addition for each pair; `None` where the device does not compute in `f16`.
    pub f16_operations_per_second: Option<f64>,
}

/// Threads of a workgroup that reads, and the workgroups of one reading.
const THREADS: u32 = 256;
const GROUPS: usize = 16_384;

/// Measures the GPU that `choice` means on this machine. It fails where there is none, also where `choice`
/// means the CPU.
///
/// # Errors
///
/// Names the device that is not there, or says why it failed.
pub fn measure_device(choice: DeviceChoice, effort: Effort) -> Result<DeviceLimits, MeasureError> {
    let resolved = resolve(choice)?;
    if resolved.choice == DeviceChoice::Cpu {
        return Err(MeasureError::NoGpu(choice));
    }
    let gpu = Gpu::open(&resolved.device);
    let failed = MeasureError::Failed;
    let f16 = resolved.device.supports_dtype(DType::F16);
    Ok(DeviceLimits {
        name: gpu.name(),
        read_bytes_per_second: read(&gpu, effort).map_err(failed)?,
        f16_operations_per_second: match f16 {
            true => Some(multiply(&gpu, &resolved.device, effort).map_err(failed)?),
            false => None,
        },
    })
}

/// Why a device was not measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// It is not there.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// No GPU is there, or none was asked for.
    #[error("device {0} is no GPU on this machine")]
    NoGpu(DeviceChoice),
    /// It failed.
    #[error("measure the device: {0}")]
    Failed(String),
}

/// Bytes per second of reading, the best of some rounds.
fn read(gpu: &Gpu, effort: Effort) -> Result<f64, String> {
    const QUARTER: usize = 16;
    let largest = usize::try_from(gpu.largest_buffer()).unwrap_or(usize::MAX);
    let quarters = effort.buffer_bytes.min(largest) / QUARTER;
    let groups = GROUPS.min(quarters / THREADS as usize).max(1);
    let declared = bindings(&[("source", "vec4<u32>"), ("sums", "u32")]);
    let parts = [declared.as_str(), include_str!("read.wgsl")];
    let constants = [
        ("COUNT", Constant::Unsigned(quarters)),
        ("STRIDE", Constant::Unsigned(groups * THREADS as usize)),
    ];
    let kernel = Kernel::new(&parts, THREADS, &constants);
    let (source, sums) = (gpu.empty(quarters * 4), gpu.empty(groups));
    let seconds = best(gpu, effort.rounds, || kernel.launch([groups, 1, 1], &[&source, &sums]))?;
    Ok((quarters * QUARTER) as f64 / seconds)
}

/// Operations per second of a product, the best of some rounds.
fn multiply(gpu: &Gpu, device: &Device, effort: Effort) -> Result<f64, String> {
    let side = effort.side;
    let ones = Tensor::<2>::ones([side, side], device).cast(FloatDType::F16);
    let mut product = ones.clone();
    let seconds = best(gpu, effort.rounds, || product = ones.clone().matmul(ones.clone()))?;
    let first = product.slice([0..1, 0..1]).cast(FloatDType::F32);
    let first = first.try_into_data().map_err(|error| error.to_string())?;
    let values: Vec<f32> = first.try_into_vec().map_err(|error| format!("{error:?}"))?;
    if values.first().copied() != Some(side as f32) {
        return Err(format!("the product of {side} ones is {values:?}"));
    }
    Ok(2.0 * (side as f64).powi(3) / seconds)
}

/// Seconds of one `run`, the best of some rounds of several, so that starting them counts little.
fn best(gpu: &Gpu, rounds: usize, mut run: impl FnMut()) -> Result<f64, String> {
    const RUNS: u32 = 8;
    run();
    gpu.wait()?;
    let mut least = f64::INFINITY;
    for _ in 0..rounds {
        let started = Instant::now();
        (0..RUNS).for_each(|_| run());
        gpu.wait()?;
        least = least.min(started.elapsed().as_secs_f64() / f64::from(RUNS));
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::adapters;

    #[test]
    fn software_vulkan_is_measured_and_the_cpu_is_no_gpu() {
        let effort = Effort { buffer_bytes: 1 << 20, side: 64, rounds: 1 };
        let number = adapters().iter().find(|adapter| adapter.software).unwrap().number;
        let limits = measure_device(DeviceChoice::Wgpu(Some(number)), effort).unwrap();
        assert!(0.0 < limits.read_bytes_per_second, "{limits:?}");
        assert!(limits.f16_operations_per_second.is_none_or(|rate| 0.0 < rate), "{limits:?}");
        let error = measure_device(DeviceChoice::Cpu, effort).unwrap_err();
        assert_eq!(error, MeasureError::NoGpu(DeviceChoice::Cpu));
    }
}
