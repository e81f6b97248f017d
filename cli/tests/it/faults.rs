//! Processes are killed or frozen at random moments of a request: nothing is lost and nothing is paid twice.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy::primitives::{U256, keccak256};
use auspex_devnet::postgres::{Durability, Postgres, PostgresConfig};
use auspex_devnet::process::Restart;
use auspex_devnet::provision::{Progress, ToolsConfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::world::{World, eventually, runtime, text};

const QUESTION: &str = "How does the indexer follow a reorg?";
/// What the native offer costs, the protocol's fee in hundredths of a percent, and the payees' shares in percent.
const PRICE: u128 = 1_000_000_000_000_000;
const FEE_BPS: u128 = 50;
const SHARES: [(&str, u128); 3] = [("payee-1", 70), ("payee-2", 20), ("payee-3", 10)];
/// The world's processes, all of them.
const VICTIMS: [&str; 10] = [
    "indexer",
    "operator-1",
    "operator-2",
    "operator-3",
    "operator-1-signer",
    "operator-2-signer",
    "operator-3-signer",
    "broker",
    "postgres",
    "chain",
];
/// A request takes about so long from its first call to its settlement; a kill comes somewhere within it.
const REQUEST_TIME: Duration = Duration::from_millis(4_000);

/// Every process dies while a request is submitted, answered or settled, at a moment that the seed chooses.
#[test]
fn any_process_can_be_killed_at_any_moment_of_a_request() {
    let seed = std::env::var("AUSPEX_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random());
    eprintln!("AUSPEX_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let long = std::env::var("AUSPEX_TEST_PROFILE").is_ok_and(|profile| profile == "long");
    let rounds = if long { 8 } else { 2 };

    let mut world = World::start();
    let before = balance(&world, "requester");
    let mut requests = BTreeSet::new();
    for round in 1..=rounds {
        let mut victims = VICTIMS;
        victims.shuffle(&mut random);
        for victim in victims {
            let pause = random.random_range(Duration::ZERO..REQUEST_TIME);
            eprintln!("round {round}: {victim} dies after {} ms", pause.as_millis());
            let request = std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(pause);
                    kill9(&world, victim);
                });
                submit(&world)
            });
            settle(&world, &request, victim);
            assert!(requests.insert(request), "{victim}: an id of its own");
        }
    }
    check_chain(&world, &requests, before);
    let rows = check_indexer(&world, &requests);
    check_rebuild(&mut world, rows);
}

#[test]
fn a_request_settles_while_the_broker_is_frozen() {
    let world = World::start();
    world.signal("broker", Signal::SIGSTOP);
    let request = submit(&world);
    let view = world.watch(&request);
    world.signal("broker", Signal::SIGCONT);
    assert_eq!(view["status"], "settled");
    assert_eq!(logs(&world, SETTLED, Some(&request)).len(), 1);
}

/// A process that has just been started again by itself has another number, so that it is looked up until the signal hits.
fn kill9(world: &World, victim: &str) {
    eventually(&format!("the death of {victim}"), || {
        let pid = Pid::from_raw(i32::try_from(world.pid(victim)).ok()?);
        kill(pid, Signal::SIGKILL).ok()
    });
}

/// As a person would: a command that fails, because what it asks is down, is repeated.
fn submit(world: &World) -> String {
    let offer = world.native_offer();
    let arguments =
        ["request", "submit", "--offer", &offer, "--input", QUESTION, "--as", "requester"];
    let submission = eventually("a submission", || {
        let attempt = world.attempt(&arguments);
        if !attempt.status.success() {
            eprintln!("  {}", String::from_utf8_lossy(&attempt.stderr).trim());
        }
        attempt.status.success().then(|| serde_json::from_slice::<Value>(&attempt.stdout).ok())?
    });
    text(&submission["requestId"])
}

fn settle(world: &World, request: &str, victim: &str) {
    let view = eventually(&format!("the settlement after {victim} was killed"), || {
        let attempt = world.attempt(&["request", "watch", request, "--timeout", "20"]);
        attempt.status.success().then(|| serde_json::from_slice::<Value>(&attempt.stdout).ok())?
    });
    assert_eq!(view["status"], "settled", "{victim}: {view}");
}

const SETTLED: &str = "Settled(uint64,bytes32,bytes32,address,uint128,uint128,uint128)";

/// What the chain says: every request that was submitted was paid for once and settled once, and no other exists; the
/// escrow holds what they cost, and the requester has paid that and its gas, to the last unit.
fn check_chain(world: &World, requests: &BTreeSet<String>, before: U256) {
    let settled = logs(world, SETTLED, None);
    let settled: Vec<String> = settled.iter().map(|log| text(&log["topics"][1])).collect();
    assert_eq!(settled.len(), requests.len(), "{settled:?}");
    assert_eq!(settled.into_iter().collect::<BTreeSet<_>>(), *requests);
    let count = U256::from(requests.len());
    let escrowed = balance_of(world, &escrow(world));
    assert_eq!(escrowed, count * U256::from(PRICE), "nothing is withdrawn yet");
    let payer = address(world, "requester");
    let sent = quantity(&world.rpc("eth_getTransactionCount", &json!([payer, "latest"])));
    assert_eq!(sent, count, "one transaction for each request");
    let mut gas = U256::ZERO;
    for request in requests {
        let view = world.rest(&format!("v1/requests/{request}")).expect("a request");
        let receipt = world.rpc("eth_getTransactionReceipt", &json!([view["transactionHash"]]));
        gas += quantity(&receipt["gasUsed"]) * quantity(&receipt["effectiveGasPrice"]);
    }
    assert_eq!(balance(world, "requester"), before - count * U256::from(PRICE) - gas);
}

