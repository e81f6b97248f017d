//! Messages to a real broker.

use std::time::Duration;

use auspex_devnet::broker::TestBroker;
use auspex_protocol::message::RequestNotice;
use auspex_protocol::topic::Topics;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{PRICE, World};

/// A subscriber that subscribes again whenever the broker comes back.
fn subscribe(port: u16, topic: String) -> mpsc::UnboundedReceiver<RequestNotice> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let options = MqttOptions::new("test-subscriber", "127.0.0.1", port);
            let (client, mut events) = AsyncClient::new(options, 10);
            client.subscribe(topic.as_str(), QoS::AtLeastOnce).await.unwrap();
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(Packet::Publish(message)) = event
                    && sender.send(serde_json::from_slice(&message.payload).unwrap()).is_err()
                {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    receiver
}

async fn notice(
    receiver: &mut mpsc::UnboundedReceiver<RequestNotice>,
    status: &str,
) -> RequestNotice {
    let found = timeout(Duration::from_secs(30), async {
        loop {
            let notice = receiver.recv().await.unwrap();
            if notice.status == status {
                return notice;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("no notice of status {status} within 30 s"))
}

#[tokio::test]
async fn a_request_rings_also_after_the_broker_was_down() {
    let world = World::create().await;
    let mut broker = TestBroker::start().await.unwrap();
    let topics = Topics::new(world.deployment.chain_id, world.deployment.request_escrow);
    let mut notices = subscribe(broker.port(), topics.requests());
    let url = broker.url();
    let indexer = world.start_with(world.config(&["--broker-url", &url])).await;
    let terms = world.terms(1).await;
    let id = world.request(&terms).await;
    let rung = notice(&mut notices, "funded").await;
    assert_eq!(rung.request_id, id);

    broker.kill().await;
    world.deliver(&terms, PRICE).await;
    // Following goes on without a broker.
    world.wait_for_status(id, Some("settled")).await;
    broker.restart().await.unwrap();
    // The publisher may be back before the subscriber, so the bell for this one may be lost; the next one may not.
    let next = world.terms(2).await;
    let next_id = world.request(&next).await;
    world.wait_for_status(next_id, Some("funded")).await;
    super::wait_for("the outbox to be published to its end", async || {
        let behind =
            "select (select max(id) from indexer.outbox) - outbox_id from indexer.outbox_readers";
        world.number(behind).await == Some(0)
    })
    .await;
    let third = world.terms(3).await;
    let third_id = world.request(&third).await;
    loop {
        if notice(&mut notices, "funded").await.request_id == third_id {
            break;
        }
    }
    indexer.stop().await;
}
