//! The caller's side: admission, the way to the thread, and what is known of its end.

use std::{
    sync::{Arc, OnceLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot};

use super::{
    EngineError, StartError,
    pace::Pace,
    queue::Job,
    worker::{self, Encode},
};
use crate::{
    limits::{BATCH_TOKENS_MAX, QUEUE_JOBS_MAX, QUEUE_TOKENS_MAX},
    tokens::Sequence,
};

/// The model's thread and the way to it. Dropping it ends the thread and waits for it.
#[derive(Debug)]
pub(super) struct Handle {
    admission: Arc<Semaphore>,
    state: Arc<State>,
    /// There until the drop.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread tells its handles while it works and when it ends.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) pace: Pace,
    /// Why the thread has ended, if it failed.
    pub(super) failure: OnceLock<String>,
}

/// How a job gets its room in the queue.
#[derive(Clone, Copy, Debug)]
pub(super) enum Admission {
    /// It waits for room.
    Wait,
    /// It is refused when there is none.
    Try,
    /// It waits for room, but for its answer in all no longer than until then.
    Until(Instant),
}

impl Handle {
    /// As [`start_batched`](Self::start_batched), in batches of [`BATCH_TOKENS_MAX`].
    pub(super) fn start<T: Send + 'static>(
        load: impl FnOnce() -> Result<(T, Box<Encode>), StartError> + Send + 'static,
    ) -> Result<(Self, T), StartError> {
        Self::start_batched(move || load().map(|(facts, encode)| (facts, encode, BATCH_TOKENS_MAX)))
    }

    /// Starts a thread that runs `load`, and works with what that gives, in batches of so many tokens,
    /// until the handle is gone.
    pub(super) fn start_batched<T: Send + 'static>(
        load: impl FnOnce() -> Result<(T, Box<Encode>, usize), StartError> + Send + 'static,
    ) -> Result<(Self, T), StartError> {
        let (jobs, receiver) = mpsc::channel(QUEUE_JOBS_MAX);
        let (ready, readiness) = std::sync::mpsc::sync_channel(1);
        let state = Arc::new(State::default());
        let theirs = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("auspex-model".to_owned())
            .spawn(move || {
                // The channel has room for this one message, and the caller is waiting for it.
                match load() {
                    Ok((facts, encode, budget)) => {
                        let _ = ready.send(Ok(facts));
                        worker::work(receiver, &theirs, budget, &*encode);
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            })
            .map_err(|error| StartError::Thread(error.to_string()))?;
        let facts = readiness.recv().map_err(|_| {
            StartError::Thread("it panicked while it loaded the model".to_owned())
        })??;
        let admission = Arc::new(Semaphore::new(QUEUE_TOKENS_MAX));
        Ok((Self { admission, state, jobs: Some(jobs), thread: Some(thread) }, facts))
    }

    /// Queues one job and waits for its vectors.
    pub(super) async fn run(
        &self,
        sequences: Vec<Sequence>,
        admission: Admission,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let Admission::Until(deadline) = admission else {
            return self.run_admitted(sequences, admission).await;
        };
        let tokens: usize = sequences.iter().map(Sequence::len).sum();
        let left = deadline.saturating_duration_since(Instant::now());
        let needed = self.state.pace.time_for(self.queued_tokens() + tokens);
        if left.is_zero() || needed.is_some_and(|needed| left < needed) {
            metrics::counter!("auspex_inference_jobs_refused_total").increment(1);
            return Err(EngineError::Late { needed: needed.unwrap_or_default() });
        }
        let answer = tokio::time::timeout(left, self.run_admitted(sequences, admission)).await;
        // Whoever waits is told on time, even if the device hangs.
        answer.unwrap_or(Err(EngineError::Late { needed: Duration::ZERO }))
    }

    /// Tokens that are waiting or in work.
    pub(super) fn queued_tokens(&self) -> usize {
        QUEUE_TOKENS_MAX - self.admission.available_permits()
    }

    /// What callers hear when the thread has ended.
    pub(super) fn stopped(&self) -> EngineError {
        let reason = self.state.failure.get().map_or("it was shut down", String::as_str);
        EngineError::Stopped { reason: reason.to_owned() }
    }

    async fn run_admitted(
        &self,
        sequences: Vec<Sequence>,
        admission: Admission,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let tokens: usize = sequences.iter().map(Sequence::len).sum();
        if QUEUE_TOKENS_MAX < tokens {
            return Err(EngineError::TooManyTokens { tokens });
        }
        let jobs = self.jobs.as_ref().ok_or_else(|| self.stopped())?;
        let permit = self.permit(tokens as u32, admission).await?;
        self.meter();
        let (reply, answer) = oneshot::channel();
        let deadline = match admission {
            Admission::Until(deadline) => Some(deadline),
            Admission::Wait | Admission::Try => None,
        };
        let job = Job::new(sequences, reply, permit, deadline);
        match admission {
            Admission::Try => jobs.try_send(job).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => EngineError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => self.stopped(),
            })?,
            Admission::Wait | Admission::Until(_) => {
                jobs.send(job).await.map_err(|_| self.stopped())?;
            }
        }
        let answer = answer.await;
        self.meter();
        answer.map_err(|_| self.stopped())?
    }

    fn meter(&self) {
        metrics::gauge!("auspex_inference_queue_tokens").set(self.queued_tokens() as f64);
    }

    async fn permit(
        &self,
        tokens: u32,
        admission: Admission,
    ) -> Result<OwnedSemaphorePermit, EngineError> {
        let semaphore = Arc::clone(&self.admission);
        match admission {
            Admission::Try => {
                semaphore.try_acquire_many_owned(tokens).map_err(|error| match error {
                    TryAcquireError::NoPermits => EngineError::Overloaded,
                    TryAcquireError::Closed => self.stopped(),
                })
            }
            Admission::Wait | Admission::Until(_) => {
                let permit = semaphore.acquire_many_owned(tokens).await;
                permit.map_err(|_: AcquireError| self.stopped())
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The closed channel is what ends the thread.
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the model's thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::error::EncodeError;

    #[test]
    fn the_drop_waits_for_the_thread() {
        let ended = Arc::new(AtomicBool::new(false));
        struct Ends(Arc<AtomicBool>);
        impl Drop for Ends {
            fn drop(&mut self) {
                std::thread::yield_now();
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let ends = Ends(Arc::clone(&ended));
        let encode: Box<Encode> = Box::new(move |_| {
            let _ = &ends;
            Ok(Vec::new())
        });
        let (handle, ()) = Handle::start(move || Ok(((), encode))).unwrap();
        drop(handle);
        assert!(ended.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_lost_device_tells_every_caller_why_and_gives_back_their_room() {
        let lost = "the driver lost the device";
        let (handle, ()) = Handle::start(move || {
            let encode: Box<Encode> = Box::new(move |_| {
                let reason = lost.to_owned();
                Err(EncodeError::Device { device: "wgpu:0".to_owned(), reason })
            });
            Ok(((), encode))
        })
        .unwrap();
        // The first caller's batch fails; the second finds the thread on its way out or gone.
        for _ in 0..2 {
            let error = handle.run(vec![Sequence::single(vec![1])], Admission::Wait).await;
            assert!(error.unwrap_err().to_string().contains(lost));
        }
        let error = handle.run(vec![Sequence::single(vec![1])], Admission::Try).await.unwrap_err();
        assert!(
            matches!(&error, EngineError::Stopped { reason } if reason.contains(lost)),
            "{error}"
        );
        assert_eq!(handle.queued_tokens(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_device_that_is_lost_amid_a_thousand_mixed_jobs_loses_none_of_them() {
        /// Batches before the device is lost; a batch has at most `BATCH_TOKENS_MAX` tokens.
        const BATCHES: usize = 10;
        let batches = std::sync::atomic::AtomicUsize::new(0);
        let (handle, ()) = Handle::start(move || {
            let encode: Box<Encode> = Box::new(move |sequences| {
                if BATCHES <= batches.fetch_add(1, Ordering::SeqCst) {
                    let reason = "the driver lost the device".to_owned();
                    return Err(EncodeError::Device { device: "wgpu:0".to_owned(), reason });
                }
                Ok(sequences.iter().map(|sequence| vec![sequence.len() as f32]).collect())
            });
            Ok(((), encode))
        })
        .unwrap();
        let handle = Arc::new(handle);
        let run = |job: usize| {
            let handle = Arc::clone(&handle);
            async move {
                let length = 1 + job % 200;
                let sequences = |length: usize| vec![Sequence::single(vec![1; length])];
                let (wait, soon) = (Admission::Wait, Duration::from_micros(job as u64));
                match job % 10 {
                    0 => handle.run(sequences(QUEUE_TOKENS_MAX + 1), wait).await,
                    // So large that three of them fill the queue.
                    1 => handle.run(sequences(QUEUE_TOKENS_MAX / 3), Admission::Try).await,
                    2 => {
                        handle.run(sequences(length), Admission::Until(Instant::now() + soon)).await
                    }
                    3 => {
                        match tokio::time::timeout(soon, handle.run(sequences(length), wait)).await
                        {
                            Ok(answer) => answer,
                            // It has left.
                            Err(_) => Ok(vec![vec![length as f32]]),
                        }
                    }
                    4 => handle.run(sequences(length), Admission::Try).await,
                    _ => handle.run(sequences(length), wait).await,
                }
            }
        };
        let jobs: Vec<_> = (0..1000).map(|job| tokio::spawn(run(job))).collect();
        let (mut answered, mut lost) = (0, 0);
        for (job, answer) in jobs.into_iter().enumerate() {
            let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
            match answer.unwrap().unwrap() {
                Ok(vectors) => {
                    let length = if job % 10 == 1 { QUEUE_TOKENS_MAX / 3 } else { 1 + job % 200 };
                    assert_eq!(vectors, [[length as f32]], "{job}");
                    answered += 1;
                }
                Err(EngineError::TooManyTokens { .. }) => assert_eq!(job % 10, 0),
                Err(EngineError::Overloaded) => assert!(matches!(job % 10, 1 | 4), "{job}"),
                Err(EngineError::Late { .. }) => assert_eq!(job % 10, 2),
                Err(error) => {
                    assert!(error.to_string().contains("lost the device"), "{job}: {error}");
                    lost += 1;
                }
            }
        }
        assert!(0 < answered && 0 < lost, "{answered} answered, {lost} lost");
        assert_eq!(handle.queued_tokens(), 0);
        let late = handle.run(vec![Sequence::single(vec![1])], Admission::Wait).await;
        assert!(matches!(late, Err(EngineError::Stopped { .. })));
    }

    #[tokio::test]
    async fn a_deadline_is_kept_before_and_while_a_job_waits() {
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let (handle, ()) = Handle::start(move || {
            // A device that hangs until the test lets it go.
            let encode: Box<Encode> = Box::new(move |sequences| {
                let _ = gate.recv();
                Ok(vec![vec![1.0]; sequences.len()])
            });
            Ok(((), encode))
        })
        .unwrap();
        let job = || vec![Sequence::single(vec![1])];
        let past = Admission::Until(Instant::now());
        assert!(matches!(handle.run(job(), past).await, Err(EngineError::Late { .. })));
        let soon = Admission::Until(Instant::now() + Duration::from_millis(20));
        assert!(matches!(handle.run(job(), soon).await, Err(EngineError::Late { .. })));
        drop(release);
        let later = Admission::Until(Instant::now() + Duration::from_secs(60));
        assert_eq!(handle.run(job(), later).await.unwrap(), [[1.0]]);
    }

    #[tokio::test]
    async fn a_job_that_never_fits_is_refused() {
        let (handle, ()) =
            Handle::start(|| Ok(((), Box::new(|_: &[&Sequence]| Ok(Vec::new())) as Box<Encode>)))
                .unwrap();
        let huge = vec![Sequence::single(vec![0; QUEUE_TOKENS_MAX + 1])];
        let error = handle.run(huge, Admission::Wait).await.unwrap_err().to_string();
        assert!(error.contains("262145 tokens in one job, the limit is 262144"), "{error}");
    }
}
