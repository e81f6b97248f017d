//! The block of a request is replaced by another.

use serde_json::json;

use crate::world::{World, eventually};

#[test]
fn a_request_that_is_reorged_away_is_forgotten_and_answered_once_when_it_returns() {
    let world = World::start();
    // An answer would race with the reorg, so the operators see the request only when it returns.
    for operator in ["operator-1", "operator-2", "operator-3"] {
        world.signal(operator, nix::sys::signal::Signal::SIGSTOP);
    }
    let question = "What does the escrow keep in storage?";
    let submission = world.run(&[
        "request",
        "submit",
        "--offer",
        &world.native_offer(),
        "--input",
        question,
        "--as",
        "requester",
    ]);
    let request = submission["requestId"].as_str().expect("an id").to_owned();
    let transaction = submission["transactionHash"].clone();
    let path = format!("v1/requests/{request}");
    let before = eventually("indexing", || world.rest(&path));
    assert_eq!(before["status"], "funded");
    let raw = world.rpc("eth_getRawTransactionByHash", &json!([transaction]));

    let head = number(&world.rpc("eth_blockNumber", &json!([])));
    let depth = head - before["blockNumber"].as_u64().expect("a block") + 1;
    world.rpc("anvil_reorg", &json!([depth, []]));
    eventually("the rollback", || world.rest(&path).is_none().then_some(()));

    world.rpc("eth_sendRawTransaction", &json!([raw]));
    for operator in ["operator-1", "operator-2", "operator-3"] {
        world.signal(operator, nix::sys::signal::Signal::SIGCONT);
    }
    let view = world.watch(&request);
    assert_eq!(view["status"], "settled");
    assert_ne!(view["blockHash"], before["blockHash"], "it is in another block now");
}

fn number(quantity: &serde_json::Value) -> u64 {
    let text = quantity.as_str().expect("a quantity");
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a quantity")
}
