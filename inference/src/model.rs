//! The BERT encoder as burn's tensor operations, for GPUs; shapes are in rows of tokens.

use burn::tensor::{
    Device, Int, Tensor, TensorData,
    activation::gelu,
    module::{attention, layer_norm},
    ops::AttentionModuleOptions,
};

use crate::{batch::Batch, config::BertConfig, error::LoadError, weights::Weights};

/// Weights of the encoder on their device.
#[derive(Debug)]
pub(crate) struct Model {
    device: Device,
    /// `[vocab_size, hidden_size]`
    words: Tensor<2>,
    /// `[max_position_embeddings, hidden_size]`, with the first token type's row added, because
    /// the encoder reads single texts, whose tokens are all of this type.
    positions: Tensor<2>,
    norm: Norm,
    layers: Vec<Layer>,
    heads: usize,
    head_size: usize,
    epsilon: f64,
}

#[derive(Debug)]
struct Layer {
    /// Query, key and value side by side: `[hidden_size, 3 * hidden_size]`.
    projection: Linear,
    output: Linear,
    attention_norm: Norm,
    /// `[hidden_size, intermediate_size]`
    expand: Linear,
    /// `[intermediate_size, hidden_size]`
    contract: Linear,
    norm: Norm,
}

#[derive(Debug)]
struct Linear {
    /// `[inputs, outputs]`
    weight: Tensor<2>,
    /// `[1, outputs]`
    bias: Tensor<2>,
}

#[derive(Debug)]
struct Norm {
    gamma: Tensor<1>,
    beta: Tensor<1>,
}

impl Model {
    pub(crate) fn load(
        weights: &Weights<'_>,
        config: &BertConfig,
        device: &Device,
    ) -> Result<Self, LoadError> {
        let hidden = config.hidden_size;
        let load = Loader { weights, device };
        let words =
            load.matrix("embeddings.word_embeddings.weight", [config.vocab_size, hidden])?;
        let positions = load.matrix(
            "embeddings.position_embeddings.weight",
            [config.max_position_embeddings, hidden],
        )?;
        let types = load
            .matrix("embeddings.token_type_embeddings.weight", [config.type_vocab_size, hidden])?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(&load, &format!("encoder.layer.{index}"), config))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            device: device.clone(),
            words,
            positions: positions + types.narrow(0, 0, 1),
            norm: load.norm("embeddings.LayerNorm", hidden)?,
            layers,
            heads: config.num_attention_heads,
            head_size: config.head_size(),
            epsilon: config.layer_norm_eps,
        })
    }

    /// The last layer's hidden states of every token: `[tokens, hidden_size]`, row-major. `Err`
    /// says why the device failed.
    pub(crate) fn hidden_states(&self, batch: &Batch) -> Result<Vec<f32>, String> {
        let mut states = self.norm.apply(self.embed(batch), self.epsilon);
        for layer in &self.layers {
            let attended = layer.output.apply(self.attend(layer, states.clone(), batch));
            states = layer.attention_norm.apply(states + attended, self.epsilon);
            let expanded = gelu(layer.expand.apply(states.clone()));
            states = layer.norm.apply(states + layer.contract.apply(expanded), self.epsilon);
        }
        let data = states.try_into_data().map_err(|error| error.to_string())?;
        data.try_into_vec().map_err(|error| format!("read the hidden states: {error:?}"))
    }

    fn embed(&self, batch: &Batch) -> Tensor<2> {
        let positions = batch.sequences().flat_map(|rows| 0..rows.len() as u32);
        let words = self.words.clone().select(0, self.indices(batch.ids.iter().copied()));
        words + self.positions.clone().select(0, self.indices(positions))
    }

    fn indices(&self, values: impl Iterator<Item = u32>) -> Tensor<1, Int> {
        // Ids and positions are below a table's size, which `limits` keeps far below 2^31.
        let values: Vec<i32> = values.map(|value| value as i32).collect();
        let length = values.len();
        Tensor::from_data(TensorData::new(values, [length]), &self.device)
    }

    /// Attention of every sequence to itself: `[tokens, hidden_size]` to the same.
    fn attend(&self, layer: &Layer, states: Tensor<2>, batch: &Batch) -> Tensor<2> {
        let hidden = self.heads * self.head_size;
        let projected = layer.projection.apply(states);
        let runs = batch.runs.iter().map(|run| {
            let rows = projected.clone().narrow(0, run.start, run.rows().len());
            let part = |index: usize| {
                rows.clone()
                    .narrow(1, index * hidden, hidden)
                    .reshape([run.count, run.length, self.heads, self.head_size])
                    .swap_dims(1, 2)
            };
            let options = AttentionModuleOptions::default();
            let attended = attention(part(0), part(1), part(2), None, None, options);
            attended.swap_dims(1, 2).reshape([run.rows().len(), hidden])
        });
        Tensor::cat(runs.collect(), 0)
    }
}

