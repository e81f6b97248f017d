//! What chain, database and indexer have to say of a world's requests after whatever happened to it.

use std::collections::BTreeSet;

use alloy::primitives::{U256, keccak256};
use auspex_devnet::postgres::{Durability, Postgres, PostgresConfig};
use auspex_devnet::process::Restart;
use auspex_devnet::provision::{Progress, ToolsConfig};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::world::{World, eventually, runtime, text};

/// What the native offer costs, the protocol's fee in hundredths of a percent, and the payees' shares in percent.
const PRICE: u128 = 1_000_000_000_000_000;
const FEE_BPS: u128 = 50;
const SHARES: [(&str, u128); 3] = [("payee-1", 70), ("payee-2", 20), ("payee-3", 10)];
pub(crate) const SETTLED: &str = "Settled(uint64,bytes32,bytes32,address,uint128,uint128,uint128)";

/// What the chain says: every request that was submitted was paid for once and settled once, and no other exists; the
/// escrow holds what they cost, and the requester has paid that and its gas, to the last unit.
pub(crate) fn check_chain(world: &World, requests: &BTreeSet<String>, before: U256) {
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
pub(crate) fn check_indexer(world: &World, requests: &BTreeSet<String>) -> (u64, Value) {
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

    let head = head(world);
    eventually("the indexer at the head", || {
        let meta = world.graphql("{ _meta { block { number } } }");
        (head <= meta["data"]["_meta"]["block"]["number"].as_u64()?).then_some(())
    });
    let database = text(&world.file()["databaseUrl"]);
    (head, digest(world, &database, head))
}

/// What the operators say: no job and no transaction is left open, and the chain has seen every nonce that was given out.
pub(crate) fn check_nonces(world: &World) {
    for operator in ["auspex_operator_1", "auspex_operator_2", "auspex_operator_3"] {
        let mut database = url::Url::parse(&text(&world.file()["databaseUrl"])).expect("a URL");
        database.set_path(operator);
        eventually(&format!("the end of all work in {operator}"), || {
            let (open, transmitter, next) = open_work(database.as_str())?;
            let count = json!([format!("0x{}", hex::encode(transmitter)), "latest"]);
            let used = quantity(&world.rpc("eth_getTransactionCount", &count));
            (open == 0 && used == U256::from(next)).then_some(())
        });
    }
}

/// How many jobs and intents have not ended, the transmitter's address, and its next nonce.
fn open_work(database: &str) -> Option<(i64, Vec<u8>, i64)> {
    let statement = "select (select count(*) from oracle.jobs where state <> 'done')
            + (select count(*) from oracle.intents where state in ('queued', 'sent', 'included', 'reverted')),
            address, next_nonce
         from oracle.transmitters";
    runtime().block_on(async {
        let mut connection = sqlx::PgConnection::connect(database).await.ok()?;
        sqlx::query_as(statement).fetch_optional(&mut connection).await.ok()?
    })
}

/// What was stored through all the kills is what the stored facts say: the world is stopped, its database started alone,
/// and every projection derived again.
pub(crate) fn check_rebuild(world: &mut World, (head, stored): (u64, Value)) {
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

pub(crate) fn digest(world: &World, database: &str, last: u64) -> Value {
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
pub(crate) fn logs(world: &World, event: &str, request: Option<&str>) -> Vec<Value> {
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

pub(crate) fn balance(world: &World, account: &str) -> U256 {
    balance_of(world, &address(world, account))
}

fn balance_of(world: &World, address: &str) -> U256 {
    quantity(&world.rpc("eth_getBalance", &json!([address, "latest"])))
}

/// The number of the chain's latest block.
pub(crate) fn head(world: &World) -> u64 {
    let number = quantity(&world.rpc("eth_blockNumber", &json!([])));
    u64::try_from(number).expect("a block's number")
}

fn quantity(value: &Value) -> U256 {
    text(value).parse().expect("a quantity")
}
