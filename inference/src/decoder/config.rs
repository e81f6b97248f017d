//! `config.json` of a decoder: Llama 3, Qwen 2.5 or Qwen 3; read, checked and bounded.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::limits::POSITIONS_MAX;
use crate::{
    error::LoadError,
    kernels::LANES,
    limits::{CONFIG_DIMENSION_MAX, CONFIG_LAYERS_MAX},
    rope::{Llama3Scaling, RopeScaling},
};

/// The shape of a model and how its layers differ from each other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DecoderConfig {
    pub(crate) vocabulary: usize,
    pub(crate) hidden: usize,
    pub(crate) inner: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) key_heads: usize,
    pub(crate) head_size: usize,
    pub(crate) epsilon: f32,
    /// Most positions of a sequence: the model's, at most [`POSITIONS_MAX`].
    pub(crate) positions: usize,
    pub(crate) theta: f64,
    pub(crate) scaling: RopeScaling,
    /// Whether the head's weights are the embedding's.
    pub(crate) tied: bool,
    /// Whether queries, keys and values have a bias (Qwen 2.5).
    pub(crate) projection_bias: bool,
    /// Whether the projection behind attention has one too (Llama with `attention_bias`).
    pub(crate) output_bias: bool,
    /// Whether the heads of queries and keys are normalised (Qwen 3).
    pub(crate) head_norm: bool,
    /// For each layer, how many positions a token sees, itself included; `None` for all.
    pub(crate) windows: Vec<Option<usize>>,
    /// Tokens that end an output.
    pub(crate) ends: Vec<u32>,
}

/// The fields of `config.json` that decide something, as Hugging Face names them.
#[derive(Deserialize)]
struct Fields {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: String,
    rms_norm_eps: f64,
    max_position_embeddings: usize,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeFields>,
    /// Where newer versions of the format keep what the two fields above say.
    rope_parameters: Option<RopeFields>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
    sliding_window: Option<usize>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    #[serde(default)]
    eos_token_id: Value,
    quantization_config: Option<Value>,
}

#[derive(Deserialize)]
struct RopeFields {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

impl DecoderConfig {
    /// Parses `bytes`, the content of `path`, and refuses what the decoder does not compute.
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, LoadError> {
        let failed = |reason: String| LoadError::Config { path: path.to_owned(), reason };
        let fields: Fields =
            serde_json::from_slice(bytes).map_err(|error| failed(error.to_string()))?;
        let config = fields.read().map_err(failed)?;
        Ok(config)
    }

    /// Queries that share one head of keys and values.
    pub(crate) fn group(&self) -> usize {
        self.heads / self.key_heads
    }
}

/// The ids in an `eos_token_id`, which is a number, a list or null.
pub(crate) fn token_ids(value: &Value) -> Result<Vec<u32>, String> {
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| format!("eos_token_id holds {value}, which is no token id"))
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(values) => values.iter().map(id).collect(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            Ok(vec![id(value)?])
        }
    }
}

