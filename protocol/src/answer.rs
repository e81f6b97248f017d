//! The answer behind a result's `outputHash`: a canonical JSON document (RFC 8785) that anyone can check.
//!
//! Numbers are integers, because a float has no one spelling that every language keeps. Text is free of control
//! characters and of characters that change how other text is displayed, so that it can be printed as it stands.

use alloy::primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

use crate::limits::ANSWER_BYTES_MAX;

/// The one form of answer that this version writes and reads.
pub const ANSWER_SCHEMA: &str = "auspex.answer/1";

/// Most citations of an answer.
pub const CITATIONS_MAX: usize = 64;

/// Scores are in millionths and lie between 0 and this.
pub const SCORE_MAX: u32 = 1_000_000;

/// Largest integer that every JSON reader keeps exactly.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// An answer with the places that it is taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answer {
    /// [`ANSWER_SCHEMA`].
    pub schema: String,
    pub question: String,
    pub text: String,
    /// In the order in which `text` uses them.
    pub citations: Vec<Citation>,
    /// Root of the corpus as it was when it was searched.
    pub corpus_root: B256,
    /// Hash of the model that embedded the question and, for a generative answer, wrote the text.
    pub model_hash: B256,
    pub answerer: Answerer,
}

/// How the text came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answerer {
    /// Sentences of the corpus, word for word; the same from every operator.
    Extractive,
    /// Written by a model that the operator runs.
    Generative,
    /// Written by a model behind somebody's API.
    Remote,
}

/// A place in a corpus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Citation {
    /// The document's name in the corpus.
    pub document: String,
    /// SHA-256 of the document's file.
    pub document_hash: B256,
    /// The chunk through which the place was found; a leaf of the corpus root.
    pub chunk_id: B256,
    /// Bytes `[start, end)` of the document's extracted text.
    pub start: u64,
    pub end: u64,
    /// How well it answers, in millionths.
    pub score: u32,
    /// What stands there.
    pub quote: String,
}

/// Why bytes are not an answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error("answer: {0} bytes, over the limit of {ANSWER_BYTES_MAX}")]
    TooLarge(usize),
    #[error("answer: {0}")]
    Json(#[from] serde_json::Error),
    #[error("answer: not in canonical form (RFC 8785), so its hash would name other bytes")]
    NotCanonical,
    #[error("answer.{field}: {reason}")]
    Field { field: &'static str, reason: String },
}

impl Answer {
    /// The bytes that `outputHash` is taken of.
    ///
    /// # Errors
    ///
    /// When a field breaks its rule or the whole is over [`ANSWER_BYTES_MAX`], so that what was written can be read.
    pub fn canonical_bytes(&self) -> Result<Vec<u8>, AnswerError> {
        self.validate()?;
        let bytes = serde_json_canonicalizer::to_vec(self)?;
        if ANSWER_BYTES_MAX < bytes.len() {
            return Err(AnswerError::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    /// `keccak256` of the canonical bytes.
    pub fn output_hash(&self) -> Result<B256, AnswerError> {
        Ok(keccak256(self.canonical_bytes()?))
    }

    /// Reads canonical bytes; what it returns has exactly these bytes again.
    pub fn parse(bytes: &[u8]) -> Result<Self, AnswerError> {
        if ANSWER_BYTES_MAX < bytes.len() {
            return Err(AnswerError::TooLarge(bytes.len()));
        }
        let answer: Self = serde_json::from_slice(bytes)?;
        if answer.canonical_bytes()? != bytes {
            return Err(AnswerError::NotCanonical);
        }
        Ok(answer)
    }

    fn validate(&self) -> Result<(), AnswerError> {
        let refuse = |field, reason| Err(AnswerError::Field { field, reason });
        if self.schema != ANSWER_SCHEMA {
            return refuse("schema", format!("is not {ANSWER_SCHEMA}"));
        }
        if self.text.trim().is_empty() {
            return refuse("text", "is empty; a result without an answer declines".to_owned());
        }
        if CITATIONS_MAX < self.citations.len() {
            let count = self.citations.len();
            return refuse("citations", format!("{count}, over the limit of {CITATIONS_MAX}"));
        }
        check_visible("question", &self.question)?;
        check_visible("text", &self.text)?;
        for citation in &self.citations {
            check_visible("citations.document", &citation.document)?;
            check_visible("citations.quote", &citation.quote)?;
            if citation.end <= citation.start || INTEGER_MAX < citation.end {
                let (start, end) = (citation.start, citation.end);
                return refuse("citations.end", format!("the span {start}..{end} is no span"));
            }
            if SCORE_MAX < citation.score {
                return refuse("citations.score", format!("is over the limit of {SCORE_MAX}"));
            }
        }
        Ok(())
    }
}

/// `text` without characters that an answer must not have: line ends become line feeds, other control characters and
/// line separators become spaces, invisible and direction-changing ones go.
pub fn sanitize(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' => {
                if characters.peek() != Some(&'\n') {
                    clean.push('\n');
                }
            }
            '\u{85}' | '\u{2028}' | '\u{2029}' => clean.push('\n'),
            _ if is_invisible(character) => {}
            _ if is_visible(character) => clean.push(character),
            _ => clean.push(' '),
        }
    }
    clean
}

/// Whether a character may stand in an answer.
pub fn is_visible(character: char) -> bool {
    let separates_lines = matches!(character, '\u{2028}' | '\u{2029}');
    (character == '\n' || !character.is_control()) && !separates_lines && !is_invisible(character)
}

/// Characters without a shape of their own that change how others are shown or that hide text from a reader: soft
/// hyphen, zero-width and bidirectional controls, interlinear annotations, noncharacters, and Unicode's tags.
///
/// The zero-width joiners, which Indic scripts and emoji need, stay.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{fdd0}'..='\u{fdef}' | '\u{e0000}'..='\u{e007f}')
        || 0xfffe <= (character as u32 & 0xffff)
}

