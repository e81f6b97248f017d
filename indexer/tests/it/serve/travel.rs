//! Time travel, finality and `_meta`.

use serde_json::{Value, json};

use super::{World, account};

#[tokio::test]
async fn a_query_sees_the_world_as_of_its_block() {
    let world = World::create().await;
    let owner = |block: &str| format!("{{ agent(id: \"31337:1\", block: {block}) {{ owner }} }}");
    for (block, expected) in [
        ("{ number: 10 }", json!({ "owner": account("11") })),
        ("{ number: 59 }", json!({ "owner": account("11") })),
        ("{ number: 60 }", json!({ "owner": account("22") })),
        ("{ number: 100 }", json!({ "owner": account("22") })),
        ("{ number: 9 }", json!(null)),
        ("{ number_gte: 30 }", json!({ "owner": account("22") })),
        (
            "{ hash: \"0x000000000000000000000000000000000000000000000000000000000000003b\" }",
            json!({ "owner": account("11") }),
        ),
    ] {
        assert_eq!(world.data(&owner(block)).await["agent"], expected, "{block}");
    }
}

/// Pages are found among current and past versions in different ways, by their order, their filter, and how old the block is.
#[tokio::test]
async fn a_page_as_of_a_block_is_the_same_however_it_is_found() {
    let world = World::create().await;
    for (root, table, narrow) in [
        ("agents", "agents", "agentId_gte: 0, chainId: 31337"),
        ("offers", "offers", "chainId_in: [31337]"),
        ("requests", "requests", "chainId: 31337"),
        ("credits", "credits", "chainId: 31337"),
        ("settlementCredits", "settlement_credits", "chainId: 31337"),
    ] {
        for block in [9, 10, 19, 20, 39, 40, 41, 59, 60, 69, 70, 90, 99, 100] {
            let sql = format!(
                "select id from indexer.{table} where chain_id = 31337 and block_range @> $1::bigint order by id"
            );
            let expected: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .bind(i64::from(block))
                .fetch_all(&world.database.pool())
                .await
                .unwrap();
            let rows: Vec<_> = expected.iter().map(|id| json!({ "id": id })).collect();
            let part = rows.iter().skip(1).take(1).collect::<Vec<_>>();
            let at = format!("block: {{ number: {block} }}");
            let query = format!(
                "{{ by_id: {root}({at}) {{ id }}
                    ordered: {root}({at}, orderBy: chainId) {{ id }}
                    narrow: {root}({at}, where: {{ {narrow} }}) {{ id }}
                    part: {root}({at}, first: 1, skip: 1) {{ id }}
                    ordered_part: {root}({at}, orderBy: chainId, first: 1, skip: 1) {{ id }}
                    counted: {root}Connection({at}, first: 1) {{ totalCount }} }}"
            );
            let data = world.data(&query).await;
            for (key, expected) in [
                ("by_id", json!(rows)),
                ("ordered", json!(rows)),
                ("narrow", json!(rows)),
                ("part", json!(part)),
                ("ordered_part", json!(part)),
                ("counted", json!({ "totalCount": rows.len() })),
            ] {
                assert_eq!(data[key], expected, "{key} of {root} in block {block}");
            }
        }
    }
}

