//! `config.json` of an encoder: read, checked and bounded.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    error::LoadError,
    limits::{CONFIG_DIMENSION_MAX, CONFIG_LAYERS_MAX},
};

/// The shape of the model, as Hugging Face's `BertConfig` names it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) struct BertConfig {
    pub(crate) model_type: String,
    #[serde(alias = "activation_function")]
    pub(crate) hidden_act: String,
    #[serde(alias = "n_embd")]
    pub(crate) hidden_size: usize,
    #[serde(alias = "n_inner")]
    pub(crate) intermediate_size: usize,
    #[serde(alias = "layer_norm_epsilon")]
    pub(crate) layer_norm_eps: f64,
    #[serde(alias = "n_positions")]
    pub(crate) max_position_embeddings: usize,
    #[serde(alias = "n_head")]
    pub(crate) num_attention_heads: usize,
    #[serde(alias = "n_layer")]
    pub(crate) num_hidden_layers: usize,
    pub(crate) type_vocab_size: usize,
    pub(crate) vocab_size: usize,
    /// What else the file says; what would change the layers is checked.
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// What the layers are made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Architecture {
    /// Learned positions, GELU, biases.
    Bert,
    /// nomic-embed-text's: rotary positions with this base, SwiGLU, no biases.
    NomicBert { theta: f64 },
}

/// nomic-embed-text's fields that have one value in all published models; another one would need
/// layers that the encoder does not have.
const NOMIC_FIELDS: [(&str, &[Value]); 9] = [
    ("causal", &[Value::Bool(false)]),
    ("mlp_fc1_bias", &[Value::Bool(false)]),
    ("mlp_fc2_bias", &[Value::Bool(false)]),
    ("prenorm", &[Value::Bool(false)]),
    ("qkv_proj_bias", &[Value::Bool(false)]),
    ("rotary_emb_interleaved", &[Value::Bool(false)]),
    ("rotary_emb_scale_base", &[Value::Null]),
    ("rotary_scaling_factor", &[Value::Null]),
    ("use_rms_norm", &[Value::Bool(false), Value::Null]),
];

/// Base of rotary positions where the file names none.
const THETA: f64 = 1000.0;

impl BertConfig {
    /// Parses `bytes`, the content of `path`, and refuses what the encoder does not compute.
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, LoadError> {
        let config = |reason: String| LoadError::Config { path: path.to_owned(), reason };
        let parsed: Self =
            serde_json::from_slice(bytes).map_err(|error| config(error.to_string()))?;
        parsed.check().map_err(config)?;
        Ok(parsed)
    }

    /// Width of one attention head.
    pub(crate) fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    pub(crate) fn architecture(&self) -> Architecture {
        if self.model_type == "bert" {
            return Architecture::Bert;
        }
        let parameters = self.other.get("rope_parameters").and_then(|all| all.get("rope_theta"));
        let theta = parameters.or_else(|| self.other.get("rotary_emb_base"));
        Architecture::NomicBert { theta: theta.and_then(Value::as_f64).unwrap_or(THETA) }
    }

    /// Refuses an architecture that `what` does not run.
    pub(crate) fn only_bert(&self, path: &Path, what: &str) -> Result<(), LoadError> {
        match self.architecture() {
            Architecture::Bert => Ok(()),
            Architecture::NomicBert { .. } => Err(LoadError::Config {
                path: path.to_owned(),
                reason: format!("model_type is {:?}, which {what} does not run", self.model_type),
            }),
        }
    }

    /// Number of scores that a head of this model gives, one unless the file says otherwise.
    pub(crate) fn labels(&self) -> usize {
        let named = self.other.get("id2label").and_then(Value::as_object).map(Map::len);
        let counted = self.other.get("num_labels").and_then(Value::as_u64);
        named.or(counted.map(|labels| labels as usize)).unwrap_or(1)
    }

