//! Tests of the crate against the real model, on the CPU and on software Vulkan.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with the place and the value")]

mod batching;
mod decoder;
mod encoders;
mod engine;
mod golden;
mod int8;
mod load;
mod model_dir;
mod parity;
mod stress;
mod sts;
