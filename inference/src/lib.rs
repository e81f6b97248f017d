//! Models on burn: text in, vectors or text out. No chain, no SQL, no HTTP.
//!
//! - [`Encoder`] is a loaded model, called directly; it is what tools and tests use.
//! - [`Engine`] is a model on a thread of its own behind a bounded queue; it is what nodes use.
//! - [`decoder::Generator`] is a decoder (Llama 3, Qwen 2.5, Qwen 3) on a thread of its own.
//! - [`quantize()`] and [`dot_i8()`] make vectors that can be committed and checked on chain.
//!
//! The way of a text: `tokens` (ids) → `batch` (which texts run together) → the layers, as `model`
//! (burn's tensors, on a GPU), as `cpu` (own operators from `kernels`) or as `int8` (integers) → `pooling` (one unit
//! vector). `files`, `config` and `weights` read a model directory; `device` finds the hardware;
//! `self_test` keeps a faulty one from serving.
//!
//! **Invariant:** in the deterministic profiles a vector is a function of the text and of
//! [`Encoder::model_hash`] alone, bit by bit: no batch, thread count, instruction set or run changes
//! it, and in [`Profile::DeterministicInt8`] no device either. Operators can therefore compare
//! vectors byte by byte, and disputes are settled on the CPU.

// wgpu's types nest deeper than the compiler's default allows.
#![recursion_limit = "256"]

mod batch;
mod config;
mod cpu;
mod cross;
pub mod decoder;
mod device;
mod encoder;
mod engine;
mod error;
mod files;
mod gpu;
mod int8;
mod kernels;
pub mod limits;
mod model;
mod pooling;
mod profile;
mod quantize;
mod rope;
mod self_test;
mod sts;
mod team;
mod tokens;
mod warm_up;
mod weights;

pub use cross::{CrossEncoder, probability};
pub use device::{Adapter, DeviceChoice, DeviceError, adapters};
pub use encoder::Encoder;
pub use engine::{Engine, EngineError, Reranker, StartError};
pub use error::{EncodeError, LoadError};
pub use gpu::{DeviceLimits, Effort, MeasureError, measure_device};
pub use profile::{Profile, ProfileError};
pub use quantize::{QUANTIZED_MAX, dot_i8, quantize};
pub use self_test::{TOLERANCE_CPU, TOLERANCE_GPU};
pub use sts::{StsError, StsReport, sts_spearman};
