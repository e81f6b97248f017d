//! A contract that is followed by configuration alone: from its logs at a node to the answers of GraphQL.

use std::path::Path;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, U256};
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
    let address = |byte| format!("{:#x}", Address::repeat_byte(byte));
    let deployment = json!({
        "chainId": CHAIN_ID, "startBlock": 1, "agentRegistry": address(1), "operatorRegistry": address(2),
        "entryPolicy": address(3), "requestEscrow": address(4),
    });
    let contract = json!({
        "name": "Usdc", "address": TOKEN, "abi": "abi.json", "events": ["Transfer"], "startBlock": start,
    });
    std::fs::write(folder.join("deployment.json"), deployment.to_string()).unwrap();
    std::fs::write(folder.join("abi.json"), ABI).unwrap();
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
