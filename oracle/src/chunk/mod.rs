//! A document's text, cut into chunks that a model reads whole.

mod sentence;

use std::ops::Range;

use alloy::primitives::B256;
use auspex_protocol::merkle::chunk_id;

pub use sentence::sentences;

use crate::{
    corpus::limits::{CHUNK_BYTES_MAX, SECTION_TOKENS_DIVISOR},
    document::Document,
};

/// How large chunks are. Operators of one corpus use the same rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRules {
    /// Most tokens of a passage, the path of its section included.
    pub tokens_max: usize,
    /// Most tokens that a chunk repeats of the one before it.
    pub overlap_tokens: usize,
}

/// A part of a document, on sentence boundaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Bytes of the document's text.
    pub span: Range<usize>,
    /// The headings above the chunk, outermost first, that are not in it; may be empty.
    pub section: String,
}

impl Chunk {
    /// Its identity; see [`chunk_id`].
    pub fn id(&self, document: &Document) -> B256 {
        chunk_id(&document.name, document.hash, self.span.start as u64, self.span.end as u64)
    }

    /// What is embedded and indexed: the path of the section and the text.
    pub fn passage(&self, document: &Document) -> String {
        let text = &document.text[self.span.clone()];
        if self.section.is_empty() { text.to_owned() } else { format!("{}\n{text}", self.section) }
    }
}

/// Cuts a document. `offsets` gives the byte ranges of the tokens of a text, without special ones.
///
/// Every character that is not white space is in a chunk, chunks are in reading order, and the same document, rules and
/// tokenizer give the same chunks. A chunk ends where a new section begins, unless it were small; otherwise between
/// paragraphs where that leaves it reasonably full; otherwise between sentences.
pub fn chunks<E>(
    document: &Document,
    rules: ChunkRules,
    offsets: impl Fn(&str) -> Result<Vec<Range<usize>>, E>,
) -> Result<Vec<Chunk>, E> {
    let section_max = rules.tokens_max / SECTION_TOKENS_DIVISOR;
    let units = units(document, (rules.tokens_max - section_max).max(1), &offsets)?;
    let mut chunks = Vec::new();
    let mut first = 0;
    // Where the unit stands up to which earlier chunks reach.
    let mut covered = 0;
    while first < units.len() {
        let (mut section, mut used) =
            section(document, units[first].span.start, section_max, &offsets)?;
        // What is repeated must leave room for something new.
        while first < covered
            && !fits(&units[first..=covered], rules.tokens_max.saturating_sub(used))
        {
            first += 1;
            (section, used) =
                self::section(document, units[first].span.start, section_max, &offsets)?;
        }
        let end = end_of_chunk(&units, first, covered, rules.tokens_max.saturating_sub(used));
        chunks.push(Chunk { span: units[first].span.start..units[end - 1].span.end, section });
        covered = end;
        first = if units.get(end).is_none_or(|next| next.heading) {
            end
        } else {
            start_of_overlap(&units[..end], first + 1, rules.overlap_tokens)
        };
    }
    Ok(chunks)
}

/// A sentence, or a piece of one that is too long.
#[derive(Debug)]
struct Unit {
    span: Range<usize>,
    tokens: usize,
    /// It begins a block.
    block: bool,
    /// It is a heading.
    heading: bool,
}

fn units<E>(
    document: &Document,
    tokens_max: usize,
    offsets: &impl Fn(&str) -> Result<Vec<Range<usize>>, E>,
) -> Result<Vec<Unit>, E> {
    let mut units = Vec::new();
    for sentence in sentences(&document.text) {
        let text = &document.text[sentence.clone()];
        let tokens = offsets(text)?;
        let before = &document.text[..sentence.start];
        let block = before.is_empty() || before.ends_with("\n\n");
        let heading = document
            .sections
            .binary_search_by_key(&sentence.start, |section| section.start)
            .is_ok();
        for (position, (piece, tokens)) in pieces(text, &tokens, tokens_max).into_iter().enumerate()
        {
            units.push(Unit {
                span: sentence.start + piece.start..sentence.start + piece.end,
                tokens,
                block: block && position == 0,
                heading: heading && position == 0,
            });
        }
    }
    Ok(units)
}

