//! Column values in the JSON form that PostgreSQL reads and writes: bytea as `\x` and hex, wide integers as decimal text. Where
//! no person is to read them, bytea is bytes.

use std::fmt;

use alloy::hex;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::limits::ID_KEY_BYTES_MAX;

/// A bytea column that holds a `T`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Blob<T>(pub T);

/// An account or contract.
pub type Account = Blob<Address>;
/// A 32-byte hash.
pub type Hash = Blob<B256>;
/// Bytes of any length.
pub type Data = Blob<Bytes>;

impl<T> From<T> for Blob<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: AsRef<[u8]>> Serialize for Blob<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0.as_ref();
        if !serializer.is_human_readable() {
            return serializer.serialize_bytes(bytes);
        }
        // Nearly every one is an address or a hash, and a row has dozens of them.
        let mut short = *b"\\x0000000000000000000000000000000000000000000000000000000000000000";
        let length = 2 + 2 * bytes.len();
        if let Some(digits) = short.get_mut(2..length)
            && hex::encode_to_slice(bytes, digits).is_ok()
            && let Some(Ok(text)) = short.get(..length).map(std::str::from_utf8)
        {
            return serializer.serialize_str(text);
        }
        serializer.serialize_str(&format!("\\x{}", hex::encode(bytes)))
    }
}

impl<'de, T: BlobContent> Deserialize<'de> for Blob<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits =
            text.strip_prefix("\\x").ok_or_else(|| D::Error::custom("bytea without \\x"))?;
        let bytes = hex::decode(digits).map_err(D::Error::custom)?;
        T::from_content(&bytes).map(Self).ok_or_else(|| D::Error::custom("bytea of another length"))
    }
}

/// What a bytea column can be read into.
pub trait BlobContent: Sized {
    /// None when the length does not fit.
    fn from_content(bytes: &[u8]) -> Option<Self>;
}

impl BlobContent for Address {
    fn from_content(bytes: &[u8]) -> Option<Self> {
        Self::try_from(bytes).ok()
    }
}

impl BlobContent for B256 {
    fn from_content(bytes: &[u8]) -> Option<Self> {
        Self::try_from(bytes).ok()
    }
}

impl BlobContent for Bytes {
    fn from_content(bytes: &[u8]) -> Option<Self> {
        Some(Self::copy_from_slice(bytes))
    }
}

/// A numeric column that holds an integer wider than JSON's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Number<T>(pub T);

/// A uint256 column.
pub type Uint = Number<U256>;
/// A uint64 column.
pub type Uint64 = Number<u64>;
/// An int128 column.
pub type Int128 = Number<i128>;

impl<T> From<T> for Number<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl From<u128> for Uint {
    fn from(value: u128) -> Self {
        Self(U256::from(value))
    }
}

impl<T: fmt::Display> Serialize for Number<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// PostgreSQL writes a numeric as a bare JSON number of any length, which only the raw text preserves.
impl<'de, T: std::str::FromStr> Deserialize<'de> for Number<T>
where
    T::Err: fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        raw.get().trim_matches('"').parse().map(Self).map_err(D::Error::custom)
    }
}

/// Text from the chain as PostgreSQL can hold it: it has no place for U+0000.
pub fn text(from_chain: &str) -> String {
    from_chain.replace('\0', "\u{fffd}")
}

/// A metadata key as the last part of an id; see the migration's note on `agent_metadata`.
pub fn key_part(key: &str) -> String {
    if key.len() <= ID_KEY_BYTES_MAX && !key.starts_with('#') {
        return text(key);
    }
    format!("#{}", hex::encode(keccak256(key.as_bytes())))
}
