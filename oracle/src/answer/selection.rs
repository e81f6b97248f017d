//! Which of the weighed sentences make the answer, and in what order.

use std::cmp::Reverse;

use auspex_inference::dot_i8;
use auspex_protocol::answer::Citation;

use crate::corpus::limits::{ANSWER_SENTENCES_MAX, ANSWER_TEXT_BYTES_MAX};

/// One million: scores are in millionths.
pub(super) const UNIT: i64 = 1_000_000;

/// Weights, in thousandths, of what makes a sentence's score.
const SIMILARITY_WEIGHT: i64 = 600;
const COVERAGE_WEIGHT: i64 = 250;
const CHUNK_WEIGHT: i64 = 150;

/// Sentences below this share of the best one's score, in thousandths, are left out.
const SHARE_OF_BEST_MIN: i64 = 800;

/// Two sentences whose inner product is above this say the same: a cosine of 0.9.
const SAME_PRODUCT: i32 = 9 * 127 * 127 / 10;

/// Two sentences that share more than this part of their distinct words, in thousandths, say the same.
const SAME_WORDS: usize = 700;

/// A sentence with everything that decides about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) citation: Citation,
    /// As the lexical leg counts them.
    pub(super) words: Vec<String>,
    pub(super) embedding: Vec<i8>,
}

/// A sentence's score in millionths from three parts in millionths.
pub(super) fn score(similarity: i64, coverage: i64, chunk: i64) -> u32 {
    let weighted =
        SIMILARITY_WEIGHT * similarity + COVERAGE_WEIGHT * coverage + CHUNK_WEIGHT * chunk;
    // A weighted mean of values between 0 and a million.
    (weighted / 1000).clamp(0, UNIT) as u32
}

/// The best sentences without repetition, within the limits; those of one document in reading order, documents in the
/// order of their best sentences.
pub(super) fn select(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by(|a, b| key(a).cmp(&key(b)));
    let best = candidates.first().map_or(0, |best| i64::from(best.citation.score));
    let mut chosen: Vec<Candidate> = Vec::new();
    let mut bytes = 0;
    for candidate in candidates {
        let score = i64::from(candidate.citation.score);
        if chosen.len() == ANSWER_SENTENCES_MAX || score * 1000 < best * SHARE_OF_BEST_MIN {
            break;
        }
        // Two bytes may separate a sentence from the one before.
        let longer = bytes + candidate.citation.quote.len() + 2;
        let repeats = chosen.iter().any(|other| says_the_same(other, &candidate));
        if longer <= ANSWER_TEXT_BYTES_MAX && !repeats {
            bytes = longer;
            chosen.push(candidate);
        }
    }
    let mut documents: Vec<String> = Vec::new();
    for candidate in &chosen {
        if !documents.contains(&candidate.citation.document) {
            documents.push(candidate.citation.document.clone());
        }
    }
    chosen.sort_by_key(|candidate| {
        let citation = &candidate.citation;
        (documents.iter().position(|name| *name == citation.document), citation.start)
    });
    chosen
}

/// Best first; equal scores by place, so that the order is the same everywhere.
fn key(candidate: &Candidate) -> (Reverse<u32>, &str, u64, u64) {
    let citation = &candidate.citation;
    (Reverse(citation.score), &citation.document, citation.start, citation.end)
}

fn says_the_same(one: &Candidate, other: &Candidate) -> bool {
    if SAME_PRODUCT < dot_i8(&one.embedding, &other.embedding) {
        return true;
    }
    let distinct = |words: &[String]| {
        let mut words = words.to_vec();
        words.sort_unstable();
        words.dedup();
        words
    };
    let (one, other) = (distinct(&one.words), distinct(&other.words));
    let common = one.iter().filter(|word| other.binary_search(word).is_ok()).count();
    let union = one.len() + other.len() - common;
    SAME_WORDS * union < 1000 * common
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use proptest::prelude::*;

    use super::*;

    fn candidate(document: &str, start: u64, score: u32, quote: &str) -> Candidate {
        let mut embedding = vec![0; 8];
        embedding[start as usize % 8] = 127;
        Candidate {
            citation: Citation {
                document: document.to_owned(),
                document_hash: B256::ZERO,
                chunk_id: B256::ZERO,
                start,
                end: start + 1,
                score,
                quote: quote.to_owned(),
            },
            words: quote.split(' ').map(str::to_owned).collect(),
            embedding,
        }
    }

    fn places(chosen: &[Candidate]) -> Vec<(&str, u64)> {
        chosen.iter().map(|c| (c.citation.document.as_str(), c.citation.start)).collect()
    }

    #[test]
    fn sentences_of_a_document_are_in_reading_order_and_the_best_document_first() {
        let chosen = select(vec![
            candidate("a", 7, 800_000, "one two"),
            candidate("b", 5, 900_000, "three four"),
            candidate("b", 2, 850_000, "five six"),
            candidate("a", 1, 500_000, "below the share"),
        ]);
        assert_eq!(places(&chosen), [("b", 2), ("b", 5), ("a", 7)]);
    }

    #[test]
    fn what_says_the_same_is_said_once() {
        let by_words =
            [candidate("a", 1, 9, "anyone may refund"), candidate("b", 2, 9, "refund anyone may")];
        assert_eq!(places(&select(by_words.to_vec())), [("a", 1)]);
        let by_meaning = [candidate("a", 1, 9, "one thing"), candidate("b", 9, 9, "quite another")];
        assert_eq!(places(&select(by_meaning.to_vec())), [("a", 1)]);
    }

    #[test]
    fn the_limits_hold() {
        let long = "x".repeat(ANSWER_TEXT_BYTES_MAX - 10);
        let chosen = select(vec![
            candidate("a", 1, 900_000, &long),
            candidate("a", 2, 890_000, "does not fit any more"),
            candidate("a", 3, 880_000, "fits"),
        ]);
        assert_eq!(places(&chosen), [("a", 1), ("a", 3)]);
        assert_eq!(select(Vec::new()), []);
    }

    proptest! {
        #[test]
        fn the_order_of_candidates_does_not_matter(
            scores in prop::collection::vec((0u32..=1_000_000, 0u64..50, "[ab]"), 0..20),
        ) {
            let mut candidates: Vec<Candidate> = scores
                .iter()
                .enumerate()
                .map(|(n, (score, start, document))| {
                    candidate(document, *start, *score, &format!("w{n} v{n}"))
                })
                .collect();
            candidates.sort_by(|a, b| key(a).cmp(&key(b)));
            candidates.dedup_by(|a, b| key(a) == key(b));
            let chosen = select(candidates.clone());
            candidates.reverse();
            prop_assert_eq!(&chosen, &select(candidates));
            prop_assert!(chosen.len() <= ANSWER_SENTENCES_MAX);
        }

        #[test]
        fn a_score_stays_in_its_range(a in 0..=UNIT, b in 0..=UNIT, c in 0..=UNIT) {
            prop_assert!(i64::from(score(a, b, c)) <= UNIT);
        }
    }
}
