//! The layers' weights as tensors, and what each of them does alone.

use burn::tensor::{
    DType, Device, FloatDType, Tensor, TensorData,
    activation::{gelu, silu},
    module::layer_norm,
};

use crate::{config::BertConfig, error::LoadError, weights::Weights};

#[derive(Debug)]
pub(super) struct Layer {
    /// Query, key and value side by side: `[hidden_size, 3 * hidden_size]`.
    pub(super) projection: Linear,
    pub(super) output: Linear,
    pub(super) attention_norm: Norm,
    /// `[hidden_size, intermediate_size]`; where it is gated, the gates stand behind the values.
    pub(super) expand: Linear,
    pub(super) activation: Activation,
    /// `[intermediate_size, hidden_size]`
    pub(super) contract: Linear,
    pub(super) norm: Norm,
}

/// What follows the expanding layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    Gelu,
    SwiGlu,
}

#[derive(Debug)]
pub(super) struct Linear {
    /// `[inputs, outputs]`, in the type that products are computed in.
    pub(super) weight: Tensor<2>,
    /// `[1, outputs]`
    pub(super) bias: Option<Tensor<2>>,
}

#[derive(Debug)]
pub(super) struct Norm {
    pub(super) gamma: Tensor<1>,
    pub(super) beta: Tensor<1>,
}

impl Layer {
    pub(super) fn bert(
        load: &Loader<'_>,
        name: &str,
        config: &BertConfig,
    ) -> Result<Self, LoadError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |part: &str, inputs: usize, outputs: usize| {
            let bias = load.vector(&format!("{name}.{part}.bias"), outputs)?;
            let weight = load.transposed(&format!("{name}.{part}.weight"), inputs, outputs)?;
            Ok::<_, LoadError>(Linear { weight, bias: Some(bias.reshape([1, outputs])) })
        };
        let attention = ["query", "key", "value"]
            .map(|part| linear(&format!("attention.self.{part}"), hidden, hidden));
        let [query, key, value] = attention;
        Ok(Self {
            projection: Linear::beside([query?, key?, value?]),
            output: linear("attention.output.dense", hidden, hidden)?,
            attention_norm: load.norm(&format!("{name}.attention.output.LayerNorm"), hidden)?,
            expand: linear("intermediate.dense", hidden, inner)?,
            activation: Activation::Gelu,
            contract: linear("output.dense", inner, hidden)?,
            norm: load.norm(&format!("{name}.output.LayerNorm"), hidden)?,
        })
    }

    pub(super) fn nomic(
        load: &Loader<'_>,
        name: &str,
        config: &BertConfig,
    ) -> Result<Self, LoadError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |part: &str, inputs: usize, outputs: usize| {
            let weight = load.transposed(&format!("{name}.{part}.weight"), inputs, outputs)?;
            Ok::<_, LoadError>(Linear { weight, bias: None })
        };
        Ok(Self {
            projection: linear("attn.Wqkv", hidden, 3 * hidden)?,
            output: linear("attn.out_proj", hidden, hidden)?,
            attention_norm: load.norm(&format!("{name}.norm1"), hidden)?,
            expand: Linear::beside([
                linear("mlp.fc11", hidden, inner)?,
                linear("mlp.fc12", hidden, inner)?,
            ]),
            activation: Activation::SwiGlu,
            contract: linear("mlp.fc2", inner, hidden)?,
            norm: load.norm(&format!("{name}.norm2"), hidden)?,
        })
    }

    /// The expanding layer with its activation.
    pub(super) fn expand(&self, states: Tensor<2>) -> Tensor<2> {
        let expanded = self.expand.apply(states);
        match self.activation {
            Activation::Gelu => gelu(expanded),
            Activation::SwiGlu => {
                let inner = expanded.dims()[1] / 2;
                let values = expanded.clone().narrow(1, 0, inner);
                values * silu(expanded.narrow(1, inner, inner))
            }
        }
    }
}

impl Linear {
    /// Layers of the same inputs as one, their outputs side by side.
    fn beside<const N: usize>(layers: [Self; N]) -> Self {
        let (weights, biases): (Vec<_>, Vec<_>) =
            layers.into_iter().map(|layer| (layer.weight, layer.bias)).unzip();
        let biases: Option<Vec<Tensor<2>>> = biases.into_iter().collect();
        Self { weight: Tensor::cat(weights, 1), bias: biases.map(|biases| Tensor::cat(biases, 1)) }
    }

    pub(super) fn apply(&self, rows: Tensor<2>) -> Tensor<2> {
        let product = match self.weight.dtype() {
            DType::F16 => {
                rows.cast(FloatDType::F16).matmul(self.weight.clone()).cast(FloatDType::F32)
            }
            _ => rows.matmul(self.weight.clone()),
        };
        match &self.bias {
            Some(bias) => product + bias.clone(),
            None => product,
        }
    }
}

impl Norm {
    pub(super) fn apply(&self, rows: Tensor<2>, epsilon: f64) -> Tensor<2> {
        layer_norm(rows, self.gamma.clone(), Some(self.beta.clone()), epsilon)
    }
}

/// The type that products read on `device`.
pub(crate) fn products_on(device: &Device) -> FloatDType {
    if device.supports_dtype(DType::F16) { FloatDType::F16 } else { FloatDType::F32 }
}

/// Reads tensors of the weights file onto the device.
pub(super) struct Loader<'a> {
    pub(super) weights: &'a Weights<'a>,
    pub(super) device: &'a Device,
    pub(super) products: FloatDType,
}

impl Loader<'_> {
    pub(super) fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Tensor<2>, LoadError> {
        let values = self.weights.read(name, &shape)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), self.device))
    }

    fn vector(&self, name: &str, length: usize) -> Result<Tensor<1>, LoadError> {
        let values = self.weights.read(name, &[length])?;
        Ok(Tensor::from_data(TensorData::new(values, [length]), self.device))
    }

    /// PyTorch keeps a linear layer as `[outputs, inputs]`; it is transposed in memory here,
    /// because the products read it by rows of inputs.
    fn transposed(
        &self,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Tensor<2>, LoadError> {
        let values = self.weights.read(name, &[outputs, inputs])?;
        let mut transposed = vec![0.0; values.len()];
        for (output, row) in values.chunks_exact(inputs).enumerate() {
            for (input, value) in row.iter().enumerate() {
                transposed[input * outputs + output] = *value;
            }
        }
        let weight = TensorData::new(transposed, [inputs, outputs]);
        let weight: Tensor<2> = Tensor::from_data(weight, self.device);
        Ok(match self.products {
            FloatDType::F16 => weight.cast(FloatDType::F16),
            _ => weight,
        })
    }

    pub(super) fn norm(&self, name: &str, length: usize) -> Result<Norm, LoadError> {
        Ok(Norm {
            gamma: self.vector(&format!("{name}.weight"), length)?,
            beta: self.vector(&format!("{name}.bias"), length)?,
        })
    }
}
