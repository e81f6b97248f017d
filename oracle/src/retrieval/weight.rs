//! BM25 on integers (Robertson and Zaragoza 2009, with Lucene's inverse document frequency), so that every machine
//! computes the same score.
//!
//! A word that occurs `f` times in a chunk of `n` words contributes
//! `idf * f * (k1 + 1) / (f + k1 * (1 - b + b * n / average))` with `k1 = 0.9` and `b = 0.4`, hence
//! `idf * 1.9 f / (f + 0.54 + 0.36 n / average)`. All factors are in millionths and divisions round down. The sum over
//! the words of a question happens in PostgreSQL; its terms are below 2^63 for every chunk that the limits allow.

/// A rounded-down average number of words per chunk, in thousandths; at least 1.
pub(super) fn average_words(words: i64, chunks: i64) -> i64 {
    (words.saturating_mul(1000) / chunks.max(1)).max(1)
}

/// `ln(1 + (chunks - having + 0.5) / (having + 0.5))` in millionths: how telling a word is that `having` of `chunks`
/// chunks hold.
pub(super) fn inverse_document_frequency(chunks: u64, having: u64) -> u64 {
    ln_ratio(2 * chunks.max(having) + 2, 2 * having + 1)
}

/// What one word contributes to a chunk's score, in millionths; the same expression as in the lexical leg's SQL.
#[cfg(test)]
pub(super) fn contribution(idf: i64, frequency: i64, words: i64, average: i64) -> i64 {
    let part = 190 * frequency * average * 1_000_000
        / (100 * frequency * average + 54 * average + 36_000 * words);
    idf * part / 1_000_000
}

/// The natural logarithm of a fraction that is not below 1, in millionths, rounded down.
fn ln_ratio(numerator: u64, denominator: u64) -> u64 {
    const ONE: u128 = 1 << 60;
    const FRACTION_BITS: u32 = 40;
    /// ln 2 with 15 decimals.
    const LN_2: u128 = 693_147_180_559_945;

    let mut mantissa = (u128::from(numerator) << 60) / u128::from(denominator);
    let mut log2: u128 = 0;
    while 2 * ONE <= mantissa {
        mantissa >>= 1;
        log2 += 1;
    }
    // Squaring doubles the logarithm: each time that the mantissa passes 2 its next bit is 1.
    for _ in 0..FRACTION_BITS {
        mantissa = (mantissa * mantissa) >> 60;
        log2 <<= 1;
        if 2 * ONE <= mantissa {
            mantissa >>= 1;
            log2 |= 1;
        }
    }
    let scaled = (log2 * LN_2) >> FRACTION_BITS;
    (scaled / 1_000_000_000) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::corpus::limits::{CHUNK_BYTES_MAX, CORPUS_CHUNKS_MAX};

    proptest! {
        #[test]
        fn the_logarithm_is_right_to_the_millionth(chunks in 1u64..=1_000_000, having in 0u64..=1_000_000) {
            let having = having.min(chunks);
            let exact = (1.0 + (chunks as f64 - having as f64 + 0.5) / (having as f64 + 0.5)).ln();
            let found = inverse_document_frequency(chunks, having) as f64;
            prop_assert!((found - exact * 1e6).abs() <= 1.5, "{found} for {exact}");
        }

        #[test]
        fn a_contribution_is_bm25(
            having in 1u64..10_000, frequency in 1i64..100, more in 0i64..2_000, average in 1_000i64..500_000,
        ) {
            let words = frequency + more;
            let idf = inverse_document_frequency(10_000, having) as i64;
            let found = contribution(idf, frequency, words, average) as f64;
            let (f, n, average) = (frequency as f64, words as f64, average as f64 / 1000.0);
            let exact = idf as f64 * f * 1.9 / (f + 0.9 * (1.0 - 0.4 + 0.4 * n / average));
            prop_assert!((found - exact).abs() <= 30.0, "{found} for {exact}");
        }
    }

    #[test]
    fn the_largest_corpus_does_not_overflow() {
        // A word and what separates it from the next have at least two bytes; a section's path adds some.
        let words_max = CHUNK_BYTES_MAX as i64 * 2 / 3;
        let chunks = CORPUS_CHUNKS_MAX;
        let average = average_words(words_max * chunks, chunks);
        let idf = inverse_document_frequency(chunks as u64, 1) as i64;
        assert!(0 < contribution(idf, words_max, words_max, average));
        assert!(0 < contribution(idf, 1, words_max, 1000));
        assert_eq!(average_words(0, 0), 1);
    }
}