fn check_visible(field: &'static str, text: &str) -> Result<(), AnswerError> {
    match text.chars().find(|character| !is_visible(*character)) {
        None => Ok(()),
        Some(found) => {
            let reason = format!("holds U+{:04X}, which may not be printed", found as u32);
            Err(AnswerError::Field { field, reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer() -> Answer {
        Answer {
            schema: ANSWER_SCHEMA.to_owned(),
            question: "Who may refund?".to_owned(),
            text: "Anyone \"may\" refund.\nÉté.".to_owned(),
            citations: vec![Citation {
                document: "docs/escrow.md".to_owned(),
                document_hash: B256::repeat_byte(1),
                chunk_id: B256::repeat_byte(2),
                start: 3,
                end: 40,
                score: 812_345,
                quote: "Anyone \"may\" refund.".to_owned(),
            }],
            corpus_root: B256::repeat_byte(3),
            model_hash: B256::repeat_byte(4),
            answerer: Answerer::Extractive,
        }
    }

    #[test]
    fn the_bytes_are_sorted_compact_and_unescaped_where_json_allows() {
        let bytes = String::from_utf8(answer().canonical_bytes().unwrap()).unwrap();
        let hash = |n: &str| format!("0x{}", n.repeat(32));
        let expected = format!(
            "{{\"answerer\":\"extractive\",\"citations\":[{{\"chunkId\":\"{}\",\"document\":\"docs/escrow.md\",\
             \"documentHash\":\"{}\",\"end\":40,\"quote\":\"Anyone \\\"may\\\" refund.\",\"score\":812345,\"start\":3}}],\
             \"corpusRoot\":\"{}\",\"modelHash\":\"{}\",\"question\":\"Who may refund?\",\
             \"schema\":\"auspex.answer/1\",\"text\":\"Anyone \\\"may\\\" refund.\\nÉté.\"}}",
            hash("02"),
            hash("01"),
            hash("03"),
            hash("04"),
        );
        assert_eq!(bytes, expected);
        assert_eq!(answer().output_hash().unwrap(), keccak256(expected));
    }

    #[test]
    fn other_bytes_of_the_same_document_are_refused() {
        let bytes = String::from_utf8(answer().canonical_bytes().unwrap()).unwrap();
        assert_eq!(Answer::parse(bytes.as_bytes()).unwrap(), answer());
        let others = [
            format!("{bytes} "),
            format!(" {bytes}"),
            bytes.replace("\":40", "\":40.0"),
            bytes.replace("\":40", "\":4e1"),
            bytes.replace("É", "\\u00c9"),
            bytes.replace("0x0202", "0X0202"),
            bytes.replacen("0x", "", 1),
            bytes
                .replace("{\"answerer\":\"extractive\",", "{")
                .replace("\"}", "\",\"answerer\":\"extractive\"}"),
            bytes.replace("\"answerer\"", "\"answerer\":\"extractive\",\"answerer\""),
            bytes.replace("\"schema\"", "\"amount\":1,\"schema\""),
        ];
        for other in others {
            assert!(Answer::parse(other.as_bytes()).is_err(), "{other}");
        }
    }

    #[test]
    fn each_rule_is_refused_by_its_field() {
        let refused = |change: fn(&mut Answer)| {
            let mut bad = answer();
            change(&mut bad);
            let bytes = serde_json_canonicalizer::to_vec(&bad).unwrap();
            let written = bad.canonical_bytes().unwrap_err().to_string();
            let read = Answer::parse(&bytes).unwrap_err().to_string();
            assert_eq!(written, read);
            read
        };
        assert!(refused(|a| a.schema.push('0')).starts_with("answer.schema"));
        assert!(refused(|a| a.text = " \n".to_owned()).starts_with("answer.text"));
        assert!(refused(|a| a.text.push('\u{202e}')).starts_with("answer.text"));
        assert!(refused(|a| a.question.push('\u{1b}')).starts_with("answer.question"));
        assert!(
            refused(|a| a.citations[0].document.push('\u{200b}'))
                .starts_with("answer.citations.document")
        );
        assert!(refused(|a| a.citations[0].quote.push('\0')).starts_with("answer.citations.quote"));
        assert!(refused(|a| a.citations[0].end = 3).starts_with("answer.citations.end"));
        assert!(refused(|a| a.citations[0].end = 1 << 53).starts_with("answer.citations.end"));
        assert!(
            refused(|a| a.citations[0].score = 1_000_001).starts_with("answer.citations.score")
        );
        let many = |a: &mut Answer| a.citations = vec![a.citations[0].clone(); CITATIONS_MAX + 1];
        assert!(refused(many).starts_with("answer.citations"));
        assert!(
            refused(|a| a.text = "x".repeat(ANSWER_BYTES_MAX)).contains("over the limit of 65536")
        );
    }

    #[test]
    fn what_hides_or_turns_text_is_taken_out() {
        assert_eq!(sanitize("a\r\nb\rc\u{2028}d\te\u{1b}[31m"), "a\nb\nc\nd e [31m");
        assert_eq!(sanitize("pay\u{202e}eht\u{2066} \u{200b}x\u{feff}\u{e0041}\u{ad}"), "payeht x");
        assert_eq!(sanitize("क्\u{200d}ष 👩\u{200d}🔬 été"), "क्\u{200d}ष 👩\u{200d}🔬 été");
    }

    proptest! {
        #[test]
        fn sanitized_text_is_visible_and_stays_as_it_is(text in "(\\PC|\\p{C}|\r|\n){0,64}") {
            let clean = sanitize(&text);
            prop_assert!(clean.chars().all(is_visible));
            prop_assert_eq!(sanitize(&clean), clean);
        }

        #[test]
        fn an_answer_comes_back_as_it_was_written(
            text in ".{1,64}", quote in ".{0,64}", start in 0u64..1000, length in 1u64..1000, score in 0..=SCORE_MAX,
        ) {
            let mut written = answer();
            written.text = format!("x{}", sanitize(&text));
            written.citations[0] = Citation {
                quote: sanitize(&quote), start, end: start + length, score, ..written.citations[0].clone()
            };
            let bytes = written.canonical_bytes().unwrap();
            prop_assert_eq!(Answer::parse(&bytes).unwrap(), written);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(Answer::parse(&bytes).is_err());
        }
    }
}
