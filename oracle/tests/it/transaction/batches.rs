//! Deliveries that travel together, through a whole node and the real escrow.

use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;
use auspex_devnet::postgres::TestDatabase;
use auspex_protocol::bindings::IRequestEscrow::Status;
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::scene::eventually;
use crate::scene::node::{Running, World, echo};

const TIME: u64 = 3_600;

/// A node that is kept from its nonces until its deliveries wait together, over a chain that mines when it is told to.
struct Depot {
    world: World,
    node: Running,
    requests: Vec<B256>,
    kept: Option<PgConnection>,
}

impl Depot {
    /// `seconds` are the requests' times before their deadlines.
    async fn with(seconds: &[u64]) -> Self {
        let world = World::new(1, 1, None).await;
        let database = TestDatabase::create().await.expect("a database");
        let mut kept = PgConnection::connect(database.url()).await.expect("a session");
        let transmitter = world.scene.operators[0].transmitter_address();
        sqlx::query("select pg_advisory_lock(hashtextextended('auspex transmitter ' || $1, 0))")
            .bind(format!("{transmitter:#x}"))
            .execute(&mut kept)
            .await
            .expect("the lock");
        // Nothing else asks for a nonce: the row that the manager would make is not there yet.
        sqlx::query("insert into oracle.transmitters (address, next_nonce) values ($1, 0)")
            .bind(transmitter.as_slice())
            .execute(&mut kept)
            .await
            .expect("a transmitter");
        let node = world.start_on(0, database, echo()).await;
        let mut requests = Vec::new();
        for (number, seconds) in seconds.iter().enumerate() {
            requests.push(world.scene.request(format!("{number}").as_bytes(), *seconds).await);
        }
        let depot = Self { world, node, requests, kept: Some(kept) };
        let all = i64::try_from(seconds.len()).expect("few");
        depot
            .eventually_counts("select count(*) from oracle.intents where state = 'queued'", all)
            .await;
        depot.automine(false).await;
        depot
    }

    /// Lets the node have its nonces, and waits until the batch is with the chain.
    async fn send(&mut self) {
        self.kept.take().expect("kept").close().await.expect("closed");
        self.eventually_counts(
            "select count(*) from oracle.transactions join oracle.intents on intents.id = intent_id
             where kind = 'batch' and sent_at is not null",
            1,
        )
        .await;
    }

    async fn eventually_counts(&self, question: &'static str, expected: i64) {
        let pool = self.node.database.pool();
        eventually(question, || async {
            let count: i64 = sqlx::query_scalar(question).fetch_one(&pool).await.expect("count");
            (count == expected).then_some(())
        })
        .await;
    }

    async fn states(&self) -> Vec<(String, Option<i64>)> {
        sqlx::query_as(
            "select state, carrier from oracle.intents where kind = 'delivery' order by id",
        )
        .fetch_all(&self.node.database.pool())
        .await
        .expect("states")
    }

    async fn delivery(&self, request_id: B256) -> (String, Option<i64>) {
        sqlx::query_as(
            "select state, carrier from oracle.intents where kind = 'delivery' and request_id = $1",
        )
        .bind(request_id.as_slice())
        .fetch_one(&self.node.database.pool())
        .await
        .expect("a delivery")
    }

    async fn automine(&self, on: bool) {
        let provider = &self.world.scene.provider;
        let _: Value = provider.raw_request("evm_setAutomine".into(), [on]).await.expect("set");
    }

    /// Mines until every intent has a final outcome.
    async fn finish(&self) {
        self.automine(true).await;
        let pool = self.node.database.pool();
        eventually("all intents are final", || async {
            self.world.scene.mine(10).await;
            let open: i64 = sqlx::query_scalar(
                "select count(*) from oracle.intents
                 where state in ('queued', 'sent', 'included', 'reverted')",
            )
            .fetch_one(&pool)
            .await
            .expect("count");
            (open == 0).then_some(())
        })
        .await;
    }

    async fn transactions(&self) -> i64 {
        sqlx::query_scalar("select count(*) from oracle.transactions")
            .fetch_one(&self.node.database.pool())
            .await
            .expect("count")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_at_the_same_time_travels_together_and_survives_a_reorg() {
    let mut depot = Depot::with(&[TIME, TIME, TIME]).await;
    depot.send().await;
    depot.world.scene.mine(1).await;
    for request_id in &depot.requests {
        depot.world.settled(*request_id).await;
    }
    depot
        .eventually_counts(
            "select count(*) from oracle.intents where state = 'included' and kind = 'delivery'",
            3,
        )
        .await;
    let provider = &depot.world.scene.provider;
    let _: Value =
        provider.raw_request("anvil_reorg".into(), (1, Vec::<Value>::new())).await.expect("reorg");
    assert_eq!(depot.world.scene.status(depot.requests[0]).await, Status::Funded);
    depot.finish().await;
    for request_id in &depot.requests {
        depot.world.settled(*request_id).await;
    }
    for (state, carrier) in depot.states().await {
        assert_eq!(state, "confirmed");
        assert!(carrier.is_some());
    }
    assert_eq!(depot.transactions().await, 1, "one transaction, the same bytes on both branches");
    depot.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_delivered_first_is_left_out() {
    let mut depot = Depot::with(&[TIME, TIME, TIME]).await;
    let (target, calldata): (Vec<u8>, Vec<u8>) =
        sqlx::query_as("select target, calldata from oracle.intents where request_id = $1")
            .bind(depot.requests[0].as_slice())
            .fetch_one(&depot.node.database.pool())
            .await
            .expect("a delivery");
    depot.send().await;
    let rival = TransactionRequest::default()
        .with_to(Address::from_slice(&target))
        .with_input(Bytes::from(calldata))
        .with_gas_limit(2_000_000)
        .with_max_fee_per_gas(400_000_000_000)
        .with_max_priority_fee_per_gas(300_000_000_000);
    let _ = depot.world.scene.provider.send_transaction(rival).await.expect("sent");
    depot.world.scene.mine(1).await;
    for request_id in &depot.requests {
        depot.world.settled(*request_id).await;
    }
    let ours = depot.world.scene.operators[0].transmitter_address();
    assert_ne!(depot.world.scene.deliveries(depot.requests[0]).await[0].transmitter, ours);
    depot.finish().await;
    let states: Vec<String> = depot.states().await.into_iter().map(|(state, _)| state).collect();
    // The escrow shows the one that was left out as delivered, which is all that its job wants to know.
    assert_eq!(states, ["confirmed"; 3]);
    assert_eq!(depot.transactions().await, 1);
    depot.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_overdue_is_left_out_and_costs_the_others_nothing() {
    let mut depot = Depot::with(&[200, TIME, TIME]).await;
    depot.send().await;
    let provider = &depot.world.scene.provider;
    let _: Value =
        provider.raw_request("evm_increaseTime".into(), [U256::from(400)]).await.expect("later");
    depot.world.scene.mine(1).await;
    depot.automine(true).await;
    for request_id in &depot.requests[1..] {
        depot.world.settled(*request_id).await;
    }
    assert_eq!(depot.world.scene.status(depot.requests[0]).await, Status::Funded);
    depot.finish().await;
    assert_eq!(depot.node.job_state(depot.requests[0]).await.as_deref(), Some("closed"));
    assert_ne!(depot.delivery(depot.requests[0]).await.0, "confirmed");
    for request_id in &depot.requests[1..] {
        let (state, carrier) = depot.delivery(*request_id).await;
        assert_eq!(state, "confirmed");
        assert!(carrier.is_some(), "it travelled with the overdue one");
    }
    depot.node.stop().await;
}
