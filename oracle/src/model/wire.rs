//! What a node and its model process say to each other: one JSON document per line over the child's input and output.

use alloy::primitives::B256;
use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

/// The child's first line, after its self-test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hello {
    pub model_hash: B256,
    /// Tokens of a text that the model reads, without special ones.
    pub tokens_max: usize,
    pub device: String,
    /// The arithmetic, of which the bits of the vectors depend.
    pub profile: String,
}

/// Texts to embed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    pub texts: Vec<String>,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "camelCase", deny_unknown_fields)]
pub enum Reply {
    /// A vector per text: its components' bytes, little-endian, in hexadecimal. Decimal numbers would have to be read back
    /// to the same bits by every reader.
    Vectors { vectors: Vec<String> },
    /// The texts cannot be embedded; asking again does not help.
    Refused { reason: String },
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
