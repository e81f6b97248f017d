//! One thread that owns the model, behind a bounded queue.
//!
//! A handle tokenises on the caller's side, so that the queue is bounded in tokens and not in
//! texts of unknown cost. The thread takes sequences from all waiting jobs in turn, so that a
//! question does not wait until a corpus is indexed, and forgets jobs whose caller has left.
//!
//! Histograms, in seconds unless said otherwise:
//!
//! - `auspex_inference_tokenize_seconds`: the texts of one job to token ids;
//! - `auspex_inference_queue_seconds`: from a job's arrival to its first sequence in a batch;
//! - `auspex_inference_batch_seconds`: one run of the model;
//! - `auspex_inference_batch_tokens`: tokens of that run;
//! - `auspex_inference_batch_fill_ratio`: the same as a share of
//!   [`BATCH_TOKENS_MAX`](crate::limits::BATCH_TOKENS_MAX).
//!
//! Sequences run end to end at their exact lengths, so there is no padding to measure. The counter
//! `auspex_inference_jobs_abandoned_total` counts the jobs whose caller had left.

mod queue;
mod worker;

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Instant,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::{queue::Job, worker::Ready};
use crate::{
    device::DeviceChoice,
    error::{EncodeError, LoadError},
    limits::{JOB_TEXTS_MAX, QUEUE_JOBS_MAX, QUEUE_TOKENS_MAX},
    profile::Profile,
    tokens::{Sequence, Tokens},
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
    /// A text was refused, or the device failed on it.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The model's thread has ended after a failure of its device; a new engine is needed.
    #[error("the model's thread has stopped after a failure; restart it")]
    Stopped,
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
        let (jobs, receiver) = mpsc::channel(QUEUE_JOBS_MAX);
        let (ready, readiness) = std::sync::mpsc::sync_channel(1);
        let dir: PathBuf = dir.to_owned();
        let thread = std::thread::Builder::new()
            .name("auspex-model".to_owned())
            .spawn(move || worker::run(&dir, device, profile, &ready, receiver))
            .map_err(|error| StartError::Thread(error.to_string()))?;
        let ready = readiness.recv().map_err(|_| {
            StartError::Thread("it panicked while it loaded the model".to_owned())
        })??;
        let shared = Shared {
            ready,
            admission: Arc::new(Semaphore::new(QUEUE_TOKENS_MAX)),
            worker: Worker { jobs: Some(jobs), thread: Some(thread) },
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The unit vectors of `texts`, in their order. Waits while the queue is full.
    ///
    /// Dropping the future withdraws the job, so a deadline is `tokio::time::timeout` around it.
    ///
    /// # Errors
    ///
    /// [`EngineError::TooManyTexts`], [`EngineError::Encode`] or [`EngineError::Stopped`].
    pub async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EngineError> {
        let sequences = self.tokenize(texts).await?;
        let admission = Arc::clone(&self.shared.admission);
        let permit = admission
            .acquire_many_owned(tokens_of(&sequences))
            .await
            .map_err(|_| EngineError::Stopped)?;
        let (job, reply) = job(sequences, permit);
        self.shared.worker.jobs()?.send(job).await.map_err(|_| EngineError::Stopped)?;
        reply.await.map_err(|_| EngineError::Stopped)?
    }

    /// As [`embed`](Self::embed), but says [`EngineError::Overloaded`] instead of waiting for room
    /// in the queue.
    ///
    /// # Errors
    ///
    /// As [`embed`](Self::embed), and [`EngineError::Overloaded`].
    pub async fn try_embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EngineError> {
        let sequences = self.tokenize(texts).await?;
        let admission = Arc::clone(&self.shared.admission);
        let permit = admission
            .try_acquire_many_owned(tokens_of(&sequences))
            .map_err(|_| EngineError::Overloaded)?;
        let (job, reply) = job(sequences, permit);
        self.shared.worker.jobs()?.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => EngineError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => EngineError::Stopped,
        })?;
        reply.await.map_err(|_| EngineError::Stopped)?
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
        QUEUE_TOKENS_MAX - self.shared.admission.available_permits()
    }

    async fn tokenize(&self, texts: Vec<String>) -> Result<Vec<Sequence>, EngineError> {
        if JOB_TEXTS_MAX < texts.len() {
            return Err(EngineError::TooManyTexts { texts: texts.len() });
        }
        let tokens: Arc<Tokens> = Arc::clone(&self.shared.ready.tokens);
        let sequences = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let sequences = texts
                .iter()
                .enumerate()
                .map(|(index, text)| tokens.sequence(index, text))
                .collect::<Result<Vec<_>, _>>();
            metrics::histogram!("auspex_inference_tokenize_seconds").record(started.elapsed());
            sequences
        });
        // The task ends early only when the runtime shuts down or the tokenizer panics.
        Ok(sequences.await.map_err(|_| EngineError::Stopped)??)
    }
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
    admission: Arc<Semaphore>,
    worker: Worker,
}

/// The thread and the way to it; both are there until the drop.
struct Worker {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn jobs(&self) -> Result<&mpsc::Sender<Job>, EngineError> {
        self.jobs.as_ref().ok_or(EngineError::Stopped)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The closed channel is what ends the thread.
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the model's thread panicked");
        }
    }
}

fn tokens_of(sequences: &[Sequence]) -> u32 {
    // At most `JOB_TEXTS_MAX` times `SEQUENCE_TOKENS_MAX`.
    sequences.iter().map(|sequence| sequence.len() as u32).sum()
}

type Reply = oneshot::Receiver<Result<Vec<Vec<f32>>, EngineError>>;

fn job(sequences: Vec<Sequence>, permit: OwnedSemaphorePermit) -> (Job, Reply) {
    let (reply, receiver) = oneshot::channel();
    (Job::new(sequences, reply, permit), receiver)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn the_drop_waits_for_the_thread() {
        let ended = Arc::new(AtomicBool::new(false));
        let (jobs, mut receiver) = mpsc::channel(1);
        let thread = std::thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                while receiver.blocking_recv().is_some() {}
                std::thread::yield_now();
                ended.store(true, Ordering::SeqCst);
            }
        });
        drop(Worker { jobs: Some(jobs), thread: Some(thread) });
        assert!(ended.load(Ordering::SeqCst));
    }
}
