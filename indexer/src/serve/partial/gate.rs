//! Whether a part of an unfinished answer is passed on. What costs least is asked first.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::{Address, B256};
use alloy::sol_types::Eip712Domain;
use auspex_protocol::answer::is_visible;
use auspex_protocol::deployment::Deployment;
use auspex_protocol::limits::{ANSWER_BYTES_MAX, PARTIAL_BYTES_MAX, PARTIAL_TEXT_BYTES_MAX};
use auspex_protocol::message::{MessageError, QuorumMessage, open};
use auspex_protocol::terms::escrow_domain;
use auspex_protocol::topic::Topics;
use sqlx::PgPool;
use tokio::time::Instant;

use super::{Outcome, Partial, Partials};
use crate::serve::limits::{PARTIAL_SUBJECT_AGE_MAX, PARTIAL_SUBJECTS_MAX};
use crate::serve::rest::board_store::{Subject, subject};

/// Checks what comes from the broker.
#[derive(Debug)]
pub(super) struct Gate {
    pool: PgPool,
    partials: Arc<Partials>,
    chains: Vec<Chain>,
    /// What the database said a moment ago.
    subjects: BTreeMap<B256, (Instant, Option<Subject>)>,
}

#[derive(Debug)]
struct Chain {
    chain_id: u64,
    topics: Topics,
    domain: Eip712Domain,
}

impl Gate {
    pub(super) fn new(pool: PgPool, partials: Arc<Partials>, chains: &[Deployment]) -> Self {
        let chains = chains.iter().map(|chain| Chain {
            chain_id: chain.chain_id,
            topics: Topics::new(chain.chain_id, chain.request_escrow),
            domain: escrow_domain(chain.chain_id, chain.request_escrow),
        });
        Self { pool, partials, chains: chains.collect(), subjects: BTreeMap::new() }
    }

    /// The topics on which parts come.
    pub(super) fn filters(&self) -> impl Iterator<Item = String> {
        self.chains.iter().map(|chain| chain.topics.partials())
    }

    /// Passes a message on or drops it, and counts it.
    pub(super) async fn take(&mut self, topic: &str, payload: &[u8]) {
        let outcome = match self.check(topic, payload).await {
            Ok(partial) => self.partials.pass_on(partial),
            Err(outcome) => outcome,
        };
        self.partials.note(outcome);
        if !matches!(outcome, Outcome::Forwarded | Outcome::Unread) {
            tracing::debug!(?outcome, topic, "a part of an unfinished answer was dropped");
        }
    }

    async fn check(&mut self, topic: &str, payload: &[u8]) -> Result<Partial, Outcome> {
        if PARTIAL_BYTES_MAX < payload.len() {
            return Err(Outcome::Oversize);
        }
        let (index, request_id) = self.named_by(topic).ok_or(Outcome::Malformed)?;
        let now = Instant::now();
        self.partials.admit(request_id, now)?;
        self.look_up(request_id, now).await;
        let Some((_, Some(subject))) = self.subjects.get(&request_id) else {
            return Err(Outcome::Unknown);
        };
        let chain = &self.chains[index];
        if i64::try_from(chain.chain_id) != Ok(subject.chain_id) {
            return Err(Outcome::Unknown);
        }
        if subject.status != "funded" {
            return Err(Outcome::NotPending);
        }
        let (envelope, message) = open(&chain.domain, payload).map_err(|error| match error {
            MessageError::TooLarge(_) => Outcome::Oversize,
            MessageError::Envelope(_) | MessageError::Body(_) => Outcome::Malformed,
            MessageError::Signature(_) => Outcome::Forged,
        })?;
        let QuorumMessage::Partial { request_id: named, offset, text } = message else {
            return Err(Outcome::Malformed);
        };
        if named != request_id || text.is_empty() || !text.chars().all(is_visible) {
            return Err(Outcome::Malformed);
        }
        let mut members = subject.signers.iter().flatten();
        if !members.any(|member| Address::from_slice(member) == envelope.signer) {
            return Err(Outcome::NotAMember);
        }
        let end = offset.saturating_add(text.len() as u64);
        if PARTIAL_TEXT_BYTES_MAX < text.len() || (ANSWER_BYTES_MAX as u64) < end {
            return Err(Outcome::Oversize);
        }
        Ok(Partial { request_id, operator: envelope.signer, offset, text, settled: false })
    }

    fn named_by(&self, topic: &str) -> Option<(usize, B256)> {
        let request_id: B256 = topic.rsplit('/').next()?.parse().ok()?;
        let index =
            self.chains.iter().position(|chain| chain.topics.partial(request_id) == topic)?;
        Some((index, request_id))
    }

    /// Learns what a request is, unless that is known well enough. Without the database nothing is known, and nothing is
    /// passed on.
    async fn look_up(&mut self, request_id: B256, now: Instant) {
        let fresh = |at: &Instant| now.duration_since(*at) < PARTIAL_SUBJECT_AGE_MAX;
        if self.subjects.get(&request_id).is_some_and(|(at, _)| fresh(at)) {
            return;
        }
        if PARTIAL_SUBJECTS_MAX <= self.subjects.len() {
            self.subjects.clear();
        }
        let found = subject(&self.pool, request_id).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "a request could not be looked up");
            None
        });
        self.subjects.insert(request_id, (now, found));
    }
}
