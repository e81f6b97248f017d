//! What a follower is told, and what it says of a step.

use std::time::Duration;

use crate::source::Fault;
use crate::verify::Level;

/// How much is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Above the finalized block.
    pub live: Level,
    /// At or below it.
    pub backfill: Level,
    /// Count and log what fails, but use it.
    pub observe_only: bool,
    /// The share of blocks with logs whose receipts are read at level `linked`, between 0 and 1.
    pub sample: f64,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The indexed tip is the endpoint's head.
    Idle,
    Extended {
        first: u64,
        last: u64,
        facts: usize,
    },
    RolledBack {
        ancestor: u64,
        depth: u64,
        last: u64,
        facts: usize,
    },
    /// Stored blocks were read again in search of events that were left out; nothing is written yet.
    ReadAgain {
        first: u64,
        last: u64,
    },
    /// Events that an endpoint had left out were put back, and what follows from them was derived again.
    Healed {
        first: u64,
        last: u64,
        facts: usize,
    },
    /// Nothing can be done now; why, and for how long at least.
    Waiting {
        reason: String,
        pause: Duration,
    },
    /// An endpoint's answer could not be used; another one is asked next.
    Refused {
        endpoint: String,
        fault: Fault,
    },
    /// Somebody else moved the cursor.
    Lost,
    /// Going on would mean to take back what is final, or to accept a gap. Looked at again from time to time.
    Halted {
        reason: String,
    },
}
