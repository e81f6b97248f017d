//! A cross-encoder behind the same kind of queue as an encoder.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Admission, EngineError, StartError, handle::Handle, tokenize, worker::Encode};
use crate::{
    cross::CrossEncoder, device::DeviceChoice, error::EncodeError, profile::Profile, tokens::Tokens,
};

/// A handle to a loaded cross-encoder; clones share the model and its thread.
///
/// Dropping the last handle ends the thread and waits for it, at most for the batch in work.
#[derive(Clone)]
pub struct Reranker {
    shared: Arc<Shared>,
}

struct Shared {
    tokens: Arc<Tokens>,
    model_hash: [u8; 32],
    handle: Handle,
}

impl Reranker {
    /// Loads the model in `dir` on its own thread and returns when it has scored its first pairs,
    /// together and alone with the same bits.
    ///
    /// # Errors
    ///
    /// As [`CrossEncoder::load`], or when the self-test fails.
    pub fn start(dir: &Path) -> Result<Self, StartError> {
        Self::start_profile(dir, Profile::DeterministicCpu)
    }

    /// As [`start`](Self::start), in the arithmetic of `profile`.
    ///
    /// # Errors
    ///
    /// As [`CrossEncoder::load_profile`], or when the self-test fails.
    pub fn start_profile(dir: &Path, profile: Profile) -> Result<Self, StartError> {
        let dir: PathBuf = dir.to_owned();
        let (handle, (tokens, model_hash)) = Handle::start(move || {
            let model = CrossEncoder::load_profile(&dir, profile)?;
            self_test(&model)
                .map_err(|reason| StartError::SelfTest { device: DeviceChoice::Cpu, reason })?;
            let facts = (model.tokens(), model.model_hash());
            let encode: Box<Encode> = Box::new(move |sequences| model.encode(sequences));
            Ok((facts, encode))
        })?;
        Ok(Self { shared: Arc::new(Shared { tokens, model_hash, handle }) })
    }

    /// How well each of `documents` answers `query`, as [`CrossEncoder::score`] says. Says
    /// [`EngineError::Overloaded`] instead of waiting for room in the queue; dropping the future
    /// withdraws the job.
    ///
    /// # Errors
    ///
    /// [`EngineError::TooManyTexts`], [`EngineError::Overloaded`], [`EngineError::Encode`] or
    /// [`EngineError::Stopped`].
    pub async fn try_score(
        &self,
        query: String,
        documents: Vec<String>,
    ) -> Result<Vec<f32>, EngineError> {
        let Shared { tokens, handle, .. } = &*self.shared;
        let (tokens, count) = (Arc::clone(tokens), documents.len());
        let pair = move |index: usize| tokens.pair(index, &query, &documents[index]);
        let sequences = tokenize(handle, count, pair).await?;
        let scores = handle.run(sequences, Admission::Try).await?;
        Ok(scores.into_iter().flatten().collect())
    }

    /// As [`Encoder::model_hash`](crate::Encoder::model_hash).
    pub fn model_hash(&self) -> [u8; 32] {
        self.shared.model_hash
    }

    /// Number of tokens of `text` alone, uncut and without special tokens; runs on the caller's thread.
    ///
    /// # Errors
    ///
    /// As [`Encoder::count_tokens`](crate::Encoder::count_tokens).
    pub fn count_tokens(&self, text: &str) -> Result<usize, EncodeError> {
        self.shared.tokens.count(text)
    }
}

impl fmt::Debug for Reranker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Reranker")
            .field("queued_tokens", &self.shared.handle.queued_tokens())
            .finish_non_exhaustive()
    }
}

/// Scores a few pairs of different lengths together and one by one. `Err` says what differs.
fn self_test(model: &CrossEncoder) -> Result<(), String> {
    let query = "Who may refund a request?";
    let documents = ["", "The escrow refunds.", "An operator signs the result of a request."];
    let together = model.score(query, &documents).map_err(|error| error.to_string())?;
    for (document, together) in documents.iter().zip(&together) {
        let alone = model.score(query, &[document]).map_err(|error| error.to_string())?;
        if alone != [*together] {
            return Err(format!("a pair scores {alone:?} alone and {together} in a batch"));
        }
    }
    Ok(())
}
