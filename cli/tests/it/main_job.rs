//! Request, answer, settlement, withdrawal; and the refund of what nobody answers.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::world::{World, eventually, text};

#[test]
fn a_paid_request_becomes_a_settled_checkable_answer() {
    let world = World::start();
    let question = "What happens when nobody delivers a result before the deadline?";

    let first = world.submit(&world.token_offer(), question, "authorization");
    let second = world.submit(&world.native_offer(), question, "direct");
    let by_token = world.watch(&first);
    let by_coin = world.watch(&second);

    for view in [&by_token, &by_coin] {
        assert_eq!(view["status"], "settled", "{view}");
        assert_eq!(view["result"]["outcome"], "answered");
        assert_eq!(view["signers"].as_array().map(Vec::len), Some(2), "2 of 3 sign");
        let citations = view["answer"]["citations"].as_array().expect("citations");
        assert!(!citations.is_empty());
        let answer = text(&view["answer"]["text"]);
        assert!(answer.to_lowercase().contains("refund"), "{answer}");
    }
    // The same question on the same corpus is the same answer, whatever paid for it.
    assert_eq!(by_token["result"]["outputHash"], by_coin["result"]["outputHash"]);

    check_split(&by_token, 10_000_000_000_000_000_007);
    check_split(&by_coin, 1_000_000_000_000_000);
    check_graphql(&world, &[&first, &second]);
    check_withdrawals(&world, &by_token);
}

#[test]
fn a_request_that_nobody_answers_is_refunded_by_a_stranger() {
    let world = World::start();
    let offer = text(&world.market()["silentOffer"]);
    let submission = world.run(&[
        "request",
        "submit",
        "--offer",
        &offer,
        "--input",
        "Is anybody there?",
        "--duration",
        "60",
        "--as",
        "requester",
    ]);
    let request_id = text(&submission["requestId"]);
    eventually("indexing", || world.rest(&format!("v1/requests/{request_id}")));

    let early = world.refused(&["request", "refund", &request_id, "--as", "bystander"]);
    assert!(early.contains("can be refunded from"), "{early}");
    world.rpc("evm_increaseTime", &serde_json::json!([120]));
    eventually("the refund", || {
        let attempt = world.attempt(&["request", "refund", &request_id, "--as", "bystander"]);
        attempt.status.success().then_some(())
    });

    let view = world.watch(&request_id);
    assert_eq!(view["status"], "refunded");
    assert_eq!(view["refunded"]["amount"], "1000000000000000");
    let payer = text(&view["request"]["payer"]);
    let paid =
        world.run(&["credit", "withdraw", "--token", "ETH", "--for", &payer, "--as", "bystander"]);
    assert_eq!(paid["amount"], "1000000000000000");
    let again = world.refused(&["request", "refund", &request_id, "--as", "bystander"]);
    assert!(again.contains("WrongStatus"), "{again}");
}

/// 70, 20 and 10 percent of what is left after a fee of half a percent, each rounded down; the rest is the residue.
fn check_split(view: &Value, price: u128) {
    let settled = &view["settled"];
    let amount = |value: &Value| text(value).parse::<u128>().expect("an amount");
    let fee = price * 50 / 10_000;
    assert_eq!(amount(&settled["amount"]), price);
    assert_eq!(amount(&settled["fee"]), fee);
    assert_eq!(amount(&settled["returned"]), 0);
    let net = price - fee;
    let credits: Vec<u128> = settled["credits"]
        .as_array()
        .expect("credits")
        .iter()
        .map(|credit| amount(&credit["amount"]))
        .collect();
    assert_eq!(credits, [net * 70 / 100, net * 20 / 100, net * 10 / 100]);
    assert_eq!(amount(&settled["residue"]), net - credits.iter().sum::<u128>());
}

fn check_graphql(world: &World, requests: &[&str]) {
    let reply = world.graphql(
        "{ requests(orderBy: sequence) { id status payer } _meta { hasIndexingErrors block { number } } }",
    );
    assert!(reply.get("errors").is_none(), "{reply}");
    let rows: BTreeMap<String, String> = reply["data"]["requests"]
        .as_array()
        .expect("requests")
        .iter()
        .map(|row| (text(&row["id"]), text(&row["status"]).to_lowercase()))
        .collect();
    for request in requests {
        let row = rows.iter().find(|(id, _)| id.ends_with(request.trim_start_matches("0x")));
        assert_eq!(row.map(|(_, status)| status.as_str()), Some("settled"), "{reply}");
    }
    assert_eq!(reply["data"]["_meta"]["hasIndexingErrors"], false);
}

/// Each payee withdraws its share of the token to the last unit, and then has nothing left.
fn check_withdrawals(world: &World, view: &Value) {
    let token = text(&view["request"]["token"]);
    for credit in view["settled"]["credits"].as_array().expect("credits") {
        let account = text(&credit["account"]);
        let paid = world.run(&[
            "credit",
            "withdraw",
            "--token",
            &token,
            "--for",
            &account,
            "--as",
            "bystander",
        ]);
        assert_eq!(paid["amount"], credit["amount"]);
        let nothing = world.refused(&[
            "credit",
            "withdraw",
            "--token",
            &token,
            "--for",
            &account,
            "--as",
            "bystander",
        ]);
        assert!(nothing.contains("nothing to withdraw"), "{nothing}");
    }
}
