//! What whole nodes do together, and what stops them.

use std::path::Path;
use std::time::Duration;

use alloy::primitives::keccak256;
use alloy::providers::Provider;
use auspex_devnet::broker::TestBroker;
use auspex_devnet::postgres::TestDatabase;
use auspex_oracle::identity::IdentityError;
use auspex_oracle::node::Node;
use auspex_protocol::bindings::IRequestEscrow::{Outcome, Status};
use auspex_protocol::quorum::leader;

use crate::scene::chain::Operator;
use crate::scene::eventually;
use crate::scene::node::{World, answering, echo};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_answer_and_one_of_them_delivers() {
    let mut world = World::new(3, 2, None).await;
    world.broker = Some(TestBroker::start().await.expect("a broker"));
    let nodes = [world.start(0).await, world.start(1).await, world.start(2).await];

    let request_id = world.scene.request(b"why?", 600).await;
    world.settled(request_id).await;

    let delivered = &world.scene.deliveries(request_id).await[0];
    assert_eq!(delivered.result.outcome, Outcome::Answered);
    assert_eq!(delivered.signers.len(), 2);
    assert_eq!(delivered.result.amount, world.scene.offer.price);
    let answer = world.indexer.answer(delivered.result.outputHash).expect("the answer is stored");
    assert_eq!(answer.as_ref(), br#"{"text":"why?"}"#);

    // Done means safe, which anvil puts 32 blocks behind. The chain goes on, as chains do: a node may have seen the delivery
    // at a later block than the one that holds it, and looks again when that one is safe.
    world.scene.mine(40).await;
    for node in &nodes {
        eventually("the job is done", || async {
            world.scene.mine(1).await;
            (node.job_state(request_id).await.as_deref() == Some("done")).then_some(())
        })
        .await;
    }
    let ready = reqwest::get(format!("{}/ready", nodes[0].url)).await.expect("a reply");
    assert_eq!(ready.status(), 200);
    let status: serde_json::Value = reqwest::get(format!("{}/v1/status", nodes[0].url))
        .await
        .expect("a reply")
        .json()
        .await
        .expect("JSON");
    assert_eq!(status["registered"], true);
    assert_eq!(status["earned"][0]["amount"], world.scene.offer.price.to_string());
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_broker_the_board_carries_the_signatures() {
    let mut world = World::new(3, 2, None).await;
    let mut broker = TestBroker::start().await.expect("a broker");
    broker.kill().await;
    world.broker = Some(broker);
    let nodes = [world.start(0).await, world.start(1).await];
    let requests = [world.scene.request(b"one", 600).await, world.scene.request(b"two", 600).await];
    for request_id in requests {
        world.settled(request_id).await;
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_indexer_that_is_full_of_answers_keeps_no_delivery_back_and_gets_the_answer_later() {
    let world = World::new(1, 1, None).await;
    world.indexer.fill(true);
    let node = world.start(0).await;
    // So near its deadline a delivery is looked at every five seconds.
    let request_id = world.scene.request(b"why?", 120).await;
    world.settled(request_id).await;
    let output_hash = keccak256(serde_json::json!({ "text": "why?" }).to_string());
    assert_eq!(world.indexer.answer(output_hash), None);
    world.indexer.fill(false);
    eventually("the answer is stored", || async { world.indexer.answer(output_hash) }).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leader_is_down_the_next_takes_over() {
    let world = World::new(3, 2, None).await;
    // The leader's identity follows from the request's id, so both other nodes run and the leader does not.
    let request_id = world.scene.request(b"who leads?", 600).await;
    let leads = leader(request_id, &world.scene.set, 0).expect("a leader");
    let mut nodes = Vec::new();
    for number in 0..3 {
        if world.scene.operators[number].signer_address() != leads {
            nodes.push(world.start(number).await);
        }
    }
    world.settled(request_id).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_anywhere_goes_on_where_it_was() {
    let world = World::new(1, 1, None).await;
    world
        .scene
        .provider
        .raw_request::<_, serde_json::Value>("evm_setAutomine".into(), [false])
        .await
        .expect("no mining");
    let node = world.start(0).await;
    world
        .scene
        .provider
        .raw_request::<_, serde_json::Value>("evm_setAutomine".into(), [true])
        .await
        .expect("mining");
    let request_id = world.scene.request(b"again?", 600).await;
    world
        .scene
        .provider
        .raw_request::<_, serde_json::Value>("evm_setAutomine".into(), [false])
        .await
        .expect("no mining");
    eventually("the delivery is sent", || async {
        let sent: i64 =
            sqlx::query_scalar("select count(*) from oracle.transactions where sends > 0")
                .fetch_one(&node.database.pool())
                .await
                .expect("count");
        (sent == 1).then_some(())
    })
    .await;
    let database = node.kill().await;
    // The endpoint forgets the transaction; only the stored bytes are left.
    world
        .scene
        .provider
        .raw_request::<_, serde_json::Value>("anvil_dropAllTransactions".into(), ())
        .await
        .expect("drop");
    let node = world.start_on(0, database, answering(|_| panic!("answered before"))).await;
    eventually("the same transaction is pending again", || async {
        let pending: serde_json::Value =
            world.scene.provider.raw_request("txpool_status".into(), ()).await.expect("status");
        (pending["pending"] == "0x1").then_some(())
    })
    .await;
    world.scene.mine(1).await;
    world.settled(request_id).await;
    let hashes: i64 = sqlx::query_scalar("select count(*) from oracle.transactions")
        .fetch_one(&node.database.pool())
        .await
        .expect("count");
    assert_eq!(hashes, 1, "the bytes that were sent again are the bytes that were sent");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_a_reorg_takes_away_comes_back_and_a_request_that_it_takes_away_is_dropped()
{
    let world = World::new(1, 1, None).await;
    let node = world.start(0).await;
    let request_id = world.scene.request(b"twice?", 600).await;
    world.settled(request_id).await;
    eventually("the node sees it", || async {
        (node.job_state(request_id).await.as_deref() == Some("delivered")).then_some(())
    })
    .await;

    // Only the delivery's block is replaced, by an empty one.
    let reorg = serde_json::json!([1, []]);
    world
        .scene
        .provider
        .raw_request::<_, serde_json::Value>("anvil_reorg".into(), reorg)
        .await
        .expect("reorg");
    world.settled(request_id).await;

    // Now the request's block goes too, and does not come back.
    let late = world.scene.request(b"gone?", 600).await;
    world.settled(late).await;
    let reorg = serde_json::json!([2, []]);
    world
        .scene
        .provider
        .raw_request::<_, serde_json::Value>("anvil_reorg".into(), reorg)
        .await
        .expect("reorg");
    world.scene.mine(4).await;
    eventually("the job is dropped", || async {
        (node.job_state(late).await.as_deref() == Some("dropped")).then_some(())
    })
    .await;
    assert_eq!(world.scene.status(request_id).await, Status::Settled);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_derive_another_result_refuse_and_the_majority_delivers() {
    let world = World::new(3, 2, None).await;
    let request_id = world.scene.request(b"agreed?", 600).await;
    let odd = leader(request_id, &world.scene.set, 0).expect("a leader");
    let mut nodes = Vec::new();
    for number in 0..3 {
        let database = TestDatabase::create().await.expect("a database");
        let answerer = if world.scene.operators[number].signer_address() == odd {
            answering(|_| r#"{"text":"odd"}"#.into())
        } else {
            echo()
        };
        nodes.push(world.start_on(number, database, answerer).await);
    }
    world.settled(request_id).await;
    let delivered = &world.scene.deliveries(request_id).await[0];
    assert_eq!(delivered.result.outputHash, keccak256(br#"{"text":"agreed?"}"#));
    assert!(!delivered.signers.contains(&odd));
    eventually("a refusal is on the board", || async {
        world
            .indexer
            .messages(request_id)
            .iter()
            .any(|envelope| envelope["body"].as_str().is_some_and(|body| body.contains("refusal")))
            .then_some(())
    })
    .await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_declined_with_the_reason_on_record() {
    let world = World::new(1, 1, None).await;
    let database = TestDatabase::create().await.expect("a database");
    let request_id = world.scene.request(b"at any price?", 600).await;
    // Gas dearer than the request's price.
    let base_fee = "0x2540be400000";
    world
        .scene
        .provider
        .raw_request::<_, serde_json::Value>("anvil_setNextBlockBaseFeePerGas".into(), [base_fee])
        .await
        .expect("set the base fee");
    world.scene.mine(1).await;
    let node = world.start_on(0, database, answering(|_| panic!("no work for nothing"))).await;
    eventually("the job is declined", || async {
        (node.job_state(request_id).await.as_deref() == Some("declined")).then_some(())
    })
    .await;
    let reason: String = sqlx::query_scalar("select reason from oracle.jobs where request_id = $1")
        .bind(request_id.as_slice())
        .fetch_one(&node.database.pool())
        .await
        .expect("a reason");
    assert!(reason.contains("wei of gas"), "{reason}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_or_a_database_of_another_operator_is_refused_at_start() {
    let world = World::new(2, 1, None).await;
    let database = TestDatabase::create().await.expect("a database");
    let [first, second] = [&world.scene.operators[0], &world.scene.operators[1]];

    let mixed = Operator { owner: second.owner, ..first.clone() };
    let error = refusal(&world, &mixed, database.url()).await;
    assert!(matches!(error, IdentityError::KeyOfAnother { .. }), "{error}");
    // The refused node has not taken the database for itself.
    Node::prepare(world.config(first, database.url(), &[]), echo()).await.expect("a node");

    let fresh = TestDatabase::create().await.expect("a database");
    Node::prepare(world.config(first, fresh.url(), &[]), echo()).await.expect("a node");
    let error = refusal(&world, second, fresh.url()).await;
    assert!(matches!(error, IdentityError::OtherOperator { .. }), "{error}");
}

async fn refusal(world: &World, operator: &Operator, database: &str) -> IdentityError {
    let config = world.config(operator, database, &[]);
    let error = Node::prepare(config, echo()).await.expect_err("refused");
    error.downcast::<IdentityError>().expect("an identity error")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_with_the_same_key_and_another_database_stops() {
    let mut world = World::new(2, 1, None).await;
    world.broker = Some(TestBroker::start().await.expect("a broker"));
    let first = world.start(0).await;
    eventually("the first is connected", || async {
        let metrics =
            reqwest::get(format!("{}/metrics", first.url)).await.ok()?.text().await.ok()?;
        metrics.contains("auspex_oracle_bus_connected 1").then_some(())
    })
    .await;
    let second = world.start(0).await;
    let ended = tokio::time::timeout(Duration::from_secs(30), second.task).await.expect("it stops");
    let error = ended.expect("no panic").expect_err("an error");
    assert!(format!("{error:#}").contains("in use by another node"), "{error:#}");
    assert!(!first.task.is_finished(), "the first goes on");
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_configurations_say_what_is_wrong() {
    let world = World::new(1, 1, None).await;
    let database = TestDatabase::create().await.expect("a database");
    let operator = &world.scene.operators[0];
    let refused = async |more: &[&str]| {
        let mut config = world.config(operator, database.url(), &[]);
        for argument in more {
            match *argument {
                "wrong chain" => write_chain_id(world.folder.path(), &world, 1),
                "right chain" => write_chain_id(world.folder.path(), &world, 31337),
                "no rpc" => {
                    config.rpc_urls = vec!["http://127.0.0.1:1/SECRET".parse().expect("URL")]
                }
                "no keys" => config.signer_insecure_key = None,
                "one key" => config.signer_insecure_key = config.transmitter_insecure_key.clone(),
                "no flag" => config.insecure_dev_keys = false,
                other => panic!("{other}"),
            }
        }
        format!("{:#}", Node::prepare(config, echo()).await.expect_err("refused"))
    };
    let config = format!("{:?}", world.config(operator, database.url(), &[]));
    for secret in [operator.signer, operator.transmitter] {
        assert!(!config.contains(&hex::encode(secret)), "{config}");
    }
    let error = refused(&["no rpc"]).await;
    assert!(error.contains("rpc http://127.0.0.1:1") && !error.contains("SECRET"), "{error}");
    assert!(refused(&["no keys"]).await.contains("operator signer"));
    assert!(refused(&["one key"]).await.contains("the same key"));
    assert!(refused(&["no flag"]).await.contains("--insecure-dev-keys"));
    let error = refused(&["wrong chain"]).await;
    assert!(error.contains("chain 1"), "{error}");
    write_chain_id(world.folder.path(), &world, 31337);
}

fn write_chain_id(folder: &Path, world: &World, chain_id: u64) {
    let mut deployment = world.scene.deployment.clone();
    deployment.chain_id = chain_id;
    let text = serde_json::to_string(&deployment).expect("JSON");
    std::fs::write(folder.join("deployment.json"), text).expect("write");
}
