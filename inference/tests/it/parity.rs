//! A thousand texts of many scripts against sentence-transformers; `tests/golden/make_parity.py` made the reference.

use std::io::Read;

use auspex_inference::TOLERANCE_CPU;
use flate2::read::GzDecoder;

use crate::model_dir::cpu;

#[test]
fn a_thousand_texts_agree_with_sentence_transformers() {
    let texts: Vec<String> =
        serde_json::from_slice(&unpack(include_bytes!("../golden/parity.json.gz"))).unwrap();
    let references = unpack(include_bytes!("../golden/parity.f32.gz"));
    assert_eq!(texts.len(), 1000);
    let (references, rest) = references.as_chunks::<4>();
    assert!(rest.is_empty() && references.len() == 1000 * 384);

    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let vectors = cpu().embed(&texts).unwrap();
    let mut largest = 0.0_f32;
    for ((text, vector), reference) in texts.iter().zip(&vectors).zip(references.chunks_exact(384))
    {
        for (value, expected) in vector.iter().zip(reference) {
            let difference = (value - f32::from_le_bytes(*expected)).abs();
            assert!(difference <= TOLERANCE_CPU, "{text:?}: off by {difference:e}");
            largest = largest.max(difference);
        }
    }
    eprintln!("largest difference {largest:e}, limit {TOLERANCE_CPU:e}");
}

fn unpack(bytes: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut unpacked).unwrap();
    unpacked
}
