//! Following a chain: one bounded step, and the loop around it. Backfill and live are the same step with another reach.

mod branch;
mod converge;
mod read;
mod run;

pub(crate) use converge::keep_from;
pub use converge::{Follower, Outcome, Policy};
pub use run::{Follow, follow};
