//! Why a prompt is not answered.

use super::limits::{PROMPT_BYTES_MAX, REQUESTS_MAX, STOP_BYTES_MAX, STOPS_MAX};
use crate::device::DeviceChoice;

/// A prompt that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// The text is longer than [`PROMPT_BYTES_MAX`].
    #[error("the prompt has {bytes} bytes, the limit is {PROMPT_BYTES_MAX}; shorten it")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The tokenizer refused it.
    #[error("tokenize the prompt: {0}")]
    Tokenize(String),
    /// The prompt has no tokens.
    #[error("the prompt is empty")]
    Empty,
    /// The prompt has an id that is none of the model's.
    #[error("the prompt has token {id}, the model knows those below {vocabulary}")]
    Token {
        /// The id.
        id: u32,
        /// Number of ids that the model knows.
        vocabulary: usize,
    },
    /// The prompt and what may be written do not fit the model or its cache.
    #[error(
        "the prompt has {prompt} tokens, and up to {output} may be written; together the limit is {limit}"
    )]
    Positions {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens that may be written.
        output: usize,
        /// Most tokens of both.
        limit: usize,
    },
    /// The model has no chat template.
    #[error(
        "the model has no chat template, neither in chat_template.jinja nor in tokenizer_config.json; send a plain prompt"
    )]
    NoTemplate,
    /// The chat template refused the conversation.
    #[error("chat template: {0}")]
    Template(String),
    /// A parameter is outside its range.
    #[error("{field} is {value}, allowed is {allowed}")]
    Parameter {
        /// The parameter.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// Too many or too long stop sequences.
    #[error("{0} stop sequences, allowed are {STOPS_MAX} of 1 to {STOP_BYTES_MAX} bytes")]
    Stops(usize),
    /// The schema that the output shall follow cannot be kept.
    #[error("schema: {0}")]
    Schema(String),
}

/// Why an output did not come, or did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The prompt was refused; the same prompt will be refused again.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The queue is full.
    #[error("the model is overloaded: {REQUESTS_MAX} requests are waiting; try again later")]
    Overloaded,
    /// The model computed something that is no number.
    #[error("the model gave logits that are not numbers")]
    Numbers,
    /// The device was lost or ran out of memory; the model's thread ends, and a new engine is needed.
    #[error("device {device}: {reason}; restart the model")]
    Device {
        /// The device.
        device: DeviceChoice,
        /// What it said.
        reason: String,
    },
    /// The model's thread has ended; a new engine is needed.
    #[error("the model's thread has stopped after a failure; restart it")]
    Stopped,
}
