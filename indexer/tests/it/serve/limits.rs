//! What is too much is refused, with the limit in the words, and quickly.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::json;

use super::{World, message};

#[tokio::test]
async fn bombs_are_refused_by_name_and_cost_nothing() {
    let world = World::create().await;
    let aliases: String = (0..1_000).map(|n| format!("a{n}: id ")).collect();
    let roots: String = (0..1_000).map(|n| format!("a{n}: agents {{ id }} ")).collect();
    let deep = format!("{}id{}", "{ agents { offers ".repeat(50) + "{ ", " }".repeat(101));
    let very_deep = format!("{}id{}", "{ a ".repeat(8_000), " }".repeat(8_000));
    let directives = format!("{{ agents {{ id {} }} }}", "@skip(if: false) ".repeat(2_000));
    let mut multiplied = "{ ...f0 }".to_owned();
    for n in 0..60 {
        multiplied.push_str(&format!(" fragment f{n} on Query {{ ...f{} ...f{} }}", n + 1, n + 1));
    }
    multiplied.push_str(" fragment f60 on Query { agents { id } }");
    let lists =
        format!("{{ agents(where: {}{{}}{}) {{ id }} }}", "{ and: [".repeat(9), "] }".repeat(9));
    let deeper_lists = format!("{{ agents(where: {}) {{ id }} }}", "[".repeat(30_000));
    let conditions =
        format!("{{ agents(where: {{ or: [{}] }}) {{ id }} }}", "{ agentId: 1 } ".repeat(201));
    let values =
        format!("{{ agents(where: {{ agentId_in: [{}] }}) {{ id }} }}", "1 ".repeat(1_001));
    for (query, expected) in [
        (
            format!("{{ agents {{ {aliases} }} }}"),
            "The query has 1000 aliases, over the limit of 64",
        ),
        (format!("{{ {roots} }}"), "The query has 1000 aliases, over the limit of 64"),
        (
            format!("{{ {} }}", "_meta { deployment } ".repeat(17)),
            "The query has 17 root fields, over the limit of 16",
        ),
        (deep, "The query is "),
        (very_deep, "The query is "),
        (directives, "The query has 2000 directives, over the limit of 32"),
        (multiplied, "The query has more than 1000 fields"),
        (lists, "`and` and `or` are nested more than 8 levels deep"),
        (deeper_lists, "The query is "),
        (conditions, "The filters of the query have more than 200 conditions"),
        (values, "`agentId_in` has 1001 values, over the limit of 1000"),
        (
            "{ agents(first: 1000) { offers(first: 1000) { id } } }".to_owned(),
            "The query may read about 1001000 rows, over the limit of 10000",
        ),
        (
            "{ agents { offers { requests { credits { id } } } } }".to_owned(),
            "The query may read about ",
        ),
    ] {
        let started = Instant::now();
        let answer = world.graphql(&query).await;
        assert!(message(&answer, "a bomb").starts_with(expected), "{answer}");
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{expected} took {:?}",
            started.elapsed()
        );
    }
    // The two nested lists that clients of The Graph ask for without `first` are within the limit.
    world.data("{ agents { feedback { id } offers { id } } }").await;
}

#[tokio::test]
async fn a_list_of_queries_and_a_huge_body_are_refused() {
    let world = World::create().await;
    let (status, answer) =
        world.post("/graphql", json!([{ "query": "{ __typename }" }]).to_string()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(message(&answer, "a batch").starts_with("A request holds one query"));

    let large = json!({ "query": format!("{{ __typename }} #{}", "x".repeat(70_000)) }).to_string();
    let (status, answer) = world.post("/graphql", large).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer["error"]["code"], "too_large");

    let (status, answer) = world.post("/graphql", vec![b' '; 1 << 20]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer["error"]["message"], "body: over the limit of 262144 bytes");

    for bad in ["", "{", "null", "{\"query\": 5}", "\"{ __typename }\""] {
        let (status, answer) = world.post("/graphql", bad).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        assert!(message(&answer, bad).starts_with("The body is not a GraphQL request"));
    }
}