    fn check(&self) -> Result<(), String> {
        match self.model_type.as_str() {
            "bert" => {
                self.one_of("hidden_act", &self.hidden_act, &["gelu"])?;
                self.only("position_embedding_type", &[Value::from("absolute")])?;
            }
            "nomic_bert" => self.check_nomic()?,
            other => {
                return Err(format!(
                    "model_type is {other:?}, supported are \"bert\" and \"nomic_bert\""
                ));
            }
        }
        for (field, value, limit) in [
            ("hidden_size", self.hidden_size, CONFIG_DIMENSION_MAX),
            ("intermediate_size", self.intermediate_size, CONFIG_DIMENSION_MAX),
            ("max_position_embeddings", self.max_position_embeddings, CONFIG_DIMENSION_MAX),
            ("num_attention_heads", self.num_attention_heads, CONFIG_DIMENSION_MAX),
            ("num_hidden_layers", self.num_hidden_layers, CONFIG_LAYERS_MAX),
            ("type_vocab_size", self.type_vocab_size, CONFIG_DIMENSION_MAX),
            ("vocab_size", self.vocab_size, CONFIG_DIMENSION_MAX),
        ] {
            if value == 0 || limit < value {
                return Err(format!("{field} is {value}, allowed are 1 to {limit}"));
            }
        }
        if self.max_position_embeddings < 3 {
            return Err(format!(
                "max_position_embeddings is {}, but two special tokens and one of text need 3",
                self.max_position_embeddings
            ));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "hidden_size {} is no multiple of num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if !(0.0 < self.layer_norm_eps && self.layer_norm_eps < 1.0) {
            return Err(format!(
                "layer_norm_eps is {}, allowed is between 0 and 1",
                self.layer_norm_eps
            ));
        }
        Ok(())
    }

    fn check_nomic(&self) -> Result<(), String> {
        self.one_of("hidden_act", &self.hidden_act, &["swiglu", "silu"])?;
        for (field, allowed) in &NOMIC_FIELDS {
            self.only(field, allowed)?;
        }
        let number = |field: &str| self.other.get(field).and_then(Value::as_f64);
        if number("rotary_emb_fraction").is_some_and(|fraction| fraction != 1.0) {
            return Err("rotary_emb_fraction is not 1, which is not supported".to_owned());
        }
        let head = self.other.get("head_dim").and_then(Value::as_u64);
        if head.is_some_and(|head| {
            Some(head)
                != self.hidden_size.checked_div(self.num_attention_heads).map(|size| size as u64)
        }) {
            return Err("head_dim is not hidden_size / num_attention_heads".to_owned());
        }
        let scaling = self.other.get("rope_parameters").and_then(|all| all.get("rope_type"));
        if scaling.is_some_and(|scaling| scaling != "default") {
            return Err(format!(
                "rope_type is {}, only \"default\" is supported",
                scaling.unwrap_or(&Value::Null)
            ));
        }
        let Architecture::NomicBert { theta } = self.architecture() else { return Ok(()) };
        if !(1.0 < theta && theta <= 1e12) {
            return Err(format!("rope_theta is {theta}, allowed is between 1 and 1e12"));
        }
        Ok(())
    }

    fn one_of(&self, field: &str, value: &str, allowed: &[&str]) -> Result<(), String> {
        if allowed.contains(&value) {
            return Ok(());
        }
        Err(format!(
            "{field} is {value:?}, for {:?} it is {}",
            self.model_type,
            allowed.join(" or ")
        ))
    }

    /// Refuses another value of an optional field than those that are allowed.
    fn only(&self, field: &str, allowed: &[Value]) -> Result<(), String> {
        match self.other.get(field) {
            Some(value) if !allowed.contains(value) => {
                let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
                Err(format!("{field} is {value}, only {} is supported", allowed.join(" or ")))
            }
            _ => Ok(()),
        }
    }
}

