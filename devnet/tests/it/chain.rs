//! A kept chain is killed at every kind of moment, and is the same chain afterwards.

use std::path::Path;
use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, B256, U256, address};
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::types::TransactionRequest;
use auspex_devnet::anvil::{CHAIN_ID, accounts};
use auspex_devnet::chain::{Chain, ChainOptions, Mining};
use auspex_devnet::limits::JOURNAL_BLOCKS_MAX;
use auspex_devnet::provision::{Progress, ToolsConfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::wait::{DEADLINE, again, read_report, report, report_file, runs, until};

const PAYEE: Address = address!("00000000000000000000000000000000000a5bec");

/// Payments by several accounts, blocks, and kills, in a random order: after each kill the blocks are those of before, and
/// every payment that was accepted arrives once.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_killed_at_random_moments_is_the_same_chain() {
    let seed = std::env::var("AUSPEX_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random());
    eprintln!("AUSPEX_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("folder");
    let chain = start(folder.path(), Mining::OnDemand).await;
    let provider = http(&chain);
    let senders = provider.get_accounts().await.expect("accounts");
    let (mut paid, mut hashes) = (U256::ZERO, vec![hash_at(&provider, 0).await]);
    for _ in 0..60 {
        match random.random_range(0..10) {
            0..6 => {
                let value = U256::from(random.random_range(1..1_000));
                let payment = TransactionRequest::default()
                    .with_from(senders[random.random_range(0..3)])
                    .with_to(PAYEE)
                    .with_value(value);
                let sent: B256 = provider
                    .raw_request("eth_sendTransaction".into(), [payment])
                    .await
                    .expect("sent");
                assert!(!sent.is_zero());
                paid += value;
            }
            6..9 => {
                call(&provider, "evm_mine", json!([])).await;
                hashes.push(hash_at(&provider, hashes.len() as u64).await);
            }
            _ => kill9_in(&chain, Duration::from_micros(random.random_range(0..20_000))),
        }
    }
    kill9(&chain);
    call(&provider, "evm_mine", json!([])).await;
    for (number, hash) in hashes.iter().enumerate() {
        assert_eq!(hash_at(&provider, number as u64).await, *hash, "block {number}, seed {seed}");
    }
    assert_eq!(provider.get_block_number().await.expect("head"), hashes.len() as u64);
    assert_eq!(provider.get_balance(PAYEE).await.expect("balance"), paid, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_meet_a_killed_chain_are_answered_when_it_is_back() {
    let folder = tempfile::tempdir().expect("folder");
    let chain = start(folder.path(), Mining::Every(Duration::from_secs(1))).await;
    let provider = http(&chain);
    for expected in 1..=3 {
        kill9(&chain);
        let payment = TransactionRequest::default().with_to(PAYEE).with_value(U256::from(1));
        let sent = provider.send_transaction(payment).await.expect("a killed chain takes it");
        let receipt = sent.with_timeout(Some(DEADLINE)).get_receipt().await.expect("a receipt");
        assert!(receipt.status());
        kill9(&chain);
        let balance = provider.get_balance(PAYEE).await.expect("balance");
        assert_eq!(balance, U256::from(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_cut_when_it_is_full_and_the_chain_goes_on() {
    let folder = tempfile::tempdir().expect("folder");
    let chain = start(folder.path(), Mining::OnDemand).await;
    let provider = http(&chain);
    pay(&provider).await;
    call(&provider, "anvil_mine", json!([JOURNAL_BLOCKS_MAX])).await;
    // One that waits for its block is in the new journal as well.
    pay(&provider).await;
    let head = provider.get_block_number().await.expect("head");
    assert_eq!(head, u64::from(JOURNAL_BLOCKS_MAX));
    let journals = journals(folder.path());
    assert_eq!(journals.len(), 1, "{journals:?}");
    let lines = std::fs::read_to_string(&journals[0]).expect("journal").lines().count();
    assert_eq!(lines, 1, "the waiting payment alone");
    kill9(&chain);
    call(&provider, "evm_mine", json!([])).await;
    assert_eq!(provider.get_block_number().await.expect("head"), head + 1);
    assert_eq!(provider.get_balance(PAYEE).await.expect("balance"), U256::from(2));
    let old = provider.get_block_by_number(1.into()).await.expect("block").expect("known");
    assert_eq!(old.transactions.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_decreed_is_kept_before_it_is_answered() {
    let folder = tempfile::tempdir().expect("folder");
    let chain = start(folder.path(), Mining::OnDemand).await;
    let provider = http(&chain);
    call(&provider, "anvil_setBalance", json!([PAYEE, "0x7"])).await;
    kill9(&chain);
    assert_eq!(provider.get_balance(PAYEE).await.expect("balance"), U256::from(7));

    call(&provider, "anvil_mine", json!([5])).await;
    let before = hash_at(&provider, 5).await;
    call(&provider, "anvil_reorg", json!([2, []])).await;
    let after = hash_at(&provider, 5).await;
    assert_ne!(before, after);
    kill9(&chain);
    assert_eq!(hash_at(&provider, 5).await, after);
    call(&provider, "evm_mine", json!([])).await;
    assert_eq!(provider.get_block_number().await.expect("head"), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chains_clock_is_moved_and_stays_moved() {
    let folder = tempfile::tempdir().expect("folder");
    let chain = start(folder.path(), Mining::OnDemand).await;
    let provider = http(&chain);
    let started = time(&provider).await;
    call(&provider, "evm_increaseTime", json!([86_400])).await;
    call(&provider, "anvil_mine", json!([2, 60])).await;
    let moved = time(&provider).await;
    assert!(started + 86_460 <= moved, "{started} {moved}");
    kill9(&chain);
    call(&provider, "evm_mine", json!([])).await;
    assert!(moved < time(&provider).await);
    let exact = time(&provider).await + 1_000;
    call(&provider, "evm_setNextBlockTimestamp", json!([exact])).await;
    call(&provider, "evm_mine", json!([])).await;
    assert_eq!(time(&provider).await, exact);

    // Blocks whose times run ahead of the clock: the clock goes on from the head.
    call(&provider, "anvil_mine", json!([2, 5_000])).await;
    let head = time(&provider).await;
    call(&provider, "evm_increaseTime", json!([1_000])).await;
    call(&provider, "evm_mine", json!([])).await;
    assert!(head + 1_000 <= time(&provider).await);

    let error = refused(&provider, "evm_setNextBlockTimestamp", json!([1])).await;
    assert!(error.contains("the head's is"), "{error}");
    let error = refused(&provider, "anvil_mine", json!([1_000_000])).await;
    assert!(error.contains("at most 4096"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_mined_at_once_when_that_is_wanted() {
    let folder = tempfile::tempdir().expect("folder");
    let chain = start(folder.path(), Mining::OnDemand).await;
    let provider = http(&chain);
    call(&provider, "evm_setAutomine", json!([true])).await;
    for expected in 1..=3 {
        pay(&provider).await;
        assert_eq!(provider.get_block_number().await.expect("head"), expected);
    }
    let bad = provider.raw_request::<_, Value>("eth_sendRawTransaction".into(), ["0x00"]).await;
    let bad = bad.expect_err("no transaction");
    assert!(bad.as_error_resp().is_some(), "{bad}");
    assert_eq!(provider.get_block_number().await.expect("head"), 3, "nothing was mined for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_reads_writes_and_is_told_of_blocks() {
    let folder = tempfile::tempdir().expect("folder");
    let chain = start(folder.path(), Mining::AtOnce).await;
    let [signer, ..] = accounts::signers();
    let url = chain.ws_url();
    let provider = ProviderBuilder::new().wallet(signer).connect(url.as_str()).await;
    let provider = provider.expect("connect").erased();
    let mut blocks = provider.subscribe_blocks().await.expect("subscribe");
    pay(&provider).await;
    let header = tokio::time::timeout(DEADLINE, blocks.recv()).await.expect("in time");
    assert_eq!(header.expect("a block").number, 1);
    assert_eq!(provider.get_balance(PAYEE).await.expect("balance"), U256::from(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_in_order_and_nonsense_by_an_error() {
    let folder = tempfile::tempdir().expect("folder");
    let chain = start(folder.path(), Mining::OnDemand).await;
    let ask = |body: String| async {
        let sent = reqwest::Client::new().post(chain.http_url()).body(body).send().await;
        sent.expect("answered").json::<Value>().await.expect("JSON")
    };
    let number =
        |id: u64| json!({"jsonrpc": "2.0", "id": id, "method": "eth_blockNumber", "params": []});
    let mine = json!({"jsonrpc": "2.0", "id": 2, "method": "evm_mine", "params": []});
    let replies = ask(json!([number(1), mine, number(3)]).to_string()).await;
    let results: Vec<_> =
        replies.as_array().expect("a batch").iter().map(|r| &r["result"]).collect();
    assert_eq!(results, ["0x0", "0x0", "0x1"]);
    assert_eq!(ask("{".to_owned()).await["error"]["code"], -32_700);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_chain_resumes_and_nothing_of_it_runs_in_between() {
    let folder = tempfile::tempdir().expect("folder");
    let chain = start(folder.path(), Mining::OnDemand).await;
    pay(&http(&chain)).await;
    call(&http(&chain), "evm_mine", json!([])).await;
    let head = hash_at(&http(&chain), 1).await;
    let pid = chain.pid().expect("runs");
    chain.stop().await;
    assert!(!runs(pid));
    let chain = start(folder.path(), Mining::OnDemand).await;
    assert_eq!(hash_at(&http(&chain), 1).await, head);
    let pid = chain.pid().expect("runs");
    drop(chain);
    assert!(!runs(pid));
}

/// Two roles, like [`crate::anvil`]: the inner one keeps a chain and is killed; its successor has the same chain.
#[test]
fn a_chain_whose_keeper_was_killed_has_a_successor_at_once() {
    const NAME: &str = "chain::a_chain_whose_keeper_was_killed_has_a_successor_at_once";
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    if let Some(file) = report_file() {
        let head = runtime.block_on(async {
            let chain = start(file.parent().expect("folder"), Mining::OnDemand).await;
            pay(&http(&chain)).await;
            call(&http(&chain), "evm_mine", json!([])).await;
            pay(&http(&chain)).await;
            let head = hash_at(&http(&chain), 1).await;
            std::mem::forget(chain);
            head
        });
        report(&file, &head.to_string());
        loop {
            std::thread::park();
        }
    }
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("report");
    let mut parent = again(NAME, &file);
    let head = read_report(&file);
    parent.kill().expect("kill parent");
    parent.wait().expect("reap parent");
    runtime.block_on(async {
        let chain = start(folder.path(), Mining::OnDemand).await;
        let provider = http(&chain);
        assert_eq!(hash_at(&provider, 1).await.to_string(), head);
        call(&provider, "evm_mine", json!([])).await;
        assert_eq!(provider.get_balance(PAYEE).await.expect("balance"), U256::from(2));
    });
}

#[tokio::test]
async fn a_damaged_chain_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("chain")).expect("create");
    std::fs::write(folder.path().join("chain/state.json"), "{").expect("damage");
    let error = Chain::start(&program().await, options(folder.path(), Mining::OnDemand)).await;
    let error = error.expect_err("damaged").to_string();
    assert!(error.contains("state.json is damaged"), "{error}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = taken.local_addr().expect("address").port();
    let options = ChainOptions { port: Some(port), ..options(folder.path(), Mining::OnDemand) };
    let error = Chain::start(&program().await, options).await.expect_err("taken");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

fn options(folder: &Path, mining: Mining) -> ChainOptions {
    ChainOptions {
        port: None,
        chain_id: CHAIN_ID,
        mining,
        folder: folder.join("chain"),
        log: folder.join("chain.log"),
    }
}

async fn start(folder: &Path, mining: Mining) -> Chain {
    Chain::start(&program().await, options(folder, mining)).await.expect("chain")
}

async fn program() -> std::path::PathBuf {
    let config = ToolsConfig::from_environment().expect("tools");
    config.anvil(Progress::Lines).await.expect("anvil")
}

fn http(chain: &Chain) -> DynProvider {
    let [signer, ..] = accounts::signers();
    ProviderBuilder::new().wallet(signer).connect_http(chain.http_url()).erased()
}

fn kill9(chain: &Chain) {
    let Some(pid) = chain.pid() else { return };
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
    // It may be dead already, since two kills can follow each other at once.
    let _ = kill(pid, Signal::SIGKILL);
    until("anvil is dead", || !runs(pid.as_raw().unsigned_abs()));
}

/// Kills in the middle of what comes next.
fn kill9_in(chain: &Chain, pause: Duration) {
    let Some(pid) = chain.pid() else { return };
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
    std::thread::spawn(move || {
        std::thread::sleep(pause);
        let _ = kill(pid, Signal::SIGKILL);
    });
}

async fn call(provider: &DynProvider, method: &'static str, params: Value) -> Value {
    provider
        .raw_request(method.into(), params)
        .await
        .unwrap_or_else(|error| panic!("{method}: {error}"))
}

async fn refused(provider: &DynProvider, method: &'static str, params: Value) -> String {
    let answer = provider.raw_request::<_, Value>(method.into(), params).await;
    answer.expect_err("refused").to_string()
}

async fn pay(provider: &DynProvider) {
    let payment = TransactionRequest::default().with_to(PAYEE).with_value(U256::from(1));
    let sent = provider.send_transaction(payment).await.expect("send");
    assert!(!sent.tx_hash().is_zero());
}

async fn hash_at(provider: &DynProvider, number: u64) -> B256 {
    let block = provider.get_block_by_number(number.into()).await.expect("block");
    block.unwrap_or_else(|| panic!("no block {number}")).header.hash
}

async fn time(provider: &DynProvider) -> u64 {
    let block = provider.get_block_by_number(BlockNumberOrTag::Latest).await.expect("block");
    block.expect("a head").header.timestamp
}

fn journals(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder.join("chain")).expect("folder");
    let paths = entries.map(|entry| entry.expect("entry").path());
    paths.filter(|path| path.to_string_lossy().contains("journal-")).collect()
}
