//! Unfinished answers: from a real broker to the reader of one request's stream, and what is dropped on the way.

use std::time::Duration;

use alloy::primitives::B256;
use alloy::signers::local::PrivateKeySigner;
use auspex_devnet::broker::TestBroker;
use auspex_indexer::serve::partial::{Outcome, listen};
use auspex_protocol::message::QuorumMessage;
use auspex_protocol::topic::Topics;
use futures::Stream;
use rumqttc::{AsyncClient, MqttOptions, QoS};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::board::sealed;
use super::server::Server;
use super::stream::{Event, next, write};
use super::{ESCROW, World, hash, key};

/// A broker, an indexer's listener, and somebody who publishes.
struct Bus {
    client: AsyncClient,
    _broker: TestBroker,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Bus {
    /// Returns when what is published reaches the world's listener.
    async fn start(world: &World) -> Self {
        let broker = TestBroker::start().await.unwrap();
        let url = broker.url().parse().unwrap();
        let listening = tokio::spawn(listen(url, world.state.clone(), CancellationToken::new()));
        let mut options = MqttOptions::new("publisher", "127.0.0.1", broker.port());
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut events) = AsyncClient::new(options, 64);
        let polling = tokio::spawn(async move { while events.poll().await.is_ok() {} });
        let tasks = [AbortOnDropHandle::new(listening), AbortOnDropHandle::new(polling)];
        let bus = Self { client, _broker: broker, _tasks: tasks };
        // Nobody reads this one: once it is counted, the listener is there.
        while world.state.partials().count(Outcome::Unread) == 0 {
            bus.publish(0xee, "{}".into()).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bus
    }

    async fn publish(&self, request: u8, payload: String) {
        let topic = Topics::new(31337, ESCROW).partial(B256::repeat_byte(request));
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
    }

    async fn say(&self, request: u8, signer: &PrivateKeySigner, offset: u64, text: &str) {
        self.publish(request, part(request, signer, offset, text)).await;
    }
}

fn part(request: u8, signer: &PrivateKeySigner, offset: u64, text: &str) -> String {
    let request_id = B256::repeat_byte(request);
    sealed(&QuorumMessage::Partial { request_id, offset, text: text.to_owned() }, signer, 5)
}

/// Waits until a part had this outcome.
async fn dropped(world: &World, outcome: Outcome) {
    let waiting = async {
        while world.state.partials().count(outcome) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap_or_else(|_| panic!("nothing was {outcome:?}"));
}

async fn reader(server: &Server, request: &str) -> impl Stream<Item = Event> + Unpin + use<> {
    let path = format!("/v1/stream?requestId={}", hash(request));
    Box::pin(server.events(&path, None).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_the_answer_grow_until_it_is_settled() {
    let world = World::create().await;
    let server = Server::start(&world).await;
    let bus = Bus::start(&world).await;
    let mut events = reader(&server, "b2").await;
    let mut others = Box::pin(server.events("/v1/stream", None).await);

    bus.say(0xb2, &key(1), 0, "Hé").await;
    bus.say(0xb2, &key(1), 3, ", said 🦀").await;
    for (offset, text) in [(0, "Hé"), (3, ", said 🦀")] {
        let event = next(&mut events).await;
        assert_eq!((event.name.as_str(), event.id.as_str()), ("partial", ""));
        assert_eq!(
            event.data,
            json!({
                "requestId": hash("b2"), "operator": format!("{:#x}", key(1).address()),
                "offset": offset, "text": text, "settled": false,
            })
        );
    }
    let settled = json!({ "id": hash("b2"), "status": "settled" });
    write(&world, "requests", &hash("b2"), "update", Some(settled)).await;
    // The database of this test still says that the request waits; the stream knows better.
    let event = next(&mut events).await;
    assert_eq!(
        (event.name.as_str(), &event.data["value"]["status"]),
        ("update", &json!("settled"))
    );
    let forwarded = world.state.partials().count(Outcome::Forwarded);
    bus.say(0xb2, &key(1), 13, "late").await;
    while world.state.partials().count(Outcome::Forwarded) == forwarded {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let funded = json!({ "id": hash("b2"), "status": "funded" });
    write(&world, "requests", &hash("b2"), "retract", Some(funded)).await;
    assert_eq!(next(&mut events).await.name, "retract");
    bus.say(0xb2, &key(2), 0, "Anew").await;
    let event = next(&mut events).await;
    assert_eq!((event.name.as_str(), &event.data["text"]), ("partial", &json!("Anew")));

    // Whoever did not ask for one request gets its changes, and no parts.
    assert_eq!(next(&mut others).await.name, "update");
    assert_eq!(next(&mut others).await.name, "retract");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forged_strange_too_long_or_too_late_is_dropped_and_counted() {
    let world = World::create().await;
    let server = Server::start(&world).await;
    let bus = Bus::start(&world).await;
    let mut events = reader(&server, "b2").await;
    let _settled = reader(&server, "b1").await;
    let _unknown = reader(&server, "dd").await;

    bus.say(0xb2, &key(9), 0, "I am no member").await;
    dropped(&world, Outcome::NotAMember).await;
    bus.publish(0xb2, part(0xb2, &key(1), 0, "honest").replace("honest", "forged")).await;
    dropped(&world, Outcome::Forged).await;
    bus.publish(0xb2, "{}".into()).await;
    bus.publish(0xb2, part(0xb1, &key(1), 0, "of another request")).await;
    bus.say(0xb2, &key(1), 0, "\u{1b}[2J").await;
    dropped(&world, Outcome::Malformed).await;
    bus.publish(0xb2, "x".repeat(100_000)).await;
    bus.say(0xb2, &key(1), 0, &"x".repeat(5_000)).await;
    bus.say(0xb2, &key(1), 64 * 1024, "x").await;
    bus.say(0xb2, &key(1), u64::MAX, "x").await;
    dropped(&world, Outcome::Oversize).await;
    bus.say(0xb1, &key(1), 0, "too late").await;
    dropped(&world, Outcome::NotPending).await;
    bus.say(0xdd, &key(1), 0, "of what?").await;
    dropped(&world, Outcome::Unknown).await;
    for _ in 0..200 {
        bus.publish(0xb1, "{}".into()).await;
    }
    dropped(&world, Outcome::TooMany).await;

    // All of it was looked at before this one, which is the only one that arrives.
    bus.say(0xb2, &key(1), 0, "So").await;
    assert_eq!(next(&mut events).await.data["text"], "So");
    let partials = world.state.partials();
    assert_eq!(partials.count(Outcome::Malformed), 3);
    assert_eq!(partials.count(Outcome::Oversize), 4);
    assert_eq!(partials.count(Outcome::Forwarded), 1);
    server.stop().await;
}
