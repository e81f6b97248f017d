//! How many calls an endpoint takes in one request: half as many after each refusal, and more again when it has served for a
//! while.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Full requests in a row that are served before the limit is tried at twice its height.
const SERVED_BEFORE_GROWTH: u32 = 64;

/// The limit of one endpoint for one kind of call.
#[derive(Debug)]
pub(super) struct CallsMax {
    /// What is never exceeded.
    most: usize,
    // A std mutex, because it is never held across an await.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    /// Full requests that were served since the limit last changed.
    served: u32,
}

impl CallsMax {
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: Mutex::new(State { limit: most, served: 0 }) }
    }

    pub(super) fn limit(&self) -> usize {
        self.lock().limit
    }

    /// A request of so many calls was too large. Of several that were under way at once only the first counts.
    pub(super) fn refused(&self, calls: usize) {
        let mut state = self.lock();
        state.limit = state.limit.min(calls / 2).max(1);
        state.served = 0;
    }

    pub(super) fn served(&self, calls: usize) {
        let mut state = self.lock();
        if calls < state.limit {
            return;
        }
        state.served += 1;
        if SERVED_BEFORE_GROWTH <= state.served {
            state.limit = (state.limit * 2).min(self.most);
            state.served = 0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_falls_at_once_and_rises_slowly() {
        let calls = CallsMax::new(100);
        // Four requests were under way, and all of them were too large.
        for _ in 0..4 {
            calls.refused(100);
        }
        assert_eq!(calls.limit(), 50);
        calls.refused(50);
        for _ in 0..SERVED_BEFORE_GROWTH {
            assert_eq!(calls.limit(), 25);
            // One that was not full tells nothing.
            calls.served(3);
            calls.served(25);
        }
        assert_eq!(calls.limit(), 50);
        for _ in 0..2 * SERVED_BEFORE_GROWTH {
            calls.served(100);
        }
        assert_eq!(calls.limit(), 100);
        for calls_of_one in [100, 50, 25, 12, 6, 3, 1, 1] {
            calls.refused(calls_of_one);
        }
        assert_eq!(calls.limit(), 1);
    }
}
