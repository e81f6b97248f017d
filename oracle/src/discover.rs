//! Finding requests: the indexer's list, read at an interval and at every bell.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use alloy::sol_types::Eip712Domain;
use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Finality, RequestView};
use crate::heads::Heads;
use crate::identity::{advance_sequence, seen_sequence};
use crate::job::store::{Found, discover, known};
use crate::job::terms::Terms;
use crate::limits::DISCOVERY_PAGES_MAX;
use crate::meter::Meters;

/// Makes jobs of requests that name our signer.
#[derive(Debug)]
pub struct Discovery {
    pub pool: PgPool,
    pub board: Board,
    pub domain: Eip712Domain,
    pub signer: Address,
    pub heads: watch::Receiver<Option<Heads>>,
    pub meters: Arc<Meters>,
    /// Rung by the bus; makes the next look immediate.
    pub bell: Arc<Notify>,
    /// Rung for the workers.
    pub work: Arc<Notify>,
    /// When the indexer last answered.
    pub reached: watch::Sender<Option<Instant>>,
}

impl Discovery {
    pub async fn run(self, interval: Duration, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut failing = false;
        loop {
            // Registered before the look, so that a bell during it is not lost.
            let bell = self.bell.notified();
            match self.look().await {
                Ok(()) => {
                    failing = false;
                    self.reached.send_replace(Some(Instant::now()));
                }
                Err(error) => {
                    self.meters.board_failures.add(1);
                    if !failing {
                        tracing::warn!(error = format!("{error:#}"), "requests cannot be listed");
                    }
                    failing = true;
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = bell => {}
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    /// Reads the list once. The cursor moves over finalized requests only.
    pub async fn look(&self) -> anyhow::Result<()> {
        let mut after = seen_sequence(&self.pool).await?;
        let mut all_finalized = true;
        for _ in 0..DISCOVERY_PAGES_MAX {
            let (views, next) = self.board.funded(after).await?;
            let seen: Vec<_> = views.iter().map(|v| (v.request_id, v.block_number)).collect();
            // What waits for its delivery stays on the list: it is not to be checked and stored at every look.
            let known = known(&self.pool, &seen).await?;
            let mut finalized = None;
            for view in &views {
                if !known.contains(&view.request_id) {
                    self.take(view).await?;
                }
                all_finalized &= view.finality == Finality::Finalized;
                if all_finalized {
                    finalized = Some(view.sequence);
                }
            }
            if let Some(sequence) = finalized {
                advance_sequence(&self.pool, sequence).await?;
            }
            match next {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    async fn take(&self, view: &RequestView) -> anyhow::Result<()> {
        let request_id = view.request_id;
        let terms = Terms::verified(
            &self.domain,
            request_id,
            &view.request,
            &view.offer,
            &view.operator_set,
            view.input.to_vec(),
        );
        let terms = match terms {
            Ok(terms) => terms,
            Err(error) => {
                self.meters.requests_disbelieved.add(1);
                tracing::warn!(%request_id, %error, "the indexer shows a request that does not fit together");
                return Ok(());
            }
        };
        if !terms.operator_set.signers.contains(&self.signer) {
            return Ok(());
        }
        // A request that nobody has refunded yet stays on the list after its deadline.
        let chain_time = self.heads.borrow().map(|heads| heads.latest.time);
        if chain_time.is_none_or(|now| terms.deadline() <= now) {
            return Ok(());
        }
        match discover(&self.pool, &terms, view.sequence, view.block_number).await? {
            Found::New => {
                self.meters.requests_found.add(1);
                tracing::info!(%request_id, deadline = terms.deadline(), "request found");
                self.work.notify_one();
            }
            Found::Returned => {
                tracing::info!(%request_id, "request seen in another block");
                self.work.notify_one();
            }
            Found::Known => {}
        }
        Ok(())
    }
}
