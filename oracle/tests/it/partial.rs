//! Unfinished answers: what a node publishes while its answerer writes, and that it changes nothing about the result.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use auspex_devnet::broker::TestBroker;
use auspex_devnet::postgres::TestDatabase;
use auspex_oracle::answerer::{Answerer, Pins, Question};
use auspex_protocol::message::{QuorumMessage, open};
use auspex_protocol::quorum::leader;
use auspex_protocol::terms::escrow_domain;
use auspex_protocol::topic::Topics;
use futures::FutureExt;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::bus::listen;
use crate::scene::node::{World, answered};

/// An answerer that shows one of `texts` whenever a permit is given, and answers with the last of them.
fn writer(texts: &'static [&'static str]) -> (Answerer, Arc<Semaphore>) {
    let pins = Pins { corpus_root: B256::repeat_byte(1), model_hash: B256::repeat_byte(2) };
    let pace = Arc::new(Semaphore::new(0));
    let permits = Arc::clone(&pace);
    let answer = move |question: Question| {
        let pace = Arc::clone(&permits);
        async move {
            for text in texts {
                question.unfinished.show(text);
                pace.acquire().await.expect("open").forget();
            }
            let answer = serde_json::json!({ "text": texts.last() }).to_string();
            Ok(answered(answer))
        }
        .boxed()
    };
    (Answerer::Function { pins, answer: Arc::new(answer) }, pace)
}

/// What comes on one topic, opened.
async fn next_part(
    heard: &mut UnboundedReceiver<(String, Vec<u8>)>,
    world: &World,
    topic: &str,
) -> (Address, u64, String) {
    let deployment = &world.scene.deployment;
    let domain = escrow_domain(deployment.chain_id, deployment.request_escrow);
    loop {
        let waited = tokio::time::timeout(Duration::from_secs(60), heard.recv());
        let (said_on, payload) = waited.await.expect("in time").expect("a message");
        if said_on == topic {
            let (envelope, message) = open(&domain, &payload).expect("a signed message");
            let QuorumMessage::Partial { offset, text, .. } = message else {
                panic!("{message:?} is no part")
            };
            return (envelope.signer, offset, text);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_shows_its_answer_while_it_is_written() {
    let mut world = World::new(2, 2, None).await;
    let broker = TestBroker::start().await.expect("a broker");
    let port = broker.port();
    world.broker = Some(broker);
    let mut listener = listen(port).await;

    let texts = &["Hé", "Hé, said 🦀", "Hé, said 🦀 and went."];
    let mut nodes = Vec::new();
    let mut paces = Vec::new();
    for operator in &world.scene.operators {
        let database = TestDatabase::create().await.expect("a database");
        let config = world.config(operator, database.url(), &["--partial-interval-ms=1"]);
        let (answerer, pace) = writer(texts);
        nodes.push(world.start_with(config, database, answerer).await);
        paces.push(pace);
    }
    let request_id = world.scene.request(b"what next?", 600).await;
    let deployment = &world.scene.deployment;
    let topic = Topics::new(deployment.chain_id, deployment.request_escrow).partial(request_id);
    let leads = leader(request_id, &world.scene.set, 0).expect("a leader");

    // A worker that is held up for longer than its lease is followed by another, which begins the text anew.
    let mut whole = String::new();
    while whole != texts[texts.len() - 1] {
        let (signer, offset, part) = next_part(&mut listener.heard, &world, &topic).await;
        assert_eq!(signer, leads);
        if offset == 0 {
            whole.clear();
        }
        assert_eq!(offset, whole.len() as u64, "after {whole:?} comes {part:?}");
        whole.push_str(&part);
        assert!(texts.contains(&whole.as_str()), "{whole:?}");
        paces.iter().for_each(|pace| pace.add_permits(1));
    }
    world.settled(request_id).await;
    let delivered = &world.scene.deliveries(request_id).await[0];
    let answer = world.indexer.answer(delivered.result.outputHash).expect("the answer is stored");
    assert_eq!(answer.as_ref(), r#"{"text":"Hé, said 🦀 and went."}"#.as_bytes());
    for node in nodes {
        node.stop().await;
    }
}
