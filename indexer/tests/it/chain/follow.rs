//! Following without reorgs: what is derived, and what failures of others do to it.

use alloy::primitives::{Address, Bytes, U256, address, keccak256};
use alloy::providers::Provider;
use alloy::providers::ext::AnvilApi;
use alloy::rpc::types::TransactionRequest;
use auspex_devnet::anvil::accounts;
use auspex_indexer::config::ChainConfig;
use auspex_indexer::rebuild::{digests, rebuild};
use secrecy::SecretString;

use super::{PRICE, World, mine, mined, wait_for};

#[tokio::test]
async fn a_settlement_is_indexed_to_the_last_unit() {
    let world = World::create().await;
    let indexer = world.start().await;
    for salt in 1..=2 {
        let terms = world.terms(salt).await;
        let id = world.request(&terms).await;
        world.wait_for_status(id, Some("funded")).await;
        let receipt = world.deliver(&terms, PRICE - 1).await;
        world.wait_for_status(id, Some("settled")).await;
        let gas = world
            .number("select delivered_gas_used from indexer.requests where upper_inf(block_range) order by sequence desc limit 1")
            .await;
        assert_eq!(gas, Some(receipt.gas_used as i64));
    }
    let escrow = world.escrow();
    let total = escrow.settledTotal(world.offer.splitHash, world.offer.token).call().await.unwrap();
    let (indexed, credited, residue) = sqlx::query_as::<_, (String, String, String)>(
        "select settled_total::text, credited::text, residue::text from indexer.split_totals
         where upper_inf(block_range)",
    )
    .fetch_one(&world.db.pool())
    .await
    .unwrap();
    assert_eq!(indexed, total.to_string());
    let sum = credited.parse::<U256>().unwrap() + residue.parse::<U256>().unwrap();
    assert_eq!(sum, total, "what is not credited is residue");

    let [.., transmitter] = [accounts::signers()[3].address()];
    let withdraw =
        escrow.withdrawFor(world.split.recipients[0], world.offer.token, vec![world.split.clone()]);
    mined(&world.provider, withdraw.from(transmitter).into_transaction_request()).await;
    world.wait_for_tip().await;
    let accounts: Vec<Address> = world
        .split
        .recipients
        .iter()
        .copied()
        .chain([world.payer, accounts::signers()[6].address()])
        .collect();
    for account in accounts {
        let tokens = vec![world.offer.token];
        let claimable =
            escrow.claimable(account, tokens, vec![world.split.clone()]).call().await.unwrap();
        let indexed = sqlx::query_scalar::<_, String>(
            "select (credited - withdrawn)::text from indexer.credits where account = $1 and upper_inf(block_range)",
        )
        .bind(account.as_slice())
        .fetch_one(&world.db.pool())
        .await
        .unwrap();
        assert_eq!(indexed, claimable[0].to_string(), "credit of {account}");
    }
    world.assert_every_row_is_canonical().await;
    indexer.stop().await;
    rebuilt_rows_are_the_same(&world).await;
}

async fn rebuilt_rows_are_the_same(world: &World) {
    let url = SecretString::from(world.db.url().to_owned());
    let chain_id = world.deployment.chain_id;
    let before = digests(&url, chain_id, 1, 100, 7).await.unwrap();
    assert!(before.iter().map(|range| range.rows).sum::<u64>() > 20);
    let chain = ChainConfig {
        deployment: world.deployment.clone(),
        rpc_urls: Vec::new(),
        tokens: Vec::new(),
        contracts: Vec::new(),
    };
    rebuild(&url, &chain).await.unwrap();
    assert_eq!(digests(&url, chain_id, 1, 100, 7).await.unwrap(), before);
    // The digest is worth nothing if it does not see a change.
    sqlx::query("update indexer.offers set price = price + 1")
        .execute(&world.db.pool())
        .await
        .unwrap();
    assert_ne!(digests(&url, chain_id, 1, 100, 7).await.unwrap(), before);
}

#[tokio::test]
async fn a_refund_is_indexed() {
    let world = World::create().await;
    let indexer = world.start().await;
    let terms = world.terms(1).await;
    let id = world.request(&terms).await;
    world.provider.anvil_increase_time(601).await.unwrap();
    mine(&world, 1).await;
    let refund = world.escrow().refund(terms).from(world.transmitter).into_transaction_request();
    mined(&world.provider, refund).await;
    world.wait_for_status(id, Some("refunded")).await;
    assert_eq!(
        world
            .number("select credited::bigint from indexer.credits where upper_inf(block_range)")
            .await,
        Some(PRICE as i64)
    );
    indexer.stop().await;
}

