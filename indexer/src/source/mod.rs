//! Where blocks come from: endpoints that may be slow, behind, broken or lying, and the pool that chooses among them.

mod batch;
pub mod clock;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod hint;
pub mod pool;
pub mod refusal;
pub mod rpc;
pub mod transport;
pub mod wire;

use std::future::Future;

use alloy::primitives::{Address, B256};

use crate::chain::RawLog;
use crate::verify::receipts::ClaimedReceipt;
use crate::verify::{Check, ClaimedHeader, Lie};

/// One node that answers questions about a chain. Nothing that it says is believed before it is checked.
/// The second implementation is the simulated node of the tests.
pub trait Endpoint: Send + Sync {
    /// A name for logs and metrics that holds no secret.
    fn name(&self) -> &str;

    fn chain_id(&self) -> impl Future<Output = Result<u64, Fault>> + Send;

    /// The latest, safe and finalized headers, asked for together. The latter two are null on a chain that has none yet.
    fn heads(&self) -> impl Future<Output = Result<ClaimedHeads, Fault>> + Send;

    /// The headers from `first` to `last`, both included, in order; null where the endpoint has no such block.
    fn headers(
        &self,
        first: u64,
        last: u64,
    ) -> impl Future<Output = Result<Vec<Option<ClaimedHeader>>, Fault>> + Send;

    fn header_by_hash(
        &self,
        hash: B256,
    ) -> impl Future<Output = Result<Option<ClaimedHeader>, Fault>> + Send;

    /// These logs in the blocks from `first` to `last`, both included.
    fn logs_in(
        &self,
        first: u64,
        last: u64,
        filter: &LogFilter,
    ) -> impl Future<Output = Result<Vec<RawLog>, Fault>> + Send;

    /// These logs in one block; null when the endpoint does not know the block.
    fn logs_of(
        &self,
        block: B256,
        filter: &LogFilter,
    ) -> impl Future<Output = Result<Option<Vec<RawLog>>, Fault>> + Send;

    /// All receipts of some blocks; null for a block that the endpoint does not know.
    fn receipts(
        &self,
        blocks: &[B256],
    ) -> impl Future<Output = Result<Vec<Option<Vec<ClaimedReceipt>>>, Fault>> + Send;
}

/// Which logs an endpoint is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Contracts of which all logs are asked for.
    pub addresses: Vec<Address>,
    /// First topics of logs that are asked for whoever emitted them.
    pub anywhere: Vec<B256>,
}

impl LogFilter {
    pub fn asks_for(&self, address: Address, topic0: Option<&B256>) -> bool {
        self.addresses.contains(&address)
            || topic0.is_some_and(|topic| self.anywhere.contains(topic))
    }

    /// Puts the answers to both questions together, in chain order. What the first answer has is left out of the second.
    pub fn join(&self, mut logs: Vec<RawLog>, anywhere: Vec<RawLog>) -> Vec<RawLog> {
        logs.extend(anywhere.into_iter().filter(|log| !self.addresses.contains(&log.address)));
        logs.sort_by_key(|log| (log.block_number, log.log_index));
        logs
    }
}

/// An endpoint's heads, before any check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedHeads {
    pub latest: ClaimedHeader,
    pub safe: Option<ClaimedHeader>,
    pub finalized: Option<ClaimedHeader>,
}

/// Why an endpoint's answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No answer, or one that says that something is wrong over there.
    #[error("unavailable: {0}")]
    Unavailable(String),
    #[error("rate limited: {0}")]
    RateLimited(String),
    /// The question was too large; a smaller one may be answered.
    #[error("asked for too much: {0}")]
    TooLarge(String),
    /// The endpoint does not have the block yet, or no longer. Never a reason to take anything back.
    #[error("does not have {0}")]
    Absent(String),
    /// The endpoint cannot answer such questions at all.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// The answer failed a check.
    #[error("failed the check {0}")]
    Lie(#[from] Lie),
}

impl Fault {
    pub fn lie(check: Check, detail: impl Into<String>) -> Self {
        Self::Lie(Lie::new(check, detail))
    }

    /// The fault's name in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::RateLimited(_) => "rate_limited",
            Self::TooLarge(_) => "too_large",
            Self::Absent(_) => "absent",
            Self::Unsupported(_) => "unsupported",
            Self::Lie(_) => "lie",
        }
    }
}
