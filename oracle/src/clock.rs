//! Durations read off the database's clock, which may be set back or forward under us.

use std::time::Duration;

/// The time since something happened, from the database's own subtraction. Something that seems to have happened in the
/// future happened before the clock was set back; how long ago is unknown, so it counts as long ago: everything that
/// waits for time to pass is safe to do early, and nothing is safe to wait for without end.
pub fn elapsed(seconds: f64) -> Duration {
    match seconds {
        seconds if seconds < 0.0 => LONG_AGO,
        seconds => Duration::try_from_secs_f64(seconds).unwrap_or(LONG_AGO),
    }
}

const LONG_AGO: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_is_long_ago() {
        assert_eq!(elapsed(1.5), Duration::from_millis(1500));
        assert_eq!(elapsed(-0.001), LONG_AGO);
        assert_eq!(elapsed(f64::MAX), LONG_AGO);
        assert_eq!(elapsed(f64::NAN), LONG_AGO);
    }
}
