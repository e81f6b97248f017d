//! One thread that owns the model, behind a bounded queue.
//!
//! A handle tokenises on the caller's side, so that the queue is bounded in tokens and not in
//! texts of unknown cost. The thread takes sequences from all waiting jobs in turn, so that a
//! question does not wait until a corpus is indexed, and forgets jobs whose caller has left or whose
//! deadline is over. A lost device ends the thread, and every caller is told why.
//!
//! Histograms, in seconds unless said otherwise:
//!
//! - `auspex_inference_tokenize_seconds`: the texts of one job to token ids;
//! - `auspex_inference_queue_seconds`: from a job's arrival to its first sequence in a batch;
//! - `auspex_inference_batch_seconds`: one run of the model;
//! - `auspex_inference_batch_tokens`: tokens of that run;
//! - `auspex_inference_batch_fill_ratio`: the same as a share of
//!   [`BATCH_TOKENS_MAX`](crate::limits::BATCH_TOKENS_MAX), on a GPU of
//!   [`BATCH_TOKENS_GPU`](crate::limits::BATCH_TOKENS_GPU).
//!
//! Sequences run end to end at their exact lengths, so there is no padding to measure. Counters are
//! `auspex_inference_jobs_abandoned_total` (the caller had left), `auspex_inference_jobs_late_total`
//! (the deadline passed in the queue) and `auspex_inference_jobs_refused_total` (it would have); the
//! gauge `auspex_inference_queue_tokens` is what waited or was in work at the last arrival or answer.

mod handle;
mod pace;
mod queue;
mod reranker;
mod worker;

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

pub use self::reranker::Reranker;
use self::{
    handle::{Admission, Handle},
    worker::Encode,
};
use crate::{
    device::DeviceChoice,
    encoder::Encoder,
    error::{EncodeError, LoadError},
    limits::{JOB_TEXTS_MAX, QUEUE_TOKENS_MAX},
    profile::Profile,
    self_test::self_test,
    tokens::{Sequence, Tokens},
    warm_up::warm_up,
};

/// A handle to a loaded model; clones share the model and its thread.
///
/// Dropping the last handle ends the thread and waits for it, at most for the batch in work.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The model directory or the device cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model computes something else than it should on this device.
    #[error("self-test on {device}: {reason}; choose another device or update its driver")]
    SelfTest {
        /// The device.
        device: DeviceChoice,
        /// What differs, by how much, and the limit.
        reason: String,
    },
    /// The device has too little memory, or failed while the model was loaded.
    #[error("device {device}: {reason}")]
    Device {
        /// The device.
        device: DeviceChoice,
        /// What it lacks.
        reason: String,
    },
    /// The system gave no thread, or the thread panicked while it loaded.
    #[error("start the model's thread: {0}")]
    Thread(String),
}

/// Why a job has no vectors.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The queue is full; only [`Engine::try_embed`] says so, [`Engine::embed`] waits.
    #[error("the model is overloaded: {QUEUE_TOKENS_MAX} tokens are waiting; try again later")]
    Overloaded,
    /// More texts than one job may have.
    #[error("{texts} texts in one job, the limit is {JOB_TEXTS_MAX}; split them into jobs")]
    TooManyTexts {
        /// Texts of the job.
        texts: usize,
    },
    /// More tokens than the whole queue has room for.
    #[error("{tokens} tokens in one job, the limit is {QUEUE_TOKENS_MAX}; split it")]
    TooManyTokens {
        /// Tokens of the job.
        tokens: usize,
    },
    /// The deadline is over, or would be before the job's turn.
    #[error("the deadline is over or too near: the queue and this job take {} ms", needed.as_millis())]
    Late {
        /// How long it would take; zero when the deadline is over.
        needed: Duration,
    },
    /// A text was refused.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The model's thread has ended; a new engine is needed.
    #[error("the model's thread has ended: {reason}; start it again")]
    Stopped {
        /// What happened to the device or to the model.
        reason: String,
    },
}

impl Engine {
    /// Loads the model in `dir` on its own thread, checks it there against known vectors, and
    /// returns when it is ready. This takes about a second on a CPU, so asynchronous callers put
    /// it in `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// As [`Encoder::load`](crate::Encoder::load), or when the self-test fails.
    pub fn start(dir: &Path, device: DeviceChoice) -> Result<Self, StartError> {
        Self::start_profile(dir, device, Profile::Fast)
    }

    /// As [`start`](Self::start), in the arithmetic of `profile`.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and if the profile does not run this model or on this device.
    pub fn start_profile(
        dir: &Path,
        device: DeviceChoice,
        profile: Profile,
    ) -> Result<Self, StartError> {
        let dir: PathBuf = dir.to_owned();
        let (handle, ready) = Handle::start_batched(move || {
            let started = Instant::now();
            let encoder = Encoder::load_profile(&dir, device, profile)?;
            self_test(&encoder, &dir)
                .map_err(|reason| StartError::SelfTest { device: encoder.device(), reason })?;
            warm_up(&encoder).map_err(|error| StartError::Device {
                device: encoder.device(),
                reason: error.to_string(),
            })?;
            tracing::info!(
                device = %encoder.device(),
                profile = %encoder.profile(),
                model_hash = hex::encode(encoder.model_hash()),
                elapsed_ms = started.elapsed().as_millis() as u64,
                "model ready"
            );
            let ready = Ready {
                tokens: encoder.tokens(),
                dimensions: encoder.dimensions(),
                device: encoder.device(),
                profile: encoder.profile(),
                model_hash: encoder.model_hash(),
            };
            let budget = encoder.batch_tokens();
            let encode: Box<Encode> = Box::new(move |sequences| encoder.encode(sequences));
            Ok((ready, encode, budget))
        })?;
        Ok(Self { shared: Arc::new(Shared { ready, handle }) })
    }