/// Checks `1_Pooling/config.json`, which sentence-transformers models carry: the encoder pools by
/// the mean, so a model that was trained for another way would give vectors that mean nothing.
pub(crate) fn check_pooling(path: &Path, bytes: &[u8]) -> Result<(), LoadError> {
    let config = |reason: String| LoadError::Config { path: path.to_owned(), reason };
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(bytes).map_err(|error| config(error.to_string()))?;
    for (field, value) in &fields {
        let wanted = field == "pooling_mode_mean_tokens";
        if field.starts_with("pooling_mode_") && value.as_bool().unwrap_or(wanted) != wanted {
            return Err(config(format!("{field} is {value}, only mean pooling is supported")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: impl FnOnce(&mut serde_json::Value)) -> Result<BertConfig, String> {
        let mut value = serde_json::json!({
            "model_type": "bert", "hidden_act": "gelu", "hidden_size": 384,
            "intermediate_size": 1536, "layer_norm_eps": 1e-12, "max_position_embeddings": 512,
            "num_attention_heads": 12, "num_hidden_layers": 6, "type_vocab_size": 2,
            "vocab_size": 30522,
        });
        change(&mut value);
        BertConfig::parse(Path::new("config.json"), value.to_string().as_bytes())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_bert_configuration_is_read() {
        let config = parse(|_| {}).unwrap();
        assert_eq!((config.hidden_size, config.head_size()), (384, 32));
    }

    #[test]
    fn a_wrong_field_is_named_with_its_limit() {
        let check = |field: &str, value: serde_json::Value, expect: &str| {
            let error = parse(|config| config[field] = value).unwrap_err();
            assert!(error.contains(expect), "{field}: {error}");
            assert!(error.contains("config.json"), "{error}");
        };
        check("model_type", "llama".into(), "supported are \"bert\" and \"nomic_bert\"");
        check("hidden_act", "gelu_new".into(), "hidden_act");
        check("position_embedding_type", "relative_key".into(), "position_embedding_type");
        check("num_hidden_layers", 0.into(), "num_hidden_layers is 0, allowed are 1 to 256");
        check("vocab_size", 2_000_000_u32.into(), "vocab_size is 2000000");
        check("num_attention_heads", 7.into(), "no multiple");
        check("layer_norm_eps", (-1).into(), "layer_norm_eps");
        check("hidden_size", "x".into(), "invalid type");
        check("max_position_embeddings", 2.into(), "max_position_embeddings is 2");
    }

    /// The fields of nomic-embed-text-v1.5 as its publisher spells them.
    fn nomic(change: impl FnOnce(&mut Value)) -> Result<BertConfig, String> {
        let mut value = serde_json::json!({
            "model_type": "nomic_bert", "activation_function": "swiglu", "n_embd": 768,
            "n_inner": 3072, "layer_norm_epsilon": 1e-12, "n_positions": 8192, "n_head": 12,
            "n_layer": 12, "type_vocab_size": 2, "vocab_size": 30528, "causal": false,
            "mlp_fc1_bias": false, "mlp_fc2_bias": false, "prenorm": false,
            "qkv_proj_bias": false, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0,
            "rotary_emb_interleaved": false, "rotary_emb_scale_base": null,
            "rotary_scaling_factor": null, "use_rms_norm": false, "max_trained_positions": 2048,
        });
        change(&mut value);
        BertConfig::parse(Path::new("config.json"), value.to_string().as_bytes())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_nomic_configuration_is_read_in_its_publishers_words() {
        let config = nomic(|_| {}).unwrap();
        assert_eq!(
            (config.hidden_size, config.head_size(), config.num_hidden_layers),
            (768, 64, 12)
        );
        assert_eq!(config.architecture(), Architecture::NomicBert { theta: 1000.0 });
        assert_eq!(parse(|_| {}).unwrap().architecture(), Architecture::Bert);
    }

    #[test]
    fn a_nomic_model_with_other_layers_is_refused() {
        let check = |field: &str, value: Value| {
            let error = nomic(|config| config[field] = value).unwrap_err();
            assert!(error.contains(field), "{error}");
        };
        check("prenorm", true.into());
        check("qkv_proj_bias", true.into());
        check("rotary_emb_interleaved", true.into());
        check("rotary_emb_fraction", 0.5.into());
        check("rotary_scaling_factor", 2.into());
        check("head_dim", 32.into());
        let error = nomic(|config| config["activation_function"] = "gelu".into()).unwrap_err();
        assert!(error.contains("swiglu or silu"), "{error}");
        let error = nomic(|config| config["rotary_emb_base"] = 1.into()).unwrap_err();
        assert!(error.contains("rope_theta is 1"), "{error}");
    }

    #[test]
    fn labels_are_counted() {
        assert_eq!(parse(|_| {}).unwrap().labels(), 1);
        let two = serde_json::json!({"0": "no", "1": "yes"});
        assert_eq!(parse(|config| config["id2label"] = two).unwrap().labels(), 2);
        assert_eq!(parse(|config| config["num_labels"] = 3.into()).unwrap().labels(), 3);
    }

    #[test]
    fn pooling_other_than_mean_is_refused() {
        let check = |text: &str| check_pooling(Path::new("pooling.json"), text.as_bytes());
        check(r#"{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}"#).unwrap();
        let error = check(r#"{"pooling_mode_cls_token": true}"#).unwrap_err().to_string();
        assert!(error.contains("pooling_mode_cls_token"), "{error}");
        assert!(check(r#"{"pooling_mode_mean_tokens": false}"#).is_err());
    }
}
