//! Words as the lexical leg counts them.

use rust_stemmers::{Algorithm, Stemmer};
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use crate::corpus::limits::WORD_BYTES_MAX;

/// Words that say nothing about a text; the list that Lucene's English analyser has used since its beginnings.
const STOP_WORDS: [&str; 33] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it",
    "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these",
    "they", "this", "to", "was", "will", "with",
];

/// The words of `text` in order: split as UAX #29 says and at underscores, in lower case, without stop words, stemmed by
/// the English Snowball algorithm.
pub fn words(text: &str) -> Vec<String> {
    let stemmer = Stemmer::create(Algorithm::English);
    let folded = text.nfkc().collect::<String>().to_lowercase().replace('’', "'");
    folded
        .unicode_words()
        .flat_map(|word| {
            word.split(|character: char| character == '_' || character.is_whitespace())
        })
        .filter(|word| !word.is_empty() && word.len() <= WORD_BYTES_MAX)
        .filter(|word| STOP_WORDS.binary_search(word).is_err())
        .map(|word| stemmer.stem(word).into_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_folded_stemmed_and_without_stop_words() {
        assert_eq!(
            words("The requester’s refunds, and REFUNDING!"),
            ["request", "refund", "refund"]
        );
        assert_eq!(words("EIP-712 max_fee 1.5"), ["eip", "712", "max", "fee", "1.5"]);
        assert_eq!(words("ﬁnality Ｆｕｌｌ"), ["final", "full"]);
        assert_eq!(words("to be or not to be"), Vec::<String>::new());
    }

    #[test]
    fn stop_words_can_be_searched() {
        assert!(STOP_WORDS.is_sorted());
    }

    proptest! {
        #[test]
        fn any_text_has_words_that_can_be_stored(text in any::<String>()) {
            for word in words(&text) {
                prop_assert!(!word.is_empty() && !word.contains(char::is_whitespace));
            }
        }
    }
}
