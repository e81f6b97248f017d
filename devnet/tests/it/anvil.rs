use std::path::Path;
use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, U256, address};
use alloy::providers::ext::AnvilApi;
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::types::TransactionRequest;
use auspex_devnet::anvil::{Anvil, AnvilOptions, accounts};
use auspex_devnet::process::{Restart, Status};
use auspex_devnet::provision::{Progress, ToolsConfig};

use crate::wait::{again, read_report, report, report_file, runs, until};

const PAYEE: Address = address!("00000000000000000000000000000000000a5bec");

#[tokio::test]
async fn the_chain_answers_on_both_transports_and_its_accounts_are_the_public_ones() {
    let chain = start(AnvilOptions { chain_id: 84_532, ..AnvilOptions::for_tests() }).await;
    assert_eq!(http(&chain).get_chain_id().await.expect("chain id"), 84_532);
    assert_eq!(
        http(&chain).get_accounts().await.expect("accounts"),
        accounts::signers().map(|signer| signer.address())
    );
    let websocket = ProviderBuilder::new().connect(chain.ws_url().as_str()).await.expect("connect");
    assert_eq!(websocket.get_block_number().await.expect("head"), 0);
}

#[tokio::test]
async fn safe_and_finalized_lag_behind_the_head() {
    let chain = start(AnvilOptions::for_tests()).await;
    let provider = http(&chain);
    provider.anvil_mine(Some(100), None).await.expect("mine");
    let mut heights = Vec::new();
    for tag in [BlockNumberOrTag::Latest, BlockNumberOrTag::Safe, BlockNumberOrTag::Finalized] {
        let block = provider.get_block_by_number(tag).await.expect("block").expect("known");
        heights.push(block.header.number);
    }
    assert_eq!(heights, [100, 68, 36]);
}

#[tokio::test]
async fn a_chain_that_forgets_still_knows_its_finalized_state() {
    let chain = start(AnvilOptions { blocks_kept: Some(70), ..AnvilOptions::for_tests() }).await;
    let provider = http(&chain);
    provider.anvil_mine(Some(100), None).await.expect("mine");
    for tag in [BlockNumberOrTag::Latest, BlockNumberOrTag::Safe, BlockNumberOrTag::Finalized] {
        provider.get_balance(PAYEE).block_id(tag.into()).await.expect("a balance");
    }
    provider.get_balance(PAYEE).block_id(10.into()).await.expect_err("forgotten");
}

#[tokio::test]
async fn blocks_come_by_themselves_when_a_block_time_is_given() {
    let chain = start(AnvilOptions {
        block_time: Some(Duration::from_millis(100)),
        ..AnvilOptions::for_tests()
    })
    .await;
    let provider = http(&chain);
    let reached = tokio::time::timeout(Duration::from_secs(20), async {
        while provider.get_block_number().await.expect("head") < 3 {}
    });
    reached.await.expect("three blocks");
}

#[tokio::test]
async fn a_stopped_chain_resumes_with_all_blocks() {
    let folder = tempfile::tempdir().expect("folder");
    let options = || kept(&folder.path().join("state.json"), Duration::from_secs(1000));
    let chain = start(options()).await;
    pay(&chain).await;
    chain.stop().await;
    let chain = start(options()).await;
    assert_paid(&chain).await;
}

#[tokio::test]
async fn a_killed_chain_resumes_from_its_last_dump() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("state.json");
    let options = || kept(&file, Duration::from_secs(1));
    let chain = start(options()).await;
    pay(&chain).await;
    await_dump(&file);
    assert!(chain.kill9());
    drop(chain);
    let chain = start(options()).await;
    assert_paid(&chain).await;
}

#[tokio::test]
async fn a_chain_that_was_killed_while_it_wrote_its_state_resumes_from_the_copy() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("state.json");
    let options = || kept(&file, Duration::from_secs(1));
    let chain = start(options()).await;
    pay(&chain).await;
    await_dump(&folder.path().join("state.json.kept"));
    chain.kill9();
    drop(chain);
    let length = std::fs::metadata(&file).expect("state").len();
    let torn = std::fs::File::options().write(true).open(&file).expect("state");
    torn.set_len(length / 2).expect("tear");
    let chain = start(options()).await;
    assert_paid(&chain).await;
}

