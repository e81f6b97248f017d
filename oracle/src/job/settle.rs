//! From our signature to a delivery: collecting the others' signatures, refusing what differs, intending the delivery.

use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::{Address, B256};
use alloy::sol_types::SolCall;
use anyhow::{Context, anyhow};
use auspex_protocol::bindings::IRequestEscrow::{Attestation, Result as SignedResult, deliverCall};
use auspex_protocol::limits::MESSAGE_BYTES_MAX;
use auspex_protocol::message::QuorumMessage;
use auspex_protocol::quorum::Quorum;

use crate::board::Posted;
use crate::failpoint::{Point, pass};
use crate::job::plan::View;
use crate::job::store::{self, Claim, FencedError};
use crate::job::work::Desk;
use crate::limits::DELIVERING_RECHECK;
use crate::quorum::inbox::{Received, receive};
use crate::quorum::reading::shortened;
use crate::quorum::store::{self as quorum_store, Outgoing, Recorded, Vote};
use crate::transaction::intent::{Call, intend};

impl Desk {
    /// Reads the board while the quorum is not there, and counts the signatures.
    pub(super) async fn collect(
        &self,
        claim: &Claim,
        recorded: &Recorded,
    ) -> anyhow::Result<Option<Vec<Attestation>>> {
        let lease = claim.lease;
        let votes = match &claim.votes {
            Some(votes) => votes.clone(),
            None => quorum_store::votes(&self.pool, lease.request_id).await?,
        };
        if let Some(attestations) = self.count(claim, recorded, votes).await? {
            return Ok(Some(attestations));
        }
        match self.board.messages(lease.request_id).await {
            Ok(payloads) => {
                for payload in payloads {
                    self.take_in(&payload).await?;
                }
            }
            Err(error) => {
                self.meters.board_failures.add(1);
                tracing::debug!(error = format!("{error:#}"), "the board cannot be read");
            }
        }
        let votes = quorum_store::votes(&self.pool, lease.request_id).await?;
        self.count(claim, recorded, votes).await
    }

    async fn take_in(&self, payload: &[u8]) -> anyhow::Result<()> {
        match receive(&self.pool, &self.domain, self.signer.address(), payload).await? {
            Received::Applied { .. } => self.meters.messages_applied.add(1),
            Received::Refused(error) => {
                self.meters.messages_ignored.add(1);
                tracing::debug!(%error, "the board holds a message that cannot be read");
            }
            Received::Ignored(reason) => {
                self.meters.messages_ignored.add(1);
                tracing::debug!(%reason, "the board holds a message that does not count");
            }
            Received::Known
            | Received::TooMany
            | Received::UnknownRequest(_)
            | Received::Heartbeat { .. } => {}
        }
        Ok(())
    }

    async fn count(
        &self,
        claim: &Claim,
        recorded: &Recorded,
        votes: Vec<Vote>,
    ) -> anyhow::Result<Option<Vec<Attestation>>> {
        let mut quorum = Quorum::new(recorded.digest, claim.terms.operator_set.clone());
        let mut other = None;
        for (signer, digest, signature) in votes {
            // Ours was made a moment ago, unless it was read back.
            let made = signer == self.signer.address() && claim.votes.is_some();
            if digest == recorded.digest && made {
                quorum.add_own(signer, signature).context("count our signature")?;
            } else if digest == recorded.digest {
                quorum.add(signer, signature).context("count a stored signature")?;
            } else {
                other = Some((signer, digest));
            }
        }
        if let Some((author, digest)) = other {
            self.refuse(claim, recorded, author, digest).await?;
        }
        Ok(quorum.attestations())
    }

    /// Says once, signed, that another member's result is not what we derived.
    async fn refuse(
        &self,
        claim: &Claim,
        recorded: &Recorded,
        author: Address,
        digest: B256,
    ) -> anyhow::Result<()> {
        let lease = claim.lease;
        let ours = self.signer.address();
        if quorum_store::has_refused(&self.pool, lease.request_id, ours).await? {
            return Ok(());
        }
        let reason = shortened(&format!(
            "{author} signed {digest}, but we derived {} with output {}",
            recorded.digest, recorded.result.output_hash
        ));
        tracing::warn!(request_id = %lease.request_id, reason, "another member derived another result");
        let sealing = self.seal(
            lease.request_id,
            QuorumMessage::Refusal {
                request_id: lease.request_id,
                result_digest: digest,
                reason: reason.clone(),
            },
        );
        let message = sealing.await?;
        quorum_store::refuse(&self.pool, &lease, ours, digest, &reason, &message).await?;
        self.bells.bus.notify_one();
        self.bells.board.notify_one();
        Ok(())
    }

