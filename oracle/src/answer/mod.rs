//! The extractive answerer: the sentences of a corpus that answer a question, word for word, with their places.
//!
//! Documents are data. Nothing that they say is followed: text decides only which sentences are quoted, through integer
//! scores that every operator computes alike.

mod selection;
pub mod written;

use std::cmp::Reverse;

use alloy::primitives::B256;
use auspex_inference::dot_i8;
use auspex_protocol::answer::{ANSWER_SCHEMA, Answer, AnswerError, Answerer, Citation, sanitize};
use sqlx::PgPool;

use crate::chunk::sentences;
use crate::corpus::limits::{
    ANSWER_CHUNKS, ANSWER_HITS, ANSWER_SENTENCE_BYTES_MAX, ANSWER_SENTENCES_WEIGHED_MAX,
};
use crate::corpus::{Corpus, CorpusError, Embedder};
use crate::retrieval::{Retrieval, RetrievalError, search, words};
use selection::{Candidate, UNIT, select};

/// Least cosine, in millionths, between the question and the closest chunk for an answer to be worth its price.
///
/// Measured with all-MiniLM-L6-v2 on a small technical corpus: questions beside the subject and keyboard noise stay below
/// 0.19, questions that the corpus answers begin at 0.26.
pub const COSINE_MIN: i64 = 220_000;

/// Fewest words of a sentence that can answer; shorter ones are headings and labels.
const SENTENCE_WORDS_MIN: usize = 4;

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Answered(Box<Answer>),
    /// The corpus does not answer the question; the result declines and costs nothing. The reason is the same for every
    /// operator.
    NoAnswer {
        reason: String,
    },
}

