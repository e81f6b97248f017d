//! More than one process on one database: a second follower waits for the first one's lock and takes over when it dies, and
//! a process that only serves writes nothing.

use std::time::{Duration, Instant};

use auspex_devnet::postgres::TestDatabase;
use auspex_devnet::replay::{Branch, Replay};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::time::sleep;

use super::chain::{Last, grow, write_chain_file};
use super::history::{history, tip};
use super::model;
use super::process::Process;

const CHAIN_ID: u64 = 9_001;
const PAST: u64 = 150;
const LAGS: (u64, u64) = (40, 80);
const LAST: Last = Last::NumberedEvery(1);
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_PAUSE: Duration = Duration::from_millis(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_from_a_follower_that_is_killed_and_a_reader_serves_both() {
    let database = TestDatabase::create().await.expect("create a database");
    let pool = database.pool();
    let folder = tempfile::tempdir().expect("a folder");
    let mut branch = Branch::genesis().expect("build a genesis");
    grow(&mut branch, PAST, 0, LAST);
    let node = Replay::start(CHAIN_ID, branch.clone(), PAST, LAGS).await.expect("start a node");
    let file = folder.path().join("chain.json");
    write_chain_file(&file, CHAIN_ID, &[node.url()]);
    let file = file.to_string_lossy();
    let follow = [
        "indexer",
        "run",
        "--listen",
        "127.0.0.1:0",
        "--poll-ms",
        "30",
        "--database-url",
        database.url(),
        "--chain",
        &file,
    ];
    let leader = Process::start(&folder.path().join("leader.log"), &follow, None);
    leader.url().await;
    wait_for_head(&pool, &branch).await;

    let standby = Process::start(&folder.path().join("standby.log"), &follow, None);
    let standby_url = standby.url().await;
    wait_for("the standby to wait", async || {
        let trouble = chain(&status(&standby_url).await)["trouble"].clone();
        trouble == "another process follows this chain"
    })
    .await;
    // As on a hot standby of PostgreSQL, every transaction is read-only.
    let read_only = read_only_url(database.url());
    let serve = [
        "indexer",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--database-url",
        &read_only,
        "--chain",
        &file,
    ];
    let reader = Process::start(&folder.path().join("reader.log"), &serve, None);
    let reader_url = reader.url().await;
    assert_eq!(indexed(&status(&reader_url).await), PAST);
    check_reader(&reader_url, &database).await;

    leader.kill();
    grow(&mut branch, PAST + 20, 0, LAST);
    node.switch(branch.clone(), branch.head());
    wait_for_head(&pool, &branch).await;
    wait_for("the standby to lead", async || {
        let status = status(&standby_url).await;
        chain(&status)["trouble"].is_null() && indexed(&status) == PAST + 20
    })
    .await;
    assert_eq!(indexed(&status(&reader_url).await), PAST + 20);
    standby.kill();

    let right = TestDatabase::create().await.expect("create a database");
    model::index(&right, CHAIN_ID, &branch, LAGS).await;
    let is = history(&pool, database.url(), CHAIN_ID, branch.head()).await;
    let should = history(&right.pool(), right.url(), CHAIN_ID, branch.head()).await;
    assert_eq!(is, should);
}

/// A reader answers questions, gives the digest that the database has, and refuses what would write.
async fn check_reader(url: &str, database: &TestDatabase) {
    let digest: Value = get(&format!("{url}/v1/digest?from=0&to=99")).await;
    let secret = secrecy::SecretString::from(database.url().to_owned());
    let expected = auspex_indexer::rebuild::digests(&secret, CHAIN_ID, 0, 99, 100).await;
    let expected = expected.expect("read the digest");
    assert_eq!(digest["digest"], json!(expected[0].digest));
    assert_eq!((&digest["rows"], &digest["finality"]), (&json!(expected[0].rows), &json!("safe")));
    let agents: Value = get(&format!("{url}/v1/agents")).await;
    assert_eq!(agents["items"].as_array().map(Vec::len), Some((PAST / 20) as usize));

    let refused = [
        ("?from=0&to=151", StatusCode::NOT_FOUND, "to: block 151 is not indexed"),
        ("?from=9&to=8", StatusCode::BAD_REQUEST, "to: 8 is not between"),
        ("?from=0&to=10000", StatusCode::BAD_REQUEST, "to: 10000 is not between"),
        ("?from=-1&to=3", StatusCode::BAD_REQUEST, "from: "),
        ("?to=3", StatusCode::BAD_REQUEST, "from"),
    ];
    for (query, code, text) in refused {
        let reply = reqwest::get(format!("{url}/v1/digest{query}")).await.expect("an answer");
        assert_eq!(reply.status(), code, "{query}");
        let body = reply.text().await.expect("a body");
        assert!(body.contains(text), "{query}: {body}");
    }

    let answer = "{}";
    let hash = alloy::primitives::keccak256(answer);
    let put = reqwest::Client::new().put(format!("{url}/v1/answers/{hash:#x}")).body(answer);
    let reply = put.header("content-type", "application/json").send().await.expect("an answer");
    assert!(!reply.status().is_success(), "{}", reply.status());
    assert_ne!(reply.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

fn read_only_url(url: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-c%20default_transaction_read_only%3Don")
}

async fn wait_for_head(pool: &PgPool, branch: &Branch) {
    let head = branch.block(branch.head()).expect("a head");
    let head = Some((head.number, head.hash));
    wait_for("the head to be indexed", async || tip(pool, CHAIN_ID).await == head).await;
}

pub(super) async fn wait_for(what: &str, happened: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !happened().await {
        assert!(started.elapsed() < PATIENCE, "{what} did not happen within {PATIENCE:?}");
        sleep(LOOK_PAUSE).await;
    }
}

pub(super) async fn status(url: &str) -> Value {
    get(&format!("{url}/v1/status")).await
}

async fn get(url: &str) -> Value {
    let reply = reqwest::get(url).await.expect("the indexer answers");
    assert!(reply.status().is_success(), "{url}: {}", reply.status());
    reply.json().await.expect("JSON")
}

fn chain(status: &Value) -> &Value {
    &status["chains"][0]
}

pub(super) fn indexed(status: &Value) -> u64 {
    chain(status)["indexed"]["number"].as_u64().expect("an indexed block")
}