#[tokio::test]
async fn the_standard_introspection_query_is_within_the_limits() {
    let world = World::create().await;
    let nested = "kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } }";
    let query = format!(
        "query IntrospectionQuery {{ __schema {{ queryType {{ name }} mutationType {{ name }} subscriptionType {{ name }}
           types {{ ...FullType }} directives {{ name description locations args {{ ...InputValue }} }} }} }}
         fragment FullType on __Type {{ kind name description fields(includeDeprecated: true) {{ name description
           args {{ ...InputValue }} type {{ ...TypeRef }} isDeprecated deprecationReason }}
           inputFields {{ ...InputValue }} interfaces {{ ...TypeRef }} enumValues(includeDeprecated: true) {{ name description isDeprecated deprecationReason }}
           possibleTypes {{ ...TypeRef }} }}
         fragment InputValue on __InputValue {{ name description type {{ ...TypeRef }} defaultValue }}
         fragment TypeRef on __Type {{ {nested} }}"
    );
    let data = world.data(&query).await;
    assert_eq!(data["__schema"]["subscriptionType"]["name"], "Subscription");
}

/// What people have tried elsewhere, put into every place where a query takes text.
const INJECTIONS: &[&str] = &[
    "'; drop table indexer.agents; --",
    "1 or 1=1",
    "\" or \"\"=\"",
    "id desc, (select pg_sleep(10))",
    "id); select pg_sleep(10); --",
    "$1",
    "%' union select null --",
    "\\'; select 1; --",
    "\u{0}",
    "{{7*7}}",
    "(case when (select count(*) from indexer.agents) > 0 then id else owner end)",
    "agent__owner; reset all",
    "0x' || (select version()) || '",
];

#[tokio::test]
async fn text_from_outside_is_never_part_of_a_statement() {
    let world = World::create().await;
    let cursor = |text: &str| {
        use base64::Engine;
        let parts = json!(["agentURI", false, text, text]).to_string();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(parts)
    };
    for text in INJECTIONS {
        let started = Instant::now();
        let order = "query ($o: Agent_orderBy) { agents(orderBy: $o) { id } }";
        let refused = world.graphql_with(order, json!({ "o": text })).await;
        assert_ne!(refused.get("errors"), None, "{text:?} became an ordering");
        let direction = "query ($d: OrderDirection) { agents(orderDirection: $d) { id } }";
        let refused = world.graphql_with(direction, json!({ "d": text })).await;
        assert_ne!(refused.get("errors"), None, "{text:?} became a direction");
        let name = json!({ text.to_owned(): text });
        let refused = world
            .graphql_with(
                "query ($w: Agent_filter) { agents(where: $w) { id } }",
                json!({ "w": name }),
            )
            .await;
        assert_ne!(refused.get("errors"), None, "{text:?} became a filter");

        for filter in ["agentURI", "agentURI_contains", "agentURI_ends_with_nocase", "id", "id_gt"]
        {
            let query = format!(
                "query ($v: {}) {{ agents(where: {{ {filter}: $v }}) {{ id }} }}",
                if filter.starts_with("id") { "ID" } else { "String" }
            );
            let answer = world.graphql_with(&query, json!({ "v": text })).await;
            let rows = answer["data"]["agents"].as_array();
            // A text with U+0000 cannot be in the database, and is refused as such.
            assert!(text.contains('\0') || rows.is_some(), "{filter}: {text:?}: {answer}");
            if filter != "id_gt" {
                assert_eq!(rows.map_or(0, Vec::len), 0, "{filter}: {text:?} found {answer}");
            }
        }
        let page = format!(
            "{{ agentsConnection(orderBy: agentURI, after: \"{}\") {{ nodes {{ id }} }} }}",
            cursor(text)
        );
        world.graphql(&page).await;
        assert!(started.elapsed() < Duration::from_secs(5), "{text:?} slept");
    }
    assert_eq!(world.data("{ agents { id } }").await["agents"].as_array().unwrap().len(), 3);
}
