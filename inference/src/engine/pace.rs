//! How fast the model is: what decides whether a job can be done by its deadline.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Share of a new measurement in the average.
const SHARE: f64 = 0.2;

/// Tokens per second, averaged over the last batches.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The bits of an `f64`; zero before the first batch.
    tokens_per_second: AtomicU64,
}

impl Pace {
    /// Notes a batch; called by the model's thread alone.
    pub(super) fn note(&self, tokens: usize, elapsed: Duration) {
        let measured = tokens as f64 / elapsed.as_secs_f64().max(1e-6);
        let before = f64::from_bits(self.tokens_per_second.load(Ordering::Relaxed));
        let average = if before == 0.0 { measured } else { before + SHARE * (measured - before) };
        self.tokens_per_second.store(average.to_bits(), Ordering::Relaxed);
    }

    /// How long so many tokens take; nothing before the first batch.
    pub(super) fn time_for(&self, tokens: usize) -> Option<Duration> {
        let pace = f64::from_bits(self.tokens_per_second.load(Ordering::Relaxed));
        // At most 2^18 tokens in the queue, at a pace that is above one per day: no overflow.
        (pace != 0.0).then(|| Duration::from_secs_f64((tokens as f64 / pace).min(1e9)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_follows_the_last_batches() {
        let pace = Pace::default();
        assert_eq!(pace.time_for(1000), None);
        pace.note(1000, Duration::from_secs(1));
        assert_eq!(pace.time_for(500), Some(Duration::from_millis(500)));
        for _ in 0..50 {
            pace.note(100, Duration::from_secs(1));
        }
        let slow = pace.time_for(100).unwrap().as_secs_f64();
        assert!((slow - 1.0).abs() < 0.01, "{slow}");
        pace.note(0, Duration::ZERO);
        assert!(pace.time_for(usize::MAX).is_some());
    }
}
