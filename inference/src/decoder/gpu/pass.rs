//! What the kernels know of a pass, in one buffer of words.

use super::super::{
    limits::{BLOCK_TOKENS, PASS_TOKENS_MAX},
    model::Span,
};
use crate::gpu::{Buffer, Gpu};

/// Where the number of rows is, that of rows whose logits are wanted, and the chunks of the longest row's
/// attention.
pub(super) const ROW_COUNT: usize = 0;
pub(super) const CHOSEN_COUNT: usize = 1;
pub(super) const CHUNKS_AT: usize = 2;

/// Where rows begin: four words each, its token, its position and where its sequence's blocks begin.
pub(super) const ROWS_AT: usize = 4;

/// Where the rows whose logits are wanted begin. The blocks of all sequences follow.
pub(super) const CHOSEN_AT: usize = ROWS_AT + 4 * PASS_TOKENS_MAX;

/// A pass on its way.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) info: Buffer,
    /// Tokens that are read.
    pub(super) rows: usize,
    /// Rows whose logits are wanted.
    pub(super) chosen: usize,
    /// The most chunks of positions that a row attends to, in layers without a window.
    pub(super) chunks: usize,
}

impl Pass {
    /// `Err` says why such a pass cannot be run.
    pub(super) fn new(
        gpu: &Gpu,
        spans: &[Span<'_>],
        chosen: &[usize],
        chunk: usize,
        vocabulary: usize,
    ) -> Result<Self, String> {
        let tokens: usize = spans.iter().map(|span| span.tokens.len()).sum();
        if PASS_TOKENS_MAX < tokens || PASS_TOKENS_MAX < chosen.len() {
            return Err(format!("{tokens} tokens in one pass, the limit is {PASS_TOKENS_MAX}"));
        }
        let mut tables = CHOSEN_AT + PASS_TOKENS_MAX;
        let longest = spans.iter().map(|span| span.start + span.tokens.len()).max().unwrap_or(0);
        let chunks = longest.div_ceil(chunk);
        // Everything is below a vocabulary's or a cache's size, which fit 32 bits.
        let mut words = vec![tokens as u32, chosen.len() as u32, chunks as u32, 0];
        for span in spans {
            for (index, token) in span.tokens.iter().enumerate() {
                if vocabulary <= *token as usize {
                    return Err(format!("token {token} is none of the {vocabulary} known ones"));
                }
                words.extend([*token, (span.start + index) as u32, tables as u32, 0]);
            }
            tables += (span.start + span.tokens.len()).div_ceil(BLOCK_TOKENS);
        }
        words.resize(CHOSEN_AT, 0);
        words.extend(chosen.iter().map(|row| *row as u32));
        words.resize(CHOSEN_AT + PASS_TOKENS_MAX, 0);
        for span in spans {
            let used = (span.start + span.tokens.len()).div_ceil(BLOCK_TOKENS);
            words.extend(&span.blocks[..used]);
        }
        Ok(Self { info: gpu.upload(&words), rows: tokens, chosen: chosen.len(), chunks })
    }
}
