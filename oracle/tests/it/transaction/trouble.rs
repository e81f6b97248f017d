//! What goes wrong between a signature and a safe block, one case after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, Bytes, U256};
use alloy::providers::Provider;
use alloy::providers::ext::AnvilApi;
use alloy::rpc::types::TransactionRequest;
use auspex_oracle::chain::Chain;
use auspex_oracle::config::SecretUrl;
use auspex_oracle::transaction::fee::Fees;
use auspex_oracle::transaction::intent::Call;
use auspex_oracle::transaction::plan::{Action, Blocked, IntentId};
use auspex_oracle::transaction::sign::{self, Terms};
use auspex_oracle::transaction::store::assign;
use axum::extract::State;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::bench::{Bench, ETHER, KEY, REVERTS, TARGET};
use crate::scene::chain::key;

const GWEI: u128 = 1_000_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_signed_and_not_sent_goes_out_as_the_bytes_that_it_was() {
    let mut bench = Bench::new().await;
    let request = bench.intent().await;
    let fees = Fees { max_fee: 20 * GWEI, priority: GWEI };
    let terms = Terms { chain_id: 31337, nonce: 0, fees, gas_limit: 60_000 };
    let call = Call { target: TARGET, calldata: Bytes::from_static(&[1, 2, 3, 4]) };
    let signed = sign::call(&bench.manager.key, terms, &call).await.expect("signed");
    let intent = bench.newest().await;
    assign(&bench.database.pool(), &bench.custody, intent, 0, &signed).await.expect("stored");
    // Here the process dies. The next one finds the bytes, sends them, and signs nothing anew.
    let actions = bench.step().await;
    assert_eq!(actions, [Action::Resend { hash: signed.hash }]);
    bench.mine(1).await;
    let mined = bench.provider.get_transaction_by_hash(signed.hash).await.expect("read");
    assert!(mined.is_some_and(|mined| mined.block_number == Some(1)));
    bench.quiesce().await;
    assert_eq!(bench.state(request).await, "confirmed");
    assert_eq!(bench.hashes().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_settled_is_no_gap_where_an_endpoint_lags_behind_it() {
    let bench = Bench::new().await;
    let pool = &bench.database.pool();
    // As if nonce 0 were settled long ago, and the endpoint had not seen it yet.
    sqlx::query(
        "insert into oracle.intents (transmitter, kind, target, calldata, state, nonce)
         values ($1, 'filler', $1, '', 'confirmed', 0)",
    )
    .bind(key(KEY).address().as_slice())
    .execute(pool)
    .await
    .expect("settled");
    sqlx::query("update oracle.transmitters set next_nonce = 2").execute(pool).await.expect("next");
    let actions = bench.step().await;
    assert!(
        matches!(actions[..], [Action::Fill { nonce: 0, .. }, Action::Fill { nonce: 1, .. }]),
        "{actions:?}"
    );
    let filled: Vec<(i64, String)> =
        sqlx::query_as("select nonce, state from oracle.intents order by nonce")
            .fetch_all(pool)
            .await
            .expect("intents");
    assert_eq!(filled, [(0, "confirmed".to_owned()), (1, "sent".to_owned())]);
    assert_eq!(bench.hashes().await.len(), 1, "nothing is signed twice for a nonce");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stuck_at_the_cap_it_is_mined_when_the_market_falls() {
    let mut bench = Bench::new().await;
    let request = bench.intent().await;
    bench.step().await;
    bench.manager.policy.raise_after = Duration::ZERO;
    bench.manager.policy.fee_cap = bench.highest_fee().await;
    for _ in 0..3 {
        bench.base_fee(900 * GWEI).await;
        bench.mine(1).await;
        let actions = bench.step().await;
        assert!(matches!(actions[..], [Action::Resend { .. }]), "{actions:?}");
    }
    // A new one is not begun while the market is over the cap.
    let next = bench.intent().await;
    let actions = bench.step().await;
    assert!(actions.contains(&Action::Report(Blocked::FeeCap)), "{actions:?}");
    assert_eq!(bench.state(next).await, "queued");
    bench.base_fee(GWEI / 10).await;
    bench.mine(1).await;
    bench.base_fee(GWEI / 10).await;
    bench.quiesce().await;
    assert_eq!(bench.state(request).await, "confirmed");
    assert_eq!(bench.state(next).await, "confirmed");
    assert_eq!(bench.hashes().await.len(), 2, "nothing was signed twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_replacement_is_no_loss() {
    let mut bench = Bench::new().await;
    let request = bench.intent().await;
    bench.step().await;
    bench.forget().await;
    // Somebody else with the key offers far more for the same nonce.
    let rival = TransactionRequest::default()
        .with_to(Address::repeat_byte(0xbb))
        .with_value(U256::from(1))
        .with_nonce(0)
        .with_max_fee_per_gas(400 * GWEI)
        .with_max_priority_fee_per_gas(300 * GWEI);
    let rival = bench.provider.send_transaction(rival).await.expect("sent");
    bench.manager.policy.raise_after = Duration::ZERO;
    let before = bench.manager.meters.transactions_refused.get();
    bench.step().await;
    assert!(before < bench.manager.meters.transactions_refused.get(), "the endpoint refuses ours");
    assert_eq!(bench.state(request).await, "sent", "a refusal decides nothing");
    bench.mine(1).await;
    let mined = bench.provider.get_transaction_receipt(*rival.tx_hash()).await.expect("read");
    assert!(mined.is_some());
    bench.quiesce().await;
    assert_eq!(bench.state(request).await, "replaced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fee_spike_raises_all_that_are_under_way_and_leaves_no_gap() {
    let mut bench = Bench::new().await;
    let mut requests = Vec::new();
    for _ in 0..5 {
        requests.push(bench.intent().await);
    }
    bench.step().await;
    assert_eq!(bench.pending().await, "0x5");
    bench.manager.policy.raise_after = Duration::ZERO;
    for _ in 0..12 {
        bench.base_fee(30 * GWEI).await;
        bench.mine(1).await;
        bench.step().await;
    }
    bench.quiesce().await;
    for request in requests {
        assert_eq!(bench.state(request).await, "confirmed");
    }
    let nonce = bench.provider.get_transaction_count(key(KEY).address()).await.expect("nonce");
    assert_eq!(nonce, 5);
    assert!(5 < bench.hashes().await.len(), "some were raised");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purse_that_runs_empty_pauses_and_goes_on_when_it_is_filled() {
    let mut bench = Bench::new().await;
    let address = key(KEY).address();
    let first = bench.intent().await;
    bench.step().await;
    bench.provider.anvil_set_balance(address, U256::from(1_000)).await.expect("emptied");
    bench.mine(1).await;
    bench.step().await;
    assert_eq!(bench.state(first).await, "sent", "nobody mines what cannot be paid for");
    bench.provider.anvil_set_balance(address, U256::from(ETHER)).await.expect("filled");
    bench.step().await;
    let second = bench.intent().await;
    bench.quiesce().await;
    assert_eq!(bench.state(first).await, "confirmed");
    assert_eq!(bench.state(second).await, "confirmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_wins_against_its_own_cancellation_counts() {
    let mut bench = Bench::new().await;
    let request = bench.intent().await;
    bench.step().await;
    let original = bench.raw_of_first().await;
    bench.sql("update oracle.intents set wanted = false").await;
    bench.manager.policy.raise_after = Duration::ZERO;
    let actions = bench.step().await;
    assert!(matches!(actions[..], [Action::Raise { cancels: true, .. }]), "{actions:?}");
    bench.forget().await;
    let _ = bench.provider.send_raw_transaction(&original).await.expect("the original arrives");
    bench.mine(1).await;
    bench.step().await;
    assert_eq!(bench.state(request).await, "included");
    bench.mine(40).await;
    bench.step().await;
    assert_eq!(bench.state(request).await, "confirmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorg_may_put_the_original_in_the_place_of_its_cancellation() {
    let mut bench = Bench::new().await;
    let request = bench.intent().await;
    bench.step().await;
    let original = bench.raw_of_first().await;
    bench.sql("update oracle.intents set wanted = false").await;
    bench.step().await;
    bench.mine(1).await;
    bench.step().await;
    assert_eq!(bench.state(request).await, "reverted", "the cancellation used the nonce");
    let _: Value = bench
        .provider
        .raw_request("anvil_reorg".into(), (1, [(json!(original), 0)]))
        .await
        .expect("reorg");
    bench.step().await;
    assert_eq!(bench.state(request).await, "included");
    bench.mine(40).await;
    bench.step().await;
    assert_eq!(bench.state(request).await, "confirmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorg_may_turn_success_into_failure_and_back() {
    let mut bench = Bench::new().await;
    let request = bench.intent().await;
    bench.step().await;
    bench.mine(1).await;
    bench.step().await;
    assert_eq!(bench.state(request).await, "included");
    for (code, expected) in [(REVERTS, "reverted"), (Bytes::new(), "included")] {
        bench.reorg(1).await;
        bench.set_code(code).await;
        bench.step().await;
        bench.mine(1).await;
        bench.step().await;
        assert_eq!(bench.state(request).await, expected);
    }
    bench.mine(40).await;
    bench.step().await;
    assert_eq!(bench.state(request).await, "confirmed");
    assert_eq!(bench.hashes().await.len(), 1, "the same bytes on every branch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorged_transaction_that_pays_too_little_by_now_is_raised() {
    let mut bench = Bench::new().await;
    let request = bench.intent().await;
    bench.step().await;
    bench.mine(1).await;
    bench.step().await;
    bench.reorg(1).await;
    bench.forget().await;
    bench.manager.policy.raise_after = Duration::ZERO;
    for _ in 0..12 {
        bench.base_fee(30 * GWEI).await;
        bench.mine(1).await;
        bench.step().await;
    }
    bench.quiesce().await;
    assert_eq!(bench.state(request).await, "confirmed");
    assert!(1 < bench.hashes().await.len(), "it was raised");
    let nonce = bench.provider.get_transaction_count(key(KEY).address()).await.expect("nonce");
    assert_eq!(nonce, 1);
}

/// An endpoint that lost its receipts, or is behind, proves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_that_is_missing_takes_nothing_back() {
    let mut bench = Bench::new().await;
    let forgetful = Forgetful::start(&bench).await;
    let deployment = bench.manager.chain.deployment().clone();
    bench.manager.chain = Chain::new(std::slice::from_ref(&forgetful.url), deployment);
    let request = bench.intent().await;
    bench.step().await;
    bench.mine(1).await;
    bench.step().await;
    assert_eq!(bench.state(request).await, "included");
    forgetful.without_receipts(true);
    assert_eq!(bench.step().await, []);
    assert_eq!(bench.state(request).await, "included");
    // Another block in its place does.
    bench.reorg(1).await;
    bench.forget().await;
    let actions = bench.step().await;
    assert!(
        matches!(actions[..], [Action::Resend { .. }, Action::Record { inclusion: None, .. }]),
        "{actions:?}"
    );
    forgetful.without_receipts(false);
    bench.quiesce().await;
    assert_eq!(bench.state(request).await, "confirmed");
}

/// Passes everything on to anvil, and loses receipts when told to.
struct Forgetful {
    url: SecretUrl,
    lost: Arc<AtomicBool>,
}

impl Forgetful {
    async fn start(bench: &Bench) -> Self {
        let lost = Arc::new(AtomicBool::new(false));
        let state = (bench.anvil.http_url().to_string(), Arc::clone(&lost));
        let app = Router::new().fallback(pass_on).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await.expect("serve") });
        Self { url: url.parse().expect("a URL"), lost }
    }

    fn without_receipts(&self, without: bool) {
        self.lost.store(without, Ordering::SeqCst);
    }
}

async fn pass_on(
    State((anvil, lost)): State<(String, Arc<AtomicBool>)>,
    Json(call): Json<Value>,
) -> Json<Value> {
    if call["method"] == "eth_getTransactionReceipt" && lost.load(Ordering::SeqCst) {
        return Json(json!({ "jsonrpc": "2.0", "id": call["id"], "result": null }));
    }
    let reply = reqwest::Client::new().post(anvil).json(&call).send().await.expect("a reply");
    Json(reply.json().await.expect("JSON"))
}

impl Bench {
    async fn newest(&self) -> IntentId {
        let id: i64 = sqlx::query_scalar("select max(id) from oracle.intents")
            .fetch_one(&self.database.pool())
            .await
            .expect("an intent");
        IntentId(id)
    }

    async fn highest_fee(&self) -> u128 {
        let fee: i64 = sqlx::query_scalar("select max(max_fee) from oracle.transactions")
            .fetch_one(&self.database.pool())
            .await
            .expect("a fee");
        u128::try_from(fee).expect("a fee")
    }

    async fn raw_of_first(&self) -> Bytes {
        let raw: Vec<u8> =
            sqlx::query_scalar("select raw from oracle.transactions order by signed_at limit 1")
                .fetch_one(&self.database.pool())
                .await
                .expect("a transaction");
        raw.into()
    }

    async fn sql(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.database.pool()).await.expect("a statement");
    }

    async fn base_fee(&self, wei: u128) {
        let _: Value = self
            .provider
            .raw_request("anvil_setNextBlockBaseFeePerGas".into(), [format!("{wei:#x}")])
            .await
            .expect("a base fee");
    }
}
