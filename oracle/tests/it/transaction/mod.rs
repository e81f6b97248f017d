//! The transaction manager against anvil.

mod batches;
mod bench;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, B256, Bytes, U256, bytes};
use alloy::providers::Provider;
use alloy::providers::ext::AnvilApi;
use alloy::rpc::types::TransactionRequest;
use auspex_devnet::postgres::TestDatabase;
use auspex_oracle::limits::{CONSECUTIVE_REVERTS_MAX, NOTING_DEFERRED_MAX};
use auspex_oracle::transaction::custody::resume;
use auspex_oracle::transaction::intent::Call;
use auspex_oracle::transaction::plan::{Action, Blocked};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::scene::chain::key;

use self::bench::{Bench, ETHER, KEY, REVERTS, TARGET, manager};

/// The most blocks that the restless world takes back at once.
const DEEPEST_REORG: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_intent_is_confirmed_when_its_block_is_safe_and_not_before() {
    let mut bench = Bench::new().await;
    let request = bench.intent().await;
    bench.step().await;
    assert_eq!(bench.state(request).await, "sent");
    bench.mine(1).await;
    bench.step().await;
    assert_eq!(bench.state(request).await, "included");
    bench.mine(30).await;
    bench.step().await;
    assert_eq!(bench.state(request).await, "included");
    bench.mine(5).await;
    bench.step().await;
    assert_eq!(bench.state(request).await, "confirmed");
    assert_eq!(bench.hashes().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_transaction_is_sent_again_as_it_was() {
    let mut bench = Bench::new().await;
    bench.intent().await;
    bench.step().await;
    let before = bench.hashes().await;
    bench.forget().await;
    assert_eq!(bench.pending().await, "0x0");
    let actions = bench.step().await;
    assert!(matches!(actions[..], [Action::Resend { .. }]), "{actions:?}");
    assert_eq!(bench.pending().await, "0x1");
    assert_eq!(bench.hashes().await, before);
    // Sending what the endpoint has already is no error.
    bench.step().await;
    assert_eq!(bench.hashes().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_a_pending_transaction_sends_the_same_bytes() {
    let mut bench = Bench::new().await;
    let request = bench.intent().await;
    bench.step().await;
    bench.forget().await;
    let second = manager(&bench.anvil, &bench.database);
    let none = second.take_custody().await.expect("asked");
    assert!(none.is_none(), "one process at a time");
    let epoch = bench.custody.epoch;
    // The process dies: its session ends.
    let first = std::mem::replace(&mut bench.manager, second);
    end_sessions(&bench.database).await;
    let custody = crate::scene::eventually("the lock is free", || async {
        bench.manager.take_custody().await.expect("asked")
    })
    .await;
    assert!(epoch < custody.epoch);
    let zombie = std::mem::replace(&mut bench.custody, custody);
    bench.manager.step(&bench.custody, true).await.expect("a step");
    assert_eq!(bench.pending().await, "0x1");
    assert_eq!(bench.hashes().await.len(), 1);

    // The first was only asleep. It can neither plan nor write.
    let mut zombie = zombie;
    zombie.confirm().await.expect_err("its session is gone");
    bench.mine(1).await;
    let error = first.step(&zombie, false).await.expect_err("fenced");
    assert!(auspex_oracle::transaction::manager::lost_custody(&error), "{error:#}");
    bench.step().await;
    assert_eq!(bench.state(request).await, "included");
}

async fn end_sessions(database: &TestDatabase) {
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_locks
         where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())",
    )
    .execute(&database.pool())
    .await
    .expect("ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_pays_too_little_is_raised_until_it_is_mined() {
    let mut bench = Bench::new().await;
    bench.manager.policy.raise_after = Duration::ZERO;
    bench.manager.policy.resend_after = Duration::from_secs(3600);
    let request = bench.intent().await;
    bench.step().await;
    let spike = 40_000_000_000u64;
    for _ in 0..30 {
        let _: Value = bench
            .provider
            .raw_request("anvil_setNextBlockBaseFeePerGas".into(), [format!("{spike:#x}")])
            .await
            .expect("base fee");
        bench.mine(1).await;
        bench.step().await;
        if bench.state(request).await == "included" {
            break;
        }
    }
    assert_eq!(bench.state(request).await, "included");
    let fees: Vec<(i64, i64)> =
        sqlx::query_as("select max_fee, priority_fee from oracle.transactions order by max_fee")
            .fetch_all(&bench.database.pool())
            .await
            .expect("fees");
    assert!(2 <= fees.len());
    for pair in fees.windows(2) {
        assert!(pair[0].0 * 110 <= pair[1].0 * 100, "{fees:?}");
        assert!(pair[0].1 * 110 <= pair[1].1 * 100, "{fees:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_cap_it_is_only_sent_again() {
    let mut bench = Bench::new().await;
    bench.manager.policy.raise_after = Duration::ZERO;
    bench.intent().await;
    bench.step().await;
    let highest: i64 = sqlx::query_scalar("select max(max_fee) from oracle.transactions")
        .fetch_one(&bench.database.pool())
        .await
        .expect("a fee");
    bench.manager.policy.fee_cap = u128::try_from(highest).expect("a fee") + 1;
    for _ in 0..3 {
        let actions = bench.step().await;
        assert!(matches!(actions[..], [Action::Resend { .. }]), "{actions:?}");
    }
    assert_eq!(bench.hashes().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonces_are_contiguous_and_a_gap_is_filled() {
    let mut bench = Bench::new().await;
    sqlx::query("update oracle.transmitters set next_nonce = 3")
        .execute(&bench.database.pool())
        .await
        .expect("a gap");
    let first = bench.intent().await;
    let second = bench.intent().await;
    let actions = bench.step().await;
    let fills = actions.iter().filter(|action| matches!(action, Action::Fill { .. })).count();
    assert_eq!(fills, 3, "{actions:?}");
    bench.quiesce().await;
    assert_eq!(bench.state(first).await, "confirmed");
    assert_eq!(bench.state(second).await, "confirmed");
    let nonces: Vec<i64> = sqlx::query_scalar("select nonce from oracle.intents order by nonce")
        .fetch_all(&bench.database.pool())
        .await
        .expect("nonces");
    assert_eq!(nonces, [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nonce_that_something_else_used_is_replaced_and_the_next_intent_goes_on() {
    let mut bench = Bench::new().await;
    let request = bench.intent().await;
    bench.step().await;
    bench.forget().await;
    // The same key from elsewhere.
    let foreign = TransactionRequest::default()
        .with_to(Address::repeat_byte(0xbb))
        .with_value(U256::from(1))
        .with_nonce(0);
    bench.manager.policy.resend_after = Duration::from_secs(3600);
    let _ = bench.provider.send_transaction(foreign).await.expect("sent");
    bench.mine(1).await;
    bench.step().await;
    assert_eq!(bench.state(request).await, "sent", "not decided before it is safe");
    bench.mine(40).await;
    bench.step().await;
    assert_eq!(bench.state(request).await, "replaced");
    let next = bench.intent().await;
    bench.quiesce().await;
    assert_eq!(bench.state(next).await, "confirmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonces_that_were_used_behind_our_back_are_adopted() {
    let mut bench = Bench::new().await;
    for nonce in 0..2 {
        let foreign = TransactionRequest::default()
            .with_to(Address::repeat_byte(0xbb))
            .with_value(U256::from(1))
            .with_nonce(nonce);
        let _ = bench.provider.send_transaction(foreign).await.expect("sent");
    }
    bench.mine(1).await;
    let request = bench.intent().await;
    let actions = bench.step().await;
    assert_eq!(actions, [Action::Adopt { next_nonce: 2 }]);
    assert_eq!(bench.manager.meters.nonces_adopted.get(), 1);
    bench.quiesce().await;
    assert_eq!(bench.state(request).await, "confirmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_gas_money_or_budget_nothing_is_sent_until_there_is_some() {
    let mut bench = Bench::new().await;
    let address = key(KEY).address();
    bench.provider.anvil_set_balance(address, U256::ZERO).await.expect("emptied");
    let request = bench.intent().await;
    // An endpoint refuses to estimate for an empty account, so the gas is weighed while there is some.
    bench.provider.anvil_set_balance(address, U256::from(1_000)).await.expect("nearly empty");
    sqlx::query("update oracle.intents set gas_limit = 50000")
        .execute(&bench.database.pool())
        .await
        .expect("weighed");
    assert_eq!(bench.step().await, [Action::Report(Blocked::Balance)]);
    assert_eq!(bench.manager.meters.blocked.get(), 1);
    bench.provider.anvil_set_balance(address, U256::from(ETHER)).await.expect("funded");
    bench.manager.policy.budget = 1_000;
    assert_eq!(bench.step().await, [Action::Report(Blocked::Budget)]);
    bench.manager.policy.budget = ETHER;
    bench.step().await;
    assert_eq!(bench.state(request).await, "sent");
    assert_eq!(bench.manager.meters.blocked.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_settled_counts_against_the_budget_at_once() {
    let mut bench = Bench::new().await;
    let first = bench.intent().await;
    bench.quiesce().await;
    assert_eq!(bench.state(first).await, "confirmed");
    let spent: String = sqlx::query_scalar("select sum(cost)::text from oracle.transactions")
        .fetch_one(&bench.database.pool())
        .await
        .expect("a sum");
    let spent: u128 = spent.parse().expect("a number");
    assert!(0 < spent);
    bench.manager.policy.budget = spent;
    bench.intent().await;
    assert_eq!(bench.step().await, [Action::Report(Blocked::Budget)]);
    bench.manager.policy.budget = ETHER;
    assert!(matches!(bench.step().await[..], [Action::Send { .. }]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_a_transaction_is_noted_however_many_deliveries_come() {
    let mut bench = Bench::new().await;
    let request = bench.intent().await;
    bench.step().await;
    bench.mine(1).await;
    let meters = Arc::clone(&bench.manager.meters);
    let coming = tokio::spawn(async move {
        loop {
            meters.deliveries_intended.add(1);
            tokio::task::yield_now().await;
        }
    });
    let mut looks = 0;
    while bench.state(request).await != "included" {
        looks += 1;
        assert!(looks <= NOTING_DEFERRED_MAX + 1, "not noted in {looks} looks");
        let actions = bench.step().await;
        assert!(matches!(actions[..], [Action::Record { .. }]), "{actions:?}");
    }
    coming.abort();
    assert!(1 < looks, "deliveries came all the time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gas_that_suffices_is_told_from_gas_that_does_not() {
    let bench = Bench::new().await;
    let call = Call { target: TARGET, calldata: bytes!("01020304") };
    let suffices = async |gas| {
        let asked = bench.manager.chain.suffices(key(KEY).address(), &call, gas).await;
        asked.expect("an answer")
    };
    assert!(suffices(30_000).await);
    assert!(!suffices(21_010).await, "the call's bytes cost 64");
    bench.set_code(REVERTS).await;
    assert!(!suffices(100_000).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pointless_transaction_is_cancelled_or_never_sent() {
    let mut bench = Bench::new().await;
    let sent = bench.intent().await;
    bench.step().await;
    let queued = bench.intent().await;
    sqlx::query("update oracle.intents set wanted = false")
        .execute(&bench.database.pool())
        .await
        .expect("pointless");
    bench.step().await;
    assert_eq!(bench.state(queued).await, "replaced");
    bench.mine(1).await;
    bench.quiesce().await;
    assert_eq!(bench.state(sent).await, "replaced");
    let nonce = bench.provider.get_transaction_count(key(KEY).address()).await.expect("nonce");
    assert_eq!(nonce, 1);
    let last = bench
        .provider
        .get_block_by_number(BlockNumberOrTag::Number(1))
        .full()
        .await
        .expect("read")
        .expect("a block");
    let mined: Vec<B256> = last.transactions.hashes().collect();
    let cancels: bool =
        sqlx::query_scalar("select cancels from oracle.transactions where hash = $1")
            .bind(mined[0].as_slice())
            .fetch_one(&bench.database.pool())
            .await
            .expect("a transaction of ours");
    assert!(cancels);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revert_that_a_reorg_takes_away_gives_way_to_the_delivery_made_in_its_place() {
    let mut bench = Bench::new().await;
    let request = bench.intent().await;
    bench.step().await;
    bench.set_code(REVERTS).await;
    bench.mine(1).await;
    bench.step().await;
    assert_eq!(bench.state(request).await, "reverted");
    bench.set_code(Bytes::new()).await;
    bench.intend_claimed().await;
    bench.step().await;
    bench.reorg(1).await;
    bench.set_code(Bytes::new()).await;
    bench.quiesce().await;
    let states: Vec<String> = sqlx::query_scalar("select state from oracle.intents order by id")
        .fetch_all(&bench.database.pool())
        .await
        .expect("states");
    assert_eq!(states[1], "confirmed", "{states:?}");
    assert!(["replaced", "confirmed"].contains(&states[0].as_str()), "{states:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_reverts_in_a_row_stop_the_manager_until_it_is_resumed() {
    let mut bench = Bench::new().await;
    for number in 1..=CONSECUTIVE_REVERTS_MAX {
        bench.set_code(Bytes::new()).await;
        let request = bench.intent().await;
        bench.step().await;
        bench.set_code(REVERTS).await;
        bench.mine(1).await;
        bench.step().await;
        assert_eq!(bench.state(request).await, "reverted", "delivery {number}");
        let reverted: i64 = sqlx::query_scalar(
            "select count(*) from oracle.intents where request_id = $1 and state = 'reverted'",
        )
        .bind(request.as_slice())
        .fetch_one(&bench.database.pool())
        .await
        .expect("count");
        assert_eq!(reverted, 1);
    }
    let actions = bench.step().await;
    assert_eq!(actions, [Action::Stop { reverts: CONSECUTIVE_REVERTS_MAX }]);
    bench.set_code(Bytes::new()).await;
    let request = bench.intent().await;
    let actions = bench.step().await;
    assert_eq!(actions, [Action::Report(Blocked::Stopped)]);
    resume(&bench.database.pool(), key(KEY).address()).await.expect("resumed");
    bench.quiesce().await;
    assert_eq!(bench.state(request).await, "confirmed");
}

/// A world that never rests: reorgs of every depth below the safe block, transactions that the network forgets, base fees
/// that jump, and a manager that is restarted. `AUSPEX_SEED` repeats one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_reorgs_leave_every_intent_confirmed_once() {
    let long = std::env::var("AUSPEX_TEST_PROFILE").is_ok_and(|profile| profile == "long");
    let reorgs = if long { 10_000 } else { 200 };
    let seed = std::env::var("AUSPEX_SEED").ok().map(|text| text.parse().expect("a number"));
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    eprintln!("AUSPEX_SEED={seed} repeats this run");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut bench = Bench::new().await;
    // anvil refuses a reorg that is deeper than the chain is high.
    bench.mine(DEEPEST_REORG).await;
    bench.provider.anvil_set_balance(key(KEY).address(), U256::from(ETHER)).await.expect("funded");
    bench.manager.policy.raise_after = Duration::from_millis(200);
    bench.manager.policy.budget = u128::MAX;
    let mut requests = Vec::new();
    for _ in 0..reorgs {
        if random.random_bool(0.15) && requests.len() < 250 {
            requests.push(bench.intent().await);
        }
        if random.random_bool(0.1) {
            bench.forget().await;
        }
        if random.random_bool(0.1) {
            let wei: u64 = random.random_range(1..20_000_000_000);
            let _: Value = bench
                .provider
                .raw_request("anvil_setNextBlockBaseFeePerGas".into(), [format!("{wei:#x}")])
                .await
                .expect("base fee");
        }
        let restarted = random.random_bool(0.05);
        bench.manager.step(&bench.custody, restarted).await.expect("a step");
        bench.mine(random.random_range(1..4)).await;
        if random.random_bool(0.7) {
            bench.step().await;
        }
        bench.reorg(random.random_range(1..=DEEPEST_REORG)).await;
    }
    for _ in 0..50 {
        let _: Value = bench
            .provider
            .raw_request("anvil_setNextBlockBaseFeePerGas".into(), ["0x3b9aca00"])
            .await
            .expect("base fee");
        bench.step().await;
        bench.mine(1).await;
    }
    bench.mine(40).await;
    bench.step().await;
    for request in &requests {
        assert_eq!(bench.state(*request).await, "confirmed");
    }
    let nonce = bench.provider.get_transaction_count(key(KEY).address()).await.expect("nonce");
    assert_eq!(nonce, requests.len() as u64, "one nonce an intent");
    let mined: Vec<i64> = sqlx::query_scalar(
        "select count(*) from oracle.transactions where block_number is not null group by intent_id",
    )
    .fetch_all(&bench.database.pool())
    .await
    .expect("counts");
    assert_eq!(mined, vec![1; requests.len()], "one transaction of each intent was mined");
}
