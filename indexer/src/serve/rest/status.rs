//! `GET /v1/status`: how far every chain is indexed, and whether all is well.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::primitives::{Address, B256};
use auspex_protocol::deployment::Deployment;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::error::ApiError;
use super::super::limits::LAG_BLOCKS_MAX;
use super::super::state::{ServeState, chain_key};
use crate::source::pool::Standing;

/// The indexer as a whole.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct Status {
    pub(in super::super) chains: Vec<ChainStatus>,
    version: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct ChainStatus {
    pub(in super::super) chain_id: u64,
    /// What the node last said.
    head: Option<BlockView>,
    safe: Option<BlockView>,
    finalized: Option<BlockView>,
    /// The last block whose events are served.
    indexed: Option<BlockView>,
    pub(in super::super) lag_blocks: Option<u64>,
    /// Seconds since a node last told its head.
    pub(in super::super) head_age_seconds: Option<u64>,
    /// Seconds since the newest indexed block's own time.
    block_age_seconds: Option<u64>,
    pub(in super::super) healthy: bool,
    /// Why it is not healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) reason: Option<String>,
    /// What the follower in this process last waited for or failed at; absent when all is well, and where another process
    /// follows the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    /// The endpoints that this process asks, in order of preference.
    endpoints: Vec<EndpointView>,
    start_block: u64,
    #[schema(value_type = String)]
    escrow: Address,
    #[schema(value_type = String)]
    agent_registry: Address,
    #[schema(value_type = String)]
    operator_registry: Address,
    #[schema(value_type = String)]
    entry_policy: Address,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    platform_token: Option<Address>,
}

/// How an endpoint did so far.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EndpointView {
    /// Scheme, host and port.
    name: String,
    /// True while it is left alone because an answer of its failed a check.
    quarantined: bool,
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_fault: Option<String>,
}

impl From<Standing> for EndpointView {
    fn from(standing: Standing) -> Self {
        let Standing { name, quarantined, failures, last_fault } = standing;
        Self { name, quarantined, failures, last_fault }
    }
}

/// A block. Hash and time are known for blocks that are indexed and not yet pruned.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct BlockView {
    number: u64,
    #[schema(value_type = Option<String>)]
    hash: Option<B256>,
    /// Unix seconds.
    time: Option<u64>,
}

/// How far every chain is indexed.
#[utoipa::path(
    get,
    path = "/v1/status",
    tag = "status",
    responses((status = 200, body = Status)),
)]
pub(in super::super) async fn status(
    State(state): State<ServeState>,
) -> Result<Json<Status>, ApiError> {
    let mut chains = Vec::with_capacity(state.chains.len());
    for deployment in state.chains.iter() {
        chains.push(chain(&state, deployment).await?);
    }
    Ok(Json(Status { chains, version: env!("CARGO_PKG_VERSION") }))
}

