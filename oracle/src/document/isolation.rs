//! Readers of hostile files run on a thread of their own: a panic or an endless loop there ends one extraction and
//! nothing else. Rust cannot stop a thread, so one that ran out of time keeps its place among the few that may run.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    time::Instant,
};

use crate::corpus::limits::{EXTRACTION_STACK_BYTES, EXTRACTION_TIMEOUT, EXTRACTIONS_MAX};

/// Why an extraction has no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Panicked,
    TimedOut,
    Busy,
}

/// Runs `work` on a thread of its own and waits for it. `work` gets the time by which it should have ended.
pub(super) fn run<T: Send + 'static>(
    work: impl FnOnce(Instant) -> T + Send + 'static,
) -> Result<T, Failure> {
    let place = Place::take()?;
    let deadline = Instant::now() + EXTRACTION_TIMEOUT;
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("auspex-document".to_owned())
        .stack_size(EXTRACTION_STACK_BYTES)
        .spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| work(deadline)));
            drop(place);
            // Nobody listens when the time is over.
            let _ = sender.send(outcome);
        });
    if thread.is_err() {
        return Err(Failure::Busy);
    }
    match receiver.recv_timeout(EXTRACTION_TIMEOUT) {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(_)) | Err(mpsc::RecvTimeoutError::Disconnected) => Err(Failure::Panicked),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Failure::TimedOut),
    }
}

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// The right to run one extraction.
#[derive(Debug)]
struct Place;

impl Place {
    fn take() -> Result<Self, Failure> {
        let (mut running, _) = ENDED
            .wait_timeout_while(count(), EXTRACTION_TIMEOUT, |running| EXTRACTIONS_MAX <= *running)
            .unwrap_or_else(PoisonError::into_inner);
        if EXTRACTIONS_MAX <= *running {
            return Err(Failure::Busy);
        }
        *running += 1;
        Ok(Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *count() -= 1;
        ENDED.notify_one();
    }
}

fn count() -> MutexGuard<'static, usize> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_outcome_and_gives_the_place_back() {
        for _ in 0..3 * EXTRACTIONS_MAX {
            assert_eq!(run(|_| -> u8 { panic!("hostile") }), Err(Failure::Panicked));
        }
        assert_eq!(run(|_| 7), Ok(7));
    }
}
