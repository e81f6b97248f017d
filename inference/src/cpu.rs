//! The encoder on the CPU, from the operators in [`kernels`](crate::kernels).

use std::{ops::Range, path::Path};

use rayon::prelude::*;

use crate::{
    batch::{Batch, split_by_tokens},
    config::{Architecture, BertConfig},
    error::LoadError,
    kernels::{
        LANES,
        attention::{Head, Scratch, attend},
        norm::{Affine, norm},
        panels::{Packed, Panels},
        product::{Finish, Left, Threads, product},
        silu::gate,
    },
    rope::{Rope, RopeScaling},
    team::Team,
    weights::Weights,
};

/// Most tokens of one task when a batch has enough of them to give each thread its own sequences. Every
/// task reads all weights, so small ones read more from memory, and the activations of large ones leave
/// the second-level cache; between 128 and 256 there is little difference.
const TASK_TOKENS: usize = 256;

/// Tokens for each thread from which on sequences are distributed and not the columns of products.
const THREAD_TOKENS_MIN: usize = 256;

/// Tasks for each thread at least, so that a thread that was held up does not hold up all.
const THREAD_TASKS: usize = 2;

/// Weights of the encoder, packed for the products.
#[derive(Debug)]
pub(crate) struct CpuModel {
    /// `[vocab_size][hidden_size]`
    words: Vec<f32>,
    /// What is added to a word: `[types][places][hidden_size]`, for up to two token types.
    additions: Vec<f32>,
    /// Positions that have an addition of their own: one where positions are rotary.
    places: usize,
    /// Cosines and sines of every position, where positions are rotary.
    rotary: Option<Rotary>,
    norm: Affine,
    layers: Vec<Layer>,
    hidden: usize,
    head_size: usize,
    team: Team,
}

#[derive(Debug)]
struct Rotary {
    rope: Rope,
    turns: Vec<Vec<f32>>,
}

#[derive(Debug)]
struct Layer {
    /// Query, key and value side by side.
    projection: Packed,
    output: Packed,
    attention_norm: Affine,
    /// Where it is gated, the gates stand behind the values.
    expand: Packed,
    activation: Activation,
    contract: Packed,
    norm: Affine,
}

/// What follows the expanding layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activation {
    Gelu,
    SwiGlu,
}

impl CpuModel {
    /// Refuses shapes that the operators cannot run, which work on whole panels of [`LANES`]
    /// columns: published encoders have heads of 32 or 64 and inner sizes of a multiple of 64.
    pub(crate) fn check(path: &Path, config: &BertConfig) -> Result<(), LoadError> {
        let sizes = [
            ("hidden_size / num_attention_heads", config.head_size()),
            ("intermediate_size", config.intermediate_size),
        ];
        for (field, size) in sizes {
            if !size.is_multiple_of(LANES) {
                return Err(LoadError::Config {
                    path: path.to_owned(),
                    reason: format!("{field} is {size}, on the CPU it is a multiple of {LANES}"),
                });
            }
        }
        Ok(())
    }