    /// The unit vectors of `texts`, in their order. Waits while the queue is full.
    ///
    /// Dropping the future withdraws the job.
    ///
    /// # Errors
    ///
    /// [`EngineError::TooManyTexts`], [`EngineError::Encode`] or [`EngineError::Stopped`].
    pub async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EngineError> {
        self.run(texts, Admission::Wait).await
    }

    /// As [`embed`](Self::embed), but says [`EngineError::Overloaded`] instead of waiting for room
    /// in the queue.
    ///
    /// # Errors
    ///
    /// As [`embed`](Self::embed), and [`EngineError::Overloaded`].
    pub async fn try_embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EngineError> {
        self.run(texts, Admission::Try).await
    }

    /// As [`embed`](Self::embed), with an answer by `deadline`: at once
    /// [`EngineError::Late`] when what is queued already takes longer at the pace of the last batches,
    /// and at the deadline when it does not come in time, even if the device hangs.
    ///
    /// # Errors
    ///
    /// As [`embed`](Self::embed), and [`EngineError::Late`].
    pub async fn embed_until(
        &self,
        texts: Vec<String>,
        deadline: Instant,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        self.run(texts, Admission::Until(deadline)).await
    }

    /// As [`Encoder::dimensions`](crate::Encoder::dimensions).
    pub fn dimensions(&self) -> usize {
        self.shared.ready.dimensions
    }

    /// As [`Encoder::device`](crate::Encoder::device).
    pub fn device(&self) -> DeviceChoice {
        self.shared.ready.device
    }

    /// As [`Encoder::profile`](crate::Encoder::profile).
    pub fn profile(&self) -> Profile {
        self.shared.ready.profile
    }

    /// As [`Encoder::model_hash`](crate::Encoder::model_hash).
    pub fn model_hash(&self) -> [u8; 32] {
        self.shared.ready.model_hash
    }

    /// As [`Encoder::count_tokens`](crate::Encoder::count_tokens); runs on the caller's thread.
    ///
    /// # Errors
    ///
    /// As [`Encoder::count_tokens`](crate::Encoder::count_tokens).
    pub fn count_tokens(&self, text: &str) -> Result<usize, EncodeError> {
        self.shared.ready.tokens.count(text)
    }

    /// As [`Encoder::token_offsets`](crate::Encoder::token_offsets); runs on the caller's thread.
    ///
    /// # Errors
    ///
    /// As [`Encoder::token_offsets`](crate::Encoder::token_offsets).
    pub fn token_offsets(&self, text: &str) -> Result<Vec<Range<usize>>, EncodeError> {
        self.shared.ready.tokens.offsets(text)
    }

    /// As [`Encoder::content_tokens_max`](crate::Encoder::content_tokens_max).
    pub fn content_tokens_max(&self) -> usize {
        self.shared.ready.tokens.content_max()
    }

    /// Tokens that are waiting or in work, for admission decisions and tests.
    pub fn queued_tokens(&self) -> usize {
        self.shared.handle.queued_tokens()
    }

    async fn run(
        &self,
        texts: Vec<String>,
        admission: Admission,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let tokens: Arc<Tokens> = Arc::clone(&self.shared.ready.tokens);
        let count = texts.len();
        let sequence = move |index: usize| tokens.sequence(index, &texts[index]);
        let sequences = tokenize(&self.shared.handle, count, sequence).await?;
        self.shared.handle.run(sequences, admission).await
    }
}

/// The sequences of a job's `count` texts, on a thread that may block.
async fn tokenize(
    handle: &Handle,
    count: usize,
    sequence: impl Fn(usize) -> Result<Sequence, EncodeError> + Send + 'static,
) -> Result<Vec<Sequence>, EngineError> {
    if JOB_TEXTS_MAX < count {
        return Err(EngineError::TooManyTexts { texts: count });
    }
    let sequences = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        let sequences = (0..count).map(sequence).collect::<Result<Vec<_>, _>>();
        metrics::histogram!("auspex_inference_tokenize_seconds").record(started.elapsed());
        sequences
    });
    // The task ends early only when the runtime shuts down or the tokenizer panics.
    Ok(sequences.await.map_err(|_| handle.stopped())??)
}

impl fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Engine")
            .field("device", &self.device())
            .field("profile", &self.profile())
            .field("dimensions", &self.dimensions())
            .field("queued_tokens", &self.queued_tokens())
            .finish_non_exhaustive()
    }
}

/// What the clones of a handle have in common.
struct Shared {
    ready: Ready,
    handle: Handle,
}

/// What handles need to know of the model.
#[derive(Debug)]
struct Ready {
    tokens: Arc<Tokens>,
    dimensions: usize,
    device: DeviceChoice,
    profile: Profile,
    model_hash: [u8; 32],
}
