//! Both legs and their fusion on a real PostgreSQL, against calculations without one.

use alloy::primitives::B256;
use auspex_devnet::postgres::TestDatabase;
use auspex_inference::{dot_i8, quantize};
use auspex_oracle::corpus::{self, Corpus};
use auspex_oracle::retrieval::evaluation::{Collection, evaluate};
use auspex_oracle::retrieval::{
    APPROXIMATE_CHUNKS_MIN, RetrievalError, drop_index, ensure_index, search, words,
};
use sqlx::PgPool;

use crate::corpus::{add, embedder, vector};

const TOPICS: [&str; 6] = [
    "The escrow refunds the payer when the deadline passes without a result.",
    "Operators sign a result and a quorum of signatures delivers it.",
    "The indexer verifies every log against the block header before a row is written.",
    "Embeddings are quantised to bytes and committed in a Merkle tree.",
    "A reorg rolls the projections back to the common ancestor.",
    "Credits are withdrawn by the payees themselves, so nobody can block a payment.",
];

#[tokio::test]
async fn the_dense_leg_is_exact_and_the_lexical_leg_is_bm25() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool();
    let corpus = filled(&pool, "docs", 60).await;
    let question = "who signs the result of a refund after the deadline";
    let found = search(&pool, &corpus, &embedder(1), question, 100).await.unwrap();

    let texts: Vec<(Vec<u8>, String)> =
        sqlx::query_as("select id, text from corpus.chunks").fetch_all(&pool).await.unwrap();
    assert_eq!(found.hits.len(), texts.len().min(100));
    let asked = quantize(&vector(question));
    let lengths: Vec<f64> = texts.iter().map(|(_, text)| words(text).len() as f64).collect();
    let average = lengths.iter().sum::<f64>() / lengths.len() as f64;
    for (id, text) in &texts {
        let hit = found.hits.iter().find(|hit| hit.chunk_id == B256::from_slice(id)).unwrap();
        assert_eq!(hit.dense, dot_i8(&asked, &quantize(&vector(text))));
        assert_eq!(hit.chunk.text, *text);

        let of_chunk = words(text);
        let mut expected = 0.0;
        for word in words(question) {
            let frequency = of_chunk.iter().filter(|other| **other == word).count() as f64;
            let having =
                texts.iter().filter(|(_, text)| words(text).contains(&word)).count() as f64;
            let idf = (1.0 + (texts.len() as f64 - having + 0.5) / (having + 0.5)).ln();
            let norm = 0.9 * (0.6 + 0.4 * of_chunk.len() as f64 / average);
            expected += idf * frequency * 1.9 / (frequency + norm);
        }
        let difference = (hit.lexical as f64 / 1e6 - expected).abs();
        // The average number of words is kept in thousandths.
        assert!(difference < 1e-3, "{} for {expected}", hit.lexical);
    }
    assert!(found.hits.is_sorted_by_key(|hit| (std::cmp::Reverse(hit.score), hit.chunk_id)));
    assert_eq!(found.corpus_root, corpus.root(&pool).await.unwrap());
}

#[tokio::test]
async fn operators_with_the_same_root_find_the_same() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool();
    let one = filled(&pool, "one", 40).await;
    let other = corpus::create(&pool, "other", &embedder(1)).await.unwrap();
    for n in (0..40).rev() {
        let (name, text) = document(n);
        add(&pool, &other, &name, "An older version of it.").await;
        add(&pool, &other, &name, &text).await;
    }
    for question in ["When is the payer refunded?", "What does a reorg do?", "Merkle", "xyzzy"] {
        let found = search(&pool, &one, &embedder(1), question, 10).await.unwrap();
        // The second corpus has no stored root yet, so the search computes it.
        assert_eq!(search(&pool, &other, &embedder(1), question, 10).await.unwrap(), found);
        assert_eq!(
            search(&pool, &one, &embedder(1), question, 10).await.unwrap().root(),
            found.root()
        );
        assert_eq!(found.hits.len(), 10);
    }
}

