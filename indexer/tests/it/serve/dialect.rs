//! Collections, ordering, relations, fragments, connections, introspection, and the words of refusals.

use serde_json::json;

use super::{World, account, hash};

#[tokio::test]
async fn rows_come_by_id_unless_an_order_is_asked_for_and_ties_are_broken_by_id() {
    let world = World::create().await;
    let data = world
        .data(
            "{ plain: feedbacks { id }
               value: feedbacks(orderBy: value) { id }
               desc: feedbacks(orderBy: value, orderDirection: desc) { id }
               ties: feedbacks(orderBy: clientAddress, orderDirection: desc) { id }
               parent: feedbacks(orderBy: agent__agentURI, orderDirection: desc) { id }
               nulls: validations(orderBy: response) { id }
               nulls_desc: validations(orderBy: response, orderDirection: desc) { id }
               orphans: validations(orderBy: agent__owner) { id }
               page: feedbacks(first: 1, skip: 1) { id } }",
        )
        .await;
    let ids = |key: &str| {
        let rows = data[key].as_array().unwrap().iter();
        rows.map(|row| row["id"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids("plain"), "f1 f2 f3");
    assert_eq!(ids("value"), "f2 f1 f3");
    assert_eq!(ids("desc"), "f3 f1 f2");
    assert_eq!(ids("ties"), "f3 f2 f1");
    assert_eq!(ids("parent"), "f3 f2 f1");
    assert_eq!(ids("nulls"), "v3 v2 v1");
    assert_eq!(ids("nulls_desc"), "v1 v2 v3");
    assert_eq!(ids("orphans"), "v1 v2 v3");
    assert_eq!(ids("page"), "f2");
}

#[tokio::test]
async fn values_have_the_forms_that_clients_of_the_graph_expect() {
    let world = World::create().await;
    let id = hash("b1");
    let query = format!(
        "{{ request(id: \"{id}\") {{ __typename id sequence status feeBps payer signers validUntil outcome refundedAt
             agent {{ agentId registrationFile {{ name active supportedTrusts }} }}
             split {{ allocations }} credits(orderBy: position) {{ kind amount }} }} }}"
    );
    assert_eq!(
        world.data(&query).await["request"],
        json!({
            "__typename": "Request",
            "id": id,
            "sequence": "3",
            "status": "settled",
            "feeBps": 0,
            "payer": account("99"),
            "signers": [account("d2")],
            "validUntil": "18446744073709551615",
            "outcome": "answered",
            "refundedAt": null,
            "agent": {
                "agentId": "1",
                "registrationFile": {
                    "name": "One",
                    "active": true,
                    "supportedTrusts": ["reputation", "Crypto-Economic"],
                },
            },
            "split": { "allocations": ["60", "40"] },
            "credits": [{ "kind": "share", "amount": "3" }, { "kind": "share", "amount": "2" }],
        })
    );
    // An id is found whatever the case of its digits, and another chain's rows are never seen.
    let upper = id.to_uppercase().replacen("0X", "0x", 1);
    assert_eq!(
        world.data(&format!("{{ request(id: \"{upper}\") {{ sequence }} }}")).await["request"]["sequence"],
        "3"
    );
    assert_eq!(world.data("{ agent(id: \"10:1\") { id } }").await["agent"], json!(null));
}

#[tokio::test]
async fn fragments_aliases_variables_and_directives_work_together() {
    let world = World::create().await;
    let query = "
        query Agents($n: Int = 1, $with: Boolean!, $without: Boolean!) {
            __typename
            few: agents(first: $n) { ...who offers @include(if: $with) { id } ... on Agent { requests { id } requests { status } } }
            all: agents { ...who uri: agentURI @skip(if: $without) }
        }
        fragment who on Agent { agentId me: owner }";
    let answer = world.graphql_with(query, json!({ "with": false, "without": true })).await;
    assert_eq!(
        answer,
        json!({ "data": {
            "__typename": "Query",
            "few": [{
                "agentId": "1",
                "me": account("22"),
                "requests": [{ "id": hash("b1"), "status": "settled" }, { "id": hash("b3"), "status": "refunded" }],
            }],
            "all": [
                { "agentId": "1", "me": account("22") },
                { "agentId": "2", "me": account("22") },
                { "agentId": "3", "me": account("33") },
            ],
        }})
    );
    let missing = world.graphql_with(query, json!({ "with": true })).await;
    assert!(missing["errors"][0]["message"].as_str().unwrap().contains("without"), "{missing}");
}

