//! Sentences of a normalised text.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::corpus::limits::SENTENCE_BYTES_MAX;

/// Abbreviations after which a sentence goes on although a capital or a digit follows.
const ABBREVIATIONS: [&str; 16] = [
    "al.", "approx.", "cf.", "ch.", "dr.", "e.g.", "eq.", "eqs.", "fig.", "figs.", "i.e.", "mr.",
    "mrs.", "pp.", "prof.", "vs.",
];

/// The byte ranges of the sentences of `text`, in order, without white space around them.
///
/// A block never shares a sentence with the next one; a line break inside a block is only a space. Sentences longer than
/// [`SENTENCE_BYTES_MAX`] are cut at a word.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut sentences = Vec::new();
    let mut start = 0;
    for block in text.split("\n\n") {
        // Same length, so that the ranges hold; UAX #29 would end a sentence at every line feed.
        let line = block.replace('\n', " ");
        let mut open: Option<Range<usize>> = None;
        for (position, part) in line.split_sentence_bound_indices() {
            let end = position + part.len();
            let whole = open.map_or(position..end, |open| open.start..end);
            if ends_with_abbreviation(&line[whole.clone()]) {
                open = Some(whole);
            } else {
                push(&mut sentences, &line, whole, start);
                open = None;
            }
        }
        if let Some(rest) = open {
            push(&mut sentences, &line, rest, start);
        }
        start += block.len() + 2;
    }
    sentences
}

fn ends_with_abbreviation(sentence: &str) -> bool {
    let last = sentence.trim_end().rsplit([' ', '(', '[']).next().unwrap_or_default();
    // Longer words are none, and need not be lowered.
    last.len() <= 8 && ABBREVIATIONS.contains(&last.to_lowercase().as_str())
}

fn push(sentences: &mut Vec<Range<usize>>, line: &str, range: Range<usize>, offset: usize) {
    let mut start = range.start;
    while start < range.end {
        let rest = &line[start..range.end];
        start += rest.len() - rest.trim_start().len();
        let rest = rest.trim();
        if rest.is_empty() {
            return;
        }
        let limit = rest.floor_char_boundary(SENTENCE_BYTES_MAX);
        let cut = if limit == rest.len() {
            limit
        } else {
            rest[..limit].rfind(' ').filter(|space| 0 < *space).unwrap_or(limit)
        };
        let piece = rest[..cut].trim_end();
        sentences.push(offset + start..offset + start + piece.len());
        start += cut;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<&str> = sentences(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn sentences_end_at_full_stops_and_blocks_but_not_at_line_breaks() {
        check("Anyone may refund.  Even you!\nWhy?", &["Anyone may refund.", "Even you!", "Why?"]);
        check("One line\ngoes on. Next", &["One line\ngoes on.", "Next"]);
        check("Heading\n\nBody of it", &["Heading", "Body of it"]);
        check("", &[]);
    }

    #[test]
    fn abbreviations_and_numbers_do_not_end_a_sentence() {
        check(
            "See Fig. 3 of Dr. Smith et al. There it is 1.5 m.",
            &["See Fig. 3 of Dr. Smith et al. There it is 1.5 m."],
        );
        check(
            "A set (e.g. 2 of 3) signs. It counts.",
            &["A set (e.g. 2 of 3) signs.", "It counts."],
        );
    }

    #[test]
    fn a_long_sentence_is_cut_at_a_word() {
        let text = "word ".repeat(1000);
        let found = sentences(&text);
        assert!(found.iter().all(
            |range| range.len() <= SENTENCE_BYTES_MAX && text[range.clone()].ends_with("word")
        ));
        assert_eq!(
            found.iter().map(|range| text[range.clone()].split(' ').count()).sum::<usize>(),
            1000
        );
    }

    proptest! {
        #[test]
        fn sentences_cover_every_word_in_order(text in "(\\PC|\n|\n\n|[.!?] ){0,200}") {
            let mut covered = 0;
            for range in sentences(&text) {
                prop_assert!(covered <= range.start && range.start < range.end);
                prop_assert!(text[covered..range.start].trim().is_empty());
                prop_assert!(text.get(range.clone()).is_some());
                covered = range.end;
            }
            prop_assert!(text[covered..].trim().is_empty());
        }
    }
}