/// Why an answer could not be made, although there may be one.
#[derive(Debug, thiserror::Error)]
pub enum ExtractiveError {
    #[error(transparent)]
    Retrieval(#[from] RetrievalError),
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    #[error("write the answer: {0}")]
    Answer(#[from] AnswerError),
}

/// Searches a corpus for `question` and takes the answer out of what is found. The retrieval is returned with it, because
/// a result commits to both.
pub async fn answer(
    pool: &PgPool,
    corpus: &Corpus,
    embedder: &Embedder,
    question: &str,
) -> Result<(Retrieval, Outcome), ExtractiveError> {
    let retrieval = search(pool, corpus, embedder, question, ANSWER_HITS).await?;
    let outcome = extractive(embedder, question, &retrieval).await?;
    Ok((retrieval, outcome))
}

/// Takes the sentences that answer `question` out of what was found for it.
pub async fn extractive(
    embedder: &Embedder,
    question: &str,
    retrieval: &Retrieval,
) -> Result<Outcome, ExtractiveError> {
    let closest = retrieval.hits.iter().map(|hit| i64::from(hit.dense)).max().unwrap_or_default();
    if retrieval.hits.is_empty() {
        let reason = "the corpus is empty".to_owned();
        return Ok(Outcome::NoAnswer { reason });
    }
    if cosine(closest) < COSINE_MIN {
        let reason = format!(
            "no answer in this corpus: the closest passage has a similarity of {} millionths, below {COSINE_MIN}",
            cosine(closest),
        );
        return Ok(Outcome::NoAnswer { reason });
    }
    let candidates = candidates(embedder, retrieval).await?;
    let chosen = select(candidates);
    if chosen.is_empty() {
        let reason =
            "no answer in this corpus: no sentence of the closest passages fits the question";
        return Ok(Outcome::NoAnswer { reason: reason.to_owned() });
    }
    let answer = Answer {
        schema: ANSWER_SCHEMA.to_owned(),
        question: sanitize(question),
        text: text(&chosen),
        citations: chosen.into_iter().map(|candidate| candidate.citation).collect(),
        corpus_root: retrieval.corpus_root,
        model_hash: embedder.model_hash,
        answerer: Answerer::Extractive,
    };
    // An answer that could not be read back must not be signed.
    answer.canonical_bytes()?;
    Ok(Outcome::Answered(Box::new(answer)))
}

/// The sentences of the best chunks with their scores.
async fn candidates(
    embedder: &Embedder,
    retrieval: &Retrieval,
) -> Result<Vec<Candidate>, ExtractiveError> {
    let found = promising(retrieval);
    let quotes = found.iter().map(|sentence| sentence.citation.quote.clone()).collect();
    let embeddings = embedder.embed(quotes, |_| ()).await?;
    Ok(found
        .into_iter()
        .zip(embeddings)
        .map(|(sentence, embedding)| {
            let similarity = cosine(i64::from(dot_i8(&retrieval.question, &embedding)));
            let score = selection::score(similarity, sentence.coverage, sentence.chunk_score);
            let citation = Citation { score, ..sentence.citation };
            Candidate { citation, words: sentence.words, embedding }
        })
        .collect())
}

/// A sentence of a chunk, before it is embedded.
struct Sentence {
    citation: Citation,
    words: Vec<String>,
    coverage: i64,
    chunk_score: i64,
}

/// The sentences that are worth embedding, which is what costs: those that have most of the question's words and stand in
/// the best chunks.
fn promising(retrieval: &Retrieval) -> Vec<Sentence> {
    let mut found: Vec<Sentence> = Vec::new();
    for hit in retrieval.hits.iter().take(ANSWER_CHUNKS) {
        for range in sentences(&hit.chunk.text) {
            let quote = sanitize(&hit.chunk.text[range.clone()]).replace('\n', " ");
            let start = hit.chunk.span.start + range.start as u64;
            let end = hit.chunk.span.start + range.end as u64;
            // Chunks overlap.
            let known = found.iter().map(|sentence| &sentence.citation).any(|known| {
                known.document == hit.chunk.document && known.start < end && start < known.end
            });
            if known || !can_answer(&quote) {
                continue;
            }
            let words = words(&quote);
            found.push(Sentence {
                coverage: coverage(retrieval, &words),
                chunk_score: i64::from(hit.score),
                words,
                citation: Citation {
                    document: hit.chunk.document.clone(),
                    document_hash: hit.chunk.document_hash,
                    chunk_id: hit.chunk_id,
                    start,
                    end,
                    score: 0,
                    quote,
                },
            });
        }
    }
    let without_similarity =
        |sentence: &Sentence| selection::score(0, sentence.coverage, sentence.chunk_score);
    // Stable: equal ones stay in the order of chunks and places, which is the same for every operator.
    found.sort_by_key(|sentence| Reverse(without_similarity(sentence)));
    found.truncate(ANSWER_SENTENCES_WEIGHED_MAX);
    found
}

/// Whether a sentence says something: a question, a heading, a label, a whole listing, a table's row or a drawing does not
/// answer.
fn can_answer(sentence: &str) -> bool {
    /// What may stand between a question mark and a sentence's end: quotation marks, brackets, Markdown's marks.
    const CLOSING: [char; 10] = ['"', '\'', '”', '’', '»', ')', ']', '`', '*', '_'];
    !sentence.trim_end_matches(CLOSING).ends_with('?')
        && sentence.len() <= ANSWER_SENTENCE_BYTES_MAX
        && SENTENCE_WORDS_MIN <= sentence.split_whitespace().count()
        && is_prose(sentence)
}

/// Prose is mostly letters, has no cells (extraction writes a table's cells apart with `|`) and no drawn lines.
fn is_prose(sentence: &str) -> bool {
    /// Letters among the characters that are not space, in percent.
    const LETTERS_MIN: usize = 60;
    let drawn = |character: char| ('\u{2500}'..='\u{257f}').contains(&character);
    let visible = sentence.chars().filter(|character| !character.is_whitespace()).count();
    let letters = sentence.chars().filter(|character| character.is_alphabetic()).count();
    !sentence.contains(" | ") && !sentence.contains(drawn) && visible * LETTERS_MIN <= letters * 100
}

/// The share of the question's words, weighed by how telling they are, that a sentence has; in millionths.
fn coverage(retrieval: &Retrieval, words: &[String]) -> i64 {
    let total: i64 = retrieval.words.values().sum();
    let found: i64 = retrieval
        .words
        .iter()
        .filter(|(word, _)| words.contains(word))
        .map(|(_, weight)| *weight)
        .sum();
    if total == 0 { 0 } else { found * UNIT / total }
}

/// An inner product of quantised unit vectors as a cosine in millionths; negative ones count as 0.
fn cosine(product: i64) -> i64 {
    (product.max(0) * UNIT / (127 * 127)).min(UNIT)
}

/// The quotes in their order; a document's sentences stand together, documents apart.
fn text(chosen: &[Candidate]) -> String {
    let mut text = String::new();
    let mut document: Option<(B256, &str)> = None;
    for citation in chosen.iter().map(|candidate| &candidate.citation) {
        let this = (citation.document_hash, citation.document.as_str());
        if let Some(previous) = document {
            text.push_str(if previous == this { " " } else { "\n\n" });
        }
        text.push_str(&citation.quote);
        document = Some(this);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_drawings_and_questions_are_not_quoted() {
        assert!(can_answer(
            "If nobody delivered, then from the deadline on anyone may call refund."
        ));
        for other in [
            "withdraw a split's share, not the first time | 43,551 | 45,000",
            "None ── request ──► Funded ── deliver ──► Settled (no challenge window) │ └──────► Delivered",
            "0x70997970C51812dc3A010C7d01b50e0d17dc79C8 = 1 + 2 + 3 + 4 + 5 + 6",
            "How does a refund work?",
            "\"How does a refund work?\"",
        ] {
            assert!(!can_answer(other), "{other}");
        }
    }
}
