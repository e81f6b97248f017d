//! Corpora in a real PostgreSQL with pgvector.

use std::future::pending;
use std::sync::Mutex;

use alloy::primitives::{B256, keccak256};
use auspex_devnet::postgres::TestDatabase;
use auspex_oracle::corpus::{self, Added, Corpus, CorpusError, Embedder, Progress};
use auspex_oracle::document::Document;
use auspex_protocol::merkle;
use sqlx::PgPool;

/// A model that knows words only: each adds to one component, so texts are close when they share words.
pub(crate) fn embedder(model: u8) -> Embedder {
    Embedder::new(
        B256::repeat_byte(model),
        40,
        |texts| Box::pin(async move { Ok(texts.iter().map(|text| vector(text)).collect()) }),
        |text| Ok(words(text)),
    )
}

pub(crate) async fn add(pool: &PgPool, corpus: &Corpus, name: &str, text: &str) -> Added {
    let document = Document::read(name, None, text.as_bytes()).unwrap();
    corpus::add(pool, corpus, &embedder(1), document, text.len() as u64, |_| ()).await.unwrap()
}

const LONG: &str = "Anyone may refund a request. The deadline has passed by then. The payer gets everything back. \
    Operators sign results with their keys. A quorum of signatures delivers a result to the escrow. \
    The escrow pays the split to its payees. Nobody can steal what is credited.\n\nThe last paragraph stands alone.";

#[tokio::test]
async fn a_document_is_added_once_replaced_whole_and_removed_without_a_trace() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool();
    let corpus = corpus::create(&pool, "docs", &embedder(1)).await.unwrap();
    let empty = corpus.root(&pool).await.unwrap();
    assert_eq!(empty, merkle::root(&[]));

    let Added::New { chunks } = add(&pool, &corpus, "a.md", LONG).await else { panic!("not new") };
    assert!(1 < chunks);
    let first = corpus.root(&pool).await.unwrap();
    let before = rows(&pool).await;
    assert_eq!(add(&pool, &corpus, "a.md", LONG).await, Added::Unchanged);
    assert_eq!(rows(&pool).await, before);

    assert_eq!(add(&pool, &corpus, "a.md", "Short now.").await, Added::Replaced { chunks: 1 });
    assert_ne!(corpus.root(&pool).await.unwrap(), first);
    assert_eq!(rows(&pool).await[1..3], [1, 1]);
    assert_eq!(add(&pool, &corpus, "a.md", LONG).await, Added::Replaced { chunks });
    assert_eq!(corpus.root(&pool).await.unwrap(), first);
    assert_eq!(rows(&pool).await, before);

    assert!(corpus.remove(&pool, "a.md").await.unwrap());
    assert!(!corpus.remove(&pool, "a.md").await.unwrap());
    assert_eq!(rows(&pool).await, [0; 4]);
    assert_eq!(totals(&pool).await, (0, 0));
    assert_eq!(corpus.root(&pool).await.unwrap(), empty);
    assert!(corpus::delete(&pool, "docs").await.unwrap());
    assert!(!corpus::delete(&pool, "docs").await.unwrap());
}

#[tokio::test]
async fn the_root_depends_on_content_and_names_but_not_on_the_order_of_adding() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool();
    let mut roots = Vec::new();
    for (name, documents) in [
        ("one", [("a.md", LONG), ("b.md", "Another document.")]),
        ("two", [("b.md", "Another document."), ("a.md", LONG)]),
        ("three", [("a.md", LONG), ("c.md", "Another document.")]),
        ("four", [("a.md", LONG), ("b.md", "Another document!")]),
    ] {
        let corpus = corpus::create(&pool, name, &embedder(1)).await.unwrap();
        for (document, text) in documents {
            add(&pool, &corpus, document, text).await;
        }
        roots.push(corpus.root(&pool).await.unwrap());
    }
    assert_eq!(roots[0], roots[1]);
    assert_ne!(roots[0], roots[2]);
    assert_ne!(roots[0], roots[3]);
    let found = corpus::find_by_root(&pool, roots[2]).await.unwrap().unwrap();
    assert_eq!(found.name, "three");
    assert_eq!(corpus::find_by_root(&pool, B256::ZERO).await.unwrap(), None);
    let listed = corpus::list(&pool).await.unwrap();
    assert_eq!(listed.iter().map(|summary| summary.documents).collect::<Vec<_>>(), [2; 4]);
}

#[tokio::test]
async fn every_chunk_proves_that_it_is_under_the_root() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool();
    let corpus = corpus::create(&pool, "docs", &embedder(1)).await.unwrap();
    add(&pool, &corpus, "a.md", LONG).await;
    add(&pool, &corpus, "b.md", "Another document.").await;
    let root = corpus.root(&pool).await.unwrap();
    let chunks: Vec<(Vec<u8>, String)> =
        sqlx::query_as("select id, text from corpus.chunks order by id")
            .fetch_all(&pool)
            .await
            .unwrap();
    for (index, (id, text)) in chunks.iter().enumerate() {
        let shown = corpus.prove(&pool, B256::from_slice(id)).await.unwrap().unwrap();
        assert_eq!((shown.root, shown.proof.index), (root, index as u64));
        // No headings, so the passage is the text.
        assert_eq!(shown.text_hash, keccak256(text));
        assert_eq!(shown.embedding, auspex_inference::quantize(&vector(text)));
        let leaf = merkle::chunk_leaf(shown.chunk_id, shown.text_hash, &shown.embedding);
        assert!(merkle::verify(root, leaf, &shown.proof));
    }
    assert_eq!(corpus.prove(&pool, B256::ZERO).await.unwrap(), None);
}