/// One chain's state.
pub(in super::super) async fn chain(
    state: &ServeState,
    deployment: &Deployment,
) -> Result<ChainStatus, ApiError> {
    let row = sqlx::query!(
        r#"
        select
            c.number, c.hash, c.time, c.head_number, c.safe_number, c.finalized_number, c.halted,
            extract(epoch from now() - c.head_seen_at)::bigint as "head_age!",
            h.hash as "head_hash?", h.time as "head_time?",
            s.hash as "safe_hash?", s.time as "safe_time?",
            f.hash as "finalized_hash?", f.time as "finalized_time?"
        from indexer.cursors c
        left join indexer.blocks h on h.chain_id = c.chain_id and h.number = c.head_number
        left join indexer.blocks s on s.chain_id = c.chain_id and s.number = c.safe_number
        left join indexer.blocks f on f.chain_id = c.chain_id and f.number = c.finalized_number
        where c.chain_id = $1
        "#,
        chain_key(deployment),
    )
    .fetch_optional(&state.pool)
    .await?;
    let mut status = ChainStatus {
        chain_id: deployment.chain_id,
        head: None,
        safe: None,
        finalized: None,
        indexed: None,
        lag_blocks: None,
        head_age_seconds: None,
        block_age_seconds: None,
        healthy: false,
        reason: Some("nothing has been indexed yet".to_owned()),
        trouble: None,
        endpoints: Vec::new(),
        start_block: deployment.start_block,
        escrow: deployment.request_escrow,
        agent_registry: deployment.agent_registry,
        operator_registry: deployment.operator_registry,
        entry_policy: deployment.entry_policy,
        platform_token: deployment.platform_token,
    };
    if let Some(following) = state.health.chain(deployment.chain_id) {
        status.trouble = following.trouble;
        status.endpoints = following.endpoints.into_iter().map(EndpointView::from).collect();
    }
    if let Some(row) = row {
        let lag = row.head_number.saturating_sub(row.number).max(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // A block's time may be ahead of this clock.
        let block_age = now.saturating_sub(Duration::from_secs(row.time.max(0).unsigned_abs()));
        let ages = Ages {
            head: Duration::from_secs(row.head_age.max(0).unsigned_abs()),
            head_max: state.ready.head_age_max,
            block: block_age,
            block_max: state.ready.block_age_max(deployment.chain_id),
        };
        status.reason = ill(row.halted, lag, ages);
        status.healthy = status.reason.is_none();
        status.lag_blocks = Some(lag.unsigned_abs());
        status.head_age_seconds = Some(ages.head.as_secs());
        status.block_age_seconds = Some(ages.block.as_secs());
        status.head = Some(block(row.head_number, row.head_hash.as_deref(), row.head_time));
        status.safe = Some(block(row.safe_number, row.safe_hash.as_deref(), row.safe_time));
        status.finalized =
            Some(block(row.finalized_number, row.finalized_hash.as_deref(), row.finalized_time));
        status.indexed = Some(block(row.number, Some(&row.hash), Some(row.time)));
    }
    Ok(status)
}

fn block(number: i64, hash: Option<&[u8]>, time: Option<i64>) -> BlockView {
    BlockView {
        number: number.max(0).unsigned_abs(),
        hash: hash.map(B256::from_slice),
        time: time.map(|time| time.max(0).unsigned_abs()),
    }
}

/// How old what is known of a chain is, and may be.
#[derive(Debug, Clone, Copy)]
struct Ages {
    /// Since a node last told its head.
    head: Duration,
    head_max: Duration,
    /// Since the newest indexed block's own time.
    block: Duration,
    block_max: Option<Duration>,
}

/// Why a chain is not healthy; `None` when it is.
fn ill(halted: Option<String>, lag_blocks: i64, ages: Ages) -> Option<String> {
    if let Some(reason) = halted {
        return Some(format!("stopped, and waits for a person: {reason}"));
    }
    let (age, limit) = (ages.head.as_secs(), ages.head_max.as_secs());
    if limit < age {
        return Some(format!("no node has told its head for {age} s (limit {limit} s)"));
    }
    if LAG_BLOCKS_MAX < lag_blocks {
        return Some(format!(
            "{lag_blocks} blocks behind the head (limit {LAG_BLOCKS_MAX}); still catching up"
        ));
    }
    if let Some(limit) = ages.block_max.filter(|limit| *limit < ages.block) {
        return Some(format!(
            "the newest block is {} s old (limit {} s): the endpoints stand still, or the chain does",
            ages.block.as_secs(),
            limit.as_secs()
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_ill_when_it_stopped_or_its_head_is_old_or_far_or_stands_still() {
        let second = Duration::from_secs(1);
        let well = Ages {
            head: 60 * second,
            head_max: 60 * second,
            block: 120 * second,
            block_max: Some(120 * second),
        };
        assert_eq!(ill(None, 64, well), None);
        assert!(ill(None, 0, Ages { head: 61 * second, ..well }).unwrap().contains("61 s"));
        assert!(ill(None, 0, Ages { head_max: 9 * second, ..well }).unwrap().contains("limit 9 s"));
        assert!(ill(None, 65, well).unwrap().contains("65 blocks"));
        let halted = Some("reorg below finalized".to_owned());
        assert!(ill(halted, 0, well).unwrap().contains("reorg below"));
        let still = Ages { block: 121 * second, ..well };
        assert!(ill(None, 0, still).unwrap().contains("the newest block is 121 s old"));
        assert_eq!(ill(None, 0, Ages { block_max: None, ..still }), None);
    }
}
