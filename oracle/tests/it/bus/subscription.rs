//! Several processes of one operator at one broker: each message goes to one of them, and what goes down with a process is
//! on the board.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use auspex_oracle::node::Node;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::scene::node::{World, echo};

const ACK_TIMEOUT: Duration = Duration::from_secs(30);

fn shared(broker: &TestBroker) -> BusOptions {
    BusOptions::plain(broker.url().parse().expect("a URL")).shared()
}

/// Publishes messages that mean nothing, which are counted by who gets them.
struct Publisher<'a> {
    station: &'a Station,
    port: u16,
    members: Vec<Arc<Meters>>,
}

impl Publisher<'_> {
    fn counts(&self) -> Vec<u64> {
        self.members.iter().map(|meters| meters.messages_ignored.get()).collect()
    }

    fn arrived(&self) -> u64 {
        self.counts().iter().sum()
    }

    async fn publish(&self, listener: &Listener, count: u64) {
        let topic = self.station.topics.quorum(self.station.terms.request_id);
        for _ in 0..count {
            let sending = listener.client.publish(&topic, QoS::AtLeastOnce, false, "{");
            sending.await.expect("published");
        }
    }

    /// Publishes, one after the other, until each member has got one, which shows that all are in the group. One that
    /// nobody gets was too early.
    async fn join(&self) {
        let listener = listen(self.port).await;
        let before = self.counts();
        let all = || self.counts().iter().zip(&before).all(|(now, before)| before < now);
        while !all() {
            let arrived = self.arrived();
            self.publish(&listener, 1).await;
            let arrives =
                eventually("it arrives", || async { (arrived < self.arrived()).then_some(()) });
            let _ = tokio::time::timeout(Duration::from_secs(2), arrives).await;
        }
    }

    /// Publishes a lot and sees that each message arrives at one member. Says how much each has got.
    async fn each_arrives_once(&self) -> Vec<u64> {
        let listener = listen(self.port).await;
        let before = self.counts();
        let sum: u64 = before.iter().sum();
        for batch in 1..=2 {
            self.publish(&listener, 30).await;
            eventually("all of it arrived", || async {
                (sum + 30 * batch <= self.arrived()).then_some(())
            })
            .await;
            assert_eq!(self.arrived(), sum + 30 * batch);
        }
        self.counts().iter().zip(before).map(|(now, before)| now - before).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_processes_of_an_operator_divide_the_messages() {
    let mut broker = TestBroker::start().await.expect("a broker");
    let station = Station::with(shared(&broker), ACK_TIMEOUT).await;
    let other = bus(station.database.pool(), shared(&broker), ACK_TIMEOUT);
    let members = vec![Arc::clone(&station.meters), Arc::clone(&other.meters)];
    let stop = CancellationToken::new();
    let other = tokio::spawn(other.run(stop.clone()));

    let both = Publisher { station: &station, port: broker.port(), members: members.clone() };
    both.join().await;
    let got = both.each_arrives_once().await;
    assert!(got.iter().all(|count| 0 < *count), "{got:?}");
    // A heartbeat is for everybody, not for one of them.
    let signer = ResultSigner::new(key(OURS));
    let stranger =
        Identity { owner: OWNER, signer: signer.address(), database_id: Uuid::from_u128(2) };
    let message = QuorumMessage::Heartbeat { head_block: 1, version: stranger.version() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let envelope = signer.seal(&domain(), &message, now).await.expect("sealed");
    let topic = station.topics.heartbeat(signer.address());
    let listener = listen(broker.port()).await;
    let payload = serde_json::to_vec(&envelope).expect("JSON");
    listener.client.publish(topic, QoS::AtLeastOnce, false, payload).await.expect("published");
    eventually("each has seen the stranger", || async {
        members.iter().all(|meters| 0 < meters.strangers_with_our_key.get()).then_some(())
    })
    .await;

    broker.kill().await;
    broker.restart().await.expect("restarted");
    both.join().await;
    let got = both.each_arrives_once().await;
    assert!(got.iter().all(|count| 0 < *count), "{got:?}");

    // One process dies; the broker notices, and the other gets everything.
    other.abort();
    let _ = other.await;
    let left = Publisher { members: members[..1].to_vec(), ..both };
    left.join().await;
    assert_eq!(left.each_arrives_once().await, [60]);
    station.stop().await;
}

/// A broker that does not know shared subscriptions: it takes them for names like any other, on which nobody ever speaks.
async fn unknowing(broker: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = TcpStream::connect(("127.0.0.1", broker)).await.expect("broker");
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_broker, mut to_broker) = upstream.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_broker, &mut to_client).await });
            tokio::spawn(async move {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                    let said = &mut bytes[..count];
                    while let Some(at) = said.windows(7).position(|word| word == b"$share/") {
                        said[at] = b'x';
                    }
                    if to_broker.write_all(said).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_cannot_share_is_found_out() {
    let broker = TestBroker::start().await.expect("a broker");
    let url = format!("mqtt://127.0.0.1:{}", unknowing(broker.port()).await);
    let options = BusOptions::plain(url.parse().expect("a URL")).shared();
    let station = Station::with(options.clone(), ACK_TIMEOUT).await;
    let other = bus(station.database.pool(), options, ACK_TIMEOUT);
    let members = vec![Arc::clone(&station.meters), Arc::clone(&other.meters)];
    let stop = CancellationToken::new();
    let other = tokio::spawn(other.run(stop.clone()));
    // Nothing comes as long as the broker is believed; then each process reads everything.
    let both = Publisher { station: &station, port: broker.port(), members };
    both.join().await;
    station.stop().await;
    stop.cancel();
    other.await.expect("no panic").expect("a clean stop");
}

/// A process of an operator that takes messages, acknowledges none and applies none.
struct Thief {
    taken: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Thief {
    async fn start(port: u16, owner: Address, topics: &Topics) -> Self {
        let name = format!("thief-{}", Uuid::new_v4().simple());
        let mut options = MqttOptions::new(name, "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        options.set_manual_acks(true);
        let (client, mut event_loop) = AsyncClient::new(options, 16);
        for (group, filter) in [("quorum", topics.quorums()), ("requests", topics.requests())] {
            let filter = format!("$share/auspex-{owner:#x}-{group}/{filter}");
            client.subscribe(filter, QoS::AtLeastOnce).await.expect("subscribe");
        }
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let (ready, subscribed) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let _client = client;
            let (mut acks, mut ready) = (0, Some(ready));
            while let Ok(event) = event_loop.poll().await {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => {
                        acks += 1;
                        if acks == 2 {
                            let _ = ready.take().map(|ready| ready.send(()));
                        }
                    }
                    Event::Incoming(Packet::Publish(_)) => {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    Event::Incoming(_) | Event::Outgoing(_) => {}
                }
            }
        });
        subscribed.await.expect("subscribed");
        Self { taken, _task: AbortOnDropHandle::new(task) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_down_with_a_process_is_on_the_board() {
    let mut world = World::new(2, 2, None).await;
    world.broker = Some(TestBroker::start().await.expect("a broker"));
    let port = world.broker.as_ref().expect("a broker").port();
    let operator = &world.scene.operators[0];
    let database = TestDatabase::create().await.expect("a database");
    let config = world.config(operator, database.url(), &["--broker-share"]);
    let second = Node::prepare(config.clone(), echo()).await.expect("a second process");
    let first = world.start_with(config, database, echo()).await;
    let stop = CancellationToken::new();
    let second = tokio::spawn(second.run(stop.clone()));
    let peer = world.start(1).await;

    let deployment = &world.scene.deployment;
    let topics = Topics::new(deployment.chain_id, deployment.request_escrow);
    let thief = Thief::start(port, operator.owner, &topics).await;
    let mut questions = 0..;
    while thief.taken.load(Ordering::SeqCst) < 2 {
        let question = format!("question {}", questions.next().expect("a number"));
        let request_id = world.scene.request(question.as_bytes(), 600).await;
        world.settled(request_id).await;
    }
    drop(thief);
    let request_id = world.scene.request(b"with a thief's last messages", 600).await;
    second.abort();
    let _ = second.await;
    world.settled(request_id).await;

    let mut broker = world.broker.take().expect("a broker");
    broker.kill().await;
    let request_id = world.scene.request(b"without a broker", 600).await;
    world.settled(request_id).await;
    broker.restart().await.expect("restarted");
    let request_id = world.scene.request(b"with a new broker", 600).await;
    world.settled(request_id).await;
    first.stop().await;
    peer.stop().await;
}
