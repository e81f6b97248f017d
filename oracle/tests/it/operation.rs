//! What a node does for its operator besides answering: draining and withdrawing.

use std::time::Duration;

use alloy::primitives::{Address, B256};
use alloy::providers::Provider;
use auspex_devnet::postgres::TestDatabase;
use auspex_oracle::drain;
use auspex_protocol::bindings::IRequestEscrow;

use crate::scene::eventually;
use crate::scene::node::{Running, World, echo};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_node_finishes_what_it_promised_and_begins_nothing() {
    let world = World::new(1, 1, None).await;
    let node = world.start(0).await;
    let pool = node.database.pool();
    let first = world.scene.request(b"before", 600).await;
    world.settled(first).await;

    drain::set(&pool, true).await.expect("draining");
    let second = world.scene.request(b"meanwhile", 600).await;
    known(&node, second).await;
    assert!(
        !drain::progress(&pool).await.expect("progress").is_done(),
        "the first is not safe yet"
    );
    world.scene.mine(40).await;
    eventually("the node is drained", || async {
        drain::progress(&pool).await.expect("progress").is_done().then_some(())
    })
    .await;
    assert_eq!(node.job_state(second).await.as_deref(), Some("queued"));
    let status: serde_json::Value = reqwest::get(format!("{}/v1/status", node.url))
        .await
        .expect("a reply")
        .json()
        .await
        .expect("JSON");
    assert_eq!(status["draining"], true);

    drain::set(&pool, false).await.expect("working again");
    world.settled(second).await;
    node.stop().await;
}

/// An endpoint that stands still answers every question, so that only the age of its newest block gives it away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_chain_stands_still_is_not_ready_until_a_block_comes() {
    let world = World::new(1, 1, None).await;
    let database = TestDatabase::create().await.expect("a database");
    let operator = &world.scene.operators[0];
    let config = world.config(operator, database.url(), &["--block-age-max=2"]);
    let node = world.start_with(config, database, echo()).await;
    let ready = || async {
        let reply = reqwest::get(format!("{}/ready", node.url)).await.expect("a reply");
        (reply.status().as_u16(), reply.text().await.expect("text"))
    };
    let number = world.scene.provider.get_block_number().await.expect("a number");
    let why = eventually("the node is not ready", || async {
        let (status, text) = ready().await;
        (status == 503 && text.contains("newest block")).then_some(text)
    })
    .await;
    assert!(why.contains(&format!("the newest block, {number}, came ")), "{why}");
    eventually("the node is ready", || async {
        world.scene.mine(1).await;
        (ready().await == (200, "ready\n".to_owned())).then_some(())
    })
    .await;
    node.stop().await;
}

async fn known(node: &Running, request_id: B256) {
    eventually("the request is known", || async { node.job_state(request_id).await }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credits_are_withdrawn_once_they_are_worth_it() {
    let world = World::new(1, 1, None).await;
    let account = world.scene.split.recipients[0];
    let share = world.scene.offer.price * 99 / 100 * 3 / 4;
    let database = TestDatabase::create().await.expect("a database");
    // One settlement is below the threshold, two are above it.
    let above = format!("--withdraw-above={}={}", Address::ZERO, share * 3 / 2);
    let account_option = format!("--withdraw-for={account}");
    let operator = &world.scene.operators[0];
    let options = [above.as_str(), &account_option, "--withdraw-interval-ms=50"];
    let config = world.config(operator, database.url(), &options);
    let node = world.start_with(config, database, echo()).await;
    let balance = || async { world.scene.provider.get_balance(account).await.expect("a balance") };
    let before = balance().await;

    let first = world.scene.request(b"one", 600).await;
    world.settled(first).await;
    // The withdrawal task looks many times in this while.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(balance().await, before);
    let second = world.scene.request(b"two", 600).await;
    world.settled(second).await;
    eventually("the credits are paid out", || async { (before < balance().await).then_some(()) })
        .await;
    let escrow = IRequestEscrow::new(world.scene.deployment.request_escrow, &world.scene.provider);
    let splits = vec![world.scene.split.clone()];
    let left = escrow.claimable(account, vec![Address::ZERO], splits).call().await.expect("read");
    assert!(left[0].is_zero(), "{left:?}");
    world.scene.mine(40).await;
    node.stop().await;
}
