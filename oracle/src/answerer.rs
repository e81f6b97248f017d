//! What turns a request into a result. A closed set, each deterministic: the same request on the same corpus with the same
//! model gives the same bytes on every operator's machine, so that their signatures fit together.

use std::fmt;
use std::sync::Arc;

use alloy::primitives::{B256, U256};
use futures::future::BoxFuture;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub request_id: B256,
    pub agent_id: U256,
    /// The requester's bytes, as they stand on chain.
    pub input: Vec<u8>,
}

/// What the corpus and the model are, for an offer that pins them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pins {
    pub corpus_root: B256,
    pub model_hash: B256,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Draft {
    Answered {
        /// Canonical JSON (RFC 8785), at most 64 KiB.
        answer: String,
        /// `keccak256` of the answer's bytes.
        output_hash: B256,
        trace_root: B256,
        retrieval_root: B256,
        model_hash: B256,
    },
    /// The request cannot be answered, and every operator finds so: the payer gets everything back.
    Declined { reason: String },
}

/// A function that answers, for tests and benchmarks that need no model.
pub type AnswerFunction =
    dyn Fn(Question) -> BoxFuture<'static, anyhow::Result<Draft>> + Send + Sync;

/// The answerers.
#[derive(Clone)]
pub enum Answerer {
    /// A given function with given pins.
    Function { pins: Pins, answer: Arc<AnswerFunction> },
}

impl Answerer {
    /// What the answers to an agent's requests are made of; `None` when the node has nothing for the agent.
    pub async fn pins(&self, agent_id: U256) -> anyhow::Result<Option<Pins>> {
        match self {
            Self::Function { pins, .. } => {
                let _ = agent_id;
                Ok(Some(*pins))
            }
        }
    }

    /// Answers.
    pub async fn answer(&self, question: Question) -> anyhow::Result<Draft> {
        match self {
            Self::Function { answer, .. } => answer(question).await,
        }
    }
}

impl fmt::Debug for Answerer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function { pins, .. } => {
                formatter.debug_struct("Function").field("pins", pins).finish_non_exhaustive()
            }
        }
    }
}
