//! The workers: claim a job, do one bounded step, give it back. A step may be cut off anywhere; the next one starts from
//! what is in the database.

use std::sync::Arc;
use std::time::Duration;

use alloy::eips::BlockId;
use alloy::primitives::Bytes;
use alloy::sol_types::Eip712Domain;
use anyhow::anyhow;
use auspex_protocol::bindings::IRequestEscrow::Result as SignedResult;
use auspex_protocol::document::ResultDocument;
use auspex_protocol::message::QuorumMessage;
use auspex_protocol::quorum::{leader, rank, result_digest};
use auspex_protocol::topic::Topics;
use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::answerer::Answerer;
use crate::board::Board;
use crate::chain::Chain;
use crate::config::{TokenAmount, TokenRate};
use crate::failpoint::{Point, pass};
use crate::heads::Heads;
use crate::job::check::{Facts, Patience, check, patience};
use crate::job::gauge::Gauge;
use crate::job::plan::{Decision, Policy, Presence, Standing, State, View, decide};
use crate::job::store::{self, Claim, FencedError, Lease};
use crate::keys::{ResultSigner, SignerError, Transmitter};
use crate::limits::{
    DELIVERED_RECHECK, DELIVERED_RECHECK_URGENT, DELIVERING_RECHECK, JOB_RECHECK, LEASE,
    RETRY_WAIT, RETRY_WAIT_MAX, URGENT_SECONDS, WORKER_SLEEP,
};
use crate::meter::Meters;
use crate::partial::Publisher;
use crate::quorum::reading::shortened;
use crate::quorum::store::{self as quorum_store, Recorded, Signing, Vote};

/// Everything that a worker works with.
#[derive(Debug)]
pub struct Desk {
    pub pool: PgPool,
    pub chain: Chain,
    pub board: Board,
    pub domain: Eip712Domain,
    pub topics: Topics,
    pub signer: ResultSigner,
    pub transmitter: Transmitter,
    pub answerer: Answerer,
    /// Who shows unfinished answers; nobody does without a broker.
    pub partials: Option<Publisher>,
    pub policy: Policy,
    pub wait_safe_above: Vec<TokenAmount>,
    pub wait_finalized_above: Vec<TokenAmount>,
    pub token_rates: Vec<TokenRate>,
    pub heads: watch::Receiver<Option<Heads>>,
    pub gauge: Gauge,
    /// How many workers may begin jobs at the same time: all but one, if there are several.
    pub beginners: Semaphore,
    pub meters: Arc<Meters>,
    pub bells: Bells,
}

/// Our stored signature.
struct Kept {
    signature: Bytes,
    /// The indexer keeps the answer.
    answer_stored: bool,
    /// The signatures that are there, ours among them.
    votes: Vec<Vote>,
}

/// What wakes the tasks. A bell carries nothing: who hears it looks for itself.
#[derive(Debug, Clone, Default)]
pub struct Bells {
    /// A job may be due.
    pub work: Arc<Notify>,
    /// The indexer may have new requests.
    pub discovery: Arc<Notify>,
    /// The outbox has something for the broker.
    pub bus: Arc<Notify>,
    /// The outbox has something for the board.
    pub board: Arc<Notify>,
    /// There may be a new intent, or a new block.
    pub manager: Arc<Notify>,
}

/// Works until told to stop; finishes the step that it is in.
pub async fn run(
    desk: Arc<Desk>,
    worker: String,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    while !shutdown.is_cancelled() {
        let bell = desk.bells.work.notified();
        // Answering takes long. As long as others answer, one worker is there for what only has to be delivered.
        let begins = desk.beginners.try_acquire().ok();
        let claimed =
            store::claim(&desk.pool, &desk.domain, &worker, LEASE, begins.is_some()).await;
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "no job can be claimed");
                None
            }
        };
        let Some(claim) = claimed else {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = bell => {}
                () = tokio::time::sleep(WORKER_SLEEP) => {}
            }
            continue;
        };
        let _begins = begins.filter(|_| claim.state == State::Queued);
        desk.attend(claim).await;
    }
    Ok(())
}

