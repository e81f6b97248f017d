//! What stands between products whose two sides are `f16`, each a kernel: an activation, and the adding of
//! an update to the states with the norm behind it. Products leave their sums in `f16` and their bias to
//! these, so that nothing is read and written in between.

use burn::tensor::{DType, Device, Tensor};

use super::layers::{Activation, Linear, Norm};
use crate::gpu::{Buffer, Constant, Gpu, Kernel, bindings};

/// Threads of a workgroup.
const THREADS: u32 = 64;

/// The kernels of one model.
#[derive(Debug)]
pub(super) struct Fused {
    device: Device,
    norm: Kernel,
    activate: Kernel,
    hidden: usize,
    inner: usize,
}

impl Fused {
    /// For a model whose linear layers all have a bias or none, on one of wgpu's devices.
    pub(super) fn new(
        device: &Device,
        [hidden, inner]: [usize; 2],
        activation: Activation,
        biased: bool,
        epsilon: f64,
    ) -> Self {
        let constants = [
            ("HIDDEN", Constant::Unsigned(hidden / 4)),
            ("INNER", Constant::Unsigned(inner / 4)),
            ("EPSILON", Constant::Float(epsilon as f32)),
        ];
        let kernel = |buffers: &[(&str, &str)], body: &[&str]| {
            let bias: &[_] = if biased { &[("bias", "vec4<f32>")] } else { &[] };
            let declared = bindings(&[buffers, bias].concat());
            let parts = [&[declared.as_str(), include_str!("halves.wgsl"), bias_of(biased)], body];
            Kernel::new(&parts.concat(), THREADS, &constants)
        };
        let norm = [
            ("states", "vec4<f32>"),
            ("update", "vec2<u32>"),
            ("gamma", "vec4<f32>"),
            ("beta", "vec4<f32>"),
            ("out", "vec2<u32>"),
        ];
        let activate = [("expanded", "vec2<u32>"), ("out", "vec2<u32>")];
        let activated = match activation {
            Activation::Gelu => include_str!("gelu.wgsl"),
            Activation::SwiGlu => include_str!("swiglu.wgsl"),
        };
        Self {
            device: device.clone(),
            norm: kernel(&norm, &[include_str!("norm.wgsl")]),
            activate: kernel(&activate, &[activated, include_str!("activate.wgsl")]),
            hidden,
            inner,
        }
    }

    /// Adds what `layer` makes of `rows`, and normalises the states in place; gives them back in `f16`.
    pub(super) fn update(
        &self,
        states: &Tensor<2>,
        rows: Tensor<2>,
        layer: &Linear,
        norm: &Norm,
    ) -> Tensor<2> {
        let count = rows.dims()[0];
        let update = rows.matmul(layer.weight.clone());
        let out = halves(count, self.hidden, &self.device);
        let vector = |tensor: &Tensor<1>| Gpu::floats(tensor.clone().reshape([1, self.hidden]));
        let (states, update) = (Gpu::floats(states.clone()), Gpu::floats(update));
        let (gamma, beta) = (vector(&norm.gamma), vector(&norm.beta));
        let to = Gpu::floats(out.clone());
        let mut buffers = vec![&states, &update, &gamma, &beta, &to];
        let bias = bias(layer);
        buffers.extend(&bias);
        self.norm.launch([count, 1, 1], &buffers);
        out
    }

    /// The expanding layer with its activation.
    pub(super) fn expand(&self, rows: Tensor<2>, layer: &Linear) -> Tensor<2> {
        let count = rows.dims()[0];
        let expanded = Gpu::floats(rows.matmul(layer.weight.clone()));
        let out = halves(count, self.inner, &self.device);
        let to = Gpu::floats(out.clone());
        let mut buffers = vec![&expanded, &to];
        let bias = bias(layer);
        buffers.extend(&bias);
        let groups = (self.inner / 4).div_ceil(THREADS as usize);
        self.activate.launch([groups, count, 1], &buffers);
        out
    }
}

/// Memory for rows in `f16`.
pub(super) fn halves(rows: usize, columns: usize, device: &Device) -> Tensor<2> {
    Tensor::empty([rows, columns], (device, DType::F16))
}

pub(super) fn bias(layer: &Linear) -> Option<Buffer> {
    layer.bias.as_ref().map(|bias| Gpu::floats(bias.clone()))
}

/// How kernels read a bias, four columns at a time.
pub(super) fn bias_of(biased: bool) -> &'static str {
    if biased {
        "fn bias_of(quarter: u32) -> vec4<f32> { return bias[quarter]; }\n"
    } else {
        "fn bias_of(quarter: u32) -> vec4<f32> { return vec4<f32>(0.0f); }\n"
    }
}
