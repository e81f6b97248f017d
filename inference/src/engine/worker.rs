//! The thread that owns the model.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use tokio::sync::mpsc;

use super::{
    EngineError,
    handle::State,
    queue::{Job, Queue},
};
use crate::{error::EncodeError, tokens::Sequence};

/// What the thread runs: one vector for each sequence.
pub(super) type Encode =
    dyn Fn(&[&Sequence]) -> Result<Vec<Vec<f32>>, EncodeError> + Send + 'static;

/// Runs batches of up to `budget` tokens until the channel is closed and empty, or until the device fails: a backend that has
/// panicked or lost its device computes nothing afterwards that could be trusted.
pub(super) fn work(
    mut receiver: mpsc::Receiver<Job>,
    state: &State,
    budget: usize,
    encode: &Encode,
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
        let late = queue.drop_late(Instant::now());
        metrics::counter!("auspex_inference_jobs_late_total").increment(late as u64);

        let picks = queue.take(budget);
        let sequences = queue.sequences(&picks);
        let tokens: usize = sequences.iter().map(|sequence| sequence.len()).sum();
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| encode(&sequences)));
        let elapsed = started.elapsed();
        metrics::histogram!("auspex_inference_batch_seconds").record(elapsed);
        metrics::histogram!("auspex_inference_batch_tokens").record(tokens as f64);
        metrics::histogram!("auspex_inference_batch_fill_ratio")
            .record(tokens as f64 / budget as f64);
        let reason = match outcome {
            Ok(Ok(vectors)) => {
                if 0 < tokens {
                    state.pace.note(tokens, elapsed);
                }
                queue.finish(&picks, vectors);
                continue;
            }
            Ok(Err(error @ EncodeError::Device { .. })) => error.to_string(),
            Ok(Err(error)) => {
                queue.fail(&picks, &EngineError::Encode(error));
                continue;
            }
            Err(panic) => format!("the model panicked: {}", message(&*panic)),
        };
        // Said before the receiver and the queue are dropped, which is how every waiting and every
        // later caller learns that there is something to read.
        tracing::error!(tokens, reason, "the model's thread ends");
        let _ = state.failure.set(reason);
        return;
    }
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
            let job = Job::new(vec![Sequence::single(vec![0])], reply, permit, None);
            jobs.try_send(job).unwrap();
            replies.push(receiver);
        }
        let state = State::default();
        // `resume_unwind` panics without the noise of the panic hook.
        work(receiver, &state, 100, &|_| std::panic::resume_unwind(Box::new("device lost")));
        for reply in replies {
            assert!(reply.blocking_recv().is_err());
        }
        assert!(jobs.is_closed());
        assert_eq!(admission.available_permits(), 100);
        assert_eq!(state.failure.get().unwrap(), "the model panicked: device lost");
    }
}
