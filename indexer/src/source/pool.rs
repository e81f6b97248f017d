//! Which endpoint is asked: one at a time and the same one as long as it serves, so that a head and the logs below it come
//! from one view of the chain.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock::Clock;
use super::{Endpoint, Fault};
use crate::limits::{
    BACKOFF_MAX, BACKOFF_MIN, QUARANTINE_MAX, QUARANTINE_MIN, RANGES_IN_FLIGHT_MAX,
    STEPS_BEFORE_PARDON,
};

/// The endpoints of one chain.
#[derive(Debug)]
pub struct Pool<E> {
    endpoints: Vec<E>,
    clock: Clock,
    // A std mutex, because it is never held across an await.
    state: Mutex<State>,
}

/// Which endpoint of a pool.
pub type Index = usize;

/// How an endpoint stands, for status pages.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    pub name: String,
    pub quarantined: bool,
    pub failures: u32,
    pub last_fault: Option<String>,
}

#[derive(Debug)]
struct State {
    preferred: Index,
    slots: Vec<Slot>,
}

#[derive(Debug, Clone)]
struct Slot {
    chain_checked: bool,
    failures: u32,
    lies: u32,
    /// Steps served since the last lie, or since half of them were forgiven.
    served: u32,
    not_before: Option<Duration>,
    quarantined: bool,
    last_fault: Option<String>,
    /// Requests that may be under way at once: one more with each success, half with each refusal.
    concurrency: usize,
}

