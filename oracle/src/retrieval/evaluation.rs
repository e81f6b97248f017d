//! Retrieval quality on a collection with known judgements, in the formats of the Cranfield collection and TREC.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, bail};
use scraper::{Html, Selector};
use sqlx::PgPool;

use super::{Legs, search_with};
use crate::corpus::limits::CANDIDATES_MAX;
use crate::corpus::{Embedder, add, create, delete};
use crate::document::Document;

/// A test collection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collection {
    /// Document number and text.
    pub documents: Vec<(String, String)>,
    /// In the order of the judgements' query numbers, which count from 1.
    pub queries: Vec<String>,
    /// Query number, then document number, then grade; only relevant documents.
    pub judgements: BTreeMap<usize, BTreeMap<String, u32>>,
}

/// Means over the queries that have a relevant document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    pub ndcg_at_10: f64,
    pub mean_average_precision: f64,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    pub documents: usize,
    pub queries: usize,
    pub lexical: Quality,
    pub dense: Quality,
    pub fusion: Quality,
}

impl Collection {
    /// Reads `cranfield.docs.xml`, `cranfield.queries.xml` and `cranfield.qrels.txt` in `directory`.
    pub fn read(directory: &Path) -> anyhow::Result<Self> {
        let file = |name: &str| {
            let path = directory.join(name);
            std::fs::read_to_string(&path).with_context(|| {
                format!("read {} (a file ending in .gz has to be unpacked first)", path.display())
            })
        };
        let documents = file("cranfield.docs.xml")?;
        Self::parse(&documents, &file("cranfield.queries.xml")?, &file("cranfield.qrels.txt")?)
    }

    /// Reads the three files' contents: `<doc><docno><title><text>`, `<top><title>`, and `query 0 document grade`.
    pub fn parse(documents: &str, queries: &str, judgements: &str) -> anyhow::Result<Self> {
        // `title` and `text` mean something else in HTML, whose parser is the one at hand.
        let documents = elements(documents, "doc", &["docno", "title", "text"])?
            .into_iter()
            .map(|mut fields| {
                let body = fields.split_off(1).join("\n\n");
                (fields.remove(0).trim().to_owned(), body)
            })
            .filter(|(_, body)| !body.trim().is_empty())
            .collect();
        let queries = elements(queries, "top", &["title"])?
            .into_iter()
            .map(|fields| fields.concat().split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let mut graded: BTreeMap<usize, BTreeMap<String, u32>> = BTreeMap::new();
        for line in judgements.lines().filter(|line| !line.trim().is_empty()) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [query, _, document, grade] = fields[..] else {
                bail!("judgement {line:?}: is not `query 0 document grade`");
            };
            let grade: i64 = grade.parse().with_context(|| format!("judgement {line:?}"))?;
            if 0 < grade {
                let query = query.parse().with_context(|| format!("judgement {line:?}"))?;
                graded.entry(query).or_default().insert(document.to_owned(), grade as u32);
            }
        }
        Ok(Self { documents, queries, judgements: graded })
    }
}

/// Builds a corpus named `name` of the collection, measures both legs and their fusion on it, and removes it.
///
/// A document's rank is that of its best chunk. `progress` is called with the documents that are embedded.
pub async fn evaluate(
    pool: &PgPool,
    name: &str,
    embedder: &Embedder,
    collection: &Collection,
    progress: impl Fn(usize),
) -> anyhow::Result<Report> {
    delete(pool, name).await.context("remove an earlier evaluation")?;
    let corpus = create(pool, name, embedder).await?;
    for (done, (number, text)) in collection.documents.iter().enumerate() {
        let document = Document::read(number, Some("text/plain"), text.as_bytes())?;
        add(pool, &corpus, embedder, document, text.len() as u64, |_| ()).await?;
        progress(done + 1);
    }
    corpus.root(pool).await?;

    let mut measured = Vec::new();
    for legs in [Legs::Lexical, Legs::Dense, Legs::Both] {
        let mut rankings = Vec::new();
        for (number, relevant) in &collection.judgements {
            let query = number.checked_sub(1).and_then(|index| collection.queries.get(index));
            let query = query
                .with_context(|| format!("judgements name query {number}, which is missing"))?;
            let found =
                search_with(pool, &corpus, embedder, query, 2 * CANDIDATES_MAX, legs).await?;
            let mut seen = BTreeSet::new();
            let ranking: Vec<&str> = found
                .hits
                .iter()
                .map(|hit| hit.chunk.document.as_str())
                .filter(|document| seen.insert(*document))
                .collect();
            rankings.push((ndcg(&ranking, relevant, 10), average_precision(&ranking, relevant)));
        }
        let count = rankings.len().max(1) as f64;
        measured.push(Quality {
            ndcg_at_10: rankings.iter().map(|(ndcg, _)| ndcg).sum::<f64>() / count,
            mean_average_precision: rankings.iter().map(|(_, precision)| precision).sum::<f64>()
                / count,
        });
    }
    delete(pool, name).await.context("remove the evaluation's corpus")?;
    Ok(Report {
        documents: collection.documents.len(),
        queries: collection.judgements.len(),
        lexical: measured[0],
        dense: measured[1],
        fusion: measured[2],
    })
}

