//! The shapes of published models, and small ones to try the bench with.

use serde_json::{Value, json};

/// What is measured.
pub(crate) struct Shapes {
    pub(crate) encoder: Encoder,
    /// Sequences of one measurement, and the tokens of each.
    pub(crate) sequences: usize,
    pub(crate) sequence_tokens: usize,
    pub(crate) llama: Decoder,
    pub(crate) qwen: Decoder,
    /// Tokens of a prompt that is read, and of an output that is written.
    pub(crate) prompt_tokens: usize,
    pub(crate) output_tokens: usize,
}

/// A BERT encoder.
pub(crate) struct Encoder {
    pub(crate) hidden: usize,
    pub(crate) inner: usize,
    pub(crate) layers: usize,
    heads: usize,
    pub(crate) vocabulary: usize,
    pub(crate) positions: usize,
}

/// A decoder with tied embeddings.
pub(crate) struct Decoder {
    kind: &'static str,
    pub(crate) hidden: usize,
    pub(crate) inner: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) key_heads: usize,
    pub(crate) head_size: usize,
    pub(crate) vocabulary: usize,
    /// Whether queries, keys and values have a bias.
    pub(crate) biased: bool,
}

impl Shapes {
    pub(crate) fn published() -> Self {
        Self {
            // all-MiniLM-L6-v2
            encoder: Encoder {
                hidden: 384,
                inner: 1536,
                layers: 6,
                heads: 12,
                vocabulary: 30_522,
                positions: 512,
            },
            sequences: 1024,
            sequence_tokens: 128,
            // Llama-3.2-1B
            llama: Decoder {
                kind: "llama",
                hidden: 2048,
                inner: 8192,
                layers: 16,
                heads: 32,
                key_heads: 8,
                head_size: 64,
                vocabulary: 128_256,
                biased: false,
            },
            // Qwen2.5-0.5B
            qwen: Decoder {
                kind: "qwen2",
                hidden: 896,
                inner: 4864,
                layers: 24,
                heads: 14,
                key_heads: 2,
                head_size: 64,
                vocabulary: 151_936,
                biased: true,
            },
            prompt_tokens: 512,
            output_tokens: 128,
        }
    }

    pub(crate) fn tiny() -> Self {
        let decoder = |kind, biased| Decoder {
            kind,
            hidden: 128,
            inner: 256,
            layers: 2,
            heads: 4,
            key_heads: 2,
            head_size: 32,
            vocabulary: 512,
            biased,
        };
        Self {
            encoder: Encoder {
                hidden: 64,
                inner: 128,
                layers: 2,
                heads: 4,
                vocabulary: 512,
                positions: 128,
            },
            sequences: 4,
            sequence_tokens: 32,
            llama: decoder("llama", false),
            qwen: decoder("qwen2", true),
            prompt_tokens: 48,
            output_tokens: 16,
        }
    }
}

impl Encoder {
    pub(crate) fn config(&self) -> Value {
        json!({
            "model_type": "bert", "hidden_act": "gelu", "layer_norm_eps": 1e-12, "type_vocab_size": 2,
            "hidden_size": self.hidden, "intermediate_size": self.inner, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "vocab_size": self.vocabulary,
            "max_position_embeddings": self.positions,
        })
    }

    /// Names and shapes of the tensors, as Hugging Face names them.
    pub(crate) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner) = (self.hidden, self.inner);
        let mut tensors = Vec::new();
        for (name, rows) in [
            ("word_embeddings", self.vocabulary),
            ("position_embeddings", self.positions),
            ("token_type_embeddings", 2),
        ] {
            tensors.push((format!("embeddings.{name}.weight"), vec![rows, hidden]));
        }
        let mut both = |name: String, shape: Vec<usize>| {
            tensors.push((format!("{name}.bias"), vec![shape[0]]));
            tensors.push((format!("{name}.weight"), shape));
        };
        both("embeddings.LayerNorm".to_owned(), vec![hidden]);
        for layer in 0..self.layers {
            let name = |part: &str| format!("encoder.layer.{layer}.{part}");
            for part in ["self.query", "self.key", "self.value", "output.dense"] {
                both(name(&format!("attention.{part}")), vec![hidden, hidden]);
            }
            both(name("attention.output.LayerNorm"), vec![hidden]);
            both(name("intermediate.dense"), vec![inner, hidden]);
            both(name("output.dense"), vec![hidden, inner]);
            both(name("output.LayerNorm"), vec![hidden]);
        }
        tensors
    }

    /// Operations of the products for so many sequences: two for each weight and token, and four for each
    /// component of a pair of tokens of a sequence.
    pub(crate) fn operations(&self, sequences: usize, tokens: usize) -> f64 {
        let weights = self.layers * (4 * self.hidden * self.hidden + 2 * self.hidden * self.inner);
        let pairs = self.layers * 4 * self.hidden * tokens;
        (sequences * tokens) as f64 * (2 * weights + pairs) as f64
    }
}

impl Decoder {
    pub(crate) fn config(&self) -> Value {
        json!({
            "model_type": self.kind, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 500_000.0,
            "hidden_size": self.hidden, "intermediate_size": self.inner, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.key_heads,
            "head_dim": self.head_size, "vocab_size": self.vocabulary, "max_position_embeddings": 4096,
            "tie_word_embeddings": true,
        })
    }

    /// Names and shapes of the tensors, as Hugging Face names them.
    pub(crate) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner) = (self.hidden, self.inner);
        let (queries, keys) = (self.heads * self.head_size, self.key_heads * self.head_size);
        let mut tensors = vec![
            ("model.embed_tokens.weight".to_owned(), vec![self.vocabulary, hidden]),
            ("model.norm.weight".to_owned(), vec![hidden]),
        ];
        for layer in 0..self.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            for (part, outputs) in [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)] {
                tensors.push((name(&format!("self_attn.{part}.weight")), vec![outputs, hidden]));
                if self.biased {
                    tensors.push((name(&format!("self_attn.{part}.bias")), vec![outputs]));
                }
            }
            for (part, shape) in [
                ("self_attn.o_proj", vec![hidden, queries]),
                ("mlp.gate_proj", vec![inner, hidden]),
                ("mlp.up_proj", vec![inner, hidden]),
                ("mlp.down_proj", vec![hidden, inner]),
                ("input_layernorm", vec![hidden]),
                ("post_attention_layernorm", vec![hidden]),
            ] {
                tensors.push((name(&format!("{part}.weight")), shape));
            }
        }
        tensors
    }
}
