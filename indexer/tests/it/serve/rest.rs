//! REST: shapes, pages, finality, and refusals.

use std::time::Duration;

use alloy::primitives::{B256, keccak256};
use auspex_indexer::serve::app;
use auspex_protocol::answer::{ANSWER_SCHEMA, Answer, Answerer};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{World, account, hash, key, read};

#[tokio::test]
async fn a_settled_request_shows_everything_that_it_pinned_and_that_happened() {
    let world = World::create().await;
    let (status, view) = world.get(&format!("/v1/requests/{}", hash("b1"))).await;
    assert_eq!(status, StatusCode::OK, "{view}");
    for (field, expected) in [
        ("requestId", json!(hash("b1"))),
        ("sequence", json!(3)),
        ("status", json!("settled")),
        ("finality", json!("finalized")),
        ("blockNumber", json!(30)),
        ("blockHash", json!(format!("0x{:064x}", 30))),
        ("blockTime", json!(1030)),
        ("transactionHash", json!(hash("0a"))),
        ("requestGasUsed", json!(100_000)),
        ("input", json!("0x68656c6c6f")),
        ("inputText", json!("hello")),
        ("signers", json!([account("d2")])),
        (
            "split",
            json!({ "recipients": [account("66"), account("77")], "allocations": ["60", "40"], "totalAllocation": "100", "distributionIncentive": 0 }),
        ),
        (
            "operatorSet",
            json!({ "setId": "1", "epoch": "1", "threshold": 2, "signers": [format!("{:#x}", key(1).address()), format!("{:#x}", key(2).address())] }),
        ),
        (
            "delivered",
            json!({ "blockNumber": 40, "blockTime": 1040, "transactionHash": hash("0b"), "transmitter": account("d3"), "gasUsed": 200_000 }),
        ),
        (
            "settled",
            json!({ "amount": "5", "fee": "0", "returned": "0", "blockNumber": 40, "blockTime": 1040, "transactionHash": hash("0b"),
                "credits": [{ "account": account("66"), "amount": "3" }, { "account": account("77"), "amount": "2" }], "residue": "0" }),
        ),
    ] {
        assert_eq!(view[field], expected, "{field}");
    }
    assert_eq!(view["request"]["payer"], account("99"));
    assert_eq!(view["request"]["agentId"], "1");
    assert_eq!(view["offer"]["price"], "5");
    assert_eq!(view["result"]["validUntil"], 18_446_744_073_709_551_615_u64);
    assert_eq!(view["result"]["outcome"], "answered");
    for absent in ["answer", "refunded", "slashed"] {
        assert_eq!(view.get(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn an_input_that_is_not_text_is_shown_as_bytes_only() {
    let world = World::create().await;
    let (_, view) = world.get(&format!("/v1/requests/{}", hash("b3"))).await;
    assert_eq!(view["input"], "0xff00");
    assert_eq!(view.get("inputText"), None);
    assert_eq!(view["refunded"]["amount"], "5");
    assert_eq!(view["finality"], "latest");
}

#[tokio::test]
async fn requests_are_paged_filtered_and_read_as_of_a_finality() {
    let world = World::create().await;
    let sequences = |page: &Value| -> Vec<i64> {
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["sequence"].as_i64().unwrap())
            .collect()
    };
    let (_, page) = world.get("/v1/requests?limit=2").await;
    assert_eq!((sequences(&page), &page["next"]), (vec![3, 4], &json!(4)));
    let (_, page) = world.get("/v1/requests?limit=2&after=4").await;
    assert_eq!((sequences(&page), &page["next"]), (vec![5], &json!(null)));
    let (_, page) = world.get("/v1/requests?status=refunded").await;
    assert_eq!(sequences(&page), [4]);
    let (_, page) = world.get("/v1/requests?agentId=2").await;
    assert_eq!(sequences(&page), [5]);
    let (_, page) =
        world.get(&format!("/v1/requests?payer={}&status=settled", account("99"))).await;
    assert_eq!(sequences(&page), [3]);
    let (_, page) = world.get(&format!("/v1/requests?payer={}", account("98"))).await;
    assert_eq!((sequences(&page), &page["next"]), (vec![], &json!(null)));
    let (_, page) = world.get("/v1/requests?finality=safe").await;
    assert_eq!(sequences(&page), [3]);
    sqlx::query("update indexer.cursors set safe_number = 84")
        .execute(&world.database.pool())
        .await
        .unwrap();
    let (_, page) = world.get("/v1/requests?finality=safe").await;
    assert_eq!(sequences(&page), [3, 4]);
    assert_eq!(page["items"][1]["status"], "funded");
    assert_eq!(page["items"][1].get("refunded"), None);
}

#[tokio::test]
async fn agents_offers_operators_sets_and_credits_have_their_shapes() {
    let world = World::create().await;
    let (_, agent) = world.get("/v1/agents/1").await;
    assert_eq!(agent["registration"]["name"], "One");
    assert_eq!(agent["metadata"], json!([{ "key": "Kind", "value": "0x6c696272617269616e" }]));
    assert_eq!(agent["offers"][0]["offerHash"], hash("a1"));
    assert_eq!(agent["offers"][0]["operatorSet"]["signers"], json!([account("d2")]));
    let (_, page) = world.get(&format!("/v1/agents?owner={}&limit=1", account("22"))).await;
    assert_eq!((&page["items"][0]["agentId"], &page["next"]), (&json!("1"), &json!("1")));
    let (_, page) = world.get(&format!("/v1/agents?owner={}&limit=1&after=1", account("22"))).await;
    assert_eq!((&page["items"][0]["agentId"], &page["next"]), (&json!("2"), &json!(null)));

    let (_, page) = world.get("/v1/offers?active=false").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(page["items"][0]["offer"]["price"], "100000000000000000000");
    assert_eq!(page["items"][0]["retiredAt"], 1070);
    let (_, offer) = world.get(&format!("/v1/offers/{}", hash("a1"))).await;
    assert_eq!(
        (&offer["active"], &offer["split"]["totalAllocation"]),
        (&json!(true), &json!("100"))
    );

    let (_, page) = world.get("/v1/operators").await;
    assert_eq!(page["items"][0]["owner"], account("d1"));
    assert_eq!(
        page["items"][0]["sets"],
        json!([{ "setId": "1", "amount": "7", "slashed": "0", "status": "bonded", "member": true }])
    );
    let (_, operator) = world.get(&format!("/v1/operators/{}", account("D1"))).await;
    assert_eq!(operator["signer"], account("d2"));
    let (_, set) = world.get("/v1/operator-sets/1").await;
    assert_eq!(
        (&set["epoch"], &set["threshold"], &set["bond"]),
        (&json!("1"), &json!(1), &json!("7"))
    );

    let (_, credits) = world.get(&format!("/v1/accounts/{}/credits", account("66"))).await;
    assert_eq!(credits["items"][0]["claimable"], "2");
    assert_eq!(credits["items"][0]["splits"][0]["allocations"], json!(["60", "40"]));
}

#[tokio::test]
async fn status_readiness_and_health_tell_the_truth() {
    let world = World::create().await;
    let (_, status) = world.get("/v1/status").await;
    let chain = &status["chains"][0];
    assert_eq!(chain["chainId"], 31337);
    assert_eq!(
        chain["indexed"],
        json!({ "number": 100, "hash": format!("0x{:064x}", 100), "time": 1100 })
    );
    assert_eq!(chain["head"], json!({ "number": 103, "hash": null, "time": null }));
    assert_eq!(
        (&chain["finalized"]["number"], &chain["finalized"]["time"]),
        (&json!(50), &json!(1050))
    );
    assert_eq!((&chain["lagBlocks"], &chain["healthy"]), (&json!(3), &json!(true)));
    assert_eq!(world.get("/ready").await.0, StatusCode::OK);
    // Nodes that answer and stand still are seen by the age of the newest block.
    let mut state = world.state.clone();
    state.ready.block_age_max = Some(Duration::from_secs(60));
    let request = Request::get("/ready").body(Body::empty()).unwrap();
    let (status, ready) = read(app(state).oneshot(request).await.unwrap()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready["reasons"][0].as_str().unwrap().contains("the newest block is"), "{ready}");
    for (change, reason) in [
        ("head_number = 1000", "900 blocks behind the head"),
        (
            "head_seen_at = now() - interval '2 minutes', head_number = 103",
            "no node has told its head",
        ),
        (
            "halted = 'a reorg below the finalized block'",
            "stopped, and waits for a person: a reorg below",
        ),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(format!("update indexer.cursors set {change}")))
            .execute(&world.database.pool())
            .await
            .unwrap();
        let (status, ready) = world.get("/ready").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(ready["reasons"][0].as_str().unwrap().contains(reason), "{ready}");
    }
    assert_eq!(world.get("/health").await, (StatusCode::OK, json!("ok")));
    assert_eq!(World::empty().await.get("/ready").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn wrong_parameters_are_refused_by_name() {
    let world = World::create().await;
    for (path, status, code, words) in [
        (
            "/v1/requests?limit=0",
            400,
            "invalid_parameter",
            "limit: \"0\" is not between 1 and 1000",
        ),
        ("/v1/requests?limit=1001", 400, "invalid_parameter", "limit: "),
        (
            "/v1/requests?status=open",
            400,
            "invalid_parameter",
            "status: \"open\" is not one of funded",
        ),
        ("/v1/requests?agentId=abc", 400, "invalid_parameter", "agentId: "),
        ("/v1/requests?payer=0x12", 400, "invalid_parameter", "payer: "),
        ("/v1/requests?after=-1", 400, "invalid_parameter", "after: "),
        (
            "/v1/requests?finality=sure",
            400,
            "invalid_parameter",
            "Failed to deserialize query string",
        ),
        ("/v1/requests?orderBy=id", 400, "invalid_parameter", "Failed to deserialize query string"),
        (
            "/v1/requests?chainId=1",
            404,
            "not_found",
            "chainId: this indexer does not serve that chain; it serves 31337",
        ),
        ("/v1/requests/0x12", 400, "invalid_parameter", "requestId: "),
        (
            "/v1/requests/'; drop table indexer.requests; --",
            400,
            "invalid_parameter",
            "requestId: ",
        ),
        ("/v1/agents/7", 404, "not_found", "agentId: no agent 7"),
        (
            "/v1/agents/115792089237316195423570985008687907853269984665640564039457584007913129639936",
            400,
            "invalid_parameter",
            "agentId: ",
        ),
        ("/v1/operator-sets/9", 404, "not_found", "setId: "),
        ("/v1/stream?entities=secrets", 400, "invalid_parameter", "entities: "),
        ("/v1/nothing", 404, "not_found", "there is nothing at this path"),
    ] {
        let uri: String = path.replace(' ', "%20");
        let (got, body) = world.get(&uri).await;
        assert_eq!(got.as_u16(), status, "{path}: {body}");
        assert_eq!(body["error"]["code"], code, "{path}");
        assert!(body["error"]["message"].as_str().unwrap().starts_with(words), "{path}: {body}");
    }
    let absent = hash("99");
    assert_eq!(world.get(&format!("/v1/requests/{absent}")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.get(&format!("/v1/offers/{absent}")).await.0, StatusCode::NOT_FOUND);
    let (status, body) = world.post("/v1/requests", "{}").await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (StatusCode::METHOD_NOT_ALLOWED, &json!("wrong_method"))
    );
}

#[tokio::test]
async fn an_answer_is_kept_under_its_hash_and_shown_with_its_request() {
    let world = World::create().await;
    let body = answer("forty-two").canonical_bytes().unwrap();
    let output_hash = keccak256(&body);
    let path = format!("/v1/answers/{output_hash:#x}");
    let put = |path: String, body: Vec<u8>| {
        let request = Request::put(path).body(Body::from(body)).unwrap();
        async { read(world.send(request).await).await }
    };
    assert_eq!(world.get(&path).await.0, StatusCode::NOT_FOUND);
    assert_eq!(put(path.clone(), body.clone()).await.0, StatusCode::CREATED);
    assert_eq!(put(path.clone(), body.clone()).await.0, StatusCode::OK);
    assert_eq!(world.get(&path).await.1["text"], "forty-two");

    for (bad, status, code) in
        [(b"{}".to_vec(), 422, "wrong_hash"), (vec![b'x'; 65_537], 413, "too_large")]
    {
        let (got, refusal) = put(path.clone(), bad).await;
        assert_eq!((got.as_u16(), &refusal["error"]["code"]), (status, &json!(code)));
    }
    let not_an_answer = b"{\"a\":1}".to_vec();
    let path_of_it = format!("/v1/answers/{:#x}", keccak256(&not_an_answer));
    let (got, refusal) = put(path_of_it, not_an_answer).await;
    assert_eq!(
        (got, &refusal["error"]["code"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("bad_answer"))
    );

    sqlx::query("update indexer.requests set output_hash = $1 where status = 'settled'")
        .bind(output_hash.as_slice())
        .execute(&world.database.pool())
        .await
        .unwrap();
    let (_, view) = world.get(&format!("/v1/requests/{}", hash("b1"))).await;
    assert_eq!(view["answer"]["text"], "forty-two");
    assert_eq!(keccak256(view["answer"].to_string().as_bytes()), output_hash);
}

#[tokio::test]
async fn answers_that_nobody_names_are_bounded() {
    let world = World::create().await;
    sqlx::query(
        "insert into indexer.answers (output_hash, body)
         select decode(lpad(to_hex(n), 64, '0'), 'hex'), '{}' from generate_series(1, 10000) n",
    )
    .execute(&world.database.pool())
    .await
    .unwrap();
    let body = answer("one too many").canonical_bytes().unwrap();
    let output_hash = keccak256(&body);
    let put = || {
        let request = Request::put(format!("/v1/answers/{output_hash:#x}"));
        request.body(Body::from(body.clone())).unwrap()
    };
    assert_eq!(world.send(put()).await.status(), StatusCode::TOO_MANY_REQUESTS);
    // What a result names is always taken.
    sqlx::query("update indexer.requests set output_hash = $1 where status = 'settled'")
        .bind(output_hash.as_slice())
        .execute(&world.database.pool())
        .await
        .unwrap();
    assert_eq!(world.send(put()).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn the_pages_and_the_openapi_document_are_there() {
    let world = World::create().await;
    let (_, document) = world.get("/openapi.json").await;
    assert!(document["paths"]["/v1/requests/{requestId}/messages"]["post"].is_object());
    for path in ["/", "/graphql", "/graphiql", "/docs/"] {
        let (status, page) = world.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(page.as_str().unwrap().to_lowercase().contains("<!doctype html>"), "{path}");
    }
    // Our own pages load nothing from elsewhere.
    for path in ["/", "/graphql"] {
        let (_, page) = world.get(path).await;
        let page = page.as_str().unwrap();
        assert!(!page.contains("src=\"http") && !page.contains("@import"), "{path}");
    }
    let (status, _) = world.get("/metrics").await;
    assert_eq!(status, StatusCode::OK);
}

fn answer(text: &str) -> Answer {
    Answer {
        schema: ANSWER_SCHEMA.to_owned(),
        question: "what?".to_owned(),
        text: text.to_owned(),
        citations: Vec::new(),
        corpus_root: B256::ZERO,
        model_hash: B256::ZERO,
        answerer: Answerer::Extractive,
    }
}