#[tokio::test]
async fn dropping_an_addition_leaves_the_corpus_as_it_was() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool();
    let corpus = corpus::create(&pool, "docs", &embedder(1)).await.unwrap();
    add(&pool, &corpus, "a.md", "Old text.").await;
    let before = (rows(&pool).await, corpus.root(&pool).await.unwrap());
    // The model answers the first batch and never the second.
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let stuck = Embedder::new(
        B256::repeat_byte(1),
        8,
        move |texts| {
            let first = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
            Box::pin(async move {
                if !first {
                    pending::<()>().await;
                }
                Ok(texts.iter().map(|text| vector(text)).collect())
            })
        },
        |text| Ok(words(text)),
    );
    let small = corpus::create(&pool, "small", &stuck).await.unwrap();
    let text = LONG.repeat(20);
    let document = Document::read("a.md", None, text.as_bytes()).unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<Progress>();
    let report = |progress| sender.send(progress).unwrap();
    let adding = corpus::add(&pool, &small, &stuck, document, 1, report);
    tokio::select! {
        _ = adding => panic!("the model never answered"),
        () = async { while receiver.recv().await.unwrap().chunks_embedded == 0 {} } => {}
    }
    assert_eq!((rows(&pool).await, corpus.root(&pool).await.unwrap()), before);
    assert_eq!(small.documents(&pool).await.unwrap(), []);
}

#[tokio::test]
async fn concurrent_additions_of_one_name_leave_one_document() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool();
    let corpus = corpus::create(&pool, "docs", &embedder(1)).await.unwrap();
    let texts: Vec<String> = (0..4).map(|n| format!("{LONG}\n\nVersion {n} of it.")).collect();
    futures::future::join_all(texts.iter().map(|text| add(&pool, &corpus, "a.md", text))).await;
    let documents = corpus.documents(&pool).await.unwrap();
    assert_eq!(documents.len(), 1);
    let (chunks, words) = totals(&pool).await;
    assert_eq!((documents[0].chunks, rows(&pool).await[1]), (chunks, chunks));
    let counted: i64 = sqlx::query_scalar("select sum(frequency)::bigint from corpus.postings")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(words, counted);
}

#[tokio::test]
async fn another_model_a_wrong_width_and_bad_names_are_refused() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool();
    let corpus = corpus::create(&pool, "docs", &embedder(1)).await.unwrap();
    assert_eq!(corpus::create(&pool, "docs", &embedder(1)).await.unwrap(), corpus);
    let refused = corpus::create(&pool, "docs", &embedder(2)).await.unwrap_err();
    assert!(matches!(refused, CorpusError::OtherModel { .. }), "{refused}");
    let refused = corpus::create(&pool, &"x".repeat(129), &embedder(1)).await.unwrap_err();
    assert_eq!(refused.to_string(), "corpus name: 129 bytes, but 1 to 128 are allowed");
    let refused = corpus::find(&pool, "nowhere").await.unwrap_err();
    assert!(matches!(refused, CorpusError::Unknown(_)), "{refused}");

    let narrow = Embedder::new(
        B256::repeat_byte(1),
        40,
        |texts| Box::pin(async move { Ok(vec![vec![1.0; 3]; texts.len()]) }),
        |text| Ok(words(text)),
    );
    let document = Document::read("a.md", None, b"Text.").unwrap();
    let refused = corpus::add(&pool, &corpus, &narrow, document, 5, |_| ()).await.unwrap_err();
    assert_eq!(refused.to_string(), "the model's vectors have 3 components, but corpora hold 384");
    assert_eq!(rows(&pool).await, [0; 4]);
}

#[tokio::test]
async fn progress_goes_up_to_the_number_of_chunks() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool();
    let corpus = corpus::create(&pool, "docs", &embedder(1)).await.unwrap();
    let document = Document::read("a.md", None, LONG.repeat(30).as_bytes()).unwrap();
    let seen = Mutex::new(Vec::new());
    let report = |progress| seen.lock().unwrap().push(progress);
    let added = corpus::add(&pool, &corpus, &embedder(1), document, 1, report).await.unwrap();
    let Added::New { chunks } = added else { panic!("not new") };
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.first(), Some(&Progress { chunks_embedded: 0, chunks }));
    assert_eq!(seen.last(), Some(&Progress { chunks_embedded: chunks, chunks }));
    assert!(seen.is_sorted_by_key(|progress| progress.chunks_embedded) && 2 < seen.len());
}

/// Rows of documents, chunks, embeddings and postings.
async fn rows(pool: &PgPool) -> [i64; 4] {
    let (documents, chunks, embeddings, postings) = sqlx::query_as(
        "select (select count(*) from corpus.documents), (select count(*) from corpus.chunks),
           (select count(*) from corpus.embeddings), (select count(*) from corpus.postings)",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    [documents, chunks, embeddings, postings]
}

async fn totals(pool: &PgPool) -> (i64, i64) {
    sqlx::query_as("select chunks, words from corpus.corpora where name = 'docs'")
        .fetch_one(pool)
        .await
        .unwrap()
}

pub(crate) fn vector(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0_f32; 384];
    for word in auspex_oracle::retrieval::words(text) {
        let hash = keccak256(word);
        vector[usize::from(u16::from_be_bytes([hash[0], hash[1]])) % 384] += 1.0;
    }
    let length = vector.iter().map(|component| component * component).sum::<f32>().sqrt();
    vector.iter().map(|component| if length == 0.0 { 0.0 } else { component / length }).collect()
}

fn words(text: &str) -> Vec<std::ops::Range<usize>> {
    let start = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    text.split_whitespace().map(|word| start(word)..start(word) + word.len()).collect()
}
