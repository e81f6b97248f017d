//! Models in processes of their own: the one that embeds, and the one that writes. A lost GPU, a driver that panics or the
//! kernel's out-of-memory killer ends such a process and nothing else: it is started again, tests itself before it serves, and
//! what it was at is asked again.
//!
//! Reading order: [`wire`], [`serve`] (the child), [`orders`] (what to send again, and when), [`breaker`] (when to try again,
//! and on which device), `child` and `keeper` (the parent), [`process`] and [`writing`] (how others use it).

pub mod breaker;
mod child;
mod keeper;
pub mod orders;
pub mod process;
pub mod report;
pub mod serve;
pub mod wire;
pub mod writing;
