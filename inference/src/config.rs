//! `config.json` of a BERT encoder: read, checked and bounded.

use std::path::Path;

use serde::Deserialize;

use crate::{
    error::LoadError,
    limits::{CONFIG_DIMENSION_MAX, CONFIG_LAYERS_MAX},
};

/// The shape of the model, as Hugging Face's `BertConfig` names it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) struct BertConfig {
    pub(crate) model_type: String,
    pub(crate) hidden_act: String,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) layer_norm_eps: f64,
    pub(crate) max_position_embeddings: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_hidden_layers: usize,
    #[serde(default = "absolute")]
    pub(crate) position_embedding_type: String,
    pub(crate) type_vocab_size: usize,
    pub(crate) vocab_size: usize,
}

fn absolute() -> String {
    "absolute".to_owned()
}

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

    fn check(&self) -> Result<(), String> {
        for (field, value, allowed) in [
            ("model_type", &self.model_type, "bert"),
            ("hidden_act", &self.hidden_act, "gelu"),
            ("position_embedding_type", &self.position_embedding_type, "absolute"),
        ] {
            if value != allowed {
                return Err(format!("{field} is {value:?}, only {allowed:?} is supported"));
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
        check("model_type", "llama".into(), "model_type is \"llama\", only \"bert\"");
        check("hidden_act", "gelu_new".into(), "hidden_act");
        check("position_embedding_type", "relative_key".into(), "position_embedding_type");
        check("num_hidden_layers", 0.into(), "num_hidden_layers is 0, allowed are 1 to 256");
        check("vocab_size", 2_000_000_u32.into(), "vocab_size is 2000000");
        check("num_attention_heads", 7.into(), "no multiple");
        check("layer_norm_eps", (-1).into(), "layer_norm_eps");
        check("hidden_size", "x".into(), "invalid type");
        check("max_position_embeddings", 2.into(), "max_position_embeddings is 2");
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
