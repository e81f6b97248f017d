//! The loop around the step: who may follow, when to look again, what to say, when to give up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::converge::Follower;
use super::outcome::Outcome;
use crate::contract::{Hole, RegisterError, Sources};
use crate::health::Health;
use crate::limits::{HALTED_PAUSE, RETRY_PAUSE_MAX, RETRY_PAUSE_MIN, STALL_TIMEOUT};
use crate::source::Endpoint;
use crate::source::rpc::RpcEndpoint;
use crate::store::StoreError;
use crate::store::postgres::PgStore;

/// What the loop of one chain needs beside its follower.
#[derive(Debug)]
pub struct Follow {
    pub chain_id: u64,
    /// Pause between two looks at the tip.
    pub poll: Duration,
    /// Rings when a new head was announced.
    pub bell: Arc<Notify>,
    /// Is rung when something was written.
    pub changed: Arc<Notify>,
    pub health: Health,
    /// What is followed, which the database remembers.
    pub sources: Sources,
}

/// How often a quiet chain's row says that a node still answers.
const TOUCH_INTERVAL: Duration = Duration::from_secs(5);

/// How often progress is logged while far behind.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Follows a chain until `shutdown`. Nothing that an endpoint or the database does ends it. Fails only when somebody else has
/// followed the chain meanwhile without something that this process is to follow.
pub async fn follow(
    mut follower: Follower<RpcEndpoint, PgStore>,
    follow: Follow,
    shutdown: CancellationToken,
) -> Result<(), Hole> {
    let mut registered = None;
    let mut retry = RETRY_PAUSE_MIN;
    let mut touched = Instant::now();
    let mut progress = Progress::new(follow.chain_id);
    while !shutdown.is_cancelled() {
        let step = async {
            if !follower.store().lead().await? {
                return Ok(None);
            }
            let term = Some(follower.store().term());
            if registered != term {
                follower.store().register(&follow.sources).await?;
                registered = term;
            }
            Ok::<_, RegisterError>(Some(follower.converge().await?))
        };
        let outcome = tokio::select! {
            () = shutdown.cancelled() => break,
            outcome = timeout(STALL_TIMEOUT, step) => outcome,
        };
        let pause = match outcome {
            Err(_) => {
                stalled(&follow);
                follower.forget();
                RETRY_PAUSE_MIN
            }
            Ok(Err(RegisterError::Hole(hole))) => {
                tracing::error!(chain = follow.chain_id, %hole, "following does not begin");
                return Err(hole);
            }
            Ok(Err(RegisterError::Store(error))) => {
                store_failed(&follow, &error);
                follower.forget();
                retry = (retry * 2).min(RETRY_PAUSE_MAX);
                retry
            }
            Ok(Ok(None)) => {
                follower.forget();
                follow.health.update(follow.chain_id, |health| {
                    health.leading = false;
                    health.trouble = Some("another process follows this chain".into());
                });
                Duration::from_secs(1)
            }
            Ok(Ok(Some(outcome))) => {
                record(&follow, &follower, &outcome);
                progress.report(&follower, &outcome);
                let pause = pause_after(&outcome, follow.poll, &mut retry);
                if TOUCH_INTERVAL < touched.elapsed()
                    && let Some(head) = follower.heads().map(|heads| heads.latest.number)
                {
                    touched = Instant::now();
                    if let Err(error) = follower.store().touch(head).await {
                        store_failed(&follow, &error);
                    }
                }
                pause
            }
        };
        if pause.is_zero() {
            // A long run of work must not keep the runtime from other tasks.
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = follow.bell.notified() => {}
            () = sleep(pause) => {}
        }
    }
    tracing::info!(chain = follow.chain_id, "stopped following");
    Ok(())
}

fn pause_after(outcome: &Outcome, poll: Duration, retry: &mut Duration) -> Duration {
    match outcome {
        Outcome::Extended { .. }
        | Outcome::RolledBack { .. }
        | Outcome::ReadAgain { .. }
        | Outcome::Healed { .. }
        | Outcome::Lost => {
            *retry = RETRY_PAUSE_MIN;
            Duration::ZERO
        }
        Outcome::Idle => {
            *retry = RETRY_PAUSE_MIN;
            poll
        }
        Outcome::Waiting { pause, .. } => (*pause).max(poll).min(RETRY_PAUSE_MAX),
        Outcome::Refused { .. } => {
            let pause = *retry;
            *retry = (*retry * 2).min(RETRY_PAUSE_MAX);
            pause
        }
        Outcome::Halted { .. } => HALTED_PAUSE,
    }
}