/// Cuts a sentence so that no piece has more than `tokens_max` tokens, between words where there are any.
fn pieces(text: &str, tokens: &[Range<usize>], tokens_max: usize) -> Vec<(Range<usize>, usize)> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut from = 0;
    while tokens_max < tokens.len() - from {
        // A tokenizer's offsets are only a hint: the cut must lie ahead and between characters.
        let limit = text.floor_char_boundary(tokens[from + tokens_max].start.min(text.len()));
        let word = text.get(start..limit).and_then(|part| part.rfind([' ', '\n']));
        let cut = word.filter(|space| 0 < *space).map_or(limit, |space| start + space + 1);
        if cut <= start {
            break;
        }
        let count = tokens[from..].partition_point(|token| token.start < cut);
        if count == 0 {
            break;
        }
        let piece = text[start..cut].trim_end();
        pieces.push((start..start + piece.len(), count));
        start = cut;
        from += count;
    }
    pieces.push((start..text.len(), tokens.len() - from));
    pieces
}

/// The path of the section at `position` within `tokens_max` tokens, and its number of tokens. Outer headings go first.
fn section<E>(
    document: &Document,
    position: usize,
    tokens_max: usize,
    offsets: &impl Fn(&str) -> Result<Vec<Range<usize>>, E>,
) -> Result<(String, usize), E> {
    let path = document.section_path(position);
    for outermost in 0..path.len() {
        let joined = path[outermost..].join(" > ");
        let tokens = offsets(&joined)?.len();
        if tokens <= tokens_max {
            return Ok((joined, tokens));
        }
    }
    Ok((String::new(), 0))
}

fn fits(units: &[Unit], tokens_max: usize) -> bool {
    let bytes = match units {
        [first, .., last] => last.span.end - first.span.start,
        _ => 0,
    };
    bytes <= CHUNK_BYTES_MAX && units.iter().map(|unit| unit.tokens).sum::<usize>() <= tokens_max
}

/// The unit before which the chunk that starts at `first` ends; behind `covered`.
fn end_of_chunk(units: &[Unit], first: usize, covered: usize, tokens_max: usize) -> usize {
    let start = units[first].span.start;
    let mut tokens = units[first].tokens;
    let mut end = first + 1;
    while end < units.len() {
        let next = &units[end];
        let full = tokens_max < tokens + next.tokens || CHUNK_BYTES_MAX < next.span.end - start;
        let new_section = next.heading && tokens_max / 4 <= tokens && covered < end;
        if full || new_section {
            break;
        }
        tokens += next.tokens;
        end += 1;
    }
    let complete = end == units.len() || units[end].block;
    if !complete {
        // A paragraph's end is better than a sentence's, when most of the room is used by then.
        let mut used = tokens;
        for candidate in (covered.max(first) + 1..end).rev() {
            used -= units[candidate].tokens;
            if used < tokens_max / 3 * 2 {
                break;
            }
            if units[candidate].block {
                end = candidate;
                break;
            }
        }
    }
    // A heading belongs to what follows it.
    while end < units.len() && covered.max(first) + 1 < end && units[end - 1].heading {
        end -= 1;
    }
    end
}