impl Desk {
    /// The steps of a job that follow each other without a wait, and what the failure of one means.
    pub async fn attend(&self, claim: Claim) {
        let (lease, failures, deadline) = (claim.lease, claim.failures, claim.terms.deadline());
        let request_id = lease.request_id;
        let Err(error) = self.steps(claim).await else { return };
        if let Some(FencedError::Lost) = error.chain().find_map(|cause| cause.downcast_ref()) {
            self.meters.leases_lost.add(1);
            tracing::info!(%request_id, "the job went to another worker");
            return;
        }
        self.meters.step_failures.add(1);
        let failures = failures.saturating_add(1);
        let left = self.heads.borrow().map(|heads| deadline.saturating_sub(heads.latest.time));
        let wait = retry_wait(failures, left, self.policy.answer_margin);
        tracing::warn!(%request_id, failures, error = format!("{error:#}"), "a step failed");
        if let Err(error) = store::release(&self.pool, &lease, wait, failures).await {
            tracing::warn!(%request_id, %error, "the job stays leased until its lease ends");
        }
    }

    async fn steps(&self, claim: Claim) -> anyhow::Result<()> {
        let Some(heads) = *self.heads.borrow() else {
            store::release(&self.pool, &claim.lease, JOB_RECHECK, claim.failures).await?;
            return Ok(());
        };
        let request_id = claim.lease.request_id;
        let latest = self.chain.presence(request_id, evidence(&claim, &heads)).await?;
        let Some(signed) = self.step(claim, heads, latest).await? else { return Ok(()) };
        // What was seen in a block stays true until another block is seen.
        let later = self.heads.borrow().unwrap_or(heads);
        let latest = match later.latest == heads.latest {
            true => latest,
            false => self.chain.presence(request_id, evidence(&signed, &later)).await?,
        };
        self.step(signed, later, latest).await?;
        Ok(())
    }

    /// One step. A claim comes back when the job was signed: it is still leased, and its quorum may be there already.
    async fn step(
        &self,
        claim: Claim,
        heads: Heads,
        latest: Presence,
    ) -> anyhow::Result<Option<Claim>> {
        let lease = claim.lease;
        let request_id = lease.request_id;
        let safe = match (claim.state, latest) {
            (State::Delivered, Presence::Delivered) => {
                self.store_late_answer(&claim).await?;
                self.chain.presence(request_id, BlockId::safe()).await?
            }
            _ => Presence::Absent,
        };
        let mut attestations = None;
        let mut quorum_for = None;
        if let (State::Signed, Presence::Funded, Some(recorded)) =
            (claim.state, latest, &claim.recorded)
        {
            attestations = self.collect(&claim, recorded).await?;
            if attestations.is_some() {
                quorum_for = Some(claim.quorum_for.unwrap_or_default());
            }
        }
        let set = &claim.terms.operator_set;
        let view = View {
            state: claim.state,
            latest,
            safe,
            chain_time: heads.latest.time,
            head_block: heads.latest.number,
            seen_block: claim.seen_block,
            delivered_block: claim.delivered_block,
            deadline: claim.terms.deadline(),
            may_start: self.may_start(&claim, &heads).await?,
            has_result: claim.recorded.as_ref().is_some_and(|r| r.signature.is_some()),
            standing: Standing {
                rank: rank(request_id, set, self.signer.address()).unwrap_or(set.signers.len()),
                members: set.signers.len(),
                quorum_for,
            },
            delivery: claim.delivery,
            deliveries: claim.deliveries,
        };
        match (decide(&view, &self.policy), attestations, &claim.recorded) {
            (Decision::Wait(wait), _, _) => {
                let recheck = recheck(view.state, &view);
                let wait = wait.map_or(recheck, |wait| wait.min(recheck));
                if view.standing.quorum_for.is_some() && claim.quorum_for.is_none() {
                    quorum_store::reached(&self.pool, &lease).await?;
                    tracing::info!(%request_id, "quorum reached");
                }
                store::release(&self.pool, &lease, wait, 0).await?;
            }
            (Decision::Become(state, reason), _, _) => {
                tracing::info!(%request_id, from = claim.state.name(), to = state.name(), reason, "job moved");
                // A delivery cannot be safe before its request is.
                let safe_block = heads.safe.map_or(0, |safe| safe.number);
                let wait = match state {
                    State::Delivered if safe_block < view.seen_block => recheck(state, &view),
                    _ => Duration::ZERO,
                };
                if state == State::Delivered {
                    store::delivered_by(&self.pool, &lease, heads.latest.number).await?;
                }
                store::become_state(&self.pool, &lease, state, reason, wait).await?;
                // The safe head may have moved before there was a delivered job to wake.
                let safe_now = self.heads.borrow().and_then(|heads| heads.safe);
                if state == State::Delivered
                    && safe_now != heads.safe
                    && let Some(safe) = safe_now
                {
                    store::wake_delivered(&self.pool, safe.number).await?;
                }
                self.bells.manager.notify_one();
                self.bells.work.notify_one();
            }
            (Decision::Work, _, _) => return self.work(claim, &heads).await,
            (Decision::Deliver, Some(attestations), Some(recorded)) => {
                self.deliver(&claim, recorded, attestations, &view).await?;
            }
            (Decision::Deliver, _, _) => {
                return Err(anyhow!("a delivery without a quorum was decided"));
            }
        }
        Ok(None)
    }