impl<E: Endpoint> Pool<E> {
    /// `endpoints` in order of preference; at least one.
    pub fn new(endpoints: Vec<E>, clock: Clock) -> Self {
        let slot = Slot {
            chain_checked: false,
            failures: 0,
            lies: 0,
            served: 0,
            not_before: None,
            quarantined: false,
            last_fault: None,
            concurrency: RANGES_IN_FLIGHT_MAX,
        };
        let slots = vec![slot; endpoints.len()];
        Self { endpoints, clock, state: Mutex::new(State { preferred: 0, slots }) }
    }

    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    pub fn endpoint(&self, index: Index) -> &E {
        &self.endpoints[index]
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn endpoints(&self) -> &[E] {
        &self.endpoints
    }

    /// The endpoint to ask now, or for how long there is none.
    pub fn pick(&self) -> Result<Index, Duration> {
        let now = self.clock.now();
        let mut state = self.lock();
        let count = state.slots.len();
        for offset in 0..count {
            let index = (state.preferred + offset) % count;
            if state.slots[index].is_available(now) {
                state.preferred = index;
                return Ok(index);
            }
        }
        let earliest = state.slots.iter().filter_map(|slot| slot.not_before).min();
        Err(earliest.map_or(BACKOFF_MAX, |at| at.saturating_sub(now)))
    }

    /// The other endpoints that may be asked now.
    pub fn others(&self, index: Index) -> Vec<Index> {
        let now = self.clock.now();
        let state = self.lock();
        (0..state.slots.len())
            .filter(|other| *other != index && state.slots[*other].is_available(now))
            .collect()
    }

    pub fn is_chain_checked(&self, index: Index) -> bool {
        self.lock().slots[index].chain_checked
    }

    pub fn chain_checked(&self, index: Index) {
        self.lock().slots[index].chain_checked = true;
    }

    pub fn concurrency(&self, index: Index) -> usize {
        self.lock().slots[index].concurrency
    }

    /// The endpoint served a whole step.
    pub fn reward(&self, index: Index) {
        let mut state = self.lock();
        let slot = &mut state.slots[index];
        slot.failures = 0;
        slot.not_before = None;
        slot.quarantined = false;
        slot.concurrency = (slot.concurrency + 1).min(RANGES_IN_FLIGHT_MAX);
        slot.served += 1;
        if STEPS_BEFORE_PARDON <= slot.served {
            slot.served = 0;
            slot.lies /= 2;
        }
    }

    /// The endpoint failed a step: it is left alone for a while, and longer if it failed a check.
    pub fn punish(&self, index: Index, fault: &Fault) {
        let name = self.endpoints[index].name().to_owned();
        metrics::counter!("auspex_indexer_rpc_faults_total", "endpoint" => name, "fault" => fault.name())
            .increment(1);
        let now = self.clock.now();
        let mut state = self.lock();
        let count = state.slots.len();
        let slot = &mut state.slots[index];
        slot.last_fault = Some(fault.to_string());
        match fault {
            Fault::Absent(_) => {}
            // What can be asked for in smaller parts was, before it came to this.
            Fault::TooLarge(_) | Fault::Unavailable(_) | Fault::Unsupported(_) => {
                slot.back_off(now);
            }
            Fault::RateLimited(_) => {
                slot.concurrency = (slot.concurrency / 2).max(1);
                slot.back_off(now);
            }
            Fault::Lie(_) => {
                // A node behind a load balancer may be another one next time.
                slot.chain_checked = false;
                slot.lies += 1;
                slot.served = 0;
                slot.quarantined = true;
                slot.not_before = Some(now + doubled(QUARANTINE_MIN, QUARANTINE_MAX, slot.lies));
            }
        }
        state.preferred = (index + 1) % count;
    }

    /// Asks this endpoint next time.
    pub fn prefer(&self, index: Index) {
        self.lock().preferred = index;
    }

    /// Asks another endpoint next time, without blame.
    pub fn rotate(&self, index: Index) {
        let mut state = self.lock();
        state.preferred = (index + 1) % state.slots.len();
    }

    pub fn standings(&self) -> Vec<Standing> {
        let state = self.lock();
        self.endpoints
            .iter()
            .zip(&state.slots)
            .map(|(endpoint, slot)| Standing {
                name: endpoint.name().to_owned(),
                quarantined: slot.quarantined,
                failures: slot.failures + slot.lies,
                last_fault: slot.last_fault.clone(),
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn is_available(&self, now: Duration) -> bool {
        self.not_before.is_none_or(|not_before| not_before <= now)
    }

    fn back_off(&mut self, now: Duration) {
        self.failures += 1;
        self.not_before = Some(now + doubled(BACKOFF_MIN, BACKOFF_MAX, self.failures));
    }
}

fn doubled(first: Duration, most: Duration, times: u32) -> Duration {
    let factor = 2u32.saturating_pow(times.saturating_sub(1).min(16));
    first.saturating_mul(factor).min(most)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::source::rpc::RpcEndpoint;

    /// A pool of so many endpoints that are never asked, and its time in milliseconds.
    fn pool(count: u16) -> (Pool<RpcEndpoint>, Arc<AtomicU64>) {
        let endpoint = |number: u16| {
            let url = format!("http://node-{number}.example").parse().unwrap();
            RpcEndpoint::new(&url).unwrap()
        };
        let time = Arc::new(AtomicU64::new(0));
        let now = Arc::clone(&time);
        let clock = Clock::new(move || Duration::from_millis(now.load(Ordering::Relaxed)));
        (Pool::new((0..count).map(endpoint).collect(), clock), time)
    }

    #[tokio::test]
    async fn an_endpoint_that_refuses_what_cannot_be_made_smaller_is_left_for_another() {
        let (pool, time) = pool(2);
        assert_eq!(pool.pick(), Ok(0));
        pool.punish(0, &Fault::TooLarge("response size exceeded".into()));
        assert_eq!(pool.pick(), Ok(1));
        pool.punish(1, &Fault::TooLarge("response size exceeded".into()));
        assert_eq!(pool.pick(), Err(BACKOFF_MIN));
        time.fetch_add(BACKOFF_MIN.as_millis() as u64, Ordering::Relaxed);
        assert_eq!(pool.pick(), Ok(0));
        // It is asked ever more seldom.
        pool.punish(0, &Fault::TooLarge("response size exceeded".into()));
        pool.punish(1, &Fault::TooLarge("response size exceeded".into()));
        assert_eq!(pool.pick(), Err(2 * BACKOFF_MIN));
    }

    #[tokio::test]
    async fn lies_are_forgiven_by_long_service() {
        let (pool, time) = pool(1);
        let lie = Fault::lie(crate::verify::Check::Bloom, "a log that never was");
        let quarantine = || {
            pool.punish(0, &lie);
            let quarantine = pool.pick().unwrap_err();
            time.fetch_add(quarantine.as_millis() as u64, Ordering::Relaxed);
            quarantine
        };
        for factor in [1, 2, 4, 8] {
            assert_eq!(quarantine(), factor * QUARANTINE_MIN);
        }
        for _ in 1..STEPS_BEFORE_PARDON {
            pool.reward(0);
        }
        assert_eq!(quarantine(), 16 * QUARANTINE_MIN);
        // Five lies become two, and two one.
        for _ in 0..2 * STEPS_BEFORE_PARDON {
            pool.reward(0);
        }
        assert_eq!(quarantine(), 2 * QUARANTINE_MIN);
    }
}
