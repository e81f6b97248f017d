//! The thread that keeps one child. An OS thread rather than a task: a child that several tests share must
//! not depend on the runtime of the test that happened to start it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::sync::watch;

use super::lifeline::{self, Kept};
use super::{Ended, ProcessConfig, Restart, Shared, Status, StopSignal};
use crate::limits::EXIT_POLL;

/// Keeps the child until it has ended for good.
pub(super) fn run(
    config: &ProcessConfig,
    shared: &Shared,
    status: &watch::Sender<Status>,
    first: Kept,
) {
    let ended = keep(config, shared, status, first);
    tracing::debug!(process = config.name, %ended, "process ended");
    shared.lock().finished = true;
    status.send_replace(Status::Ended(ended));
    shared.changed.notify_all();
}

fn keep(
    config: &ProcessConfig,
    shared: &Shared,
    status: &watch::Sender<Status>,
    first: Kept,
) -> Ended {
    let mut child = Some(first);
    let mut ended = Ended::Unstartable(String::new());
    let mut restarts = 0;
    let mut pause = Duration::ZERO;
    loop {
        let started = Instant::now();
        if let Some(child) = child.take() {
            ended = wait_for_end(config, shared, child);
        }
        let Restart::Always { first, max } = config.restart else { return ended };
        if shared.lock().stopping.is_some() {
            return ended;
        }
        pause = next_pause(pause, started.elapsed(), first, max);
        tracing::warn!(process = config.name, %ended, ?pause, "process ended unasked, starting it again");
        status.send_replace(Status::Pausing { ended: ended.clone(), pause, restarts });
        if !sleep_unless_stopped(shared, pause) {
            return ended;
        }
        // The lock is held across the start, so that a stop request comes either before it, and is seen
        // here, or after it, and finds the child's id.
        let mut state = shared.lock();
        if state.stopping.is_some() {
            return ended;
        }
        match lifeline::spawn(config) {
            Ok(again) => {
                restarts += 1;
                state.pid = Some(again.id());
                status.send_replace(Status::Running { pid: again.id(), restarts });
                child = Some(again);
            }
            Err(error) => ended = Ended::Unstartable(format!("{error:#}")),
        }
    }
}

/// Waits until the child has ended; sends the polite signal once a stop is requested, and SIGKILL after
/// the grace time.
fn wait_for_end(config: &ProcessConfig, shared: &Shared, mut child: Kept) -> Ended {
    let mut asked = false;
    let mut state = shared.lock();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                state.pid = None;
                return how(status);
            }
            Ok(None) => {}
            Err(error) => {
                state.pid = None;
                return Ended::Unstartable(format!("wait for process: {error}"));
            }
        }
        match state.stopping {
            Some(_) if !asked => {
                asked = true;
                state.signal(signal_of(config.stop_signal));
            }
            Some(since) if config.grace < since.elapsed() => {
                state.signal(Signal::SIGKILL);
            }
            Some(_) | None => {}
        }
        let waited = shared.changed.wait_timeout(state, EXIT_POLL);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Returns false when a stop was requested.
fn sleep_unless_stopped(shared: &Shared, pause: Duration) -> bool {
    let waited =
        shared.changed.wait_timeout_while(shared.lock(), pause, |state| state.stopping.is_none());
    waited.unwrap_or_else(PoisonError::into_inner).0.stopping.is_none()
}

fn next_pause(last: Duration, ran: Duration, first: Duration, max: Duration) -> Duration {
    if last.is_zero() || max < ran { first.min(max) } else { (last * 2).min(max) }
}

fn how(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, Some(number)) => Ended::Signal(number),
        (None, None) => Ended::Unstartable(status.to_string()),
    }
}

fn signal_of(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Interrupt => Signal::SIGINT,
        StopSignal::Quit => Signal::SIGQUIT,
        StopSignal::Terminate => Signal::SIGTERM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_begin_again_after_a_long_run() {
        let (first, max) = (Duration::from_millis(100), Duration::from_millis(350));
        let quick = Duration::from_millis(1);
        let mut pauses = Vec::new();
        let mut pause = Duration::ZERO;
        for ran in [quick, quick, quick, quick, Duration::from_millis(351), quick] {
            pause = next_pause(pause, ran, first, max);
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses, [100, 200, 350, 350, 100, 200]);
    }
}