#[tokio::test]
async fn a_wide_row_comes_whole() {
    let world = World::create().await;
    let fields: Vec<_> = auspex_indexer::entity::by_name("Request")
        .unwrap()
        .fields
        .iter()
        .filter(|field| field.kind.relation().is_none())
        .map(|field| field.name)
        .collect();
    assert!(50 < fields.len());
    let data = world.data(&format!("{{ requests {{ {} }} }}", fields.join(" "))).await;
    for row in data["requests"].as_array().unwrap() {
        assert_eq!(row.as_object().unwrap().len(), fields.len());
    }
}

#[tokio::test]
async fn every_entity_can_be_read_filtered_and_ordered_by_each_of_its_fields() {
    let world = World::create().await;
    for entity in auspex_indexer::entity::ENTITIES {
        for field in entity.fields {
            let (selection, nested) = match field.kind.relation() {
                Some(_) => (format!("{} {{ id }}", field.name), true),
                None => (field.name.to_owned(), false),
            };
            let order = match field.kind {
                auspex_indexer::entity::Kind::Many(_) => String::new(),
                _ => format!("(orderBy: {}, where: {{ id_not: \"\" }})", field.name),
            };
            let query = format!("{{ {}{order} {{ {selection} }} }}", entity.many);
            let data = world.data(&query).await;
            assert!(data[entity.many].is_array(), "{query} ({nested})");
        }
    }
}

#[tokio::test]
async fn a_connection_counts_and_pages_through_equal_and_missing_values() {
    let world = World::create().await;
    for (collection, order, direction, expected) in [
        ("validations", "response", "asc", "v3 v2 v1"),
        ("validations", "response", "desc", "v1 v2 v3"),
        ("feedbacks", "clientAddress", "asc", "f1 f2 f3"),
        ("feedbacks", "value", "desc", "f3 f1 f2"),
        ("feedbacks", "isRevoked", "asc", "f1 f3 f2"),
        ("feedbacks", "agent__owner", "desc", "f3 f2 f1"),
        ("feedbacks", "agent", "asc", "f1 f2 f3"),
        ("feedbacks", "id", "desc", "f3 f2 f1"),
        ("settlementCredits", "kind", "asc", "c3 c1 c2"),
    ] {
        let mut after = String::new();
        let mut seen = Vec::new();
        loop {
            let query = format!(
                "{{ page: {collection}Connection(first: 1, orderBy: {order}, orderDirection: {direction}{after}) {{
                    totalCount pageInfo {{ hasNextPage endCursor }} edges {{ cursor node {{ id }} }} nodes {{ key: id }} }} }}"
            );
            let page = world.data(&query).await["page"].take();
            assert_eq!(page["totalCount"], 3);
            assert_eq!(page["edges"][0]["node"]["id"], page["nodes"][0]["key"]);
            assert_eq!(page["edges"][0]["cursor"], page["pageInfo"]["endCursor"]);
            seen.push(page["edges"][0]["node"]["id"].as_str().unwrap().to_owned());
            if page["pageInfo"]["hasNextPage"] == json!(false) {
                break;
            }
            after = format!(", after: {}", page["pageInfo"]["endCursor"]);
            assert!(seen.len() < 4, "{query}");
        }
        assert_eq!(seen.join(" "), expected, "{collection} by {order} {direction}");
    }
}

#[tokio::test]
async fn both_names_of_the_metadata_collection_are_served() {
    let world = World::create().await;
    let data = world.data("{ agentMetadatas { value } agentMetadata_collection { key } }").await;
    assert_eq!(data["agentMetadatas"][0]["value"], "0x6c696272617269616e");
    assert_eq!(data["agentMetadata_collection"][0]["key"], "Kind");
}

#[tokio::test]
async fn introspection_shows_what_the_dialect_has() {
    let world = World::create().await;
    let data = world
        .data(
            r#"{ __schema { queryType { fields { name args { name defaultValue type { name } } } } }
                 filter: __type(name: "Agent_filter") { inputFields { name type { name kind ofType { name } } } }
                 order: __type(name: "Request_orderBy") { enumValues { name } }
                 height: __type(name: "Block_height") { inputFields { name } }
                 agents(first: 1) { id } }"#,
        )
        .await;
    let fields = data["__schema"]["queryType"]["fields"].as_array().unwrap();
    let agents = fields.iter().find(|field| field["name"] == "agents").unwrap();
    let names: Vec<_> =
        agents["args"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap()).collect();
    for name in [
        "skip",
        "first",
        "orderBy",
        "orderDirection",
        "where",
        "block",
        "subgraphError",
        "finality",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    let filters = data["filter"]["inputFields"].to_string();
    for name in
        ["owner_not_in", "agentURI_not_ends_with_nocase", "offers_", "_change_block", "and", "or"]
    {
        assert!(filters.contains(&format!("\"{name}\"")), "{name}");
    }
    assert!(data["order"].to_string().contains("\"agent__owner\""));
    assert!(!data["order"].to_string().contains("\"credits\""));
    assert_eq!(data["height"]["inputFields"].as_array().unwrap().len(), 3);
    assert_eq!(data["agents"], json!([{ "id": "31337:1" }]));
}

