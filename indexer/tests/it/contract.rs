//! Contracts that are followed by configuration alone, named or created by a factory: from their logs at a node to the
//! answers of GraphQL.

use std::path::Path;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, U256};
use alloy::sol;
use alloy::sol_types::SolEvent;
use auspex_devnet::postgres::TestDatabase;
use auspex_devnet::replay::{Branch, Draft, Replay};
use auspex_indexer::config::IndexerConfig;
use auspex_indexer::run::run;
use auspex_protocol::bindings::IERC20;
use clap::Parser;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const CHAIN_ID: u64 = 31_337;
const TOKEN: Address = Address::repeat_byte(0xc0);
const HEAD: u64 = 40;

const ABI: &str = r#"[{"type": "event", "name": "Transfer", "anonymous": false, "inputs": [
    {"name": "from", "type": "address", "indexed": true},
    {"name": "to", "type": "address", "indexed": true},
    {"name": "value", "type": "uint256"}]}]"#;

sol! {
    event PoolCreated(address indexed token, address pool);
    event Swap(address indexed trader, uint256 amount);
}

const FACTORY: Address = Address::repeat_byte(0xfa);

const FACTORY_ABI: &str = r#"[{"type": "event", "name": "PoolCreated", "anonymous": false, "inputs": [
    {"name": "token", "type": "address", "indexed": true},
    {"name": "pool", "type": "address"}]}]"#;

const POOL_ABI: &str = r#"[{"type": "event", "name": "Swap", "anonymous": false, "inputs": [
    {"name": "trader", "type": "address", "indexed": true},
    {"name": "amount", "type": "uint256"}]}]"#;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    config: IndexerConfig,
}

fn transfer(from: u8, value: U256) -> Draft {
    let event = IERC20::Transfer { from: Address::repeat_byte(from), to: Address::ZERO, value };
    (TOKEN, event.encode_log_data())
}

/// Adds blocks that each hold a transfer of their number, and an approval that nobody asked for.
fn grow(branch: &mut Branch, height: u64, from: u8) {
    while branch.head() < height {
        let value = U256::from(branch.head() + 1);
        let approval = IERC20::Approval { owner: TOKEN, spender: TOKEN, value };
        let transactions = [vec![transfer(from, value)], vec![(TOKEN, approval.encode_log_data())]];
        branch.mine(&transactions).unwrap();
    }
}

fn config(folder: &Path, database: &TestDatabase, node: &Replay, start: u64) -> IndexerConfig {
    let contract = json!({
        "name": "Usdc", "address": TOKEN, "abi": "abi.json", "events": ["Transfer"], "startBlock": start,
    });
    std::fs::write(folder.join("abi.json"), ABI).unwrap();
    config_with(folder, database, node, &contract)
}

fn config_with(
    folder: &Path,
    database: &TestDatabase,
    node: &Replay,
    contract: &Value,
) -> IndexerConfig {
    let address = |byte| format!("{:#x}", Address::repeat_byte(byte));
    let deployment = json!({
        "chainId": CHAIN_ID, "startBlock": 1, "agentRegistry": address(1), "operatorRegistry": address(2),
        "entryPolicy": address(3), "requestEscrow": address(4),
    });
    std::fs::write(folder.join("deployment.json"), deployment.to_string()).unwrap();
    std::fs::write(folder.join("contract.json"), contract.to_string()).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    Command::parse_from([
        "auspex",
        "--database-url",
        database.url(),
        "--rpc-url",
        node.url(),
        "--poll-ms",
        "10",
        "--deployment",
        &path("deployment.json"),
        "--contract",
        &path("contract.json"),
    ])
    .config
}

struct Indexer {
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
    url: String,
}

impl Indexer {
    async fn start(config: IndexerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/graphql", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(config, listener, shutdown.clone()));
        Self { shutdown, task, url }
    }

    async fn ask(&self, query: &str) -> Value {
        let request = reqwest::Client::new().post(&self.url).json(&json!({ "query": query }));
        match request.send().await {
            Ok(response) => response.json().await.unwrap(),
            // It does not listen yet.
            Err(_) => Value::Null,
        }
    }

