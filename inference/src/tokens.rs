//! Text to token ids, the way sentence-transformers does it.

use std::{ops::Range, path::Path};

use tokenizers::{Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use crate::{
    config::BertConfig,
    error::{EncodeError, LoadError},
    limits::TEXT_BYTES_MAX,
};

/// Token ids of one text or of two together, with the special ones; never empty and never longer
/// than the model reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) ids: Vec<u32>,
    /// Where the second text begins: at the end, if there is none.
    pub(crate) second: usize,
}

impl Sequence {
    /// One text.
    pub(crate) fn single(ids: Vec<u32>) -> Self {
        Self { second: ids.len(), ids }
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }
}

/// The tokenizer of a model in its two uses: cut to what the model reads, and whole.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// Cuts at the model's limit and adds the special tokens.
    model: Tokenizer,
    /// Cuts nothing, for counting and for offsets.
    whole: Tokenizer,
    length_max: usize,
    special: usize,
    vocab_size: usize,
}

impl Tokens {
    /// Reads `bytes`, the content of the `tokenizer.json` at `path`.
    ///
    /// No sequence is longer than `limit` or than the model's positions.
    ///
    /// What the file itself says about truncation and padding is overruled: the published file of
    /// all-MiniLM-L6-v2 cuts at 128 tokens and pads to 128, which its reference vectors do not.
    pub(crate) fn parse(
        path: &Path,
        bytes: &[u8],
        config: &BertConfig,
        limit: usize,
    ) -> Result<Self, LoadError> {
        let failed = |reason: String| LoadError::Tokenizer { path: path.to_owned(), reason };
        let mut whole =
            Tokenizer::from_bytes(bytes).map_err(|error| failed(format!("parse: {error}")))?;
        whole.with_padding(None);
        whole.with_truncation(None).map_err(|error| failed(error.to_string()))?;

        let highest = whole.get_vocab(true).into_values().max();
        if let Some(highest) = highest.filter(|id| config.vocab_size <= *id as usize) {
            return Err(failed(format!(
                "token id {highest} does not fit vocab_size {} of config.json",
                config.vocab_size
            )));
        }
        let blank = whole.encode_fast("", true).map_err(|error| failed(error.to_string()))?;
        let special = blank.len();
        let length_max = limit.min(config.max_position_embeddings);
        if special < 2 || length_max <= special {
            return Err(failed(format!(
                "it adds {special} special tokens; a BERT encoder needs 2 or more, and fewer than \
                 its {length_max} positions"
            )));
        }

        let mut model = whole.clone();
        let truncation = TruncationParams {
            max_length: length_max,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
            direction: TruncationDirection::Right,
        };
        model.with_truncation(Some(truncation)).map_err(|error| failed(error.to_string()))?;
        Ok(Self { model, whole, length_max, special, vocab_size: config.vocab_size })
    }

    /// Tokens of text that the model reads, without the special ones.
    pub(crate) fn content_max(&self) -> usize {
        self.length_max - self.special
    }

    /// What the model reads of `text`; `index` is its position in the caller's list.
    pub(crate) fn sequence(&self, index: usize, text: &str) -> Result<Sequence, EncodeError> {
        check_length(index, text)?;
        let encoding = self
            .model
            .encode_fast(text, true)
            .map_err(|error| EncodeError::Tokenize { index, reason: error.to_string() })?;
        Ok(Sequence::single(encoding.get_ids().to_vec()))
    }

    /// What the model reads of two texts together; too long ones lose tokens at the end of whichever
    /// is longer.
    pub(crate) fn pair(
        &self,
        index: usize,
        first: &str,
        second: &str,
    ) -> Result<Sequence, EncodeError> {
        check_length(index, first)?;
        check_length(index, second)?;
        let encoding = self
            .model
            .encode_fast((first, second), true)
            .map_err(|error| EncodeError::Tokenize { index, reason: error.to_string() })?;
        let types = encoding.get_type_ids();
        let second = types.iter().position(|kind| *kind != 0).unwrap_or(types.len());
        Ok(Sequence { ids: encoding.get_ids().to_vec(), second })
    }

    /// Refuses ids that did not come from this tokenizer; `index` is their position in the list.
    pub(crate) fn check_ids(&self, index: usize, ids: &[u32]) -> Result<(), EncodeError> {
        if ids.is_empty() || self.length_max < ids.len() {
            return Err(EncodeError::Tokens {
                index,
                reason: format!("{} ids, allowed are 1 to {}", ids.len(), self.length_max),
            });
        }
        if let Some(id) = ids.iter().find(|id| self.vocab_size <= **id as usize) {
            return Err(EncodeError::Tokens {
                index,
                reason: format!("id {id}, the vocabulary has {}", self.vocab_size),
            });
        }
        Ok(())
    }

    /// Byte ranges of all tokens of `text`, without the special ones.
    pub(crate) fn offsets(&self, text: &str) -> Result<Vec<Range<usize>>, EncodeError> {
        check_length(0, text)?;
        let encoding = self
            .whole
            .encode(text, false)
            .map_err(|error| EncodeError::Tokenize { index: 0, reason: error.to_string() })?;
        Ok(encoding.get_offsets().iter().map(|(start, end)| *start..*end).collect())
    }

    /// Number of tokens of `text`, without the special ones.
    pub(crate) fn count(&self, text: &str) -> Result<usize, EncodeError> {
        check_length(0, text)?;
        let encoding = self
            .whole
            .encode_fast(text, false)
            .map_err(|error| EncodeError::Tokenize { index: 0, reason: error.to_string() })?;
        Ok(encoding.len())
    }
}

fn check_length(index: usize, text: &str) -> Result<(), EncodeError> {
    if TEXT_BYTES_MAX < text.len() {
        return Err(EncodeError::TextTooLong { index, bytes: text.len() });
    }
    Ok(())
}
