//! Every limit of documents, corpora, retrieval and extractive answers.

use std::time::Duration;

/// Largest document file in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Most text of one document in bytes, after extraction. A document over it is refused, because half a document would
/// answer wrongly without a word.
pub const DOCUMENT_TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest name of a document in bytes: its path relative to what was added.
pub const DOCUMENT_NAME_BYTES_MAX: usize = 512;

/// Longest title of a document or heading of a section in bytes; longer ones are cut.
pub const HEADING_BYTES_MAX: usize = 200;

/// Most elements of an HTML page that are open at one place. The parser looks through all of them at every tag.
pub const HTML_DEPTH_MAX: usize = 1024;

/// Most pages of a PDF.
pub const PDF_PAGES_MAX: usize = 10_000;

/// Most bytes that the compressed streams of a PDF may inflate to, all of them together.
pub const PDF_INFLATED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Most compressions on top of each other in a PDF's stream.
pub const PDF_FILTERS_MAX: usize = 2;

/// Most bytes of all streams of a PDF that are compressed by LZW, which may grow them by a factor of some 1,300.
pub const PDF_LZW_BYTES_MAX: usize = 192 * 1024;

/// Deepest nesting of form objects in a PDF.
pub const PDF_FORM_DEPTH_MAX: usize = 16;

/// Time allowed to extract one document's text.
pub const EXTRACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Extractions at the same time. One that ran out of time counts until its thread ends.
pub const EXTRACTIONS_MAX: usize = 4;

/// Stack of an extraction's thread in bytes; the PDF reader recurses.
pub const EXTRACTION_STACK_BYTES: usize = 64 * 1024 * 1024;

/// Longest sentence in bytes; a longer one is cut at a word.
pub const SENTENCE_BYTES_MAX: usize = 2048;

/// Longest chunk in bytes, whatever its number of tokens.
pub const CHUNK_BYTES_MAX: usize = 8 * 1024;

/// Largest part of a chunk's tokens that the path of its section may take, as a divisor.
pub const SECTION_TOKENS_DIVISOR: usize = 4;

/// Components of an embedding; the database's column has this width.
pub const EMBEDDING_DIMENSIONS: usize = 384;

/// Texts that are embedded at once.
pub const EMBEDDING_BATCH: usize = 32;

/// Longest name of a corpus in bytes.
pub const CORPUS_NAME_BYTES_MAX: usize = 128;

/// Most chunks of one corpus; beyond it a document is refused.
pub const CORPUS_CHUNKS_MAX: i64 = 1_000_000;

/// Longest word in bytes that is indexed; longer ones are no words.
pub const WORD_BYTES_MAX: usize = 64;

/// Longest question in bytes; equal to the escrow's limit of a request's input.
pub const QUESTION_BYTES_MAX: usize = auspex_protocol::limits::INPUT_BYTES_MAX;

/// Most distinct terms of a question that are looked up; the rarest are kept.
pub const QUESTION_TERMS_MAX: usize = 64;

/// Chunks that each leg of retrieval finds before fusion.
pub const CANDIDATES_MAX: usize = 200;

/// Most chunks that one search returns.
pub const RESULTS_MAX: usize = 100;

/// Chunks that an answer's result commits to; the same for every operator, because they sign the commitment.
pub const ANSWER_HITS: usize = 10;

/// Chunks that an extractive answer is taken from.
pub const ANSWER_CHUNKS: usize = 5;

/// Longest sentence in bytes that an answer quotes; longer ones are listings and diagrams.
pub const ANSWER_SENTENCE_BYTES_MAX: usize = 500;

/// Sentences that are embedded and weighed for one answer.
pub const ANSWER_SENTENCES_WEIGHED_MAX: usize = 24;

/// Most sentences of an extractive answer.
pub const ANSWER_SENTENCES_MAX: usize = 4;

/// Most bytes of the text of an extractive answer.
pub const ANSWER_TEXT_BYTES_MAX: usize = 4 * 1024;