    /// Asks until the answer is this one.
    async fn wait_for(&self, query: &str, expected: &Value) {
        let begun = Instant::now();
        loop {
            let answer = self.ask(query).await;
            if answer["data"] == *expected {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{query}: {answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.task.await.unwrap()
    }
}

#[tokio::test]
async fn a_contract_is_followed_by_configuration_alone() {
    let database = TestDatabase::create().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut branch = Branch::genesis().unwrap();
    grow(&mut branch, HEAD, 0xaa);
    let node = Replay::start(CHAIN_ID, branch.clone(), HEAD, (10, 20)).await.unwrap();
    let indexer = Indexer::start(config(folder.path(), &database, &node, 1)).await;

    let newest = "{ usdcTransfers(first: 2, orderBy: value, orderDirection: desc) { from value createdAtBlock finality } }";
    let row = |from: u8, number: u64, finality: &str| {
        json!({
            "from": Address::repeat_byte(from), "value": number.to_string(),
            "createdAtBlock": number.to_string(), "finality": finality,
        })
    };
    let rows = [row(0xaa, HEAD, "latest"), row(0xaa, HEAD - 1, "latest")];
    indexer.wait_for(newest, &json!({ "usdcTransfers": rows })).await;

    // The filters of every other entity, on numbers wider than any machine's and on bytes; and the past.
    let filtered = "{ usdcTransfers(where: {value_lte: \"3\", value_gt: \"1\", from_in: [\"0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]}) { value } }";
    let expected = json!({ "usdcTransfers": [{ "value": "2" }, { "value": "3" }] });
    indexer.wait_for(&ordered(filtered), &expected).await;
    let past = "{ usdcTransfers(block: {number: 5}, first: 1, orderBy: value, orderDirection: desc) { value } }";
    indexer.wait_for(past, &json!({ "usdcTransfers": [{ "value": "5" }] })).await;

    // A reorg takes its rows back like all others.
    let mut other = branch.fork(HEAD - 3, 1);
    grow(&mut other, HEAD - 2, 0xbb);
    other.mine(&[vec![transfer(0xcc, U256::MAX)]]).unwrap();
    other.mine(&[]).unwrap();
    other.mine(&[]).unwrap();
    node.switch(other.clone(), other.head());
    let largest = U256::MAX.to_string();
    let rows = json!([{ "value": largest }, { "value": (HEAD - 2).to_string() }]);
    let newest = "{ usdcTransfers(first: 2, orderBy: value, orderDirection: desc) { value } }";
    indexer.wait_for(newest, &json!({ "usdcTransfers": rows })).await;
    indexer.stop().await.unwrap();

    // Only what was asked for is kept.
    let facts = sqlx::query_scalar::<_, i64>("select count(*) from indexer.facts")
        .fetch_one(&database.pool())
        .await
        .unwrap();
    assert_eq!(facts, i64::try_from(HEAD - 3 + 2).unwrap());
}

/// Several logs of one transaction, of one block, and more than nine of them.
#[tokio::test]
async fn events_are_paged_by_their_ids_and_by_their_blocks_without_a_gap() {
    let database = TestDatabase::create().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut branch = Branch::genesis().unwrap();
    let mut count = 0_u64;
    let mut next = |logs: usize| -> Vec<Draft> {
        let numbers = (0..logs).map(|_| {
            count += 1;
            transfer(0xaa, U256::from(count))
        });
        numbers.collect()
    };
    for _ in 0..3 {
        let transactions = [next(3), next(1), next(9)];
        branch.mine(&transactions).unwrap();
        branch.mine(&[]).unwrap();
    }
    let node = Replay::start(CHAIN_ID, branch.clone(), branch.head(), (1, 2)).await.unwrap();
    let indexer = Indexer::start(config(folder.path(), &database, &node, 1)).await;
    let total = json!({ "usdcTransfersConnection": { "totalCount": count } });
    indexer.wait_for("{ usdcTransfersConnection { totalCount } }", &total).await;

    let all: Vec<u64> = (1..=count).collect();
    let values = |rows: &Value| -> Vec<u64> {
        let rows = rows.as_array().unwrap();
        rows.iter().map(|row| row["value"].as_str().unwrap().parse().unwrap()).collect()
    };
    // As clients of The Graph page: from the empty id on, each page behind the last id of the one before.
    for (direction, filter, start) in [("asc", "id_gt", ""), ("desc", "id_lt", "1")] {
        let (mut found, mut last) = (Vec::new(), start.to_owned());
        loop {
            let query = format!(
                "{{ usdcTransfers(first: 4, orderBy: id, orderDirection: {direction}, where: {{ {filter}: \"{last}\" }}) {{ id value }} }}"
            );
            let rows = indexer.ask(&query).await["data"]["usdcTransfers"].take();
            let Some(row) = rows.as_array().unwrap().last() else { break };
            last = row["id"].as_str().unwrap().to_owned();
            found.extend(values(&rows));
        }
        if direction == "desc" {
            found.reverse();
        }
        assert_eq!(found, all, "{direction}");
    }
    for order in ["id", "createdAtBlock", "createdTx", "value"] {
        for direction in ["asc", "desc"] {
            let (mut found, mut after) = (Vec::new(), Value::Null);
            loop {
                let query = format!(
                    "{{ usdcTransfersConnection(first: 4, after: {after}, orderBy: {order}, orderDirection: {direction}) {{
                        pageInfo {{ hasNextPage endCursor }} nodes {{ value }} }} }}"
                );
                let page = indexer.ask(&query).await["data"]["usdcTransfersConnection"].take();
                found.extend(values(&page["nodes"]));
                after = page["pageInfo"]["endCursor"].clone();
                if page["pageInfo"]["hasNextPage"] == false {
                    break;
                }
            }
            if order != "createdTx" {
                let mut expected = all.clone();
                if direction == "desc" {
                    expected.reverse();
                }
                assert_eq!(found, expected, "{order} {direction}");
            }
            found.sort_unstable();
            assert_eq!(found, all, "{order} {direction}");
        }
    }

    let rows = indexer.ask("{ usdcTransfers { id value createdAtBlock logIndex } }").await;
    let rows = rows["data"]["usdcTransfers"].as_array().unwrap();
    let id = |place: usize| rows[place]["id"].as_str().unwrap();
    assert_eq!(id(10), "0x00000000000000010000000a");
    assert_eq!((&rows[10]["createdAtBlock"], &rows[10]["logIndex"]), (&json!("1"), &json!(10)));
    let query = format!(
        "{{ one: usdcTransfer(id: \"{}\") {{ value }} none: usdcTransfer(id: \"0x01\") {{ value }}
            in: usdcTransfers(where: {{ id_in: [\"{}\", \"x\", \"{}\"] }}) {{ value }}
            not: usdcTransfersConnection(where: {{ id_not_in: [\"{}\"] }}) {{ totalCount }}
            changed: usdcTransfers(where: {{ _change_block: {{ number_gte: 5 }} }}, first: 1) {{ value }} }}",
        id(10),
        id(12),
        id(3),
        id(0)
    );
    let expected = json!({
        "one": { "value": "11" }, "none": null, "in": [{ "value": "4" }, { "value": "13" }],
        "not": { "totalCount": count - 1 }, "changed": [{ "value": "27" }],
    });
    assert_eq!(indexer.ask(&query).await["data"], expected);
    indexer.stop().await.unwrap();
}

fn ordered(query: &str) -> String {
    query.replace("usdcTransfers(", "usdcTransfers(orderBy: value, ")
}

/// Blocks that were indexed without a contract do not hold its logs, and nothing may look as if they did.
#[tokio::test]
async fn a_contract_that_comes_too_late_is_refused() {
    let database = TestDatabase::create().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut branch = Branch::genesis().unwrap();
    grow(&mut branch, HEAD, 0xaa);
    let node = Replay::start(CHAIN_ID, branch, HEAD, (10, 20)).await.unwrap();
    sqlx::query(
        "insert into indexer.cursors (chain_id, number, hash, time, start_number, head_number, safe_number, finalized_number)
         values ($1, 9, $2, 1, 1, 9, 0, 0)",
    )
    .bind(i64::try_from(CHAIN_ID).unwrap())
    .bind([7_u8; 32].as_slice())
    .execute(&database.pool())
    .await
    .unwrap();
    let indexer = Indexer::start(config(folder.path(), &database, &node, 9)).await;
    let error = indexer.task.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("already indexed") && error.contains("Usdc"), "{error}");
}

/// The same configuration without the contract.
fn without(mut config: IndexerConfig) -> IndexerConfig {
    config.contract.clear();
    config
}

/// Lets the node's chain grow and waits until that is indexed.
async fn index_to(database: &TestDatabase, node: &Replay, branch: &mut Branch, height: u64) {
    grow(branch, height, 0xaa);
    node.switch(branch.clone(), height);
    let begun = Instant::now();
    loop {
        let tip = sqlx::query_scalar::<_, i64>("select number from indexer.cursors")
            .fetch_optional(&database.pool())
            .await
            .unwrap();
        if tip == i64::try_from(height).ok() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "indexed up to {tip:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Why an indexer ends by itself.
async fn refusal(indexer: Indexer) -> String {
    let ended = tokio::time::timeout(Duration::from_secs(60), indexer.task).await;
    let error = ended.expect("it goes on").unwrap().unwrap_err();
    format!("{error:#}")
}

/// Blocks that were indexed while a contract was not in the configuration do not hold its logs.
#[tokio::test]
async fn a_contract_that_was_away_for_a_while_is_refused() {
    let database = TestDatabase::create().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut branch = Branch::genesis().unwrap();
    grow(&mut branch, 1, 0xaa);
    let node = Replay::start(CHAIN_ID, branch.clone(), 1, (10, 20)).await.unwrap();
    let with = |start: u64| config(folder.path(), &database, &node, start);

    // Twice, because a restart alone is no absence.
    for height in [HEAD, HEAD + 2] {
        let indexer = Indexer::start(with(1)).await;
        index_to(&database, &node, &mut branch, height).await;
        indexer.stop().await.unwrap();
    }
    let indexer = Indexer::start(without(with(1))).await;
    index_to(&database, &node, &mut branch, HEAD + 5).await;
    indexer.stop().await.unwrap();
    let error = refusal(Indexer::start(with(1)).await).await;
    let missing = format!("blocks {} to {} are already indexed without it", HEAD + 3, HEAD + 5);
    assert!(error.contains("Usdc") && error.contains(&missing), "{error}");

    // It may begin anew above the hole.
    let indexer = Indexer::start(with(HEAD + 6)).await;
    index_to(&database, &node, &mut branch, HEAD + 7).await;
    let newest = "{ usdcTransfers(first: 3, orderBy: value, orderDirection: desc) { value } }";
    let values = [HEAD + 7, HEAD + 6, HEAD + 2].map(|value| json!({ "value": value.to_string() }));
    indexer.wait_for(newest, &json!({ "usdcTransfers": values })).await;
    indexer.stop().await.unwrap();

    // So it is with a token, which has no block of its own to begin at.
    let mut config = with(HEAD + 6);
    config.token.push(Address::repeat_byte(0x70));
    let error = refusal(Indexer::start(config).await).await;
    assert!(error.contains("the token 0x7070") && error.contains("a new database, or"), "{error}");
}

/// What a standby was configured for and the process before it was not is told when it takes over.
#[tokio::test]
async fn a_standby_does_not_take_over_with_a_hole() {
    let database = TestDatabase::create().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut branch = Branch::genesis().unwrap();
    grow(&mut branch, 1, 0xaa);
    let node = Replay::start(CHAIN_ID, branch.clone(), 1, (10, 20)).await.unwrap();
    let with = config(folder.path(), &database, &node, HEAD + 3);
    let leader = Indexer::start(without(with.clone())).await;
    index_to(&database, &node, &mut branch, HEAD).await;
    let standby = Indexer::start(with).await;
    standby.wait_for("{ usdcTransfers { value } }", &json!({ "usdcTransfers": [] })).await;
    index_to(&database, &node, &mut branch, HEAD + 5).await;
    leader.stop().await.unwrap();
    let error = refusal(standby).await;
    let missing = format!("blocks {} to {} are already indexed without it", HEAD + 3, HEAD + 5);
    assert!(error.contains("Usdc") && error.contains(&missing), "{error}");
}

fn swap(pool: u8, amount: u64) -> Draft {
    let event = Swap { trader: TOKEN, amount: U256::from(amount) };
    (Address::repeat_byte(pool), event.encode_log_data())
}

fn creation(pool: u8) -> Draft {
    let event = PoolCreated { token: TOKEN, pool: Address::repeat_byte(pool) };
    (FACTORY, event.encode_log_data())
}

fn pools(folder: &Path, database: &TestDatabase, node: &Replay) -> IndexerConfig {
    std::fs::write(folder.join("factory.json"), FACTORY_ABI).unwrap();
    std::fs::write(folder.join("pool.json"), POOL_ABI).unwrap();
    let contract = json!({
        "name": "Pool", "abi": "pool.json", "events": ["Swap"], "startBlock": 1,
        "factory": {"address": FACTORY, "abi": "factory.json", "event": "PoolCreated", "parameter": "pool"},
    });
    config_with(folder, database, node, &contract)
}

#[tokio::test]
async fn what_a_factory_creates_is_followed_from_its_creation_on() {
    const POOL: u8 = 0xa1;
    const LATE: u8 = 0xa2;
    const STRANGER: u8 = 0xee;
    let database = TestDatabase::create().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut branch = Branch::genesis().unwrap();
    let noise = |branch: &mut Branch, height: u64| {
        while branch.head() < height {
            branch.mine(&[vec![swap(STRANGER, branch.head())]]).unwrap();
        }
    };
    // Before its creation a contract is a stranger; in the block of its creation its constructor speaks first.
    branch.mine(&[vec![swap(POOL, 1)]]).unwrap();
    branch.mine(&[vec![swap(POOL, 2), creation(POOL)], vec![swap(STRANGER, 2)]]).unwrap();
    noise(&mut branch, 10);
    branch.mine(&[vec![swap(POOL, 11), swap(STRANGER, 11)]]).unwrap();
    noise(&mut branch, 35);
    let fork = branch.head();
    branch.mine(&[vec![creation(LATE)], vec![swap(LATE, 36)]]).unwrap();
    branch.mine(&[vec![swap(LATE, 37), swap(POOL, 38)]]).unwrap();
    noise(&mut branch, HEAD);
    let node = Replay::start(CHAIN_ID, branch.clone(), HEAD, (10, 20)).await.unwrap();
    let indexer = Indexer::start(pools(folder.path(), &database, &node)).await;

    let all = "{ poolSwaps(orderBy: amount) { address amount } }";
    let row = |pool: u8, amount: u64| json!({ "address": Address::repeat_byte(pool), "amount": amount.to_string() });
    let rows = [row(POOL, 2), row(POOL, 11), row(LATE, 36), row(LATE, 37), row(POOL, 38)];
    indexer.wait_for(all, &json!({ "poolSwaps": rows })).await;
    let past = "{ poolSwaps(block: {number: 10}) { amount } }";
    indexer.wait_for(past, &json!({ "poolSwaps": [{ "amount": "2" }] })).await;

    // On another branch the second contract was never created, and nothing that it says counts.
    let mut other = branch.fork(fork, 1);
    other.mine(&[vec![swap(LATE, 36)]]).unwrap();
    other.mine(&[vec![swap(LATE, 37), swap(POOL, 39)]]).unwrap();
    noise(&mut other, HEAD + 2);
    node.switch(other.clone(), other.head());
    let rows = [row(POOL, 2), row(POOL, 11), row(POOL, 39)];
    indexer.wait_for(all, &json!({ "poolSwaps": rows })).await;
    indexer.stop().await.unwrap();

    // What was created is known again after a restart.
    other.mine(&[vec![swap(POOL, 42), swap(LATE, 41)], vec![creation(LATE)]]).unwrap();
    noise(&mut other, HEAD + 5);
    node.switch(other.clone(), other.head());
    let indexer = Indexer::start(pools(folder.path(), &database, &node)).await;
    let rows = [row(POOL, 2), row(POOL, 11), row(POOL, 39), row(LATE, 41), row(POOL, 42)];
    indexer.wait_for(all, &json!({ "poolSwaps": rows })).await;
    indexer.stop().await.unwrap();

    // Strangers' logs are not kept, although they were read.
    let facts = sqlx::query_scalar::<_, i64>("select count(*) from indexer.facts")
        .fetch_one(&database.pool())
        .await
        .unwrap();
    assert_eq!(facts, 2 + 5, "two creations and five swaps");
}