    async fn may_start(&self, claim: &Claim, heads: &Heads) -> anyhow::Result<bool> {
        if claim.state != State::Queued {
            return Ok(true);
        }
        let tag = match patience(&claim.terms, &self.wait_safe_above, &self.wait_finalized_above) {
            Patience::Latest => return Ok(true),
            Patience::Safe if heads.safe.is_none() => return Ok(false),
            Patience::Safe => BlockId::safe(),
            Patience::Finalized if heads.finalized.is_none() => return Ok(false),
            Patience::Finalized => BlockId::finalized(),
        };
        let presence = self.chain.presence(claim.lease.request_id, tag).await?;
        Ok(presence == Presence::Funded)
    }

    /// Checks, answers, records, signs, publishes. `None` when the job was declined.
    async fn work(&self, claim: Claim, heads: &Heads) -> anyhow::Result<Option<Claim>> {
        let lease = claim.lease;
        let request_id = lease.request_id;
        let reading = self.gauge.read(&self.chain, self.signer.address(), heads).await?;
        let facts = Facts {
            signer: self.signer.address(),
            revoked: reading.revoked,
            pins: self.answerer.pins(claim.terms.offer.corpusRoot).await?,
            market: reading.market,
        };
        if let Err(refusal) = check(&claim.terms, &facts, &self.token_rates) {
            tracing::info!(%request_id, %refusal, "request declined");
            self.decline(&lease, &refusal.to_string()).await?;
            return Ok(None);
        }
        // A result that was recorded and not signed is what a crash between the two left behind.
        let recorded = match &claim.recorded {
            Some(recorded) => recorded.clone(),
            None => {
                let (result, answer) = self.answer(&claim).await?;
                let digest = result_digest(&self.domain, &result);
                let document = ResultDocument::try_from(&result)?;
                let recorded =
                    quorum_store::record(&self.pool, &lease, digest, &document, answer.as_deref())
                        .await?;
                if recorded.digest != digest {
                    self.meters.equivocations_refused.add(1);
                }
                recorded
            }
        };
        let Some(kept) = self.sign(&claim, &recorded).await? else { return Ok(None) };
        self.bells.bus.notify_one();
        self.bells.board.notify_one();
        Ok(Some(Claim {
            state: State::Signed,
            failures: 0,
            answer_stored: kept.answer_stored,
            recorded: Some(Recorded { signature: Some(kept.signature), ..recorded }),
            votes: Some(kept.votes),
            ..claim
        }))
    }

    async fn decline(&self, lease: &Lease, reason: &str) -> Result<(), FencedError> {
        store::become_state(&self.pool, lease, State::Declined, reason, Duration::ZERO).await
    }

