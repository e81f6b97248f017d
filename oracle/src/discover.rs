//! Finding requests: the indexer's list, read at an interval and at every bell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use alloy::sol_types::Eip712Domain;
use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::board::{self, Board, Finality};
use crate::heads::Heads;
use crate::identity::{advance_sequence, seen_sequence};
use crate::job::found::{Discovered, Found, discover_all, known};
use crate::job::terms::Terms;
use crate::limits::{DISCOVERY_PAGES_MAX, DISCOVERY_WHOLE};
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

/// What a look at the list has shown, as sequence numbers.
struct Listed {
    newest: u64,
    /// Up to here every request is finalized.
    finalized: Option<u64>,
}

impl Discovery {
    pub async fn run(self, interval: Duration, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut failing = false;
        // The newest request that was seen, and when the whole list was read last.
        let mut seen: Option<(u64, Instant)> = None;
        loop {
            // Registered before the look, so that a bell during it is not lost.
            let bell = self.bell.notified();
            // Without a head no request is taken, so that the next look may pass over none.
            let takes = self.heads.borrow().is_some();
            let known = seen.filter(|(_, whole)| whole.elapsed() < DISCOVERY_WHOLE);
            let looked = match known {
                Some((newest, whole)) => {
                    self.list(newest).await.map(|listed| (listed.newest, whole))
                }
                None => {
                    let started = Instant::now();
                    self.look().await.map(|newest| (newest, started))
                }
            };
            match looked {
                Ok(looked) => {
                    seen = Some(looked).filter(|_| takes);
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

    /// Reads the whole list once and returns its newest sequence number. The cursor moves over finalized requests only.
    pub async fn look(&self) -> anyhow::Result<u64> {
        // Without a head no request is taken, and none is to be passed over for ever.
        let takes = self.heads.borrow().is_some();
        let after = seen_sequence(&self.pool).await?;
        let listed = self.list(after).await?;
        if let Some(sequence) = listed.finalized.filter(|_| takes) {
            advance_sequence(&self.pool, sequence).await?;
        }
        Ok(listed.newest)
    }

    /// Reads what is on the list after a sequence number.
    async fn list(&self, mut after: u64) -> anyhow::Result<Listed> {
        let mut listed = Listed { newest: after, finalized: None };
        let mut all_finalized = true;
        for _ in 0..DISCOVERY_PAGES_MAX {
            let (page, next) = self.board.funded(after).await?;
            if page.is_empty() && next.is_none() {
                return Ok(listed);
            }
            let seen: Vec<_> = page.iter().map(|v| (v.request_id, v.block_number)).collect();
            // What waits for its delivery stays on the list: it is not to be checked and stored at every look.
            let known = known(&self.pool, &seen).await?;
            // By their ids, so that none is there twice and two processes store them in the same order.
            let mut fresh = BTreeMap::new();
            for entry in &page {
                if !known.contains(&entry.request_id)
                    && let Some(discovered) = self.check(entry)
                {
                    fresh.insert(entry.request_id, discovered);
                }
                all_finalized &= entry.finality == Finality::Finalized;
                if all_finalized {
                    listed.finalized = Some(entry.sequence);
                }
                listed.newest = listed.newest.max(entry.sequence);
            }
            self.take(fresh.into_values().collect()).await?;
            match next {
                Some(next) => after = next,
                None => return Ok(listed),
            }
        }
        Ok(listed)
    }

    /// What is to become a job, when the request is sound, ours and in time.
    fn check(&self, entry: &board::Listed) -> Option<Discovered> {
        let request_id = entry.request_id;
        let view = entry.view().inspect_err(|error| {
            tracing::warn!(%request_id, %error, "the indexer lists a request that cannot be read");
        });
        let view = view.ok()?;
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
                return None;
            }
        };
        if !terms.operator_set.signers.contains(&self.signer) {
            return None;
        }
        // A request that nobody has refunded yet stays on the list after its deadline.
        let chain_time = self.heads.borrow().map(|heads| heads.latest.time);
        if chain_time.is_none_or(|now| terms.deadline() <= now) {
            return None;
        }
        Some(Discovered { terms, sequence: entry.sequence, seen_block: entry.block_number })
    }

    async fn take(&self, discovered: Vec<Discovered>) -> anyhow::Result<()> {
        if discovered.is_empty() {
            return Ok(());
        }
        for (request_id, found) in discover_all(&self.pool, &discovered).await? {
            match found {
                Found::New => {
                    self.meters.requests_found.add(1);
                    tracing::info!(%request_id, "request found");
                }
                Found::Returned => tracing::info!(%request_id, "request seen in another block"),
                Found::Known => continue,
            }
            self.work.notify_one();
        }
        Ok(())
    }
}