#[tokio::test]
async fn a_crashed_chain_comes_back_on_its_port_if_that_is_wanted() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("state.json");
    let chain = start(AnvilOptions {
        restart: Restart::Always { first: Duration::from_millis(10), max: Duration::from_secs(1) },
        ..kept(&file, Duration::from_secs(1))
    })
    .await;
    pay(&chain).await;
    await_dump(&file);
    let mut status = chain.status();
    chain.kill9();
    let again = |status: &Status| matches!(status, Status::Running { restarts: 1, .. });
    status.wait_for(again).await.expect("supervised");
    let provider = http(&chain);
    let answered = tokio::time::timeout(Duration::from_secs(20), async {
        while provider.get_block_number().await.is_err() {}
    });
    answered.await.expect("the chain answers again");
    assert_paid(&chain).await;
}

/// Two roles, like [`crate::process`]: the inner one runs a chain, is killed, and has a successor at once,
/// on the same port and with all blocks, also those since the last periodic dump.
#[test]
fn a_chain_whose_parent_was_killed_has_a_successor_at_once() {
    const NAME: &str = "anvil::a_chain_whose_parent_was_killed_has_a_successor_at_once";
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let options = |folder: &Path| kept(&folder.join("state.json"), Duration::from_secs(1000));
    if let Some(file) = report_file() {
        let chain = runtime.block_on(async {
            let chain = start(options(file.parent().expect("folder"))).await;
            pay(&chain).await;
            chain
        });
        report(&file, &chain.port().to_string());
        loop {
            std::thread::park();
        }
    }
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("report");
    let mut parent = again(NAME, &file);
    let port = read_report(&file).parse().expect("a number");
    parent.kill().expect("kill parent");
    parent.wait().expect("reap parent");
    runtime.block_on(async {
        let chain = start(AnvilOptions { port: Some(port), ..options(folder.path()) }).await;
        assert_paid(&chain).await;
    });
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = taken.local_addr().expect("address").port();
    let options = AnvilOptions { port: Some(port), ..AnvilOptions::for_tests() };
    let error = Anvil::start(&program().await, options).await.expect_err("taken");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn dropping_a_chain_ends_it() {
    let chain = start(AnvilOptions::for_tests()).await;
    let pid = chain.pid().expect("runs");
    drop(chain);
    assert!(!runs(pid));
}

fn kept(file: &Path, state_interval: Duration) -> AnvilOptions {
    AnvilOptions {
        state_file: Some(file.to_path_buf()),
        state_interval,
        ..AnvilOptions::for_tests()
    }
}

async fn start(options: AnvilOptions) -> Anvil {
    Anvil::start(&program().await, options).await.expect("chain")
}

async fn program() -> std::path::PathBuf {
    let config = ToolsConfig::from_environment().expect("tools");
    config.anvil(Progress::Lines).await.expect("anvil")
}

fn http(chain: &Anvil) -> DynProvider {
    let [signer, ..] = accounts::signers();
    ProviderBuilder::new().wallet(signer).connect_http(chain.http_url()).erased()
}

/// One transaction in a block.
async fn pay(chain: &Anvil) {
    let payment = TransactionRequest::default().with_to(PAYEE).with_value(U256::from(5));
    let sent = http(chain).send_transaction(payment).await.expect("send");
    assert!(sent.get_receipt().await.expect("receipt").status());
}

async fn assert_paid(chain: &Anvil) {
    let provider = http(chain);
    assert_eq!(provider.get_balance(PAYEE).await.expect("balance"), U256::from(5));
    let block = provider.get_block_by_number(1.into()).await.expect("block").expect("known");
    assert_eq!(block.transactions.len(), 1);
}

/// Waits for a complete state with the payment in it.
fn await_dump(file: &Path) {
    let payee = format!("{PAYEE:?}");
    until("the chain is written", || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.contains(&payee) && serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok()
    });
}
