//! A vector depends on its text alone: not on the batch, the order, or the number of threads.

use proptest::prelude::*;

use crate::{golden::Golden, model_dir::cpu};

/// Rayon's own pool has as many threads as the machine; these pools have what a test asks for.
pub(crate) fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

pub(crate) fn bits(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_golden_text_has_the_same_bits_alone_and_in_the_batch() {
    let golden = Golden::read();
    let together = with_threads(2, || cpu().embed(&golden.texts()).unwrap());
    for (text, expected) in golden.texts().into_iter().zip(&together) {
        let alone = with_threads(1, || cpu().embed(&[text]).unwrap().remove(0));
        assert_eq!(bits(&alone), bits(expected), "{text:?}");
    }
}

/// Texts of 2 to 256 tokens; repeated words reach long sequences with little input.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let words =
        prop::sample::select(vec!["escrow", "of", "Größe", "天地", "refund", "42", "a-b", "🦀"]);
    prop_oneof![
        4 => prop::collection::vec(words, 0..40).prop_map(|words| words.join(" ")),
        1 => (1_usize..260).prop_map(|count| "token ".repeat(count)),
        1 => "\\PC{0,60}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_equals_its_texts_bit_by_bit(
        texts in prop::collection::vec(text(), 1..12),
        seed in any::<prop::sample::Index>(),
        threads in 1_usize..4,
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let expected: Vec<Vec<u32>> =
            texts.iter().map(|text| bits(&cpu().embed(&[text]).unwrap()[0])).collect();

        let together = with_threads(threads, || cpu().embed(&texts).unwrap());
        for (vector, expected) in together.iter().zip(&expected) {
            prop_assert_eq!(&bits(vector), expected);
        }

        let start = seed.index(texts.len());
        let mut turned = texts.clone();
        turned.rotate_left(start);
        turned.reverse();
        let turned = with_threads(threads, || cpu().embed(&turned).unwrap());
        for (position, vector) in turned.iter().enumerate() {
            let original = (texts.len() - 1 - position + start) % texts.len();
            prop_assert_eq!(&bits(vector), &expected[original]);
        }
    }
}
