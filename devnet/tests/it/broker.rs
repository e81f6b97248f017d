use std::time::Duration;

use auspex_devnet::broker::{self, Broker, TestBroker};
use auspex_devnet::port;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};

use crate::wait::DEADLINE;

#[tokio::test]
async fn a_large_answer_reaches_a_subscriber() {
    let broker = TestBroker::start().await.expect("broker");
    let (subscriber, mut inbox) = connect(&broker, "subscriber").await;
    subscribe(&subscriber, &mut inbox).await;
    let (publisher, mut outbox) = connect(&broker, "publisher").await;
    let payload = vec![b'x'; 256 * 1024];
    publisher.publish("results/1", QoS::AtLeastOnce, false, payload.clone()).await.expect("queue");
    let acknowledged = |packet: &Packet| matches!(packet, Packet::PubAck(_));
    receive(&mut outbox, acknowledged).await.expect("acknowledged");
    let arrived = receive(&mut inbox, |packet| matches!(packet, Packet::Publish(_))).await;
    let Ok(Packet::Publish(message)) = arrived else { panic!("no message: {arrived:?}") };
    assert!(message.topic == "results/1" && message.payload == payload);
}

#[tokio::test]
async fn a_client_that_exceeds_the_payload_limit_is_disconnected() {
    let broker = TestBroker::start().await.expect("broker");
    let (client, mut events) = connect(&broker, "greedy").await;
    let payload = vec![b'x'; 600 * 1024];
    client.publish("results/1", QoS::AtLeastOnce, false, payload).await.expect("queue");
    receive(&mut events, |packet| matches!(packet, Packet::PubAck(_)))
        .await
        .expect_err("the broker hangs up");
}

#[tokio::test]
async fn a_killed_broker_drops_its_clients_and_comes_back_empty_on_its_port() {
    let mut broker = TestBroker::start().await.expect("broker");
    let url = broker.url();
    let (client, mut events) = connect(&broker, "client").await;
    subscribe(&client, &mut events).await;

    broker.kill().await;
    assert!(!broker.is_running());
    receive(&mut events, |_| false).await.expect_err("the connection breaks");
    let refused = tokio::net::TcpStream::connect(("127.0.0.1", broker.port())).await;
    assert_eq!(refused.expect_err("refused").kind(), std::io::ErrorKind::ConnectionRefused);

    broker.restart().await.expect("restart");
    assert_eq!(broker.url(), url);
    let (_client, mut events) = connect(&broker, "client").await;
    let (publisher, mut outbox) = connect(&broker, "publisher").await;
    publisher.publish("results/1", QoS::AtLeastOnce, false, "x").await.expect("queue");
    receive(&mut outbox, |packet| matches!(packet, Packet::PubAck(_))).await.expect("acknowledged");
    let wait = Duration::from_millis(200);
    let message = receive(&mut events, |packet| matches!(packet, Packet::Publish(_)));
    tokio::time::timeout(wait, message).await.expect_err("the subscription is forgotten");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = taken.local_addr().expect("address");
    let error = Broker::start(Some(address.port())).expect_err("taken");
    assert!(error.to_string().contains(&address.port().to_string()), "{error}");
    let error = tokio::task::spawn_blocking(move || broker::run(address)).await.expect("no panic");
    assert!(error.expect_err("taken").to_string().contains(&address.to_string()));
}

#[tokio::test]
async fn a_broker_listens_on_the_port_it_was_given() {
    let reservation = port::reserve().expect("port");
    let number = reservation.number();
    drop(reservation);
    let broker = Broker::start(Some(number)).expect("broker");
    assert_eq!(broker.url(), format!("mqtt://127.0.0.1:{number}"));
    tokio::net::TcpStream::connect(("127.0.0.1", number)).await.expect("connect");
}

async fn connect(broker: &TestBroker, id: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, "127.0.0.1", broker.port());
    options.set_keep_alive(Duration::from_secs(5)).set_max_packet_size(1 << 20, 1 << 20);
    options.set_clean_session(false);
    let (client, mut events) = AsyncClient::new(options, 10);
    receive(&mut events, |packet| matches!(packet, Packet::ConnAck(_))).await.expect("connect");
    (client, events)
}

async fn subscribe(client: &AsyncClient, events: &mut EventLoop) {
    client.subscribe("results/+", QoS::AtLeastOnce).await.expect("queue");
    receive(events, |packet| matches!(packet, Packet::SubAck(_))).await.expect("subscribe");
}

/// The first incoming packet that is wanted, or the error that ended the connection.
async fn receive(
    events: &mut EventLoop,
    wanted: impl Fn(&Packet) -> bool,
) -> Result<Packet, rumqttc::ConnectionError> {
    let received = tokio::time::timeout(DEADLINE, async {
        loop {
            match events.poll().await? {
                Event::Incoming(packet) if wanted(&packet) => return Ok(packet),
                Event::Incoming(_) | Event::Outgoing(_) => {}
            }
        }
    });
    received.await.expect("something happens within the deadline")
}