fn record<E: Endpoint + 'static, S: crate::store::Store>(
    follow: &Follow,
    follower: &Follower<E, S>,
    outcome: &Outcome,
) {
    let chain = follow.chain_id;
    let trouble = match outcome {
        Outcome::Idle | Outcome::Lost => None,
        Outcome::Extended { first, last, facts } => {
            follow.changed.notify_one();
            tracing::debug!(chain, first, last, facts, "extended");
            None
        }
        Outcome::RolledBack { ancestor, depth, last, facts } => {
            follow.changed.notify_one();
            tracing::warn!(chain, ancestor, depth, last, facts, "the chain was reorganized");
            None
        }
        Outcome::ReadAgain { first, last } => {
            Some(format!("blocks {first} to {last} were read again for events that were left out"))
        }
        Outcome::Healed { .. } => {
            follow.changed.notify_one();
            None
        }
        Outcome::Waiting { reason, .. } => {
            tracing::debug!(chain, %reason, "waiting");
            Some(reason.clone())
        }
        Outcome::Refused { endpoint, fault } => {
            tracing::warn!(chain, %endpoint, %fault, "an endpoint's answer was refused");
            Some(format!("endpoint {endpoint}: {fault}"))
        }
        Outcome::Halted { reason } => {
            tracing::error!(chain, %reason, "following is halted");
            Some(reason.clone())
        }
    };
    let head = follower.heads().map(|heads| heads.latest.number);
    let cursor = follower.cursor();
    let label = chain.to_string();
    if let Some(cursor) = cursor {
        metrics::gauge!("auspex_indexer_indexed_block", "chain" => label.clone())
            .set(cursor.tip.number as f64);
        metrics::gauge!("auspex_indexer_finalized_block", "chain" => label.clone())
            .set(cursor.finalized as f64);
        metrics::gauge!("auspex_indexer_halted", "chain" => label.clone())
            .set(if cursor.halted.is_some() { 1.0 } else { 0.0 });
        if let Some(head) = head {
            metrics::gauge!("auspex_indexer_lag_blocks", "chain" => label.clone())
                .set(head.saturating_sub(cursor.tip.number) as f64);
        }
    }
    if let Some(head) = head {
        metrics::gauge!("auspex_indexer_head_block", "chain" => label).set(head as f64);
    }
    follow.health.update(chain, |health| {
        health.leading = true;
        if head.is_some() {
            health.head = head;
            health.head_seen = Some(Instant::now());
        }
        health.indexed = cursor.map(|cursor| cursor.tip.number);
        health.halted = cursor.and_then(|cursor| cursor.halted.clone());
        health.trouble = trouble;
        health.endpoints = follower.pool().standings();
    });
}

fn store_failed(follow: &Follow, error: &StoreError) {
    tracing::error!(chain = follow.chain_id, %error, "the database failed a step; it is tried again");
    metrics::counter!("auspex_indexer_store_errors_total", "chain" => follow.chain_id.to_string())
        .increment(1);
    follow.health.update(follow.chain_id, |health| health.trouble = Some(error.to_string()));
}

fn stalled(follow: &Follow) {
    let seconds = STALL_TIMEOUT.as_secs();
    tracing::error!(chain = follow.chain_id, seconds, "a step hung and was abandoned");
    metrics::counter!("auspex_indexer_stalls_total", "chain" => follow.chain_id.to_string())
        .increment(1);
    follow.health.update(follow.chain_id, |health| {
        health.trouble = Some(format!("a step hung for {seconds} s and was abandoned"));
    });
}

/// Says how a backfill gets on, with an estimate of the time that is left.
#[derive(Debug)]
struct Progress {
    chain_id: u64,
    since: Instant,
    from: Option<u64>,
    facts: usize,
}

impl Progress {
    fn new(chain_id: u64) -> Self {
        Self { chain_id, since: Instant::now(), from: None, facts: 0 }
    }

    fn report<E: Endpoint + 'static, S: crate::store::Store>(
        &mut self,
        follower: &Follower<E, S>,
        outcome: &Outcome,
    ) {
        let Outcome::Extended { first, last, facts } = outcome else { return };
        let from = *self.from.get_or_insert(*first);
        self.facts += facts;
        let elapsed = self.since.elapsed();
        if elapsed < PROGRESS_INTERVAL {
            return;
        }
        let blocks_per_second = (last + 1 - from) as f64 / elapsed.as_secs_f64();
        let events_per_second = (self.facts as f64 / elapsed.as_secs_f64()).round();
        let left = follower.heads().map_or(0, |heads| heads.latest.number.saturating_sub(*last));
        let seconds_left = (left as f64 / blocks_per_second).round();
        tracing::info!(
            chain = self.chain_id,
            block = last,
            blocks_left = left,
            blocks_per_second = blocks_per_second.round(),
            events_per_second,
            seconds_left,
            "indexing"
        );
        *self = Self::new(self.chain_id);
    }
}
