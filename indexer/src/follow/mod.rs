//! Following a chain: one bounded step, and the loop around it. Backfill and live are the same step with another reach.

mod branch;
mod converge;
mod extend;
mod heads;
mod heal;
mod outcome;
mod read;
mod run;
mod swap;
mod width;

pub use converge::Follower;
pub(crate) use heads::keep_from;
pub use outcome::{Outcome, Policy};
pub use run::{Follow, follow};
