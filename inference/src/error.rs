//! What can go wrong while a model is loaded or run.

use std::path::PathBuf;

use crate::{device::DeviceError, limits::TEXT_BYTES_MAX};

/// A model directory that cannot be used. Every variant names the file that is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file is missing or unreadable.
    #[error(
        "read {}: {source}; a model directory holds config.json, tokenizer.json and \
         model.safetensors",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        source: std::io::Error,
    },
    /// The file is larger than the limit for its kind.
    #[error("{} has {bytes} bytes, the limit is {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit from [`limits`](crate::limits).
        limit: u64,
    },
    /// A JSON file does not parse or describes a model that this crate does not run.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field, its value and what is allowed.
        reason: String,
    },
    /// `tokenizer.json` does not parse or does not fit the model.
    #[error("{}: {reason}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// `model.safetensors` is damaged.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tensor that the configuration asks for is not in the file.
    #[error("{} has no tensor {tensor:?}", path.display())]
    TensorMissing {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
    },
    /// A tensor is there with another shape or element type than the configuration implies.
    #[error("{}: tensor {tensor:?} is {found}, expected {expected}", path.display())]
    TensorMismatch {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Type and shape in the file.
        found: String,
        /// Type and shape that `config.json` implies.
        expected: String,
    },
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The system gave no threads to run the model on.
    #[error("start the threads of the model: {0}; allow this process more threads")]
    Threads(String),
}

/// A text that cannot be turned into a vector.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The text is longer than [`TEXT_BYTES_MAX`].
    #[error(
        "text {index} has {bytes} bytes, the limit is {TEXT_BYTES_MAX}; split it into chunks first"
    )]
    TextTooLong {
        /// Position of the text in the call.
        index: usize,
        /// Its length.
        bytes: usize,
    },
    /// The tokenizer refused the text.
    #[error("tokenize text {index}: {reason}")]
    Tokenize {
        /// Position of the text in the call.
        index: usize,
        /// What the tokenizer said.
        reason: String,
    },
    /// Token ids that no tokenizer of this model gives.
    #[error("sequence {index} has {reason}")]
    Tokens {
        /// Position of the sequence in the call.
        index: usize,
        /// What it has, and what is allowed.
        reason: String,
    },
    /// The device failed while it computed.
    #[error("run the model on {device}: {reason}")]
    Device {
        /// The device.
        device: String,
        /// What the backend said.
        reason: String,
    },
}
