//! Every filter suffix of the dialect, for every kind of field that has it.

use std::collections::BTreeSet;
use std::mem::discriminant;

use auspex_indexer::entity::{ENTITIES, Entity, Field, Operation, operation};

use super::World;

/// (root field, filter, value, what it finds)
const CASES: &[(&str, &str, &str, &str)] = &[
    // Id
    ("feedbacks", "id", r#""f2""#, "f2"),
    ("feedbacks", "id_not", r#""f2""#, "f1 f3"),
    ("feedbacks", "id_gt", r#""f1""#, "f2 f3"),
    ("feedbacks", "id_lt", r#""f2""#, "f1"),
    ("feedbacks", "id_gte", r#""f2""#, "f2 f3"),
    ("feedbacks", "id_lte", r#""f2""#, "f1 f2"),
    ("feedbacks", "id_in", r#"["f1", "f3", "f9"]"#, "f1 f3"),
    ("feedbacks", "id_not_in", r#"["f1", "f3"]"#, "f2"),
    // String
    ("feedbacks", "tag1", r#""alpha""#, "f1"),
    ("feedbacks", "tag1_not", r#""alpha""#, "f2 f3"),
    ("feedbacks", "tag1_gt", r#""alpha""#, "f3"),
    ("feedbacks", "tag1_lt", r#""alpha""#, "f2"),
    ("feedbacks", "tag1_gte", r#""alpha""#, "f1 f3"),
    ("feedbacks", "tag1_lte", r#""alpha""#, "f1 f2"),
    ("feedbacks", "tag1_in", r#"["alpha", "Beta"]"#, "f1 f2"),
    ("feedbacks", "tag1_not_in", r#"["alpha", "Beta"]"#, "f3"),
    ("feedbacks", "tag1_contains", r#""phab""#, "f3"),
    ("feedbacks", "tag1_contains", r#""a%t""#, "f3"),
    ("feedbacks", "tag1_contains", r#""%bet""#, "f3"),
    ("feedbacks", "tag1_contains", r#""alpha%""#, "f1 f3"),
    ("feedbacks", "tag1_contains_nocase", r#""BET""#, "f2 f3"),
    ("feedbacks", "tag1_not_contains", r#""bet""#, "f1 f2"),
    ("feedbacks", "tag1_not_contains_nocase", r#""bet""#, "f1"),
    ("feedbacks", "tag1_starts_with", r#""alpha""#, "f1 f3"),
    ("feedbacks", "tag1_starts_with", r#""B_t""#, "f2"),
    ("feedbacks", "tag1_starts_with_nocase", r#""b""#, "f2"),
    ("feedbacks", "tag1_not_starts_with", r#""a""#, "f2"),
    ("feedbacks", "tag1_not_starts_with_nocase", r#""B""#, "f1 f3"),
    ("feedbacks", "tag1_ends_with", r#""bet""#, "f3"),
    ("feedbacks", "tag1_ends_with_nocase", r#""A""#, "f1 f2"),
    ("feedbacks", "tag1_not_ends_with", r#""a""#, "f3"),
    ("feedbacks", "tag1_not_ends_with_nocase", r#""BET""#, "f1 f2"),
    // A nullable string: rows with null fulfil neither a comparison nor its contrary.
    ("validations", "tag", "null", "v1"),
    ("validations", "tag_not", "null", "v2 v3"),
    ("validations", "tag_not", r#""ok""#, "v3"),
    ("validations", "tag_not_in", r#"["ok"]"#, "v3"),
    ("validations", "tag_not_contains", r#""o""#, "v3"),
    ("validations", "tag_in", "[]", ""),
    ("validations", "tag_not_in", "[]", "v1 v2 v3"),
    // Bytes
    ("feedbacks", "clientAddress", r#""0x5555555555555555555555555555555555555555""#, "f3"),
    ("feedbacks", "clientAddress_not", r#""0x5555555555555555555555555555555555555555""#, "f1 f2"),
    ("feedbacks", "clientAddress_gt", r#""0x44""#, "f1 f2 f3"),
    ("feedbacks", "clientAddress_lt", r#""0x45""#, "f1 f2"),
    ("feedbacks", "clientAddress_gte", r#""0x5555555555555555555555555555555555555555""#, "f3"),
    ("feedbacks", "clientAddress_lte", r#""4444444444444444444444444444444444444444""#, "f1 f2"),
    ("feedbacks", "clientAddress_in", r#"["0x5555555555555555555555555555555555555555"]"#, "f3"),
    (
        "feedbacks",
        "clientAddress_not_in",
        r#"["0x5555555555555555555555555555555555555555"]"#,
        "f1 f2",
    ),
    ("feedbacks", "clientAddress_contains", r#""0x5555""#, "f3"),
    ("feedbacks", "clientAddress_not_contains", r#""0x5555""#, "f1 f2"),
    // Int
    ("validations", "response", "80", "v2"),
    ("validations", "response_not", "80", "v3"),
    ("validations", "response_gt", "20", "v2"),
    ("validations", "response_lt", "80", "v3"),
    ("validations", "response_gte", "20", "v2 v3"),
    ("validations", "response_lte", "20", "v3"),
    ("validations", "response_in", "[20, 81]", "v3"),
    ("validations", "response_not_in", "[20]", "v2"),
    ("validations", "response", "null", "v1"),
    // BigInt, narrow and wide, as number and as text
    ("feedbacks", "value", r#""90""#, "f1"),
    ("feedbacks", "value", "90", "f1"),
    ("feedbacks", "value", r#""1000000000000000000000000000000""#, "f3"),
    ("feedbacks", "value_not", r#""90""#, "f2 f3"),
    ("feedbacks", "value_gt", "-5", "f1 f3"),
    ("feedbacks", "value_lt", r#""1000000000000000000000000000000""#, "f1 f2"),
    ("feedbacks", "value_gte", r#""90""#, "f1 f3"),
    ("feedbacks", "value_lte", r#""90""#, "f1 f2"),
    ("feedbacks", "value_in", r#"["-5", "1000000000000000000000000000000"]"#, "f2 f3"),
    ("feedbacks", "value_not_in", r#"["-5", 90]"#, "f3"),
    ("feedbacks", "createdAt_in", "[1030]", "f1"),
    // Boolean
    ("feedbacks", "isRevoked", "true", "f2"),
    ("feedbacks", "isRevoked_not", "true", "f1 f3"),
    ("feedbacks", "isRevoked_in", "[true]", "f2"),
    ("feedbacks", "isRevoked_not_in", "[true]", "f1 f3"),
    // Enum
    ("settlementCredits", "kind", "share", "c1 c2"),
    ("settlementCredits", "kind_not", "share", "c3"),
    ("settlementCredits", "kind_in", "[refund, fee]", "c3"),
    ("settlementCredits", "kind_not_in", "[refund]", "c1 c2"),
    // Lists
    (
        "splits",
        "recipients",
        r#"["0x6666666666666666666666666666666666666666", "0x7777777777777777777777777777777777777777"]"#,
        "51",
    ),
    (
        "splits",
        "recipients_not",
        r#"["0x6666666666666666666666666666666666666666", "0x7777777777777777777777777777777777777777"]"#,
        "52",
    ),
    ("splits", "recipients_contains", r#"["0x7777777777777777777777777777777777777777"]"#, "51 52"),
    (
        "splits",
        "recipients_contains",
        r#"["0x7777777777777777777777777777777777777777", "0x8888888888888888888888888888888888888888"]"#,
        "52",
    ),
    (
        "splits",
        "recipients_not_contains",
        r#"["0x8888888888888888888888888888888888888888"]"#,
        "51",
    ),
    ("splits", "allocations", r#"["60", 40]"#, "51"),
    ("splits", "allocations_not", "[60, 40]", "52"),
    ("splits", "allocations_contains", r#"["1"]"#, "52"),
    ("splits", "allocations_not_contains", "[1]", "51"),
    (
        "agentRegistrationFiles",
        "supportedTrusts",
        r#"["reputation", "Crypto-Economic"]"#,
        "31337:1",
    ),
    (
        "agentRegistrationFiles",
        "supportedTrusts_not",
        r#"["reputation", "Crypto-Economic"]"#,
        "31337:2",
    ),
    ("agentRegistrationFiles", "supportedTrusts_contains", r#"["reputation"]"#, "31337:1"),
    (
        "agentRegistrationFiles",
        "supportedTrusts_contains_nocase",
        r#"["CRYPTO-economic"]"#,
        "31337:1",
    ),
    (
        "agentRegistrationFiles",
        "supportedTrusts_not_contains",
        r#"["crypto-economic"]"#,
        "31337:1 31337:2",
    ),
    (
        "agentRegistrationFiles",
        "supportedTrusts_not_contains_nocase",
        r#"["crypto-economic"]"#,
        "31337:2",
    ),
    // References, by the id of the other row
    ("feedbacks", "agent", r#""31337:2""#, "f3"),
    ("feedbacks", "agent", r#""10:1""#, ""),
    ("feedbacks", "agent", r#""31337:01""#, ""),
    ("feedbacks", "agent_not", r#""31337:2""#, "f1 f2"),
    ("feedbacks", "agent_gt", r#""31337:1""#, "f3"),
    ("feedbacks", "agent_lt", r#""31337:2""#, "f1 f2"),
    ("feedbacks", "agent_gte", r#""31337:2""#, "f3"),
    ("feedbacks", "agent_lte", r#""31337:1""#, "f1 f2"),
    ("feedbacks", "agent_in", r#"["31337:2", "31337:7"]"#, "f3"),
    ("feedbacks", "agent_in", r#"["31337:2", "nonsense"]"#, "f3"),
    ("feedbacks", "agent_not_in", r#"["31337:2"]"#, "f1 f2"),
    ("feedbacks", "agent_contains", r#"":2""#, "f3"),
    ("feedbacks", "agent_contains_nocase", r#"":2""#, "f3"),
    ("feedbacks", "agent_not_contains", r#"":2""#, "f1 f2"),
    ("feedbacks", "agent_not_contains_nocase", r#"":2""#, "f1 f2"),
    ("feedbacks", "agent_starts_with", r#""31337""#, "f1 f2 f3"),
    ("feedbacks", "agent_starts_with_nocase", r#""31337:2""#, "f3"),
    ("feedbacks", "agent_not_starts_with", r#""31337:2""#, "f1 f2"),
    ("feedbacks", "agent_not_starts_with_nocase", r#""31337:2""#, "f1 f2"),
    ("feedbacks", "agent_ends_with", r#"":1""#, "f1 f2"),
    ("feedbacks", "agent_ends_with_nocase", r#"":1""#, "f1 f2"),
    ("feedbacks", "agent_not_ends_with", r#"":1""#, "f3"),
    ("feedbacks", "agent_not_ends_with_nocase", r#"":1""#, "f3"),
    (
        "splitShares",
        "split",
        r#""0x5151515151515151515151515151515151515151515151515151515151515151""#,
        "ss1 ss2",
    ),
    (
        "splitShares",
        "split_in",
        r#"["0x5252525252525252525252525252525252525252525252525252525252525252"]"#,
        "ss3",
    ),
    ("bonds", "operatorSet", r#""1""#, "b1"),
    ("bonds", "operatorSet_not", r#""1""#, ""),
    ("feedbackResponses", "feedback", r#""f1""#, "f1:r"),
    // Child filters, on references and on lists of rows that point here
    ("feedbacks", "agent_", r#"{ agentURI_starts_with: "ipfs" }"#, "f3"),
    (
        "feedbacks",
        "agent_",
        r#"{ or: [{ agentId: 2 }, { owner: "0x1111111111111111111111111111111111111111" }] }"#,
        "f3",
    ),
    ("agents", "feedback_", r#"{ isRevoked: true }"#, "31337:1"),
    ("validations", "agent_", "{}", "v1 v2"),
    // What holds for every type
    (
        "feedbacks",
        "and",
        r#"[{ tag1_starts_with: "alpha" }, { isRevoked: false }, { value_gt: 100 }]"#,
        "f3",
    ),
    ("feedbacks", "or", r#"[{ tag1: "Beta" }, { value_gt: 100 }]"#, "f2 f3"),
    ("feedbacks", "and", "[]", "f1 f2 f3"),
    ("feedbacks", "or", "[]", ""),
    (
        "feedbacks",
        "and",
        r#"[{ or: [{ tag1: "Beta" }, { tag1: "alpha" }] }, { isRevoked: true }]"#,
        "f2",
    ),
    ("feedbacks", "_change_block", "{ number_gte: 40 }", "f2 f3"),
];

#[tokio::test]
async fn every_suffix_finds_what_it_says() {
    let world = World::create().await;
    for (root, filter, value, expected) in CASES {
        let query = format!("{{ rows: {root}(where: {{ {filter}: {value} }}) {{ id }} }}");
        let data = world.data(&query).await;
        let found: Vec<_> =
            data["rows"].as_array().unwrap().iter().map(|row| short(&row["id"])).collect();
        assert_eq!(found.join(" "), *expected, "{query}");
    }
}

#[tokio::test]
async fn filters_come_by_variable_too() {
    let world = World::create().await;
    let query = "query ($where: Feedback_filter, $tag: String) {
        by_object: feedbacks(where: $where) { id }
        by_value: feedbacks(where: { tag1: $tag }) { id }
    }";
    let variables =
        serde_json::json!({ "where": { "tag1_in": ["Beta"], "isRevoked": true }, "tag": "alpha" });
    let answer = world.graphql_with(query, variables).await;
    assert_eq!(answer["data"]["by_object"][0]["id"], "f2");
    assert_eq!(answer["data"]["by_value"][0]["id"], "f1");
    // A variable that is not given leaves its condition out; one that is null asks for null.
    let absent = world.graphql_with(query, serde_json::json!({})).await;
    assert_eq!(absent["data"]["by_value"].as_array().map(Vec::len), Some(3));
    let null = world.graphql_with(query, serde_json::json!({ "tag": null })).await;
    assert_eq!(null["data"]["by_value"].as_array().map(Vec::len), Some(0));
}

#[test]
fn the_table_has_a_case_for_every_suffix_of_every_kind() {
    let mut missing = BTreeSet::new();
    for entity in ENTITIES {
        for field in entity.fields {
            for wanted in operation::of(&field.kind) {
                if !CASES.iter().any(|case| covers(case, field, *wanted)) {
                    missing.insert(format!("{:?}{}", field.kind, wanted.suffix()));
                }
            }
        }
    }
    // One relation stands for all of its kind.
    missing.retain(|text| {
        !text.contains("Many(Relation") || !CASES.iter().any(|c| c.1 == "feedback_")
    });
    assert!(missing.is_empty(), "no case for {missing:#?}");
}

/// True when a case tests this operation on a field of the same kind.
fn covers(case: &(&str, &str, &str, &str), field: &Field, wanted: Operation) -> bool {
    let Some(entity) = entity(case.0) else { return false };
    entity.fields.iter().any(|tested| {
        let same = discriminant(&tested.kind) == discriminant(&field.kind)
            && match (tested.kind, field.kind) {
                (auspex_indexer::entity::Kind::List(a), auspex_indexer::entity::Kind::List(b)) => {
                    a == b
                }
                _ => true,
            };
        same && format!("{}{}", tested.name, wanted.suffix()) == case.1
    })
}

fn entity(root: &str) -> Option<&'static Entity> {
    ENTITIES.iter().copied().find(|entity| entity.many == root)
}

/// An id of 32 equal bytes is written as one of them.
fn short(id: &serde_json::Value) -> String {
    let id = id.as_str().unwrap();
    if id.len() == 66 { id[2..4].to_owned() } else { id.to_owned() }
}
