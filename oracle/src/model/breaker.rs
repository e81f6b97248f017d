//! When a model process is started again, and on which device. Pure: time comes in.
//!
//! A device that fails again and again is left for the next one (the CPU is the last). After a while a process is started on
//! the first one beside the one that works, and takes over when it passes its self-test. When the last device fails again
//! and again, nobody waits for it: questions are refused at once, until one try is due.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{MODEL_FAILURES_MAX, MODEL_OPEN};

/// What is known about the devices, which are tried in their order.
#[derive(Debug, Clone)]
pub struct Breaker {
    devices: usize,
    /// The first device is tried again so long after it was left.
    retry: Duration,
    device: usize,
    /// Failures since the last success, on the present device.
    failures: u32,
    /// When the first device was left, or last tried in vain.
    left_first_at: Option<Instant>,
    open_until: Option<Instant>,
}

/// What to do with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Ask a process on this device, by its place in the order.
    Device(usize),
    /// Refuse; a try is due after this time.
    Refuse(Duration),
}

impl Breaker {
    /// `devices` counts the CPU; at least one. `retry` is when the first one is tried again after it was left.
    pub fn new(devices: usize, retry: Duration) -> Self {
        let devices = devices.max(1);
        Self { devices, retry, device: 0, failures: 0, left_first_at: None, open_until: None }
    }

    pub fn way(&mut self, now: Instant) -> Way {
        if let Some(until) = self.open_until {
            if now < until {
                return Way::Refuse(until - now);
            }
            self.open_until = None;
        }
        Way::Device(self.device)
    }

    /// The present device.
    pub fn device(&self) -> usize {
        self.device
    }

    /// The device that is tried last.
    pub fn last(&self) -> usize {
        self.devices - 1
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The present device has failed.
    pub fn failed(&mut self, now: Instant) {
        self.failures += 1;
        if self.failures < MODEL_FAILURES_MAX {
            return;
        }
        if self.device < self.last() {
            self.leave(now, self.device + 1);
            return;
        }
        self.failures = MODEL_FAILURES_MAX - 1;
        self.open_until = Some(now + MODEL_OPEN);
    }

    /// The last device has done what others could not.
    pub fn convicted(&mut self, now: Instant) {
        if self.device < self.last() {
            self.leave(now, self.last());
        }
    }

    fn leave(&mut self, now: Instant, next: usize) {
        self.device = next;
        self.failures = 0;
        self.left_first_at = Some(now);
    }

    /// Whether a process is to be started on the first device, to see whether it is well again.
    pub fn is_return_due(&self, now: Instant) -> bool {
        self.left_first_at.is_some_and(|at| self.retry <= now - at)
    }

    /// A process on the first device has passed its self-test, or has not.
    pub fn returned(&mut self, now: Instant, is_well: bool) {
        if is_well {
            self.device = 0;
            self.failures = 0;
            self.left_first_at = None;
        } else {
            self.left_first_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Duration = Duration::from_secs(600);

    fn fail(breaker: &mut Breaker, times: u32, now: Instant) {
        for _ in 0..times {
            breaker.failed(now);
        }
    }

    #[test]
    fn a_failing_gpu_gives_way_to_the_cpu_and_is_tried_again_later() {
        let start = Instant::now();
        let mut breaker = Breaker::new(2, RETRY);
        fail(&mut breaker, MODEL_FAILURES_MAX - 1, start);
        breaker.succeeded();
        fail(&mut breaker, MODEL_FAILURES_MAX - 1, start);
        assert_eq!(breaker.way(start), Way::Device(0), "not so often in a row");
        breaker.failed(start);
        assert_eq!(breaker.way(start), Way::Device(1));
        breaker.succeeded();
        assert!(!breaker.is_return_due(start + RETRY / 2));
        let later = start + RETRY;
        assert!(breaker.is_return_due(later));
        breaker.returned(later, false);
        assert_eq!(breaker.way(later), Way::Device(1), "one try is enough");
        assert!(!breaker.is_return_due(later + RETRY / 2));
        breaker.returned(later + RETRY, true);
        assert_eq!(breaker.way(later + RETRY), Way::Device(0));
        assert!(!breaker.is_return_due(later + 9 * RETRY));
    }

    #[test]
    fn a_device_that_another_one_convicts_is_left_at_once() {
        let start = Instant::now();
        let mut breaker = Breaker::new(2, RETRY);
        breaker.convicted(start);
        assert_eq!(breaker.way(start), Way::Device(1));
        let mut alone = Breaker::new(1, RETRY);
        alone.convicted(start);
        assert_eq!(alone.way(start), Way::Device(0));
        assert!(!alone.is_return_due(start + RETRY));
    }

    #[test]
    fn when_the_last_device_fails_questions_are_refused_until_one_try_is_due() {
        let start = Instant::now();
        let mut breaker = Breaker::new(1, RETRY);
        fail(&mut breaker, MODEL_FAILURES_MAX, start);
        assert_eq!(breaker.way(start), Way::Refuse(MODEL_OPEN));
        let due = start + MODEL_OPEN;
        assert_eq!(breaker.way(due), Way::Device(0));
        breaker.failed(due);
        assert_eq!(breaker.way(due), Way::Refuse(MODEL_OPEN));
        assert_eq!(breaker.way(due + MODEL_OPEN), Way::Device(0));
        breaker.succeeded();
        breaker.failed(due + MODEL_OPEN);
        assert_eq!(breaker.way(due + MODEL_OPEN), Way::Device(0), "closed by a success");
    }
}
