//! What a node and its model process say to each other: one JSON document per line over the child's input and output.
//! The child greets with [`Hello`], then the node makes [`Call`]s and the child says [`Line`]s. Orders overlap; their
//! ids, which the node gives, tell them apart.

use alloy::primitives::B256;
use anyhow::{Context, ensure};
use auspex_inference::decoder::Message;
use serde::{Deserialize, Serialize};

/// The child's first line, after its self-test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hello {
    pub model_hash: B256,
    /// Tokens that one order may have: of a text, without special ones, for an embedding model; of the prompt and what is
    /// written together for one that writes.
    pub tokens_max: usize,
    pub device: String,
    /// The arithmetic, of which the bits of what comes out depend.
    pub profile: String,
}

/// What the node wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "camelCase")]
pub enum Call {
    Begin {
        id: u64,
        order: Order,
    },
    /// Nobody waits for this order any more. One that is unknown or done is passed over.
    Cancel {
        id: u64,
    },
}

/// Something to do for a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "camelCase")]
pub enum Order {
    /// Embed texts.
    Embed { texts: Vec<String> },
    /// Write what follows a conversation, always with the best token.
    Write {
        messages: Vec<Message>,
        #[serde(rename = "maxTokens")]
        max_tokens: usize,
    },
}

/// What the child says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "camelCase")]
pub enum Line {
    News {
        id: u64,
        news: News,
    },
    /// What the process measured, in Prometheus's text format.
    Meters {
        text: String,
    },
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "camelCase")]
pub enum News {
    /// So many tokens of the prompt are read.
    Read { tokens: usize },
    /// Whole characters that follow what was written before.
    Text { piece: String },
    /// The end: a vector per text. A vector is its components' bytes, little-endian, in hexadecimal; decimal numbers would
    /// have to be read back to the same bits by every reader.
    Vectors { vectors: Vec<String> },
    /// The end of a text. `cut` when it has as many tokens as were allowed and would go on; `trace` is the hash of its
    /// transcript.
    Written { cut: bool, trace: B256 },
    /// The end: the order is at fault, and asking again does not help.
    Refused { reason: String },
    /// The end: it may pass.
    Failed { reason: String },
}

impl News {
    /// Whether nothing follows.
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Read { .. } | Self::Text { .. })
    }
}

/// A vector as it travels.
pub fn written(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|component| component.to_le_bytes()).collect();
    hex::encode(bytes)
}

/// A vector as it arrives.
pub fn read(text: &str) -> anyhow::Result<Vec<f32>> {
    let bytes = hex::decode(text).context("read a vector")?;
    let (components, rest) = bytes.as_chunks::<4>();
    ensure!(rest.is_empty(), "read a vector: {} bytes are not a number of components", bytes.len());
    Ok(components.iter().map(|component| f32::from_le_bytes(*component)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_arrives_bit_by_bit() {
        let vector = [0.1f32, -0.0, f32::MIN_POSITIVE, 1.0 / 3.0, f32::MAX];
        let arrived = read(&written(&vector)).unwrap();
        let bits = |vector: &[f32]| vector.iter().map(|c| c.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&arrived), bits(&vector));
        assert!(read("0011").is_err());
        assert!(read("zz").is_err());
    }
}
