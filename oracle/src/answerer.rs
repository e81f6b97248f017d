//! What turns a request into a result. A closed set. All but a remote model are deterministic: the same request on the
//! same corpus with the same model gives the same bytes on every operator's machine, so that their signatures fit together.

use std::fmt;
use std::sync::Arc;

use alloy::primitives::{B256, U256};
use anyhow::{Context, bail};
use futures::future::BoxFuture;
use sqlx::PgPool;

use crate::answer::written::{self, Writer, WrittenError};
use crate::answer::{self, ExtractiveError, Outcome};
use crate::corpus::{self, Corpus, CorpusError, Embedder};
use crate::model::writing::WritingError;
use crate::partial::Unfinished;
use crate::retrieval::{Retrieval, RetrievalError};

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    pub request_id: B256,
    pub agent_id: U256,
    /// The corpus that the offer pins; zero when it pins none.
    pub corpus_root: B256,
    /// The requester's bytes, as they stand on chain.
    pub input: Vec<u8>,
    /// Where to show what is written, while it is written.
    pub unfinished: Unfinished,
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
    /// The sentences of a corpus that answer, word for word.
    Extractive(Extractive),
    /// What a model writes from the passages of a corpus.
    Written(Written),
    /// A given function with given pins.
    Function { pins: Pins, answer: Arc<AnswerFunction> },
}

/// What the extractive answerer works with.
#[derive(Clone)]
pub struct Extractive {
    /// The database with the corpora, which is the operator's own.
    pub pool: PgPool,
    pub embedder: Embedder,
    /// The corpus for offers that pin none.
    pub default_corpus: Option<String>,
}

/// What the generative answerer works with: a corpus, and who writes.
#[derive(Clone, Debug)]
pub struct Written {
    pub sources: Extractive,
    pub writer: Writer,
}

impl Answerer {
    /// What the answers to requests of an offer are made of; `None` when the node has no corpus for it. `corpus_root` is
    /// the root that the offer pins, zero when it pins none.
    pub async fn pins(&self, corpus_root: B256) -> anyhow::Result<Option<Pins>> {
        match self {
            Self::Function { pins, .. } => Ok(Some(*pins)),
            Self::Extractive(extractive) => {
                let Some(corpus) = extractive.corpus(corpus_root).await? else { return Ok(None) };
                Ok(Some(Pins { corpus_root, model_hash: corpus.model_hash }))
            }
            Self::Written(Written { sources, writer }) => {
                let Some(corpus) = sources.corpus(corpus_root).await? else { return Ok(None) };
                let model_hash = writer.model_hash(corpus.model_hash);
                Ok(Some(Pins { corpus_root, model_hash }))
            }
        }
    }

    /// Answers. An error is something that may pass; what will not pass is a [`Draft::Declined`].
    pub async fn answer(&self, question: Question) -> anyhow::Result<Draft> {
        match self {
            Self::Function { answer, .. } => answer(question).await,
            Self::Extractive(extractive) => extractive.answer(question).await,
            Self::Written(written) => written.answer(question).await,
        }
    }
}

impl Extractive {
    async fn corpus(&self, root: B256) -> anyhow::Result<Option<Corpus>> {
        if !root.is_zero() {
            return corpus::find_by_root(&self.pool, root).await.context("find the offer's corpus");
        }
        let Some(name) = &self.default_corpus else { return Ok(None) };
        match corpus::find(&self.pool, name).await {
            Ok(corpus) => Ok(Some(corpus)),
            Err(CorpusError::Unknown(_)) => Ok(None),
            Err(error) => Err(error).context("find the default corpus"),
        }
    }

    async fn answer(&self, question: Question) -> anyhow::Result<Draft> {
        let Ok(text) = String::from_utf8(question.input) else {
            return Ok(Draft::Declined { reason: "the input is not UTF-8".into() });
        };
        let root = question.corpus_root;
        let corpus = self.corpus(root).await?.context("the corpus is gone")?;
        let answered = answer::answer(&self.pool, &corpus, &self.embedder, &text).await;
        let (retrieval, outcome) = match answered {
            Ok(answered) => answered,
            Err(ExtractiveError::Retrieval(error @ RetrievalError::Question(_))) => {
                return Ok(Draft::Declined { reason: error.to_string() });
            }
            Err(error) => return Err(error).context("answer from the corpus"),
        };
        draft(root, &retrieval, outcome, B256::ZERO)
    }
}

impl Written {
    async fn answer(&self, question: Question) -> anyhow::Result<Draft> {
        let Ok(text) = String::from_utf8(question.input) else {
            return Ok(Draft::Declined { reason: "the input is not UTF-8".into() });
        };
        let Self { sources, writer } = self;
        let root = question.corpus_root;
        let corpus = sources.corpus(root).await?.context("the corpus is gone")?;
        let shown = &question.unfinished;
        let written =
            written::answer(&sources.pool, &corpus, &sources.embedder, writer, &text, shown);
        let written = match written.await {
            Ok(written) => written,
            Err(WrittenError::Source(ExtractiveError::Retrieval(
                error @ RetrievalError::Question(_),
            ))) => return Ok(Draft::Declined { reason: error.to_string() }),
            // A question that is too long for the model will be too long again.
            Err(WrittenError::Local(WritingError::Refused(reason))) => {
                return Ok(Draft::Declined { reason });
            }
            Err(error) => return Err(error).context("write an answer from the corpus"),
        };
        draft(root, &written.retrieval, written.outcome, written.trace)
    }
}

/// The result of an outcome. `root` is what the offer pins, zero when it pins nothing.
fn draft(
    root: B256,
    retrieval: &Retrieval,
    outcome: Outcome,
    trace_root: B256,
) -> anyhow::Result<Draft> {
    // Documents may have come or gone since the check.
    if !root.is_zero() && retrieval.corpus_root != root {
        bail!("the corpus changed from {root} to {} meanwhile", retrieval.corpus_root);
    }
    match outcome {
        Outcome::NoAnswer { reason } => Ok(Draft::Declined { reason }),
        Outcome::Answered(answer) => {
            let bytes = answer.canonical_bytes()?;
            Ok(Draft::Answered {
                output_hash: answer.output_hash()?,
                answer: String::from_utf8(bytes).context("write the answer")?,
                trace_root,
                retrieval_root: retrieval.root(),
                model_hash: answer.model_hash,
            })
        }
    }
}

impl fmt::Debug for Answerer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extractive(extractive) => fmt::Debug::fmt(extractive, formatter),
            Self::Written(written) => fmt::Debug::fmt(written, formatter),
            Self::Function { pins, .. } => {
                formatter.debug_struct("Function").field("pins", pins).finish_non_exhaustive()
            }
        }
    }
}

impl fmt::Debug for Extractive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Extractive")
            .field("default_corpus", &self.default_corpus)
            .finish_non_exhaustive()
    }
}
