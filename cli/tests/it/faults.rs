//! Processes are killed or frozen in the middle of a request: nothing is lost and nothing is paid twice.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::world::{World, eventually, text};

const QUESTION: &str = "How does the indexer follow a reorg?";

#[test]
fn any_process_can_be_killed_in_the_middle_of_a_request() {
    let world = World::start();
    let victims =
        ["indexer", "operator-1", "operator-2", "operator-3", "broker", "postgres", "chain"];
    let mut requests = Vec::new();
    for victim in victims {
        let request = world.submit(&world.native_offer(), QUESTION, "direct");
        if victim == "chain" {
            // What the chain itself forgets nobody can remember: it keeps what it has written to its state file.
            wait_for_chain_state(&world);
        }
        world.signal(victim, Signal::SIGKILL);
        let view = eventually(&format!("the settlement after {victim} was killed"), || {
            let attempt = world.attempt(&["request", "watch", &request, "--timeout", "10"]);
            attempt
                .status
                .success()
                .then(|| serde_json::from_slice::<Value>(&attempt.stdout).ok())?
        });
        assert_eq!(view["status"], "settled", "{victim}: {view}");
        requests.push(request);
    }
    check_settled_once(&world, &requests);
}

#[test]
fn a_request_settles_while_the_broker_is_frozen() {
    let world = World::start();
    world.signal("broker", Signal::SIGSTOP);
    let request = world.submit(&world.native_offer(), QUESTION, "direct");
    let view = world.watch(&request);
    world.signal("broker", Signal::SIGCONT);
    assert_eq!(view["status"], "settled");
    check_settled_once(&world, &[request]);
}

/// Every request was delivered by exactly one transaction, and no delivery was sent in vain.
fn check_settled_once(world: &World, requests: &[String]) {
    let deployment = &world.file()["deployment"];
    let escrow = text(&deployment["requestEscrow"]);
    let delivered = alloy::primitives::keccak256(
        "Settled(uint64,bytes32,bytes32,address,uint128,uint128,uint128)",
    );
    for request in requests {
        let logs = world.rpc(
            "eth_getLogs",
            &json!([{"address": escrow, "fromBlock": "0x0", "topics": [delivered, request]}]),
        );
        assert_eq!(logs.as_array().map(Vec::len), Some(1), "{request}: {logs}");
    }
}

fn wait_for_chain_state(world: &World) {
    let path = world.path("chain.json");
    let modified = || std::fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
    for _ in 0..2 {
        let before = modified();
        eventually("the chain writing its state", || (modified() != before).then_some(()));
    }
}