    /// `tokens_max` is the longest sequence that the model will be given.
    pub(crate) fn load(
        weights: &Weights<'_>,
        config: &BertConfig,
        tokens_max: usize,
    ) -> Result<Self, LoadError> {
        let hidden = config.hidden_size;
        let architecture = config.architecture();
        let types = weights
            .read("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, hidden])?;
        let (positions, rotary, norm) = match architecture {
            Architecture::Bert => {
                let shape = [config.max_position_embeddings, hidden];
                let table = weights.read("embeddings.position_embeddings.weight", &shape)?;
                (table, None, "embeddings.LayerNorm")
            }
            Architecture::NomicBert { theta } => {
                let rope = Rope::new(theta, config.head_size(), RopeScaling::Default);
                let turns = (0..tokens_max).map(|position| rope.position(position)).collect();
                (vec![0.0; hidden], Some(Rotary { rope, turns }), "emb_ln")
            }
        };
        // Only the first two token types ever occur: of a first and of a second text.
        let additions = types.chunks_exact(hidden).take(2).flat_map(|kind| {
            let row =
                |row: &[f32]| -> Vec<f32> { row.iter().zip(kind).map(|(a, b)| a + b).collect() };
            positions.chunks_exact(hidden).flat_map(row).collect::<Vec<f32>>()
        });
        let layers = (0..config.num_hidden_layers)
            .map(|index| match architecture {
                Architecture::Bert => {
                    Layer::bert(weights, &format!("encoder.layer.{index}"), config)
                }
                Architecture::NomicBert { .. } => {
                    Layer::nomic(weights, &format!("encoder.layers.{index}"), config)
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            words: weights
                .read("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?,
            places: positions.len() / hidden,
            additions: additions.collect(),
            rotary,
            norm: affine(weights, norm, config)?,
            layers,
            hidden,
            head_size: config.head_size(),
            team: Team::new().map_err(LoadError::Threads)?,
        })
    }

    /// The last layer's hidden states of every token: `[tokens, hidden_size]`, row-major.
    pub(crate) fn hidden_states(&self, batch: &Batch) -> Vec<f32> {
        self.team.run(|| self.pass(batch))
    }

    fn pass(&self, batch: &Batch) -> Vec<f32> {
        let threads = rayon::current_num_threads();
        let sequences: Vec<_> = batch.sequences().collect();
        if batch.ids.len() < threads * THREAD_TOKENS_MIN {
            return self.run(&batch.ids, &batch.kinds, &sequences, Threads::Spread);
        }
        let lengths: Vec<usize> = sequences.iter().map(|rows| rows.len()).collect();
        let most = TASK_TOKENS.min(batch.ids.len().div_ceil(threads * THREAD_TASKS));
        let states: Vec<Vec<f32>> = split_by_tokens(&lengths, most)
            .into_par_iter()
            .map(|task| {
                let sequences = &sequences[task];
                let start = sequences.first().map_or(0, |rows| rows.start);
                let end = sequences.last().map_or(0, |rows| rows.end);
                let local: Vec<_> =
                    sequences.iter().map(|rows| rows.start - start..rows.end - start).collect();
                let (ids, kinds) = (&batch.ids[start..end], &batch.kinds[start..end]);
                self.run(ids, kinds, &local, Threads::Alone)
            })
            .collect();
        states.concat()
    }

    /// The hidden states of `sequences`, which are ranges of `ids` and `kinds`.
    fn run(
        &self,
        ids: &[u32],
        kinds: &[u8],
        sequences: &[Range<usize>],
        threads: Threads,
    ) -> Vec<f32> {
        let rows = ids.len();
        let mut states = self.embed(ids, kinds, sequences);
        norm(&mut states, None, &self.norm);
        let mut projected = Panels::zeros(rows, 3 * self.hidden);
        let mut attended = Panels::zeros(rows, self.hidden);
        let mut update = Panels::zeros(rows, self.hidden);
        let inner = self.layers.first().map_or(0, |layer| layer.expand.outputs());
        let mut expanded = Panels::zeros(rows, inner);
        for layer in &self.layers {
            let bias = Finish::Bias(&layer.projection.bias);
            linear(&states, &layer.projection, bias, &mut projected, threads);
            if let Some(rotary) = &self.rotary {
                self.turn(rotary, &mut projected, sequences);
            }
            self.attend(&projected, sequences, &mut attended, threads);
            let bias = Finish::Bias(&layer.output.bias);
            linear(&attended, &layer.output, bias, &mut update, threads);
            norm(&mut states, Some(&update), &layer.attention_norm);
            layer.expand(&states, &mut expanded, threads);
            let bias = Finish::Bias(&layer.contract.bias);
            linear(&expanded, &layer.contract, bias, &mut update, threads);
            norm(&mut states, Some(&update), &layer.norm);
        }
        states.row_major()
    }

    fn embed(&self, ids: &[u32], kinds: &[u8], sequences: &[Range<usize>]) -> Panels {
        let row = |table: &[f32], index: usize| -> Vec<f32> {
            table[index * self.hidden..(index + 1) * self.hidden].to_vec()
        };
        let mut embedded = Vec::with_capacity(ids.len());
        for sequence in sequences {
            let tokens = ids[sequence.clone()].iter().zip(&kinds[sequence.clone()]);
            for (position, (id, kind)) in tokens.enumerate() {
                let mut sums = row(&self.words, *id as usize);
                let place = usize::from(*kind) * self.places + position.min(self.places - 1);
                for (sum, value) in sums.iter_mut().zip(row(&self.additions, place)) {
                    *sum += value;
                }
                embedded.push(sums);
            }
        }
        Panels::from_rows(embedded.iter().map(Vec::as_slice), self.hidden)
    }

    /// Turns every head of queries and keys by its position.
    fn turn(&self, rotary: &Rotary, projected: &mut Panels, sequences: &[Range<usize>]) {
        let rows = projected.rows;
        let mut head = vec![0.0; self.head_size];
        let width = self.head_size / LANES;
        for sequence in sequences {
            for (row, turns) in sequence.clone().zip(&rotary.turns) {
                for first in (0..2 * self.hidden / LANES).step_by(width) {
                    let panels = first..first + width;
                    for (panel, values) in panels.clone().zip(head.as_chunks_mut::<LANES>().0) {
                        *values = projected.lanes[panel * rows + row];
                    }
                    rotary.rope.turn(&mut head, turns);
                    for (panel, values) in panels.zip(head.as_chunks::<LANES>().0) {
                        projected.lanes[panel * rows + row] = *values;
                    }
                }
            }
        }
    }

    fn attend(
        &self,
        projected: &Panels,
        sequences: &[Range<usize>],
        out: &mut Panels,
        threads: Threads,
    ) {
        let size = self.head_size;
        let head_lanes = size / LANES * out.rows;
        let head = |scratch: &mut Scratch, head: usize, out: &mut [_]| {
            for rows in sequences {
                attend(Head { projected, rows: rows.clone(), head, size, out, scratch });
            }
        };
        match threads {
            Threads::Spread => {
                let heads = out.lanes.par_chunks_exact_mut(head_lanes).enumerate();
                heads.for_each_init(Scratch::default, |scratch, (index, out)| {
                    head(scratch, index, out);
                });
            }
            Threads::Alone => {
                let mut scratch = Scratch::default();
                for (index, out) in out.lanes.chunks_exact_mut(head_lanes).enumerate() {
                    head(&mut scratch, index, out);
                }
            }
        }
    }
}

impl Layer {
    fn bert(weights: &Weights<'_>, name: &str, config: &BertConfig) -> Result<Self, LoadError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |parts: &[&str], inputs: usize, outputs: usize| {
            let mut weight = Vec::new();
            let mut bias = Vec::new();
            for part in parts {
                let name = format!("{name}.{part}");
                weight.extend(weights.read(&format!("{name}.weight"), &[outputs, inputs])?);
                bias.extend(weights.read(&format!("{name}.bias"), &[outputs])?);
            }
            Ok::<_, LoadError>(Packed::new(&weight, &bias, inputs))
        };
        let attention = ["attention.self.query", "attention.self.key", "attention.self.value"];
        Ok(Self {
            projection: linear(&attention, hidden, hidden)?,
            output: linear(&["attention.output.dense"], hidden, hidden)?,
            attention_norm: affine(weights, &format!("{name}.attention.output.LayerNorm"), config)?,
            expand: linear(&["intermediate.dense"], hidden, inner)?,
            activation: Activation::Gelu,
            contract: linear(&["output.dense"], inner, hidden)?,
            norm: affine(weights, &format!("{name}.output.LayerNorm"), config)?,
        })
    }

    fn nomic(weights: &Weights<'_>, name: &str, config: &BertConfig) -> Result<Self, LoadError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |parts: &[&str], inputs: usize, outputs: usize| {
            let mut weight = Vec::new();
            for part in parts {
                weight.extend(weights.read(&format!("{name}.{part}.weight"), &[outputs, inputs])?);
            }
            let bias = vec![0.0; weight.len() / inputs];
            Ok::<_, LoadError>(Packed::new(&weight, &bias, inputs))
        };
        Ok(Self {
            projection: linear(&["attn.Wqkv"], hidden, 3 * hidden)?,
            output: linear(&["attn.out_proj"], hidden, hidden)?,
            attention_norm: affine(weights, &format!("{name}.norm1"), config)?,
            expand: linear(&["mlp.fc11", "mlp.fc12"], hidden, inner)?,
            activation: Activation::SwiGlu,
            contract: linear(&["mlp.fc2"], inner, hidden)?,
            norm: affine(weights, &format!("{name}.norm2"), config)?,
        })
    }

    /// The expanding layer with its activation; gated values are the first panels of `out`.
    fn expand(&self, states: &Panels, out: &mut Panels, threads: Threads) {
        match self.activation {
            Activation::Gelu => {
                linear(states, &self.expand, Finish::BiasGelu(&self.expand.bias), out, threads);
            }
            Activation::SwiGlu => {
                linear(states, &self.expand, Finish::Bias(&self.expand.bias), out, threads);
                let half = out.lanes.len() / 2;
                let (values, gates) = out.lanes.split_at_mut(half);
                gate(values, gates);
            }
        }
    }
}

fn affine(weights: &Weights<'_>, name: &str, config: &BertConfig) -> Result<Affine, LoadError> {
    let gamma = weights.read(&format!("{name}.weight"), &[config.hidden_size])?;
    let beta = weights.read(&format!("{name}.bias"), &[config.hidden_size])?;
    Ok(Affine::new(&gamma, &beta, config.layer_norm_eps))
}

fn linear(states: &Panels, layer: &Packed, finish: Finish<'_>, out: &mut Panels, threads: Threads) {
    // Gates that stand behind the values are not read.
    let lanes = &states.lanes[..layer.inputs.div_ceil(LANES) * states.rows];
    let left = Left { lanes, stride: states.rows, first_row: 0, rows: states.rows };
    product(left, &layer.weight, layer.inputs, &mut out.lanes, finish, threads);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use burn::tensor::{Device, FloatDType};
    use safetensors::{Dtype, tensor::TensorView};

    use super::*;
    use crate::{
        device::{DeviceChoice, adapters, resolve},
        model::Model,
        tokens::Sequence,
    };

    #[test]
    fn the_operators_agree_with_burns_tensors() {
        let config = config(64, 4);
        let bytes = random_weights(&config);
        let weights = Weights::parse(Path::new("model.safetensors"), &bytes).unwrap();
        let own = CpuModel::load(&weights, &config, 32).unwrap();
        let burn = Model::load(&weights, &config, &Device::flex(), 32, FloatDType::F32).unwrap();

        let sequences: Vec<Sequence> = [5, 1, 17, 5, 30, 16]
            .iter()
            .map(|length| (0..*length).map(|index| (index * 7 + length) % 50).collect())
            .map(Sequence::single)
            .collect();
        let batch = Batch::pack(&sequences.iter().collect::<Vec<_>>());
        let burn: Vec<f32> = burn.states(&batch).into_data().try_into_vec().unwrap();
        let own = own.hidden_states(&batch);
        assert_eq!(own.len(), 74 * 64);
        assert_eq!(own.len(), burn.len());
        let largest =
            own.iter().zip(&burn).map(|(own, burn)| (own - burn).abs()).fold(0.0, f32::max);
        assert!(largest < 2e-5, "{largest:e}");
        assert!(0.0 < largest, "both come from the same code");
    }

    #[test]
    fn kernels_for_sequences_agree_with_the_operators() {
        let config = config(64, 4);
        let bytes = random_weights(&config);
        let weights = Weights::parse(Path::new("model.safetensors"), &bytes).unwrap();
        let own = CpuModel::load(&weights, &config, 200).unwrap();
        let adapters = adapters();
        let number = adapters.iter().find(|adapter| adapter.software).unwrap().number;
        let device = resolve(DeviceChoice::Wgpu(Some(number))).unwrap().device;
        // Lengths around those of tiles of keys and of groups of queries.
        let sequences: Vec<Sequence> = [64, 1, 15, 65, 16, 17, 130, 63]
            .iter()
            .map(|length| (0..*length).map(|index| (index * 7 + length) % 50).collect())
            .map(Sequence::single)
            .collect();
        let batch = Batch::pack(&sequences.iter().collect::<Vec<_>>());
        let states = own.hidden_states(&batch);
        // In f32 only the order of sums differs.
        for (products, limit) in [(FloatDType::F32, 1e-4), (FloatDType::F16, 5e-3)] {
            let gpu = Model::load(&weights, &config, &device, 200, products).unwrap();
            let on_gpu: Vec<f32> = gpu.states(&batch).into_data().try_into_vec().unwrap();
            assert_eq!(states.len(), on_gpu.len());
            let differences = states.iter().zip(&on_gpu).map(|(own, gpu)| (own - gpu).abs());
            let largest = differences.fold(0.0, f32::max);
            eprintln!("{products:?}: largest difference {largest:e}");
            assert!(largest < limit, "{products:?}: {largest:e}");
            let means = gpu.means(&batch).unwrap();
            for (rows, mean) in batch.sequences().zip(&means) {
                let expected = crate::pooling::mean(&states[rows.start * 64..rows.end * 64], 64);
                let pairs = mean.iter().zip(&expected);
                let far = pairs.map(|(left, right)| (left - right).abs()).fold(0.0, f64::max);
                assert!(far < f64::from(limit), "{products:?}, {rows:?}: {far:e}");
            }
        }
    }

    #[test]
    fn distributed_sequences_and_distributed_columns_give_the_same_bits() {
        let config = config(32, 2);
        let bytes = random_weights(&config);
        let weights = Weights::parse(Path::new("model.safetensors"), &bytes).unwrap();
        let model = CpuModel::load(&weights, &config, 32).unwrap();
        let sequences: Vec<Sequence> = (0..40)
            .map(|length| (0..1 + length % 31).map(|index| (index * 3 + length) % 50).collect())
            .map(Sequence::single)
            .collect();
        let batch = Batch::pack(&sequences.iter().collect::<Vec<_>>());
        // One thread distributes these sequences, three threads distribute columns.
        assert!(THREAD_TOKENS_MIN <= batch.ids.len() && batch.ids.len() < 3 * THREAD_TOKENS_MIN);
        let with_threads = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| model.hidden_states(&batch))
        };
        let bits = |states: Vec<f32>| states.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(with_threads(1)), bits(with_threads(3)));
    }

    #[test]
    fn shapes_without_whole_panels_are_refused() {
        let error = CpuModel::check(Path::new("config.json"), &config(64, 8)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "config.json: hidden_size / num_attention_heads is 8, on the CPU it is a multiple of 16"
        );
        CpuModel::check(Path::new("config.json"), &config(64, 4)).unwrap();
    }

    fn config(hidden: usize, heads: usize) -> BertConfig {
        let text = serde_json::json!({
            "model_type": "bert", "hidden_act": "gelu", "hidden_size": hidden,
            "intermediate_size": 3 * hidden, "layer_norm_eps": 1e-12,
            "max_position_embeddings": 200, "num_attention_heads": heads, "num_hidden_layers": 3,
            "type_vocab_size": 2, "vocab_size": 50,
        });
        BertConfig::parse(Path::new("config.json"), text.to_string().as_bytes()).unwrap()
    }

    /// A file with every tensor that `config` asks for, its values uniform in -0.5 ..= 0.5.
    fn random_weights(config: &BertConfig) -> Vec<u8> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let mut shapes = vec![
            ("embeddings.word_embeddings.weight".to_owned(), vec![config.vocab_size, hidden]),
            (
                "embeddings.position_embeddings.weight".to_owned(),
                vec![config.max_position_embeddings, hidden],
            ),
            (
                "embeddings.token_type_embeddings.weight".to_owned(),
                vec![config.type_vocab_size, hidden],
            ),
        ];
        let mut add = |name: &str, weight: Vec<usize>, outputs: usize| {
            shapes.push((format!("{name}.weight"), weight));
            shapes.push((format!("{name}.bias"), vec![outputs]));
        };
        add("embeddings.LayerNorm", vec![hidden], hidden);
        for layer in 0..config.num_hidden_layers {
            let name = format!("encoder.layer.{layer}");
            for part in ["self.query", "self.key", "self.value", "output.dense"] {
                add(&format!("{name}.attention.{part}"), vec![hidden, hidden], hidden);
            }
            add(&format!("{name}.attention.output.LayerNorm"), vec![hidden], hidden);
            add(&format!("{name}.intermediate.dense"), vec![inner, hidden], inner);
            add(&format!("{name}.output.dense"), vec![hidden, inner], hidden);
            add(&format!("{name}.output.LayerNorm"), vec![hidden], hidden);
        }
        let mut state = 1_u32;
        let data: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
            .into_iter()
            .map(|(name, shape)| {
                let next = |_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ((state >> 8) as f32 / 16_777_216.0 - 0.5).to_le_bytes()
                };
                let bytes = (0..shape.iter().product()).flat_map(next).collect();
                (name, shape, bytes)
            })
            .collect();
        let views: HashMap<&str, TensorView<'_>> = data
            .iter()
            .map(|(name, shape, bytes)| {
                (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
            })
            .collect();
        safetensors::serialize(views, None).unwrap()
    }
}
