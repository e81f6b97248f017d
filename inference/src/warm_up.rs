//! What a GPU does for the first time it does before it serves: kernels are compiled when a shape of their
//! kind comes for the first time, which takes longer than most requests.

use std::time::{Duration, Instant};

use crate::{encoder::Encoder, error::EncodeError, limits::SEQUENCE_TOKENS_MAX, tokens::Sequence};

/// A run that takes longer than this is of a size whose kernels are no great share of it.
const LONG: Duration = Duration::from_millis(20);

/// How many times as many tokens the next run has.
const GROWTH: usize = 4;

/// By how many tokens sequences are shorter than a multiple of four: kernels read as many values at once as
/// divide a length.
const SHORTER: [usize; 3] = [0, 1, 2];

/// Runs an encoder that is made of burn's tensors on one short sequence, on longer ones, and on more of
/// them, until a batch is full or a run takes [`LONG`]. All others compile nothing by shapes, and nothing is
/// done.
///
/// # Errors
///
/// If the device fails.
pub(crate) fn warm_up(encoder: &Encoder) -> Result<(), EncodeError> {
    if !encoder.compiles_by_shape() {
        return Ok(());
    }
    let length_max = SEQUENCE_TOKENS_MAX.min(encoder.content_tokens_max());
    let mut tokens = 8;
    while tokens <= encoder.batch_tokens() {
        let length = tokens.min(length_max) / 4 * 4;
        let run = |shorter: usize| {
            let sequence = Sequence::single(vec![0; length - shorter]);
            encoder.encode(&vec![&sequence; tokens / length])
        };
        for shorter in SHORTER {
            run(shorter)?;
        }
        // The first runs were those that compiled.
        let started = Instant::now();
        run(0)?;
        if LONG < started.elapsed() {
            break;
        }
        tokens *= GROWTH;
    }
    Ok(())
}
