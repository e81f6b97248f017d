//! Decoders: tokens in, the next token out.
//!
//! `config`, `files` and `shards` read a model directory; `matrix` keeps the weights that `weights`
//! names; `attention` and `model` are the layers, `cache` what they remember; `gpu` is the same on a
//! GPU, and `network` either of them; `tokens` and `template` turn conversations into tokens and
//! tokens into text; `sampling` chooses, among what `grammar`
//! leaves; `engine` runs many sequences on one thread; `transcript` binds an output to what
//! decided it.
//!
//! **Invariant:** an output is a function of the model's files, the storage of its weights, the
//! prompt and the parameters, bit by bit: no other sequence, piece of a prompt, reuse of a known
//! beginning, thread count, instruction set or run changes it. On the CPU that is the same on every
//! machine; on a GPU it holds for the one device and its driver, which the profile of a transcript
//! names.

mod attention;
mod cache;
mod config;
mod engine;
mod error;
mod files;
mod gpu;
mod grammar;
pub mod limits;
mod loaded;
mod matrix;
mod model;
mod network;
#[cfg(test)]
mod parity;
mod sampling;
mod shards;
mod template;
mod tokens;
mod transcript;
mod weights;

pub use engine::{Completion, Event, Finish, Generator, Options, Output, StartError};
pub use error::{GenerateError, PromptError};
pub use matrix::Storage;
pub use sampling::Parameters;
pub use template::Message;
pub use transcript::Transcript;
