//! Tests of the crate against the real model, on the CPU and on software Vulkan.

mod batching;
mod engine;
mod golden;
mod load;
mod model_dir;
mod sts;
