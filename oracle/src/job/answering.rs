//! From a request to the result that every member derives: the answer, under a lease that is kept alive meanwhile.

use alloy::primitives::B256;
use anyhow::{Context, anyhow, bail};
use auspex_protocol::bindings::IRequestEscrow::{Outcome, Result as SignedResult};
use auspex_protocol::limits::ANSWER_BYTES_MAX;
use auspex_protocol::quorum::leader;
use tokio::time::Instant;

use crate::answerer::{Draft, Question};
use crate::failpoint::{Point, pass};
use crate::job::store::{self, Claim, FencedError};
use crate::job::work::Desk;
use crate::limits::{LEASE, LEASE_RENEWAL};
use crate::partial::Unfinished;

impl Desk {
    /// Derives the result, keeping the lease alive meanwhile.
    pub(super) async fn answer(
        &self,
        claim: &Claim,
    ) -> anyhow::Result<(SignedResult, Option<String>)> {
        let question = Question {
            request_id: claim.lease.request_id,
            agent_id: claim.terms.request.agentId,
            corpus_root: claim.terms.offer.corpusRoot,
            input: claim.terms.input.clone(),
            unfinished: self.unfinished(claim),
        };
        let started = Instant::now();
        let answering = self.answerer.answer(question);
        tokio::pin!(answering);
        let mut renewed = started;
        let draft = loop {
            tokio::select! {
                draft = &mut answering => break draft.context("answer the request")?,
                () = tokio::time::sleep(LEASE_RENEWAL) => {
                    match store::renew(&self.pool, &claim.lease, LEASE).await {
                        Ok(()) => renewed = Instant::now(),
                        // A database that is away for a moment costs no answer while the lease lasts.
                        Err(FencedError::Database(error)) if renewed.elapsed() + LEASE_RENEWAL < LEASE => {
                            tracing::info!(%error, "the lease is not renewed yet");
                        }
                        Err(error) => return Err(error.into()),
                    }
                    self.ensure_time_is_left(claim)?;
                }
            }
        };
        self.meters.answers.add(1);
        pass(Point::AnswerDerived);
        let elapsed = started.elapsed().as_millis();
        self.meters.answer_milliseconds.add(u64::try_from(elapsed).unwrap_or(u64::MAX));
        result_of(claim, draft)
    }

    /// An answer that cannot be delivered any more only keeps others waiting.
    fn ensure_time_is_left(&self, claim: &Claim) -> anyhow::Result<()> {
        let Some(heads) = *self.heads.borrow() else { return Ok(()) };
        let last = claim.terms.deadline().saturating_sub(self.policy.delivery_margin);
        if last <= heads.latest.time {
            bail!("the answer took too long: no time is left to deliver it before the deadline");
        }
        Ok(())
    }

    /// One operator shows the answer while it is written, so that readers see one text: the leader.
    fn unfinished(&self, claim: &Claim) -> Unfinished {
        let request_id = claim.lease.request_id;
        let leads = leader(request_id, &claim.terms.operator_set, 0) == Some(self.signer.address());
        match &self.partials {
            Some(publisher) if leads => publisher.begin(request_id),
            _ => Unfinished::default(),
        }
    }
}

/// The result that every member derives from the same draft.
fn result_of(claim: &Claim, draft: Draft) -> anyhow::Result<(SignedResult, Option<String>)> {
    let request = &claim.terms.request;
    let declined = SignedResult {
        requestId: claim.lease.request_id,
        outcome: Outcome::Declined,
        outputHash: B256::ZERO,
        traceRoot: B256::ZERO,
        retrievalRoot: B256::ZERO,
        modelHash: B256::ZERO,
        amount: 0,
        validUntil: claim.terms.deadline(),
    };
    match draft {
        Draft::Answered { answer, output_hash, trace_root, retrieval_root, model_hash } => {
            if ANSWER_BYTES_MAX < answer.len() {
                return Err(anyhow!(
                    "answer: {} bytes, over the limit of {ANSWER_BYTES_MAX}",
                    answer.len()
                ));
            }
            let result = SignedResult {
                outcome: Outcome::Answered,
                outputHash: output_hash,
                traceRoot: trace_root,
                retrievalRoot: retrieval_root,
                modelHash: model_hash,
                amount: request.maxAmount,
                ..declined
            };
            Ok((result, Some(answer)))
        }
        Draft::Declined { reason } => {
            tracing::info!(request_id = %claim.lease.request_id, reason, "the answerer declines");
            Ok((declined, None))
        }
    }
}
