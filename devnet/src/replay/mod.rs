//! A node that is none: a chain that was built beforehand, with real hashes, blooms and receipts roots, served over
//! JSON-RPC from serialized parts, with knobs for latency, limits and lies. Benchmarks read it at full speed; tests make
//! it lie in every way that the field has seen.

mod answer;
mod block;
mod fault;
mod server;

pub use block::{Branch, Draft, ReplayBlock};
pub use fault::Faults;
pub use server::{Replay, Traffic};