#[tokio::test]
async fn a_restart_goes_on_where_it_stopped() {
    let world = World::create().await;
    let terms = world.terms(1).await;
    let id = world.request(&terms).await;
    let indexer = world.start().await;
    world.wait_for_status(id, Some("funded")).await;
    world.wait_for_tip().await;
    let facts = world.number("select count(*) from indexer.facts").await.unwrap();
    indexer.stop().await;

    world.deliver(&terms, PRICE).await;
    mine(&world, 3).await;
    let indexer = world.start().await;
    world.wait_for_status(id, Some("settled")).await;
    world.wait_for_tip().await;
    let added = world.number("select count(*) from indexer.facts").await.unwrap() - facts;
    assert_eq!(added, 2, "delivered and settled, and nothing twice");
    world.assert_every_row_is_canonical().await;
    indexer.stop().await;
}

#[tokio::test]
async fn a_backfill_below_the_finalized_block_gives_the_same_rows_as_following_live() {
    let world = World::create().await;
    let live = world.start().await;
    let terms = world.terms(1).await;
    let id = world.request(&terms).await;
    world.deliver(&terms, PRICE).await;
    world.wait_for_status(id, Some("settled")).await;
    mine(&world, 200).await;
    world.wait_for_tip().await;
    live.stop().await;
    let url = SecretString::from(world.db.url().to_owned());
    let followed = digests(&url, world.deployment.chain_id, 1, 300, 300).await.unwrap();

    // Everything, because later migrations change what earlier ones made.
    let everything = "drop schema indexer, corpus, oracle cascade";
    for forget in [everything, "truncate _sqlx_migrations"] {
        sqlx::query(forget).execute(&world.db.pool()).await.unwrap();
    }
    let again = world.start_with(world.config(&["--verify-backfill", "full"])).await;
    world.wait_for_status(id, Some("settled")).await;
    world.wait_for_tip().await;
    again.stop().await;
    assert_eq!(digests(&url, world.deployment.chain_id, 1, 300, 300).await.unwrap(), followed);
    let finalized = world.number("select finalized_number from indexer.cursors").await;
    assert!(finalized > Some(100), "{finalized:?}");
}

#[tokio::test]
async fn a_lost_database_connection_is_made_again() {
    let world = World::create().await;
    let indexer = world.start().await;
    world.wait_for_tip().await;
    let terms = world.terms(1).await;
    for _ in 0..3 {
        let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                   where datname = current_database() and application_name like 'auspex-indexer-%'";
        assert_eq!(world.number(cut).await, Some(1));
        mine(&world, 2).await;
        world.wait_for_tip().await;
    }
    let id = world.request(&terms).await;
    world.wait_for_status(id, Some("funded")).await;
    world.assert_every_row_is_canonical().await;
    indexer.stop().await;
}

#[tokio::test]
async fn a_second_indexer_waits_and_takes_over() {
    let world = World::create().await;
    let first = world.start().await;
    world.wait_for_tip().await;
    let second = world.start().await;
    let terms = world.terms(1).await;
    let id = world.request(&terms).await;
    world.wait_for_status(id, Some("funded")).await;
    first.stop().await;
    world.deliver(&terms, PRICE).await;
    world.wait_for_status(id, Some("settled")).await;
    second.stop().await;
}

#[tokio::test]
async fn a_log_that_does_not_decode_is_set_aside() {
    let mut world = World::create().await;
    let broken = address!("0x00000000000000000000000000000000000bad00");
    world.deployment.reputation_registry = Some(broken);
    world.write_deployment();
    // PUSH32 topic, PUSH1 0, PUSH1 0, LOG1: the event's signature without its topics and data.
    let topic = keccak256(
        "NewFeedback(uint256,address,uint64,int128,uint8,string,string,string,string,string,bytes32)",
    );
    let code = [&[0x7f][..], topic.as_slice(), &[0x60, 0, 0x60, 0, 0xa1, 0x00]].concat();
    world.provider.anvil_set_code(broken, Bytes::from(code)).await.unwrap();
    let indexer = world.start().await;
    let call = TransactionRequest { from: Some(world.payer), ..Default::default() }.to(broken);
    mined(&world.provider, call).await;
    wait_for("the log to be set aside", async || {
        world.number("select count(*) from indexer.undecodable_logs").await == Some(1)
    })
    .await;
    let terms = world.terms(1).await;
    let id = world.request(&terms).await;
    world.wait_for_status(id, Some("funded")).await;
    indexer.stop().await;
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_refused_at_the_start() {
    let mut world = World::create().await;
    world.deployment.chain_id = 8453;
    world.write_deployment();
    let indexer = world.start().await;
    let error = indexer.task.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("serves chain 31337, but the deployment is on chain 8453"), "{error}");
}

#[tokio::test]
async fn a_registration_file_in_a_data_uri_is_resolved() {
    let world = World::create().await;
    let indexer = world.start().await;
    wait_for("the file to be resolved", async || {
        let count = "select count(*) from indexer.agent_files where status = 'resolved' and file ->> 'name' = 'Docs'";
        world.number(count).await == Some(1)
    })
    .await;
    assert_eq!(world.provider.get_chain_id().await.unwrap(), world.deployment.chain_id);
    indexer.stop().await;
}
