//! What corpora and retrieval need of a model.

use std::{fmt, ops::Range, sync::Arc};

use alloy::primitives::B256;
use auspex_inference::{Engine, quantize};
use futures::future::BoxFuture;

use super::CorpusError;
use super::limits::{EMBEDDING_BATCH, EMBEDDING_DIMENSIONS};
use crate::chunk::ChunkRules;

/// Unit vectors, one per text.
pub type Embeddings = BoxFuture<'static, anyhow::Result<Vec<Vec<f32>>>>;

type Embed = dyn Fn(Vec<String>) -> Embeddings + Send + Sync;
type Offsets = dyn Fn(&str) -> anyhow::Result<Vec<Range<usize>>> + Send + Sync;

/// A share of a chunk that the next one repeats, as a divisor of its tokens.
const OVERLAP_DIVISOR: usize = 8;

/// A model as two functions: one embeds texts, one finds the tokens of a text.
#[derive(Clone)]
pub struct Embedder {
    pub model_hash: B256,
    tokens_max: usize,
    embed: Arc<Embed>,
    offsets: Arc<Offsets>,
}

impl Embedder {
    /// `tokens_max` is how many tokens of a text the model reads, without special ones; `offsets` gives the byte range of
    /// each token of a text.
    pub fn new(
        model_hash: B256,
        tokens_max: usize,
        embed: impl Fn(Vec<String>) -> Embeddings + Send + Sync + 'static,
        offsets: impl Fn(&str) -> anyhow::Result<Vec<Range<usize>>> + Send + Sync + 'static,
    ) -> Self {
        Self { model_hash, tokens_max, embed: Arc::new(embed), offsets: Arc::new(offsets) }
    }

    /// A running model.
    pub fn of_engine(engine: &Engine) -> Self {
        let model_hash = B256::from(engine.model_hash());
        let tokens_max = engine.content_tokens_max();
        let tokenizer = engine.clone();
        let engine = engine.clone();
        Self::new(
            model_hash,
            tokens_max,
            move |texts| {
                let engine = engine.clone();
                Box::pin(async move { Ok(engine.embed(texts).await?) })
            },
            move |text| Ok(tokenizer.token_offsets(text)?),
        )
    }

    /// The unit vectors of a few texts, as the model gives them.
    pub async fn vectors(&self, texts: &[&str]) -> anyhow::Result<Vec<Vec<f32>>> {
        (self.embed)(texts.iter().map(|&text| text.to_owned()).collect()).await
    }

    /// How documents are cut for this model.
    pub fn rules(&self) -> ChunkRules {
        let tokens_max = self.tokens_max.max(1);
        ChunkRules { tokens_max, overlap_tokens: tokens_max / OVERLAP_DIVISOR }
    }

    /// The byte ranges of the tokens of `text`.
    pub(crate) fn offsets(&self, text: &str) -> Result<Vec<Range<usize>>, CorpusError> {
        (self.offsets)(text).map_err(CorpusError::Embed)
    }

    /// Quantised embeddings, one per text. Calls `progress` with the number of texts that are done after each batch.
    pub(crate) async fn embed(
        &self,
        mut texts: Vec<String>,
        progress: impl Fn(usize),
    ) -> Result<Vec<Vec<i8>>, CorpusError> {
        let mut embeddings = Vec::with_capacity(texts.len());
        while !texts.is_empty() {
            let rest = texts.split_off(EMBEDDING_BATCH.min(texts.len()));
            let expected = texts.len();
            let vectors = (self.embed)(texts).await.map_err(CorpusError::Embed)?;
            if vectors.len() != expected {
                let error = anyhow::anyhow!("{} vectors for {expected} texts", vectors.len());
                return Err(CorpusError::Embed(error));
            }
            for vector in vectors {
                if vector.len() != EMBEDDING_DIMENSIONS {
                    return Err(CorpusError::Dimensions(vector.len()));
                }
                embeddings.push(quantize(&vector));
            }
            progress(embeddings.len());
            texts = rest;
        }
        Ok(embeddings)
    }
}

impl fmt::Debug for Embedder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Embedder")
            .field("model_hash", &self.model_hash)
            .field("tokens_max", &self.tokens_max)
            .finish_non_exhaustive()
    }
}