impl Layer {
    fn load(load: &Loader<'_>, name: &str, config: &BertConfig) -> Result<Self, LoadError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let attention = ["query", "key", "value"]
            .map(|part| load.linear(&format!("{name}.attention.self.{part}"), hidden, hidden));
        let [query, key, value] = attention;
        let (query, key, value) = (query?, key?, value?);
        Ok(Self {
            projection: Linear {
                weight: Tensor::cat(vec![query.weight, key.weight, value.weight], 1),
                bias: Tensor::cat(vec![query.bias, key.bias, value.bias], 1),
            },
            output: load.linear(&format!("{name}.attention.output.dense"), hidden, hidden)?,
            attention_norm: load.norm(&format!("{name}.attention.output.LayerNorm"), hidden)?,
            expand: load.linear(&format!("{name}.intermediate.dense"), hidden, inner)?,
            contract: load.linear(&format!("{name}.output.dense"), inner, hidden)?,
            norm: load.norm(&format!("{name}.output.LayerNorm"), hidden)?,
        })
    }
}

impl Linear {
    fn apply(&self, rows: Tensor<2>) -> Tensor<2> {
        rows.matmul(self.weight.clone()) + self.bias.clone()
    }
}

impl Norm {
    fn apply(&self, rows: Tensor<2>, epsilon: f64) -> Tensor<2> {
        layer_norm(rows, self.gamma.clone(), Some(self.beta.clone()), epsilon)
    }
}

/// Reads tensors of the weights file onto the device.
struct Loader<'a> {
    weights: &'a Weights<'a>,
    device: &'a Device,
}

impl Loader<'_> {
    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Tensor<2>, LoadError> {
        let values = self.weights.read(name, &shape)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), self.device))
    }

    fn vector(&self, name: &str, length: usize) -> Result<Tensor<1>, LoadError> {
        let values = self.weights.read(name, &[length])?;
        Ok(Tensor::from_data(TensorData::new(values, [length]), self.device))
    }

    /// PyTorch keeps a linear layer as `[outputs, inputs]`; it is transposed in memory here,
    /// because the products read it by rows of inputs.
    fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear, LoadError> {
        let values = self.weights.read(&format!("{name}.weight"), &[outputs, inputs])?;
        let mut transposed = vec![0.0; values.len()];
        for (output, row) in values.chunks_exact(inputs).enumerate() {
            for (input, value) in row.iter().enumerate() {
                transposed[input * outputs + output] = *value;
            }
        }
        let weight = TensorData::new(transposed, [inputs, outputs]);
        let bias = self.vector(&format!("{name}.bias"), outputs)?;
        Ok(Linear {
            weight: Tensor::from_data(weight, self.device),
            bias: bias.reshape([1, outputs]),
        })
    }

    fn norm(&self, name: &str, length: usize) -> Result<Norm, LoadError> {
        Ok(Norm {
            gamma: self.vector(&format!("{name}.weight"), length)?,
            beta: self.vector(&format!("{name}.bias"), length)?,
        })
    }
}
