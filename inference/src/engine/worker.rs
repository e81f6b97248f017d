//! The thread that owns the model.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, mpsc::SyncSender},
    time::Instant,
};

use tokio::sync::mpsc;

use super::{
    EngineError, StartError,
    queue::{Job, Queue},
};
use crate::{
    device::DeviceChoice, encoder::Encoder, error::EncodeError, limits::BATCH_TOKENS_MAX,
    profile::Profile, self_test::self_test, tokens::Tokens,
};

/// What handles need to know of the model.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) tokens: Arc<Tokens>,
    pub(super) dimensions: usize,
    pub(super) device: DeviceChoice,
    pub(super) profile: Profile,
    pub(super) model_hash: [u8; 32],
}

/// Loads and checks the model, says so on `ready`, and works until the last handle is gone.
pub(super) fn run(
    dir: &Path,
    device: DeviceChoice,
    profile: Profile,
    ready: &SyncSender<Result<Ready, StartError>>,
    receiver: mpsc::Receiver<Job>,
) {
    let started = Instant::now();
    let encoder = match load(dir, device, profile) {
        Ok(encoder) => encoder,
        Err(error) => {
            // The channel has room for this one message, and `Engine::start` is waiting for it.
            let _ = ready.send(Err(error));
            return;
        }
    };
    tracing::info!(
        device = %encoder.device(),
        profile = %encoder.profile(),
        model_hash = hex::encode(encoder.model_hash()),
        elapsed_ms = started.elapsed().as_millis() as u64,
        "model ready"
    );
    let _ = ready.send(Ok(Ready {
        tokens: encoder.tokens(),
        dimensions: encoder.dimensions(),
        device: encoder.device(),
        profile: encoder.profile(),
        model_hash: encoder.model_hash(),
    }));
    work(receiver, |sequences| encoder.encode(sequences));
}

fn load(dir: &Path, device: DeviceChoice, profile: Profile) -> Result<Encoder, StartError> {
    let encoder = Encoder::load_profile(dir, device, profile)?;
    self_test(&encoder, dir)
        .map_err(|reason| StartError::SelfTest { device: encoder.device(), reason })?;
    Ok(encoder)
}

/// Runs batches until the channel is closed and empty, or until `encode` panics: a backend panics
/// when its device is lost, and what it would compute afterwards cannot be trusted.
fn work(
    mut receiver: mpsc::Receiver<Job>,
    encode: impl Fn(&[&[u32]]) -> Result<Vec<Vec<f32>>, EncodeError>,
) {
    let mut queue = Queue::default();
    loop {
        if queue.is_empty() {
            let Some(job) = receiver.blocking_recv() else { return };
            queue.push(job);
        }
        while let Ok(job) = receiver.try_recv() {
            queue.push(job);
        }
        let abandoned = queue.drop_abandoned();
        metrics::counter!("auspex_inference_jobs_abandoned_total").increment(abandoned as u64);

        let picks = queue.take(BATCH_TOKENS_MAX);
        let sequences = queue.sequences(&picks);
        let tokens: usize = sequences.iter().map(|sequence| sequence.len()).sum();
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| encode(&sequences)));
        metrics::histogram!("auspex_inference_batch_seconds").record(started.elapsed());
        metrics::histogram!("auspex_inference_batch_tokens").record(tokens as f64);
        metrics::histogram!("auspex_inference_batch_fill_ratio")
            .record(tokens as f64 / BATCH_TOKENS_MAX as f64);
        match outcome {
            Ok(Ok(vectors)) => queue.finish(&picks, vectors),
            Ok(Err(error)) => queue.fail(&picks, &EngineError::Encode(error)),
            Err(_) => {
                // The panic hook has printed the cause. Dropping the receiver and the queue
                // tells every waiting and every later caller.
                tracing::error!(tokens, "the model panicked, its thread ends");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Semaphore, oneshot};

    use super::*;

    #[test]
    fn a_panic_in_the_model_tells_every_caller() {
        let (jobs, receiver) = mpsc::channel(8);
        let admission = Arc::new(Semaphore::new(100));
        let mut replies = Vec::new();
        for _ in 0..3 {
            let (reply, receiver) = oneshot::channel();
            let permit = Arc::clone(&admission).try_acquire_many_owned(1).unwrap();
            jobs.try_send(Job::new(vec![vec![0]], reply, permit)).unwrap();
            replies.push(receiver);
        }
        // `resume_unwind` panics without the noise of the panic hook.
        work(receiver, |_| std::panic::resume_unwind(Box::new("device lost")));
        for reply in replies {
            assert!(reply.blocking_recv().is_err());
        }
        assert!(jobs.is_closed());
        assert_eq!(admission.available_permits(), 100);
    }
}