/// What the indexer says: no request beside these, each settled; every payee's credit is its share of the running total,
/// rounded down once. Returns the last block and the digest of all rows up to it.
fn check_indexer(world: &World, requests: &BTreeSet<String>) -> (u64, Value) {
    let reply = world.graphql("{ requests(first: 1000) { requestId status } }");
    let rows = reply["data"]["requests"].as_array().expect("requests");
    assert!(rows.iter().all(|row| text(&row["status"]).eq_ignore_ascii_case("settled")), "{reply}");
    let ids: BTreeSet<String> = rows.iter().map(|row| text(&row["requestId"])).collect();
    assert_eq!(ids, *requests);
    assert_eq!(rows.len(), requests.len(), "no row is doubled");

    let count = requests.len() as u128;
    let fee = PRICE * FEE_BPS / 10_000;
    for (payee, share) in SHARES {
        let expected = (PRICE - fee) * count * share / 100;
        assert_eq!(claimable(world, payee), expected, "{payee}");
    }
    assert_eq!(claimable(world, "deployer"), fee * count, "the fee's recipient");

    let head = quantity(&world.rpc("eth_blockNumber", &json!([])));
    let head = u64::try_from(head).expect("a block's number");
    eventually("the indexer at the head", || {
        let meta = world.graphql("{ _meta { block { number } } }");
        (head <= meta["data"]["_meta"]["block"]["number"].as_u64()?).then_some(())
    });
    let database = text(&world.file()["databaseUrl"]);
    (head, digest(world, &database, head))
}

/// What was stored through all the kills is what the stored facts say: the world is stopped, its database started alone,
/// and every projection derived again.
fn check_rebuild(world: &mut World, (head, stored): (u64, Value)) {
    assert!(world.stop(Signal::SIGINT).success());
    let postgres = runtime().block_on(async {
        let tools = ToolsConfig::from_environment().expect("tools");
        let programs = tools.postgres_bin(Progress::Lines).await.expect("PostgreSQL");
        let config = PostgresConfig {
            data_dir: world.path("postgres"),
            port: None,
            durability: Durability::Throwaway,
            restart: Restart::Never,
        };
        Postgres::start(&programs, config).await.expect("the world's PostgreSQL")
    });
    let database = postgres.url("auspex_indexer");
    assert_eq!(digest(world, &database, head), stored, "stopping changes nothing");
    let rebuilt = world.run(&[
        "indexer",
        "rebuild",
        "--database-url",
        &database,
        "--deployment",
        &world.path("deployment.json").display().to_string(),
    ]);
    assert!(0 < rebuilt["facts"].as_u64().expect("a number"), "{rebuilt}");
    assert_eq!(digest(world, &database, head), stored, "rows that the facts do not say");
}

fn digest(world: &World, database: &str, last: u64) -> Value {
    world.run(&[
        "indexer",
        "digest",
        "--database-url",
        database,
        "--deployment",
        &world.path("deployment.json").display().to_string(),
        "--last",
        &last.to_string(),
        "--width",
        "1000000",
    ])
}

/// The escrow's events of one kind, of one request or of all.
fn logs(world: &World, event: &str, request: Option<&str>) -> Vec<Value> {
    let topics = json!([keccak256(event), request]);
    let filter = json!([{"address": escrow(world), "fromBlock": "0x0", "topics": topics}]);
    world.rpc("eth_getLogs", &filter).as_array().expect("logs").clone()
}

fn claimable(world: &World, account: &str) -> u128 {
    let credits = world.run(&["credit", "show", &address(world, account)]);
    let native = format!("{:?}", alloy::primitives::Address::ZERO);
    let credits = credits.as_array().expect("credits");
    let credit = credits.iter().find(|credit| credit["token"] == native);
    text(&credit.unwrap_or_else(|| panic!("{account}: {credits:?}"))["claimable"])
        .parse()
        .expect("an amount")
}

fn escrow(world: &World) -> String {
    text(&world.file()["deployment"]["requestEscrow"])
}

fn address(world: &World, account: &str) -> String {
    let file = world.file();
    let accounts = file["accounts"].as_array().expect("accounts");
    let found = accounts.iter().find(|entry| entry["name"] == account);
    text(&found.expect("an account")["address"])
}

fn balance(world: &World, account: &str) -> U256 {
    balance_of(world, &address(world, account))
}

fn balance_of(world: &World, address: &str) -> U256 {
    quantity(&world.rpc("eth_getBalance", &json!([address, "latest"])))
}

fn quantity(value: &Value) -> U256 {
    text(value).parse().expect("a quantity")
}
