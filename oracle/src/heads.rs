//! The chain's heads, read at an interval. Chain time is the latest block's; our own clock only measures durations.

use std::sync::Arc;
use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chain::{Chain, ChainError, Head};

/// The heads as they were last read.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    pub latest: Head,
    /// The newest block that is safe; `None` before there is one.
    pub safe: Option<Head>,
    pub finalized: Option<Head>,
    pub read_at: Instant,
    /// When the latest block was first seen to be the latest. An endpoint that stands still answers every question.
    pub arrived_at: Instant,
}

/// Reads all three.
pub async fn read(chain: &Chain) -> Result<Option<Heads>, ChainError> {
    let Some(latest) = chain.head(BlockNumberOrTag::Latest).await? else {
        return Ok(None);
    };
    let safe = chain.head(BlockNumberOrTag::Safe).await?;
    let finalized = chain.head(BlockNumberOrTag::Finalized).await?;
    let now = Instant::now();
    Ok(Some(Heads { latest, safe, finalized, read_at: now, arrived_at: now }))
}

/// Keeps `heads` current and rings `bell` at every new block.
pub async fn follow(
    chain: Chain,
    heads: watch::Sender<Option<Heads>>,
    bell: Arc<Notify>,
    interval: Duration,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut failing = false;
    loop {
        match read(&chain).await {
            Ok(Some(read)) => {
                failing = false;
                let before = (*heads.borrow()).filter(|before| before.latest == read.latest);
                let arrived_at = before.map_or(read.arrived_at, |before| before.arrived_at);
                heads.send_replace(Some(Heads { arrived_at, ..read }));
                if before.is_none() {
                    bell.notify_waiters();
                }
            }
            Ok(None) => {}
            Err(error) => {
                // Once per outage: an endpoint that is down would fill the log otherwise.
                if !failing {
                    tracing::warn!(%error, "the chain cannot be read");
                }
                failing = true;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(interval) => {}
        }
    }
}