/// The first of the last sentences that have at most `tokens_max` tokens together, not before `earliest`.
fn start_of_overlap(units: &[Unit], earliest: usize, tokens_max: usize) -> usize {
    let mut start = units.len();
    let mut tokens = 0;
    while earliest < start {
        tokens += units[start - 1].tokens;
        if tokens_max < tokens {
            break;
        }
        start -= 1;
    }
    start
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A token per word, and one per three characters of a longer word.
    fn words(text: &str) -> Result<Vec<Range<usize>>, std::convert::Infallible> {
        let mut tokens: Vec<Range<usize>> = Vec::new();
        let mut length = 0;
        for (start, character) in text.char_indices() {
            let end = start + character.len_utf8();
            match tokens.last_mut() {
                _ if character.is_whitespace() => length = 0,
                Some(last) if 0 < length && length < 3 => {
                    last.end = end;
                    length += 1;
                }
                _ => {
                    tokens.push(start..end);
                    length = 1;
                }
            }
        }
        Ok(tokens)
    }

    fn cut(name: &str, source: &str, rules: ChunkRules) -> (Document, Vec<Chunk>) {
        let document = Document::read(name, None, source.as_bytes()).unwrap();
        let Ok(chunks) = chunks(&document, rules, words);
        (document, chunks)
    }

    #[test]
    fn a_small_document_is_one_chunk() {
        let rules = ChunkRules { tokens_max: 100, overlap_tokens: 10 };
        let (document, chunks) = cut("a.txt", "One. Two.\n\nThree.", rules);
        assert_eq!(chunks, [Chunk { span: 0..document.text.len(), section: String::new() }]);
    }

    #[test]
    fn a_section_begins_a_chunk_and_names_what_is_above_it() {
        let body = "It is a an of to. ".repeat(6);
        let source = format!("# Top\n\n## One\n\n{body}\n\n## Two\n\n{body}");
        let (document, chunks) =
            cut("a.md", &source, ChunkRules { tokens_max: 60, overlap_tokens: 8 });
        let texts: Vec<(&str, &str)> = chunks
            .iter()
            .map(|chunk| (chunk.section.as_str(), &document.text[chunk.span.clone()][..5]))
            .collect();
        assert_eq!(texts, [("", "Top\n\n"), ("Top", "Two\n\n")]);
        assert!(chunks[1].passage(&document).starts_with("Top\nTwo\n\nIt is"));
    }

    #[test]
    fn a_chunk_repeats_the_end_of_the_one_before() {
        let source = "Aa bb cc. Dd ee ff. Gg hh ii. Jj kk ll.";
        let (document, chunks) =
            cut("a.txt", source, ChunkRules { tokens_max: 9, overlap_tokens: 3 });
        let texts: Vec<&str> =
            chunks.iter().map(|chunk| &document.text[chunk.span.clone()]).collect();
        assert_eq!(texts, ["Aa bb cc. Dd ee ff. Gg hh ii.", "Gg hh ii. Jj kk ll."]);
    }

    #[test]
    fn a_sentence_that_is_too_long_is_cut_between_words() {
        let source = "one two three four five six seven eight nine ten";
        let (document, chunks) =
            cut("a.txt", source, ChunkRules { tokens_max: 6, overlap_tokens: 0 });
        for chunk in &chunks {
            let text = &document.text[chunk.span.clone()];
            assert!(words(text).unwrap().len() <= 6, "{text}");
            assert!(source.split(' ').any(|word| text.starts_with(word)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn chunks_cover_the_text_in_order_and_within_the_limit(
            source in "([a-zé漢👩 .!?#-]|\n|\n\n|\n# ){0,400}",
            tokens_max in 4usize..60,
            overlap_tokens in 0usize..20,
            markdown: bool,
        ) {
            let name = if markdown { "a.md" } else { "a.txt" };
            let Ok(document) = Document::read(name, None, source.as_bytes()) else { return Ok(()) };
            let rules = ChunkRules { tokens_max, overlap_tokens };
            let Ok(chunks) = chunks(&document, rules, words);
            let mut covered = 0;
            let mut started = None;
            for chunk in &chunks {
                prop_assert!(document.text.get(chunk.span.clone()).is_some_and(|text| !text.trim().is_empty()));
                prop_assert!(started < Some(chunk.span.start));
                prop_assert!(covered < chunk.span.end);
                if covered < chunk.span.start {
                    prop_assert!(document.text[covered..chunk.span.start].trim().is_empty());
                }
                let tokens = words(&chunk.section).unwrap().len()
                    + words(&document.text[chunk.span.clone()]).unwrap().len();
                prop_assert!(tokens <= tokens_max, "{tokens} tokens");
                started = Some(chunk.span.start);
                covered = chunk.span.end;
            }
            prop_assert!(document.text[covered..].trim().is_empty());
        }

        #[test]
        fn any_offsets_are_survived(
            source in ".{1,200}", starts in prop::collection::vec(0usize..400, 0..80), tokens_max in 1usize..20,
        ) {
            let Ok(document) = Document::read("a.txt", None, source.as_bytes()) else { return Ok(()) };
            let offsets = |_: &str| Ok::<_, ()>(starts.iter().map(|start| *start..start + 1).collect());
            let rules = ChunkRules { tokens_max, overlap_tokens: 3 };
            let chunks = chunks(&document, rules, offsets).unwrap();
            for chunk in chunks {
                prop_assert!(document.text.get(chunk.span.clone()).is_some());
            }
        }
    }
}