/// The texts of the named elements inside each `outer` element; missing ones are empty.
fn elements(source: &str, outer: &str, inner: &[&str]) -> anyhow::Result<Vec<Vec<String>>> {
    // HTML gives `title` a meaning of its own inside `head` and parses its content as raw text, so names are changed.
    let mut renamed = source.to_owned();
    for name in inner.iter().chain([&outer]) {
        renamed = renamed
            .replace(&format!("<{name}>"), &format!("<x-{name}>"))
            .replace(&format!("</{name}>"), &format!("</x-{name}>"));
    }
    let selector = |name: &str| {
        Selector::parse(&format!("x-{name}"))
            .map_err(|error| anyhow::anyhow!("select {name}: {error}"))
    };
    let page = Html::parse_fragment(&renamed);
    let inner = inner.iter().map(|name| selector(name)).collect::<Result<Vec<_>, _>>()?;
    let outer = selector(outer)?;
    Ok(page
        .select(&outer)
        .map(|element| {
            let text = |name: &Selector| {
                element.select(name).next().map(|found| found.text().collect()).unwrap_or_default()
            };
            inner.iter().map(text).collect()
        })
        .collect())
}

/// Normalised discounted cumulative gain at `depth` with linear gains, as trec_eval computes it.
fn ndcg(ranking: &[&str], relevant: &BTreeMap<String, u32>, depth: usize) -> f64 {
    let discounted = |grades: &mut dyn Iterator<Item = u32>| -> f64 {
        grades
            .take(depth)
            .enumerate()
            .map(|(rank, grade)| f64::from(grade) / (rank as f64 + 2.0).log2())
            .sum()
    };
    let mut ideal: Vec<u32> = relevant.values().copied().collect();
    ideal.sort_unstable_by(|a, b| b.cmp(a));
    let best = discounted(&mut ideal.into_iter());
    let found = discounted(
        &mut ranking.iter().map(|document| relevant.get(*document).copied().unwrap_or_default()),
    );
    if best == 0.0 { 0.0 } else { found / best }
}

fn average_precision(ranking: &[&str], relevant: &BTreeMap<String, u32>) -> f64 {
    let mut hits = 0;
    let mut sum = 0.0;
    for (rank, document) in ranking.iter().enumerate() {
        if relevant.contains_key(*document) {
            hits += 1;
            sum += f64::from(hits) / (rank as f64 + 1.0);
        }
    }
    if relevant.is_empty() { 0.0 } else { sum / relevant.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_files_are_read() {
        let collection = Collection::parse(
            "<doc><docno>1</docno><title>wing\nlift</title><author>x</author><text>lift of a wing</text></doc>\
             <doc><docno>2</docno><title></title><text></text></doc>",
            "<xml><top><num> 1</num><title>\nwhat is\nlift .\n</title></top>\
             <top><num> 4</num><title>drag</title></top></xml>",
            "1 0 1 2\n2 0 1 -1\n2 0 9 1\n",
        )
        .unwrap();
        assert_eq!(
            collection.documents,
            [("1".to_owned(), "wing\nlift\n\nlift of a wing".to_owned())]
        );
        assert_eq!(collection.queries, ["what is lift .", "drag"]);
        assert_eq!(collection.judgements[&1], BTreeMap::from([("1".to_owned(), 2)]));
        assert_eq!(collection.judgements[&2], BTreeMap::from([("9".to_owned(), 1)]));
        assert!(Collection::parse("", "", "1 0 1").is_err());
        assert!(Collection::parse("", "", "one 0 1 1").is_err());
    }

    #[test]
    fn measures_agree_with_a_calculation_by_hand() {
        let relevant =
            BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2), ("c".to_owned(), 1)]);
        let ranking = ["a", "x", "b"];
        let found = 1.0 + 2.0 / 4.0_f64.log2();
        let ideal = 2.0 + 1.0 / 3.0_f64.log2() + 1.0 / 4.0_f64.log2();
        assert!((ndcg(&ranking, &relevant, 10) - found / ideal).abs() < 1e-12);
        assert!((ndcg(&ranking, &relevant, 1) - 0.5).abs() < 1e-12);
        assert!((average_precision(&ranking, &relevant) - (1.0 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
        assert_eq!(average_precision(&[], &relevant), 0.0);
    }
}