    pub(super) async fn deliver(
        &self,
        claim: &Claim,
        recorded: &Recorded,
        attestations: Vec<Attestation>,
        view: &View,
    ) -> anyhow::Result<()> {
        let lease = claim.lease;
        if let Some(answer) = recorded.answer.as_ref().filter(|_| !claim.answer_stored) {
            // With the deadline near, a delivered answer that is stored late is better than a refund.
            let urgent = view.deadline.saturating_sub(view.chain_time) <= self.policy.answer_margin;
            match self.post_answer(recorded.result.output_hash, answer).await {
                Ok(true) => store::answer_stored(&self.pool, &lease).await?,
                // An indexer that is full of answers has room for those that a delivery names.
                Ok(false) => {}
                Err(error) if urgent => {
                    tracing::info!(request_id = %lease.request_id, error = format!("{error:#}"), "the answer is not stored yet");
                }
                Err(error) => return Err(error),
            }
        }
        let call = deliverCall {
            terms: claim.terms.request.clone(),
            result: SignedResult::from(&recorded.result),
            operatorSet: claim.terms.operator_set.clone(),
            attestations,
        };
        let call = Call {
            target: self.chain.deployment().request_escrow,
            calldata: call.abi_encode().into(),
        };
        let transmitter = self.transmitter.address();
        intend(&self.pool, &lease, transmitter, &call, DELIVERING_RECHECK).await?;
        pass(Point::QuorumStored);
        tracing::info!(request_id = %lease.request_id, rank = view.standing.rank, "delivery intended");
        self.meters.deliveries_intended.add(1);
        self.bells.manager.notify_one();
        Ok(())
    }

    /// Stores the answer of a delivery that was made without, as far as the indexer takes it now.
    pub(super) async fn store_late_answer(&self, claim: &Claim) -> Result<(), FencedError> {
        let answer = claim.recorded.as_ref().and_then(|recorded| {
            recorded.answer.as_ref().map(|answer| (recorded.result.output_hash, answer))
        });
        let Some((output_hash, answer)) = answer.filter(|_| !claim.answer_stored) else {
            return Ok(());
        };
        match self.post_answer(output_hash, answer).await {
            Ok(true) => store::answer_stored(&self.pool, &claim.lease).await?,
            Ok(false) => {}
            Err(error) => {
                tracing::info!(%output_hash, error = format!("{error:#}"), "the answer is not stored yet");
            }
        }
        Ok(())
    }

    /// Gives an answer to the indexer; `false` when it may take it later.
    pub(super) async fn post_answer(
        &self,
        output_hash: B256,
        answer: &str,
    ) -> anyhow::Result<bool> {
        let done = match self.board.store_answer(output_hash, answer).await? {
            Posted::Taken => true,
            // It will not be taken later either, and the payees are not to lose their money over it.
            Posted::Refused(reason) => {
                tracing::warn!(%output_hash, reason, "the indexer refused the answer");
                true
            }
            Posted::NotNow(reason) => {
                tracing::info!(%output_hash, reason, "the indexer takes the answer later");
                false
            }
        };
        pass(Point::AnswerPosted);
        Ok(done)
    }

    /// Seals a message. A proposal whose answer makes it too large goes without it: the answer is with the indexer.
    pub(super) async fn seal(
        &self,
        request_id: B256,
        message: QuorumMessage,
    ) -> anyhow::Result<Outgoing> {
        let sent_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let topic = self.topics.quorum(request_id);
        let envelope = self.signer.seal(&self.domain, &message, sent_at).await?;
        if serde_json::to_vec(&envelope)?.len() <= MESSAGE_BYTES_MAX {
            return Ok(Outgoing { topic, envelope });
        }
        let QuorumMessage::Proposal { result, attestation, answer: Some(_) } = message else {
            return Err(anyhow!("a message is over the limit of {MESSAGE_BYTES_MAX} bytes"));
        };
        let message = QuorumMessage::Proposal { result, attestation, answer: None };
        let envelope = self.signer.seal(&self.domain, &message, sent_at).await?;
        Ok(Outgoing { topic, envelope })
    }
}
