//! Own WGSL kernels on the queue and in the memory of burn's wgpu backend.
//!
//! `memory` gives buffers on a device, `kernel` shaders with their constants filled in, `measure` what a
//! device reaches. burn's backend
//! extension leads to the client that burn launches its own kernels with, so both share one device, one
//! queue and one pool of memory.

mod kernel;
mod measure;
mod memory;

pub(crate) use kernel::{Constant, Kernel, bindings};
pub use measure::{DeviceLimits, Effort, MeasureError, measure_device};
pub(crate) use memory::{Buffer, Gpu};