#[tokio::test]
async fn relations_and_child_filters_travel_along() {
    let world = World::create().await;
    let data = world
        .data(
            "{ then: offers(block: { number: 69 }, where: { active: true }) { agent { owner } requests { status } }
               at59: feedbacks(block: { number: 59 }, where: { agent_: { owner: \"0x1111111111111111111111111111111111111111\" } }) { id }
               now: feedbacks(where: { agent_: { owner: \"0x1111111111111111111111111111111111111111\" } }) { id }
               first: requests(block: { number: 39 }) { status } }",
        )
        .await;
    assert_eq!(data["then"].as_array().unwrap().len(), 2);
    assert_eq!(data["then"][0]["requests"], json!([{ "status": "settled" }]));
    assert_eq!(data["at59"], json!([{ "id": "f1" }, { "id": "f2" }]));
    assert_eq!(data["now"], json!([]));
    assert_eq!(data["first"], json!([{ "status": "funded" }]));
}

#[tokio::test]
async fn every_row_says_how_final_it_is_and_can_be_asked_for_by_it() {
    let world = World::create().await;
    let data = world
        .data(
            "{ agents { id finality changedAtBlock }
               safe: agents(finality: safe) { id owner }
               finalized: agents(finality: finalized) { id owner }
               both: agents(finality: safe, block: { number: 30 }) { id } }",
        )
        .await;
    assert_eq!(
        data["agents"],
        json!([
            { "id": "31337:1", "finality": "safe", "changedAtBlock": "60" },
            { "id": "31337:2", "finality": "finalized", "changedAtBlock": "20" },
            { "id": "31337:3", "finality": "latest", "changedAtBlock": "90" },
        ])
    );
    assert_eq!(
        data["safe"],
        json!([{ "id": "31337:1", "owner": account("22") }, { "id": "31337:2", "owner": account("22") }])
    );
    assert_eq!(data["finalized"][0], json!({ "id": "31337:1", "owner": account("11") }));
    assert_eq!(data["both"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn meta_says_which_block_the_answer_is_about() {
    let world = World::create().await;
    let data = world
        .data(
            "{ _meta { deployment hasIndexingErrors block { number hash timestamp parentHash finality } }
               by_number: _meta(block: { number: 60 }) { block { number hash timestamp } }
               by_hash: _meta(block: { hash: \"0x000000000000000000000000000000000000000000000000000000000000003c\" }) { block { number hash } } }",
        )
        .await;
    let hash = |n: u64| format!("0x{n:064x}");
    assert_eq!(
        data["_meta"],
        json!({
            "deployment": "auspex-31337",
            "hasIndexingErrors": false,
            "block": { "number": 100, "hash": hash(100), "timestamp": 1100, "parentHash": hash(99), "finality": "latest" },
        })
    );
    assert_eq!(
        data["by_number"]["block"],
        json!({ "number": 60, "hash": null, "timestamp": 1060 })
    );
    assert_eq!(data["by_hash"]["block"], json!({ "number": 60, "hash": hash(60) }));
}

#[tokio::test]
async fn a_block_that_cannot_be_read_is_refused_in_the_words_of_graph_node() {
    let world = World::create().await;
    for (block, expected) in [
        (
            "{ number: 101 }",
            "Failed to decode `block.number` value: `subgraph auspex-31337 has only indexed up to block number 100 and data for block number 101 is therefore not yet available`",
        ),
        (
            "{ number_gte: 101 }",
            "Failed to decode `block.number` value: `subgraph auspex-31337 has only indexed up to block number 100 and data for block number 101 is therefore not yet available`",
        ),
        (
            "{ number: 4 }",
            "Failed to decode `block.number` value: `subgraph auspex-31337 only has data starting at block number 5 and data for block number 4 is therefore not available`",
        ),
        (
            "{ hash: \"0xabababababababababababababababababababababababababababababababab\" }",
            "Failed to decode `block.hash` value: `no block with that hash found`",
        ),
        // Below the kept hash chain a hash is not looked for among millions of facts, although one of them has it.
        (
            "{ hash: \"0x0000000000000000000000000000000000000000000000000000000000000014\" }",
            "Failed to decode `block.hash` value: `no block with that hash found`",
        ),
    ] {
        assert_eq!(
            world.refusal(&format!("{{ agents(block: {block}) {{ id }} }}")).await,
            expected
        );
        assert_eq!(
            world.refusal(&format!("{{ _meta(block: {block}) {{ deployment }} }}")).await,
            expected
        );
    }
    for block in ["{}", "{ number: 1, number_gte: 2 }", "{ hash: \"0x12\" }", "{ number: -1 }"] {
        let refusal = world.refusal(&format!("{{ agents(block: {block}) {{ id }} }}")).await;
        assert!(refusal.starts_with("Invalid value provided for argument `block`: "), "{refusal}");
    }
}

#[tokio::test]
async fn data_is_withheld_when_indexing_stopped_unless_it_is_wanted_all_the_same() {
    let world = World::create().await;
    sqlx::query("update indexer.cursors set halted = 'a reorg below the finalized block'")
        .execute(&world.database.pool())
        .await
        .unwrap();
    let denied = world.graphql("{ _meta { hasIndexingErrors } agents { id } }").await;
    assert_eq!(denied["errors"], json!([{ "message": "indexing_error" }]));
    assert_eq!(denied["data"], json!({ "_meta": { "hasIndexingErrors": true }, "agents": null }));
    let allowed = world.data("{ agents(subgraphError: allow) { id } }").await;
    assert_eq!(allowed["agents"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn rest_looks_back_too() {
    let world = World::create().await;
    let items = async |path: &str| world.get(path).await.1["items"].clone();
    for (query, owners) in [
        ("", vec![account("22"), account("22"), account("33")]),
        ("?block=100", vec![account("22"), account("22"), account("33")]),
        ("?block=59", vec![account("11"), account("22")]),
        ("?block=19", vec![account("11")]),
        ("?block=9", vec![]),
        ("?finality=safe", vec![account("22"), account("22")]),
        ("?finality=finalized", vec![account("11"), account("22")]),
        ("?finality=safe&block=19", vec![account("11")]),
        ("?finality=finalized&block=99", vec![account("11"), account("22")]),
    ] {
        let agents = items(&format!("/v1/agents{query}")).await;
        let found: Vec<_> =
            agents.as_array().unwrap().iter().map(|agent| agent["owner"].clone()).collect();
        assert_eq!(json!(found), json!(owners), "{query}");
    }

    let (_, agent) = world.get("/v1/agents/2?block=69").await;
    assert_eq!(agent["offers"][0]["active"], true);
    let (_, agent) = world.get("/v1/agents/2").await;
    assert_eq!(agent["offers"][0]["active"], false);
    assert_eq!(world.get("/v1/agents/3?finality=safe").await.0, 404);
    assert_eq!(world.get("/v1/agents/1?block=9").await.0, 404);

    let active = items("/v1/offers?block=69&active=true").await;
    assert_eq!(active.as_array().unwrap().len(), 2);
    assert_eq!(items("/v1/offers?active=true").await.as_array().unwrap().len(), 1);
    assert_eq!(items("/v1/offers?block=14").await, json!([]));
    assert!(active[0]["operatorSet"].is_object(), "{active}");

    let statuses = items("/v1/requests?block=39").await;
    assert_eq!(statuses[0]["status"], "funded");
    for block in [9, 20, 29, 30, 39, 40, 59, 99] {
        let expected: Vec<(String, String)> = sqlx::query_as(
            "select id, status from indexer.requests where block_range @> $1::bigint order by sequence",
        )
        .bind(i64::from(block))
        .fetch_all(&world.database.pool())
        .await
        .unwrap();
        let found = items(&format!("/v1/requests?block={block}")).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let found = found.as_array().unwrap().iter();
        let found: Vec<_> =
            found.map(|row| (text(&row["requestId"]), text(&row["status"]))).collect();
        assert_eq!(found, expected, "block {block}");
    }
    assert_eq!(items("/v1/operators?block=10").await, json!([]));
    let operators = items("/v1/operators?block=11").await;
    assert_eq!(operators[0]["sets"], json!([]), "it joined its set a block later");
    assert_eq!(items("/v1/operators").await[0]["sets"][0]["member"], true);
    assert_eq!(world.get("/v1/operator-sets/1?block=11").await.0, 404);
    assert_eq!(world.get("/v1/operator-sets/1?block=12").await.0, 200);

    let account = account("66");
    assert_eq!(items(&format!("/v1/accounts/{account}/credits?block=39")).await, json!([]));
    let credits = items(&format!("/v1/accounts/{account}/credits?block=40")).await;
    assert_eq!(credits[0]["claimable"], "2");
    assert_eq!(credits[0]["splits"].as_array().unwrap().len(), 1);

    for (query, code) in
        [("block=101", 404), ("block=x", 400), ("block=-1", 400), ("finality=soon", 400)]
    {
        for path in ["agents", "offers", "requests", "operators"] {
            assert_eq!(world.get(&format!("/v1/{path}?{query}")).await.0, code, "{path} {query}");
        }
    }
}
