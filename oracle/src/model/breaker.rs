//! When a model process is started again, and on which device. Pure: time comes in.
//!
//! A device that fails again and again is left for the next one (the CPU is the last), and tried once more after a while.
//! When the last one fails again and again, nobody waits for it: questions are refused at once, until one try is due.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{MODEL_DEVICE_RETRY, MODEL_FAILURES_MAX, MODEL_OPEN};

/// What is known about the devices, which are tried in their order.
#[derive(Debug, Clone)]
pub struct Breaker {
    devices: usize,
    device: usize,
    /// Failures since the last success, on the present device.
    failures: u32,
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
    /// `devices` counts the CPU; at least one.
    pub fn new(devices: usize) -> Self {
        let devices = devices.max(1);
        Self { devices, device: 0, failures: 0, left_first_at: None, open_until: None }
    }

    pub fn way(&mut self, now: Instant) -> Way {
        if let Some(until) = self.open_until {
            if now < until {
                return Way::Refuse(until - now);
            }
            self.open_until = None;
        }
        if self.left_first_at.is_some_and(|at| MODEL_DEVICE_RETRY <= now - at) {
            // One try: another failure leaves it again at once.
            self.device = 0;
            self.failures = MODEL_FAILURES_MAX - 1;
            self.left_first_at = None;
        }
        Way::Device(self.device)
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub fn failed(&mut self, now: Instant) {
        self.failures += 1;
        if self.failures < MODEL_FAILURES_MAX {
            return;
        }
        if self.device + 1 < self.devices {
            self.device += 1;
            self.failures = 0;
            self.left_first_at = Some(now);
            return;
        }
        self.failures = MODEL_FAILURES_MAX - 1;
        self.open_until = Some(now + MODEL_OPEN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &mut Breaker, times: u32, now: Instant) {
        for _ in 0..times {
            breaker.failed(now);
        }
    }

    #[test]
    fn a_failing_gpu_gives_way_to_the_cpu_and_is_tried_again_later() {
        let start = Instant::now();
        let mut breaker = Breaker::new(2);
        fail(&mut breaker, MODEL_FAILURES_MAX - 1, start);
        breaker.succeeded();
        fail(&mut breaker, MODEL_FAILURES_MAX - 1, start);
        assert_eq!(breaker.way(start), Way::Device(0), "not so often in a row");
        breaker.failed(start);
        assert_eq!(breaker.way(start), Way::Device(1));
        breaker.succeeded();
        assert_eq!(breaker.way(start + MODEL_DEVICE_RETRY / 2), Way::Device(1));
        let later = start + MODEL_DEVICE_RETRY;
        assert_eq!(breaker.way(later), Way::Device(0));
        breaker.failed(later);
        assert_eq!(breaker.way(later), Way::Device(1), "one try is enough");
    }

    #[test]
    fn when_the_last_device_fails_questions_are_refused_until_one_try_is_due() {
        let start = Instant::now();
        let mut breaker = Breaker::new(1);
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
