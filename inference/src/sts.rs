//! How well an encoder's cosines agree with people: Spearman's correlation on STSBenchmark.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;

use crate::{
    encoder::Encoder,
    error::EncodeError,
    limits::{STS_BYTES_MAX, STS_PAIRS_MAX},
};

/// The outcome of [`sts_spearman`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StsReport {
    /// Pairs of sentences in the test split.
    pub pairs: usize,
    /// Rank correlation of cosines and human scores, -1 to 1. all-MiniLM-L6-v2 has 0.8203.
    pub spearman: f64,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StsError {
    /// The file is missing, unreadable or not gzip.
    #[error("read {}: {source}; expected a gzip-compressed table of tab-separated columns", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line does not have what the header promises, or a limit is passed.
    #[error("{} line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The column and what is wrong with it.
        reason: String,
    },
    /// The file has fewer than two test pairs, or all have one score or one cosine.
    #[error("{}: {pairs} test pairs do not give a correlation", path.display())]
    Degenerate {
        /// The file.
        path: PathBuf,
        /// Test pairs that were found.
        pairs: usize,
    },
    /// The encoder refused a sentence or its device failed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Spearman's rank correlation between the cosine of two sentences' vectors and the score that
/// people gave the pair, over the rows of `path` whose column `split` is `test`.
///
/// `path` is a gzip-compressed table with a header and the tab-separated columns `split`, `score`,
/// `sentence1` and `sentence2`, in any order and among others, as sentence-transformers publishes
/// STSBenchmark.
///
/// # Errors
///
/// Names the file and the line; files over [`STS_BYTES_MAX`] or [`STS_PAIRS_MAX`] are refused.
pub fn sts_spearman(encoder: &Encoder, path: &Path) -> Result<StsReport, StsError> {
    let read = |source| StsError::Read { path: path.to_owned(), source };
    let decoder = GzDecoder::new(File::open(path).map_err(read)?);
    let pairs = test_pairs(path, BufReader::new(decoder.take(STS_BYTES_MAX + 1)))?;

    let sentences: Vec<&str> =
        pairs.iter().flat_map(|pair| pair.sentences.iter().map(String::as_str)).collect();
    let vectors = encoder.embed(&sentences)?;
    let cosines: Vec<f64> = vectors
        .chunks_exact(2)
        .map(|pair| pair[0].iter().zip(&pair[1]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum())
        .collect();
    let scores: Vec<f64> = pairs.iter().map(|pair| pair.score).collect();
    let spearman = correlation(&ranks(&cosines), &ranks(&scores));
    if !spearman.is_finite() {
        return Err(StsError::Degenerate { path: path.to_owned(), pairs: pairs.len() });
    }
    Ok(StsReport { pairs: pairs.len(), spearman })
}

#[derive(Debug, PartialEq)]
struct Pair {
    score: f64,
    sentences: [String; 2],
}

fn test_pairs(path: &Path, table: impl BufRead) -> Result<Vec<Pair>, StsError> {
    let wrong =
        |line: usize, reason: String| StsError::Line { path: path.to_owned(), line, reason };
    let mut columns: Option<[usize; 4]> = None;
    let mut pairs = Vec::new();
    let mut bytes = 0;
    for (index, line) in table.lines().enumerate() {
        let number = index + 1;
        let line = line.map_err(|source| StsError::Read { path: path.to_owned(), source })?;
        bytes += line.len() as u64 + 1;
        if STS_BYTES_MAX < bytes {
            return Err(wrong(number, format!("the table is over {STS_BYTES_MAX} bytes")));
        }
        let fields: Vec<&str> = line.split('\t').collect();
        let Some([split, score, first, second]) = columns else {
            let find = |name: &str| {
                let found = fields.iter().position(|field| *field == name);
                found.ok_or_else(|| wrong(number, format!("the header has no column {name:?}")))
            };
            columns =
                Some([find("split")?, find("score")?, find("sentence1")?, find("sentence2")?]);
            continue;
        };
        let field = |column: usize| {
            let missing = || wrong(number, format!("column {} is missing", column + 1));
            fields.get(column).copied().ok_or_else(missing)
        };
        if field(split)? != "test" {
            continue;
        }
        let text = field(score)?;
        let score = text.parse::<f64>().ok().filter(|score| score.is_finite());
        let score = score.ok_or_else(|| wrong(number, format!("score {text:?} is no number")))?;
        if pairs.len() == STS_PAIRS_MAX {
            return Err(wrong(number, format!("more than {STS_PAIRS_MAX} test pairs")));
        }
        let sentences = [field(first)?.to_owned(), field(second)?.to_owned()];
        pairs.push(Pair { score, sentences });
    }
    Ok(pairs)
}

/// Ranks from 1; equal values share the mean of the ranks that they take up.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for ties in order.chunk_by(|a, b| values[*a] == values[*b]) {
        // The ranks before + 1 ..= before + ties have this mean.
        let rank = before as f64 + (ties.len() + 1) as f64 / 2.0;
        for index in ties {
            ranks[*index] = rank;
        }
        before += ties.len();
    }
    ranks
}

/// Pearson's correlation; not a number when one side is constant.
fn correlation(left: &[f64], right: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (left_mean, right_mean) = (mean(left), mean(right));
    let mut products = 0.0;
    let mut left_squares = 0.0;
    let mut right_squares = 0.0;
    for (left, right) in left.iter().zip(right) {
        let (left, right) = (left - left_mean, right - right_mean);
        products += left * right;
        left_squares += left * left;
        right_squares += right * right;
    }
    products / (left_squares * right_squares).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_their_mean_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [4.0, 1.0, 4.0, 2.0, 4.0]);
        assert_eq!(ranks(&[0.0, -0.0]), [1.5, 1.5]);
        assert!(ranks(&[]).is_empty());
    }

    #[test]
    fn correlations_have_their_known_values() {
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]), 1.0);
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), -1.0);
        // scipy.stats.spearmanr([1, 2, 3, 4, 5], [5, 6, 7, 8, 7])
        let spearman =
            correlation(&ranks(&[1.0, 2.0, 3.0, 4.0, 5.0]), &ranks(&[5.0, 6.0, 7.0, 8.0, 7.0]));
        assert!((spearman - 0.820_782_681_668_123_3).abs() < 1e-15);
        assert!(correlation(&[1.0, 1.0], &[1.0, 2.0]).is_nan());
    }

    #[test]
    fn only_test_rows_are_read_by_the_names_of_their_columns() {
        let table = "score\tsplit\tgenre\tsentence2\tsentence1\n\
                     1.5\ttrain\tx\ta\tb\n4.25\ttest\tx\tsecond \"one\"\tfirst\textra\n";
        let pairs = test_pairs(Path::new("sts"), table.as_bytes()).unwrap();
        let sentences = ["first".to_owned(), "second \"one\"".to_owned()];
        assert_eq!(pairs, [Pair { score: 4.25, sentences }]);
    }

    #[test]
    fn errors_name_the_line_and_the_column() {
        let check = |table: &str, expected: &str| {
            let error = test_pairs(Path::new("sts.gz"), table.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check("split\tscore\tsentence1\n", "sts.gz line 1: the header has no column \"sentence2\"");
        let header = "split\tscore\tsentence1\tsentence2\n";
        check(&format!("{header}test\tx\ta\tb\n"), "sts.gz line 2: score \"x\" is no number");
        check(&format!("{header}test\tNaN\ta\tb\n"), "sts.gz line 2: score \"NaN\" is no number");
        check(&format!("{header}test\t1\ta\n"), "sts.gz line 2: column 4 is missing");
    }
}