#[tokio::test]
async fn a_corpus_never_sees_another() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool();
    let alone = filled(&pool, "alone", 12).await;
    let question = "When is the payer refunded?";
    let before = search(&pool, &alone, &embedder(1), question, 50).await.unwrap();
    filled(&pool, "neighbour", 50).await;
    assert_eq!(search(&pool, &alone, &embedder(1), question, 50).await.unwrap(), before);
    assert_eq!(before.hits.len(), 12);
}

#[tokio::test]
async fn an_empty_corpus_finds_nothing_and_bad_questions_are_refused() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool();
    let corpus = corpus::create(&pool, "docs", &embedder(1)).await.unwrap();
    let found = search(&pool, &corpus, &embedder(1), "anything", 10).await.unwrap();
    assert_eq!((found.hits.len(), found.root()), (0, B256::ZERO));
    for question in [String::new(), " \n".to_owned(), "x".repeat(8 * 1024 + 1)] {
        let refused = search(&pool, &corpus, &embedder(1), &question, 10).await.unwrap_err();
        assert!(matches!(refused, RetrievalError::Question(length) if length == question.len()));
    }
    let longest = "refund ".repeat(8 * 1024 / 7);
    search(&pool, &corpus, &embedder(1), &longest, 10).await.unwrap();
    let foreign = search(&pool, &corpus, &embedder(2), "anything", 10).await.unwrap_err();
    assert!(foreign.to_string().contains("is embedded by model"));
    corpus::delete(&pool, "docs").await.unwrap();
    let gone = search(&pool, &corpus, &embedder(1), "anything", 10).await.unwrap_err();
    assert!(gone.to_string().contains("does not exist"));
}

#[tokio::test]
async fn a_small_corpus_gets_no_approximate_index_and_a_large_one_does() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool();
    let corpus = filled(&pool, "docs", 30).await;
    assert!(!ensure_index(&pool, &corpus).await.unwrap());

    // A large corpus is claimed rather than built: only the total decides.
    sqlx::query("update corpus.corpora set chunks = $1")
        .bind(APPROXIMATE_CHUNKS_MIN)
        .execute(&pool)
        .await
        .unwrap();
    let question = "What does the escrow refund?";
    let exact = search(&pool, &corpus, &embedder(1), question, 5).await.unwrap();
    assert!(ensure_index(&pool, &corpus).await.unwrap());
    assert!(ensure_index(&pool, &corpus).await.unwrap());
    let found = search(&pool, &corpus, &embedder(1), question, 5).await.unwrap();
    assert_eq!(found.hits[0], exact.hits[0]);
    drop_index(&pool, &corpus).await.unwrap();
    assert_eq!(search(&pool, &corpus, &embedder(1), question, 5).await.unwrap(), exact);
}

#[tokio::test]
async fn an_evaluation_measures_all_three_and_cleans_up() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool();
    let collection = Collection {
        documents: TOPICS
            .iter()
            .enumerate()
            .map(|(n, text)| (n.to_string(), (*text).to_owned()))
            .collect(),
        queries: vec!["refund of the payer".to_owned(), "what verifies a log".to_owned()],
        judgements: [(1, "0"), (2, "2")]
            .map(|(query, document)| (query, [(document.to_owned(), 1)].into()))
            .into(),
    };
    let report = evaluate(&pool, "evaluation", &embedder(1), &collection, |_| ()).await.unwrap();
    for quality in [report.lexical, report.dense, report.fusion] {
        assert_eq!((quality.ndcg_at_10, quality.mean_average_precision), (1.0, 1.0));
    }
    assert_eq!(corpus::list(&pool).await.unwrap(), []);
}

async fn filled(pool: &PgPool, name: &str, documents: usize) -> Corpus {
    let corpus = corpus::create(pool, name, &embedder(1)).await.unwrap();
    for n in 0..documents {
        let (name, text) = document(n);
        add(pool, &corpus, &name, &text).await;
    }
    corpus.root(pool).await.unwrap();
    corpus
}

fn document(n: usize) -> (String, String) {
    let text = format!("{} It is number {n}. {}", TOPICS[n % 6], "Refunds again. ".repeat(n % 4));
    (format!("{n}.txt"), text)
}