/// (query, how its refusal begins)
const REFUSALS: &[(&str, &str)] = &[
    ("{ agents(first: 0) { id } }", "The `first` argument must be between 0 and 1000, but is 0"),
    (
        "{ agents(first: 1001) { id } }",
        "The `first` argument must be between 0 and 1000, but is 1001",
    ),
    ("{ agents(first: -1) { id } }", "The `first` argument must be between 0 and 1000, but is -1"),
    (
        "{ agents(skip: -1) { id } }",
        "The `skip` argument must be between 0 and 4294967295, but is -1",
    ),
    (
        "{ agents { offers(first: 0) { id } } }",
        "The `first` argument must be between 0 and 1000, but is 0",
    ),
    (
        "{ agents(where: { owner: \"0x11\", or: [{ agentId: 1 }] }) { id } }",
        "Cannot mix column filters with 'or' operator at the same level. Found column filter(s) 'owner' alongside 'or' operator.",
    ),
    (
        "{ requests(where: { agent_: { offers_: { active: true } } }) { id } }",
        "Child filter nesting not supported by value `{active: true}`: `offers_`",
    ),
    (
        "{ feedbacks(where: { value_gt: null }) { id } }",
        "Invalid value provided for argument `where`: `value_gt`: cannot be null",
    ),
    (
        "{ feedbacks(where: { value: \"1e5\" }) { id } }",
        "Invalid value provided for argument `where`: `value`: \"1e5\" is not an integer",
    ),
    (
        "{ feedbacks(where: { clientAddress: \"0x1\" }) { id } }",
        "Invalid value provided for argument `where`: `clientAddress`: \"0x1\" is not 0x-hex",
    ),
    ("{ agents(orderBy: agentURI__x) { id } }", "Invalid value for argument \"orderBy\""),
    ("{ agents(orderBy: \"id; drop table x\") { id } }", "Invalid value for argument \"orderBy\""),
    ("{ agents(where: { nothing: 1 }) { id } }", "Invalid value for argument \"where\""),
    ("{ agents { nothing } }", "Unknown field \"nothing\" on type \"Agent\""),
    ("{ agents { offers } }", "Field \"offers\" of type"),
    ("{ nothing { id } }", "Unknown field \"nothing\" on type \"Query\""),
    (
        "{ agent { id } }",
        "Field \"agent\" argument \"id\" of type \"Query\" is required but not provided",
    ),
    ("{ a: agents { id } a: offers { id } }", "Fields \"a\" conflict"),
    (
        "{ agents(first: 1) { id } agents(first: 2) { owner } }",
        "Fields \"first\" conflict because they have differing arguments",
    ),
    ("{ agents { id }", " --> 1:"),
    ("query A { agents { id } } query B { agents { id } }", "The query has several operations"),
    ("subscription { changes { id } }", "A subscription needs a stream"),
    ("mutation { x }", "Schema is not configured for mutations"),
    (
        "{ agentsConnection(after: \"nonsense\") { totalCount } }",
        "`after` is not a cursor of this query",
    ),
    (
        "{ agentsConnection(orderBy: owner, after: \"WyJpZCIsZmFsc2UsImEiLCJhIl0\") { totalCount } }",
        "`after` is not a cursor of this query: it belongs to another ordering",
    ),
];

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let world = World::create().await;
    for (query, expected) in REFUSALS {
        let refusal = world.refusal(query).await;
        assert!(
            refusal.starts_with(expected),
            "{query}\n  was refused by {refusal:?}\n  and not by {expected:?}"
        );
    }
}

#[tokio::test]
async fn nothing_indexed_yet_is_said() {
    let world = World::empty().await;
    assert_eq!(
        world.refusal("{ agents { id } }").await,
        "Nothing has been indexed on chain 31337 yet"
    );
}
