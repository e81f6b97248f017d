//! Reorganizations of a real chain.

use alloy::providers::ext::AnvilApi;
use alloy::rpc::types::anvil::{MineOptions, ReorgOptions};

use super::{PRICE, World, mine, wait_for};

async fn reorg(world: &World, depth: u64) {
    let options = ReorgOptions { depth, tx_block_pairs: Vec::new() };
    world.provider.anvil_reorg(options).await.unwrap();
}

#[tokio::test]
async fn a_reorganized_request_is_retracted_and_comes_back() {
    let world = World::create().await;
    let indexer = world.start().await;
    let kept = world.terms(1).await;
    let kept_id = world.request(&kept).await;
    world.wait_for_status(kept_id, Some("funded")).await;
    mine(&world, 5).await;
    let lost = world.terms(2).await;
    let lost_id = world.request(&lost).await;
    world.deliver(&kept, PRICE).await;
    world.wait_for_status(lost_id, Some("funded")).await;
    world.wait_for_status(kept_id, Some("settled")).await;

    reorg(&world, 4).await;
    world.wait_for_tip().await;
    world.wait_for_status(lost_id, None).await;
    world.wait_for_status(kept_id, Some("funded")).await;
    world.assert_every_row_is_canonical().await;
    let retracted = sqlx::query_as::<_, (String, Option<String>)>(
        "select entity_id, payload ->> 'status' from indexer.outbox
         where change = 'retract' and entity = 'requests' order by entity_id",
    )
    .fetch_all(&world.db.pool())
    .await
    .unwrap();
    let mut expected =
        vec![(format!("{kept_id:#x}"), Some("funded".to_owned())), (format!("{lost_id:#x}"), None)];
    expected.sort();
    assert_eq!(retracted, expected);
    assert_eq!(
        world.number("select count(*) from indexer.settlement_credits").await,
        Some(0),
        "a settlement that did not happen credits nobody"
    );

    world.deliver(&kept, PRICE).await;
    world.wait_for_status(kept_id, Some("settled")).await;
    world.assert_every_row_is_canonical().await;
    indexer.stop().await;
}

#[tokio::test]
async fn a_tip_that_is_replaced_at_the_same_height_is_noticed_without_a_new_block() {
    let world = World::create().await;
    let indexer = world.start().await;
    let terms = world.terms(1).await;
    let id = world.request(&terms).await;
    world.wait_for_status(id, Some("funded")).await;
    world.wait_for_tip().await;
    let height = world.number("select number from indexer.cursors").await;

    world.provider.anvil_rollback(Some(1)).await.unwrap();
    world.provider.anvil_increase_time(7).await.unwrap();
    world.provider.evm_mine(Some(MineOptions::Timestamp(None))).await.unwrap();
    world.wait_for_status(id, None).await;
    world.wait_for_tip().await;
    assert_eq!(world.number("select number from indexer.cursors").await, height);
    world.assert_every_row_is_canonical().await;
    indexer.stop().await;
}

#[tokio::test]
async fn a_reorg_while_the_indexer_is_down_is_noticed_at_the_start() {
    let world = World::create().await;
    let indexer = world.start().await;
    mine(&world, 10).await;
    let terms = world.terms(1).await;
    let id = world.request(&terms).await;
    world.wait_for_status(id, Some("funded")).await;
    indexer.stop().await;
    reorg(&world, 5).await;
    mine(&world, 5).await;
    let indexer = world.start().await;
    world.wait_for_status(id, None).await;
    world.wait_for_tip().await;
    world.assert_every_row_is_canonical().await;
    indexer.stop().await;
}

#[tokio::test]
async fn a_node_that_falls_back_takes_nothing_with_it() {
    let world = World::create().await;
    let indexer = world.start().await;
    let terms = world.terms(1).await;
    let id = world.request(&terms).await;
    mine(&world, 3).await;
    world.wait_for_tip().await;
    let height = world.number("select number from indexer.cursors").await;
    world.provider.anvil_rollback(Some(2)).await.unwrap();
    // The node is asked again and again meanwhile: the row that says so moves on.
    let seen = "select extract(epoch from head_seen_at)::bigint from indexer.cursors";
    let before = world.number(seen).await;
    wait_for("the node to be asked again", async || before < world.number(seen).await).await;
    assert_eq!(world.number("select number from indexer.cursors").await, height);
    world.wait_for_status(id, Some("funded")).await;
    mine(&world, 6).await;
    world.wait_for_tip().await;
    world.assert_every_row_is_canonical().await;
    indexer.stop().await;
}