impl Fields {
    fn read(self) -> Result<DecoderConfig, String> {
        let qwen = match self.model_type.as_str() {
            "llama" => false,
            "qwen2" | "qwen3" => true,
            other => {
                return Err(format!(
                    "model_type is {other:?}, supported are \"llama\", \"qwen2\" and \"qwen3\""
                ));
            }
        };
        if self.hidden_act != "silu" {
            return Err(format!("hidden_act is {:?}, only \"silu\" is supported", self.hidden_act));
        }
        if self.mlp_bias {
            return Err("mlp_bias is true, which is not supported".to_owned());
        }
        if self.quantization_config.is_some() {
            return Err(
                "quantization_config is set; use the original weights, they are quantised \
                        while they are loaded"
                    .to_owned(),
            );
        }
        let key_heads = self.num_key_value_heads.unwrap_or(self.num_attention_heads);
        for (field, value, limit) in [
            ("vocab_size", self.vocab_size, CONFIG_DIMENSION_MAX),
            ("hidden_size", self.hidden_size, CONFIG_DIMENSION_MAX),
            ("intermediate_size", self.intermediate_size, CONFIG_DIMENSION_MAX),
            ("num_hidden_layers", self.num_hidden_layers, CONFIG_LAYERS_MAX),
            ("num_attention_heads", self.num_attention_heads, CONFIG_DIMENSION_MAX),
            ("num_key_value_heads", key_heads, CONFIG_DIMENSION_MAX),
            ("max_position_embeddings", self.max_position_embeddings, usize::MAX),
        ] {
            if value == 0 || limit < value {
                return Err(format!("{field} is {value}, allowed are 1 to {limit}"));
            }
        }
        if !self.num_attention_heads.is_multiple_of(key_heads) {
            return Err(format!(
                "num_attention_heads {} is no multiple of num_key_value_heads {key_heads}",
                self.num_attention_heads
            ));
        }
        let head_size = self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads);
        for (field, size, unit) in [
            ("head_dim", head_size, LANES),
            ("hidden_size", self.hidden_size, LANES),
            ("intermediate_size", self.intermediate_size, LANES),
        ] {
            if size == 0 || CONFIG_DIMENSION_MAX < size || !size.is_multiple_of(unit) {
                return Err(format!("{field} is {size}, it has to be a multiple of {unit}"));
            }
        }
        if !(0.0 < self.rms_norm_eps && self.rms_norm_eps < 1.0) {
            return Err(format!(
                "rms_norm_eps is {}, allowed is between 0 and 1",
                self.rms_norm_eps
            ));
        }
        let (theta, scaling) = self.rope()?;
        Ok(DecoderConfig {
            vocabulary: self.vocab_size,
            hidden: self.hidden_size,
            inner: self.intermediate_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            key_heads,
            head_size,
            epsilon: self.rms_norm_eps as f32,
            positions: self.max_position_embeddings.min(POSITIONS_MAX),
            theta,
            scaling,
            tied: self.tie_word_embeddings,
            projection_bias: self.model_type == "qwen2" || self.attention_bias,
            output_bias: !qwen && self.attention_bias,
            head_norm: self.model_type == "qwen3",
            windows: self.windows(qwen)?,
            ends: token_ids(&self.eos_token_id)?,
        })
    }

    fn rope(&self) -> Result<(f64, RopeScaling), String> {
        let fields = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref());
        let theta = fields.and_then(|fields| fields.rope_theta).or(self.rope_theta);
        let theta = theta.unwrap_or(10_000.0);
        if !(1.0 < theta && theta < 1e12) {
            return Err(format!("rope_theta is {theta}, allowed is between 1 and 1e12"));
        }
        let Some(fields) = fields else { return Ok((theta, RopeScaling::Default)) };
        let number = |name: &str, value: Option<f64>| match value {
            Some(value) if value.is_finite() && 0.0 < value => Ok(value),
            _ => Err(format!("rope_scaling.{name} is {value:?}, it has to be a positive number")),
        };
        let scaling = match fields.rope_type.as_deref() {
            None | Some("default") => RopeScaling::Default,
            Some("linear") => RopeScaling::Linear { factor: number("factor", fields.factor)? },
            Some("llama3") => RopeScaling::Llama3(Llama3Scaling {
                factor: number("factor", fields.factor)?,
                low: number("low_freq_factor", fields.low_freq_factor)?,
                high: number("high_freq_factor", fields.high_freq_factor)?,
                original: number(
                    "original_max_position_embeddings",
                    fields.original_max_position_embeddings,
                )?,
            }),
            Some(other) => {
                return Err(format!(
                    "rope_type is {other:?}, supported are \"default\", \"linear\" and \"llama3\""
                ));
            }
        };
        Ok((theta, scaling))
    }

    /// A Qwen file names a window that is not used unless `use_sliding_window` says so.
    fn windows(&self, qwen: bool) -> Result<Vec<Option<usize>>, String> {
        let layers = self.num_hidden_layers;
        let window = self.sliding_window.filter(|_| qwen && self.use_sliding_window);
        let Some(window) = window else { return Ok(vec![None; layers]) };
        if window == 0 {
            return Err("sliding_window is 0; a token sees at least itself".to_owned());
        }
        if let Some(types) = &self.layer_types {
            if types.len() != layers {
                return Err(format!("layer_types has {} entries for {layers} layers", types.len()));
            }
            return types
                .iter()
                .map(|kind| match kind.as_str() {
                    "full_attention" => Ok(None),
                    "sliding_attention" => Ok(Some(window)),
                    other => Err(format!("layer_types names {other:?}, which is not supported")),
                })
                .collect();
        }
        let full = self.max_window_layers.unwrap_or(layers);
        Ok((0..layers).map(|layer| (full <= layer).then_some(window)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: impl FnOnce(&mut Value)) -> Result<DecoderConfig, String> {
        let mut value = serde_json::json!({
            "model_type": "qwen2", "hidden_act": "silu", "hidden_size": 896,
            "intermediate_size": 4864, "rms_norm_eps": 1e-6, "max_position_embeddings": 32768,
            "num_attention_heads": 14, "num_key_value_heads": 2, "num_hidden_layers": 24,
            "vocab_size": 151_936, "rope_theta": 1e6, "tie_word_embeddings": true,
            "use_sliding_window": false, "sliding_window": 32768, "max_window_layers": 21,
            "eos_token_id": 151_645,
        });
        change(&mut value);
        DecoderConfig::parse(Path::new("config.json"), value.to_string().as_bytes())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_published_form_of_qwen_is_read() {
        let config = parse(|_| {}).unwrap();
        assert_eq!((config.head_size, config.group()), (64, 7));
        assert!(config.projection_bias && !config.output_bias && !config.head_norm && config.tied);
        assert_eq!(config.windows, vec![None; 24]);
        assert_eq!(config.ends, [151_645]);
        assert_eq!(config.scaling, RopeScaling::Default);
    }

    #[test]
    fn layers_behind_the_last_full_one_have_a_window() {
        let config = parse(|value| value["use_sliding_window"] = true.into()).unwrap();
        assert_eq!(config.windows[20], None);
        assert_eq!(config.windows[21], Some(32768));
    }

    #[test]
    fn the_old_form_of_rope_scaling_is_read() {
        let config = parse(|value| {
            value["model_type"] = "llama".into();
            value["rope_scaling"] = serde_json::json!({
                "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
            });
        })
        .unwrap();
        assert_eq!(config.theta, 1e6);
        assert!(!config.projection_bias);
        let expected = Llama3Scaling { factor: 32.0, low: 1.0, high: 4.0, original: 8192.0 };
        assert_eq!(config.scaling, RopeScaling::Llama3(expected));
    }

    #[test]
    fn a_wrong_field_is_named_with_what_is_allowed() {
        let check = |field: &str, value: Value, expect: &str| {
            let error = parse(|config| config[field] = value).unwrap_err();
            assert!(error.contains(expect), "{field}: {error}");
            assert!(error.contains("config.json"), "{error}");
        };
        check("model_type", "mamba".into(), "supported are \"llama\", \"qwen2\" and \"qwen3\"");
        check("hidden_act", "gelu".into(), "only \"silu\"");
        check("num_hidden_layers", 0.into(), "allowed are 1 to 256");
        check("num_key_value_heads", 3.into(), "no multiple");
        check("hidden_size", 900.into(), "multiple of 16");
        check("rms_norm_eps", 0.into(), "rms_norm_eps");
        check("rope_theta", (-1).into(), "rope_theta");
        check("rope_scaling", serde_json::json!({"type": "yarn"}), "\"yarn\"");
        check("rope_scaling", serde_json::json!({"type": "linear"}), "rope_scaling.factor");
        check("eos_token_id", "x".into(), "no token id");
        check("quantization_config", serde_json::json!({}), "original weights");
        check("vocab_size", 2_000_000.into(), "vocab_size");
    }
}
