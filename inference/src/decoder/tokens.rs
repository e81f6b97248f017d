//! Text to token ids and back.

use std::path::Path;

use tokenizers::{Tokenizer, decoders::DecoderWrapper};

use super::{config::DecoderConfig, error::PromptError, limits::PROMPT_BYTES_MAX};
use crate::error::LoadError;

/// A decoder's tokenizer.
#[derive(Debug)]
pub(crate) struct Tokens {
    tokenizer: Tokenizer,
    vocabulary: usize,
}

impl Tokens {
    /// Reads `bytes`, the content of the `tokenizer.json` at `path`. Truncation and padding that
    /// the file asks for are left out: a prompt is read whole or refused.
    pub(crate) fn parse(
        path: &Path,
        bytes: &[u8],
        config: &DecoderConfig,
    ) -> Result<Self, LoadError> {
        let failed = |reason: String| LoadError::Tokenizer { path: path.to_owned(), reason };
        let mut tokenizer =
            Tokenizer::from_bytes(bytes).map_err(|error| failed(format!("parse: {error}")))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| failed(error.to_string()))?;
        let highest = tokenizer.get_vocab(true).into_values().max();
        if let Some(highest) = highest.filter(|id| config.vocabulary <= *id as usize) {
            return Err(failed(format!(
                "token id {highest} does not fit vocab_size {} of config.json",
                config.vocabulary
            )));
        }
        Ok(Self { tokenizer, vocabulary: config.vocabulary })
    }

    /// The ids of `text`; names of special tokens in it become those tokens, and `special` adds
    /// the ones that the tokenizer puts around a text.
    pub(crate) fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, PromptError> {
        if PROMPT_BYTES_MAX < text.len() {
            return Err(PromptError::TooLong { bytes: text.len() });
        }
        let encoding = self
            .tokenizer
            .encode_fast(text, special)
            .map_err(|error| PromptError::Tokenize(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`, without special tokens. Bytes that are no UTF-8 are shown as U+FFFD.
    pub(crate) fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        // It fails only for decoders that Python plug-ins provide, which a file cannot name.
        self.tokenizer.decode(ids, skip_special).unwrap_or_default()
    }

    /// The bytes of every token, empty for special ones and for ids without a token; `None` where
    /// the tokenizer does not write bytes, so that an output cannot be held to a form.
    pub(crate) fn bytes(&self) -> Option<Vec<Vec<u8>>> {
        let byte_level = match self.tokenizer.get_decoder()? {
            DecoderWrapper::ByteLevel(_) => true,
            DecoderWrapper::Sequence(decoders) => decoders
                .get_decoders()
                .iter()
                .any(|decoder| matches!(decoder, DecoderWrapper::ByteLevel(_))),
            _ => false,
        };
        if !byte_level {
            return None;
        }
        let added = self.tokenizer.get_added_tokens_decoder();
        let bytes = (0..self.vocabulary as u32).map(|id| {
            if added.contains_key(&id) {
                return Vec::new();
            }
            let token = self.tokenizer.id_to_token(id).unwrap_or_default();
            token.chars().map(byte_of).collect::<Option<_>>().unwrap_or_default()
        });
        Some(bytes.collect())
    }
}

/// The byte that a character of a byte-level vocabulary stands for: printable bytes for
/// themselves, the other 68 for the characters from U+0100 on, in ascending order.
fn byte_of(character: char) -> Option<u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let code = character as u32;
    match u8::try_from(code) {
        Ok(byte) => printable(byte).then_some(byte),
        Err(_) => {
            let number = usize::try_from(code - 0x100).ok()?;
            (0..=u8::MAX).filter(|byte| !printable(*byte)).nth(number)
        }
    }
}

/// Text that appears token by token, and never a part of a character.
#[derive(Debug, Default)]
pub(crate) struct TextStream {
    ids: Vec<u32>,
    /// Ids before this one are in no text that is still to come.
    start: usize,
    /// Ids before this one have been shown.
    shown: usize,
}

impl TextStream {
    /// The text that becomes certain with one more token, often all of it, sometimes none.
    pub(crate) fn push(&mut self, tokens: &Tokens, id: u32) -> String {
        self.ids.push(id);
        self.next(tokens, false)
    }

    /// What is left at the end, incomplete characters as U+FFFD.
    pub(crate) fn finish(&mut self, tokens: &Tokens) -> String {
        self.next(tokens, true)
    }

    /// A token's text can depend on the one before it, so both are decoded and what was shown is
    /// taken off; an incomplete character is shown as U+FFFD and waits.
    fn next(&mut self, tokens: &Tokens, last: bool) -> String {
        let before = tokens.decode(&self.ids[self.start..self.shown], true);
        let now = tokens.decode(&self.ids[self.start..], true);
        if now.len() <= before.len() || (!last && now.ends_with('\u{fffd}')) {
            return String::new();
        }
        self.start = self.shown;
        self.shown = self.ids.len();
        // A decoder could in principle write other text in front of a token that it had shown.
        now.get(before.len()..).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let mut bytes: Vec<u8> =
            (0..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=u8::MAX).collect::<Vec<_>>());
        assert_eq!(byte_of('\u{120}'), Some(b' '));
        assert_eq!(byte_of('\u{10a}'), Some(b'\n'));
    }
}
