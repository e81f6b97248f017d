//! Queries that nobody meant: whatever a client writes, the answer is data or an error that says what is wrong.

use axum::http::StatusCode;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::World;

/// Queries of one run, and of a run with `AUSPEX_TEST_PROFILE=long`.
const QUERIES: u64 = 400;
const QUERIES_LONG: u64 = 20_000;

const FIELDS: &[&str] =
    &["id", "owner", "agentId", "createdAt", "status", "requests", "__typename", "x"];
const SUFFIXES: &[&str] = &[
    "",
    "_not",
    "_gt",
    "_lte",
    "_in",
    "_not_in",
    "_contains",
    "_contains_nocase",
    "_starts_with",
    "_",
    "_change_block",
    "_x",
];
const VALUES: &[&str] = &[
    "null",
    "1",
    "-1",
    "\"0x\"",
    "\"0xzz\"",
    "\"\\u0000\"",
    "\"%\"",
    "\"'; drop table indexer.agents; --\"",
    "[]",
    "[null]",
    "[1, \"a\"]",
    "{}",
    "{id: \"1\"}",
    "true",
    "1e400",
    "115792089237316195423570985008687907853269984665640564039457584007913129639936",
    "\"-0\"",
    "funded",
    "$v",
];

fn query(rng: &mut StdRng) -> String {
    let mut pick = |from: &[&'static str]| from.choose(rng).copied().unwrap_or_default();
    let entity = pick(&[
        "agents",
        "requests",
        "offers",
        "agent",
        "_meta",
        "feedbacks",
        "agentsConnection",
        "nothing",
    ]);
    let filter = format!("{}{}: {}", pick(FIELDS), pick(SUFFIXES), pick(VALUES));
    let other = format!("{}{}: {}", pick(FIELDS), pick(SUFFIXES), pick(VALUES));
    let filter = match pick(&["one", "and", "or", "both"]) {
        "and" => format!("and: [{{{filter}}}, {{{other}}}]"),
        "or" => format!("or: [{{{filter}}}, {{{other}}}]"),
        "both" => format!("{filter}, {other}"),
        _ => filter,
    };
    let order = format!("{}{}", pick(FIELDS), pick(&["", "__id", "__owner", "__x", "_"]));
    let first = pick(&["1", "0", "1000", "1001", "-1", "null", "\"1\""]);
    let block = pick(&[
        "",
        ", block: {number: 5}",
        ", block: {number: -1}",
        ", block: {hash: \"0x00\"}",
        ", block: {}",
    ]);
    let selection = pick(&["id", "id owner", "id requests { id }", "block { number }", "x", ""]);
    format!(
        "{{ {entity}(where: {{{filter}}}, orderBy: {order}, first: {first}{block}) {{ {selection} }} }}"
    )
}

#[tokio::test]
async fn no_query_is_an_internal_error() {
    let world = World::create().await;
    let is_long = std::env::var("AUSPEX_TEST_PROFILE").as_deref() == Ok("long");
    let seed: u64 = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..if is_long { QUERIES_LONG } else { QUERIES } {
        let mut text = query(&mut rng);
        if rng.random_bool(0.3) {
            // A letter too few.
            let letters = text.char_indices().map(|(place, _)| place).collect::<Vec<_>>();
            let place = letters.choose(&mut rng).copied().unwrap_or_default();
            text.remove(place);
        }
        let (status, answer) = world.post("/graphql", json!({ "query": text }).to_string()).await;
        let told = answer["errors"].to_string().to_lowercase();
        assert!(
            status != StatusCode::INTERNAL_SERVER_ERROR
                && !told.contains("internal")
                && !told.contains("database"),
            "seed {seed}: {text}: {status} {answer}"
        );
    }
    let (_, answer) = world.post("/graphql", "{\"query\": \"{ agents { id } }\"}").await;
    assert_ne!(answer["data"]["agents"], json!([]), "nothing was dropped: {answer}");
}