    /// Signs, and stores the signature. `None` when the signer refuses for good.
    async fn sign(&self, claim: &Claim, recorded: &Recorded) -> anyhow::Result<Option<Kept>> {
        let lease = claim.lease;
        let request_id = lease.request_id;
        let result = SignedResult::from(&recorded.result);
        let request = &claim.terms.request;
        let signature = match self.signer.sign_result(&self.domain, request, &result).await {
            Ok(signature) => Bytes::copy_from_slice(&signature.as_bytes()),
            Err(SignerError::Refused { reason, lasting: true }) => {
                self.meters.signer_refusals.add(1);
                tracing::error!(%request_id, reason, "the signer refuses for good");
                let reason = shortened(&format!("the signer refuses: {reason}"));
                self.decline(&lease, &reason).await?;
                return Ok(None);
            }
            Err(error) => {
                if matches!(error, SignerError::Refused { .. }) {
                    self.meters.signer_refusals.add(1);
                }
                return Err(error.into());
            }
        };
        pass(Point::ResultSigned);
        let mut answer_stored = claim.answer_stored;
        if let Some(answer) = recorded.answer.as_ref().filter(|_| !answer_stored) {
            // A first try: the delivery waits until the answer is stored, but readers profit from an early one.
            match self.post_answer(recorded.result.output_hash, answer).await {
                Ok(stored) => answer_stored = stored,
                Err(error) => {
                    tracing::info!(%request_id, error = format!("{error:#}"), "the answer is not stored yet");
                }
            }
        }
        let leads = leader(request_id, &claim.terms.operator_set, 0) == Some(self.signer.address());
        let message = if leads {
            QuorumMessage::Proposal {
                result: recorded.result.clone(),
                answer: recorded.answer.clone(),
                attestation: signature.clone(),
            }
        } else {
            QuorumMessage::Cosignature {
                request_id,
                result_digest: recorded.digest,
                attestation: signature.clone(),
            }
        };
        let message = self.seal(request_id, message).await?;
        pass(Point::MessageSealed);
        let digest = recorded.digest;
        let signing = Signing {
            signer: self.signer.address(),
            digest,
            signature: &signature,
            messages: &[message],
            answer_stored,
        };
        let votes = quorum_store::sign(&self.pool, &lease, &signing).await?;
        if answer_stored {
            pass(Point::AnswerStored);
        }
        tracing::info!(%request_id, %digest, leads, "result signed");
        Ok(Some(Kept { signature, answer_stored, votes }))
    }
}

/// When a job is looked at again at the latest, if no bell rings.
fn recheck(state: State, view: &View) -> Duration {
    let urgent =
        view.chain_time < view.deadline && view.deadline - view.chain_time < URGENT_SECONDS;
    match state {
        State::Delivered if urgent => DELIVERED_RECHECK_URGENT,
        State::Delivered => DELIVERED_RECHECK,
        State::Delivering if !urgent => DELIVERING_RECHECK,
        _ => JOB_RECHECK,
    }
}

/// Where to look for a request: in the block that the node takes for the latest, so that an endpoint which does not have it
/// says so instead of what was true before. What is known from a later block than that is looked for at the endpoint's end.
fn evidence(claim: &Claim, heads: &Heads) -> BlockId {
    match heads.latest.number < claim.seen_block.max(claim.delivered_block) {
        true => BlockId::latest(),
        false => BlockId::hash(heads.latest.hash),
    }
}

/// When a step is tried again that has failed so often, with `left` seconds to the deadline. The time in which a delivery
/// is made whatever is missing is not slept over.
fn retry_wait(failures: u32, left: Option<u64>, answer_margin: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let backoff = RETRY_WAIT.saturating_mul(1 << doublings).min(RETRY_WAIT_MAX);
    match left {
        None | Some(0) => backoff,
        Some(left) => {
            let before = Duration::from_secs(left.saturating_sub(answer_margin));
            backoff.min(before.max(JOB_RECHECK))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_keeps_failing_is_tried_when_the_last_time_to_deliver_begins() {
        let seconds = |failures, left| retry_wait(failures, left, 15).as_secs_f64();
        assert_eq!(seconds(1, Some(1_000)), 0.5);
        assert_eq!(seconds(3, Some(1_000)), 2.0);
        assert_eq!(seconds(20, Some(1_000)), 30.0);
        assert_eq!(seconds(20, Some(40)), 25.0);
        for left in 1..=15 {
            assert_eq!(seconds(20, Some(left)), 1.0, "{left} s are left");
        }
        assert_eq!(seconds(20, Some(0)), 30.0);
        assert_eq!(seconds(20, None), 30.0);
    }
}
