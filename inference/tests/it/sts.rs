//! The evaluation from a file to its number.

use std::io::Write;

use auspex_inference::{StsError, sts_spearman};
use flate2::{Compression, write::GzEncoder};

use crate::model_dir::cpu;

#[test]
fn sentences_that_people_rank_like_the_model_correlate() {
    let file = table(&[
        (5.0, "A man is playing a guitar.", "A man plays the guitar."),
        (3.0, "A man is playing a guitar.", "A woman is playing a violin."),
        (0.0, "A man is playing a guitar.", "The escrow refunds the requester."),
    ]);
    let report = sts_spearman(cpu(), file.path()).unwrap();
    assert_eq!((report.pairs, report.spearman), (3, 1.0));
}

#[test]
fn files_that_give_no_number_are_named() {
    let one = table(&[(5.0, "a", "b")]);
    let error = sts_spearman(cpu(), one.path()).unwrap_err();
    assert!(matches!(error, StsError::Degenerate { pairs: 1, .. }), "{error}");

    let plain = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(plain.path(), "split\tscore").unwrap();
    let error = sts_spearman(cpu(), plain.path()).unwrap_err().to_string();
    assert!(
        error.contains("gzip") && error.contains(&plain.path().display().to_string()),
        "{error}"
    );
}

fn table(rows: &[(f64, &str, &str)]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut encoder = GzEncoder::new(file.reopen().unwrap(), Compression::fast());
    writeln!(encoder, "split\tscore\tsentence1\tsentence2").unwrap();
    for (score, first, second) in rows {
        writeln!(encoder, "test\t{score}\t{first}\t{second}").unwrap();
    }
    encoder.finish().unwrap();
    file
}
