//! What every handler shares.

use std::sync::Arc;
use std::time::Duration;

use auspex_protocol::deployment::Deployment;
use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::error::ApiError;
use super::limits::{
    BLOCK_AGE_MAX, DEVELOPMENT_CHAIN_ID, REQUESTS_IN_FLIGHT_MAX, STREAM_READERS_MAX,
};
use super::partial::Partials;
use super::stream::Hub;
use crate::health::Health;

/// From when on a chain is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyLimits {
    /// No node has told its head for longer than this.
    pub head_age_max: Duration,
    /// The newest indexed block's own time lies further back than this, though nodes answer: they stand still, or the chain
    /// does. Zero means never; null is [`BLOCK_AGE_MAX`], and never on a development chain.
    pub block_age_max: Option<Duration>,
}

impl ReadyLimits {
    pub(super) fn block_age_max(self, chain_id: u64) -> Option<Duration> {
        match self.block_age_max {
            Some(limit) => (!limit.is_zero()).then_some(limit),
            None => (chain_id != DEVELOPMENT_CHAIN_ID).then_some(BLOCK_AGE_MAX),
        }
    }
}

/// Cheap to clone; one per process.
#[derive(Debug, Clone)]
pub struct ServeState {
    pub pool: PgPool,
    /// The chains that are served. The first one is meant when a client names none.
    pub chains: Arc<Vec<Deployment>>,
    /// The live stream's events.
    pub hub: Hub,
    /// Who reads unfinished answers.
    pub(super) partials: Arc<Partials>,
    /// Renders `/metrics`.
    pub metrics: PrometheusHandle,
    /// When a chain is not ready.
    pub ready: ReadyLimits,
    /// How this process's followers stand; empty where it only serves.
    pub health: Health,
    /// The tasks that requests run in; they outlive a client that goes away, and the process waits for them.
    pub(super) tasks: TaskTracker,
    pub(super) in_flight: Arc<Semaphore>,
    pub(super) readers: Arc<Semaphore>,
    pub(super) schema: async_graphql::dynamic::Schema,
}

impl ServeState {
    pub fn new(
        pool: PgPool,
        chains: Vec<Deployment>,
        metrics: PrometheusHandle,
        ready: ReadyLimits,
        health: Health,
    ) -> anyhow::Result<Self> {
        let hub = Hub::new(pool.clone());
        let schema = super::graphql::schema()?;
        Ok(Self {
            pool,
            chains: Arc::new(chains),
            hub,
            partials: Arc::default(),
            metrics,
            ready,
            health,
            tasks: TaskTracker::new(),
            in_flight: Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX)),
            readers: Arc::new(Semaphore::new(STREAM_READERS_MAX)),
            schema,
        })
    }

    /// What became of the unfinished answers that were heard.
    pub fn partials(&self) -> Arc<Partials> {
        Arc::clone(&self.partials)
    }

    /// Lets one more client read the live stream, by whatever protocol, until the permit is dropped.
    pub(super) fn admit_reader(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let permit = Arc::clone(&self.readers).try_acquire_owned();
        permit.map_err(|_| {
            ApiError::Unavailable(format!(
                "the live stream has {STREAM_READERS_MAX} readers, its limit; try again later"
            ))
        })
    }

    /// How many clients read the live stream.
    pub(super) fn reader_count(&self) -> usize {
        STREAM_READERS_MAX - self.readers.available_permits()
    }

    /// The chain that a client means by `chainId`; the first one when it says nothing.
    pub(super) fn chain(&self, chain_id: Option<&str>) -> Result<&Deployment, ApiError> {
        let found = match chain_id {
            None => self.chains.first(),
            Some(text) => self.chains.iter().find(|chain| chain.chain_id.to_string() == text),
        };
        found.ok_or_else(|| {
            let served: Vec<_> = self.chains.iter().map(|c| c.chain_id.to_string()).collect();
            ApiError::NotFound(format!(
                "chainId: this indexer does not serve that chain; it serves {}",
                served.join(", ")
            ))
        })
    }
}

/// A chain id as PostgreSQL holds it. Chain ids above 2^63 are not in use anywhere, and the follow loop refuses them.
pub(super) fn chain_key(chain: &Deployment) -> i64 {
    i64::try_from(chain.chain_id).unwrap_or(i64::MAX)
}
