//! Unfinished answers: what operators publish while a model writes, passed on to whoever reads that request's stream.
//!
//! The broker is trusted for nothing. A part is passed on only when a member of the operator set that the request pinned
//! has signed it and the request still waits for its result (`gate`). Nothing is kept: not in the database, not here.

mod gate;
mod listener;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, B256};
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::limits::{PARTIALS_KEPT, PARTIALS_PER_SECOND_MAX, PARTIALS_TEXT_BYTES_MAX};

pub use listener::listen;

/// A part of an answer that is still being written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Partial {
    #[schema(value_type = String)]
    pub request_id: B256,
    /// The address that the operator signs with, which is in the request's operator set.
    #[schema(value_type = String)]
    pub operator: Address,
    /// Where in the text this part begins, in bytes of UTF-8. At 0 the text begins anew; a part that does not begin where
    /// the one before it ended means that something was lost.
    pub offset: u64,
    pub text: String,
    /// Always false: one operator has signed this part, and no quorum the answer. Only a settled result counts.
    pub settled: bool,
}

/// What became of a part. A dropped one is counted and told to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Forwarded,
    /// Nobody reads that request's stream here.
    Unread,
    /// The message, its text, or the whole text is over its limit.
    Oversize,
    /// It cannot be read, is about something else, or has characters that no answer may have.
    Malformed,
    /// The signature is not its signer's.
    Forged,
    /// The signer is not in the operator set that the request pinned.
    NotAMember,
    /// No such request is indexed.
    Unknown,
    /// The request has its result, or its refund.
    NotPending,
    /// More of them than a writing model needs.
    TooMany,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Unread => "unread",
            Self::Oversize => "oversize",
            Self::Malformed => "malformed",
            Self::Forged => "forged",
            Self::NotAMember => "not_a_member",
            Self::Unknown => "unknown",
            Self::NotPending => "not_pending",
            Self::TooMany => "too_many",
        }
    }
}

/// The requests whose streams are read, and what came for them.
#[derive(Debug, Default)]
pub struct Partials {
    watched: Mutex<BTreeMap<B256, Watched>>,
    outcomes: Mutex<BTreeMap<Outcome, u64>>,
}

/// One request that is read.
#[derive(Debug)]
struct Watched {
    readers: usize,
    parts: broadcast::Sender<Arc<Partial>>,
    /// When the second began that is counted, and how many came in it.
    second: (Instant, u32),
    /// Bytes of text that were passed on, by operator.
    passed_on: BTreeMap<Address, usize>,
}

/// A reader's place; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Watch {
    partials: Arc<Partials>,
    request_id: B256,
    parts: broadcast::Receiver<Arc<Partial>>,
}

impl Partials {
    /// Lets one reader see a request's parts from now on.
    pub(super) fn watch(self: &Arc<Self>, request_id: B256) -> Watch {
        let parts = {
            let mut watched = self.watched();
            let request = watched.entry(request_id).or_insert_with(Watched::new);
            request.readers += 1;
            request.parts.subscribe()
        };
        Watch { partials: Arc::clone(self), request_id, parts }
    }

    /// How many parts had this outcome since the process began.
    pub fn count(&self, outcome: Outcome) -> u64 {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.get(&outcome).copied().unwrap_or_default()
    }

    fn note(&self, outcome: Outcome) {
        metrics::counter!("auspex_indexer_partials_total", "outcome" => outcome.name())
            .increment(1);
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        *outcomes.entry(outcome).or_default() += 1;
    }

    /// Lets one more message about a request be looked at, which costs more than dropping it.
    fn admit(&self, request_id: B256, now: Instant) -> Result<(), Outcome> {
        let mut watched = self.watched();
        let Some(request) = watched.get_mut(&request_id) else { return Err(Outcome::Unread) };
        if Duration::from_secs(1) <= now.duration_since(request.second.0) {
            request.second = (now, 0);
        }
        request.second.1 = request.second.1.saturating_add(1);
        if PARTIALS_PER_SECOND_MAX < request.second.1 {
            return Err(Outcome::TooMany);
        }
        Ok(())
    }

    /// Hands a checked part to the request's readers.
    fn pass_on(&self, partial: Partial) -> Outcome {
        let mut watched = self.watched();
        let Some(request) = watched.get_mut(&partial.request_id) else { return Outcome::Unread };
        let passed_on = request.passed_on.entry(partial.operator).or_default();
        *passed_on = passed_on.saturating_add(partial.text.len());
        if PARTIALS_TEXT_BYTES_MAX < *passed_on {
            return Outcome::Oversize;
        }
        match request.parts.send(Arc::new(partial)) {
            Ok(_) => Outcome::Forwarded,
            Err(_) => Outcome::Unread,
        }
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<B256, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn new() -> Self {
        Self {
            readers: 0,
            parts: broadcast::Sender::new(PARTIALS_KEPT),
            second: (Instant::now(), 0),
            passed_on: BTreeMap::new(),
        }
    }
}

impl Watch {
    /// Forgets the parts that wait.
    pub(super) fn skip(&mut self) {
        self.parts = self.parts.resubscribe();
    }

    /// The next part. A reader that is too slow loses some.
    pub(super) async fn next(&mut self) -> Option<Arc<Partial>> {
        loop {
            match self.parts.recv().await {
                Ok(partial) => return Some(partial),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.partials.watched();
        if let Some(request) = watched.get_mut(&self.request_id) {
            request.readers = request.readers.saturating_sub(1);
            if request.readers == 0 {
                watched.remove(&self.request_id);
            }
        }
    }
}
