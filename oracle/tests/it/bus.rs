//! The doorbell with a real broker: nothing that was queued is lost, nothing is applied twice, a broker that does not
//! answer is given up. The faults of rumqttc that these tests are about are listed in `auspex_oracle::bus`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes};
use alloy::signers::SignerSync;
use auspex_devnet::broker::TestBroker;
use auspex_devnet::postgres::TestDatabase;
use auspex_oracle::bus::options::BusOptions;
use auspex_oracle::bus::{Bus, BusLimits};
use auspex_oracle::identity::Identity;
use auspex_oracle::job::store::claim;
use auspex_oracle::job::terms::Terms;
use auspex_oracle::job::work::Bells;
use auspex_oracle::keys::ResultSigner;
use auspex_oracle::meter::Meters;
use auspex_oracle::partial::{Part, Queue};
use auspex_oracle::quorum::store::{Outgoing, Signing, record, sign, votes};
use auspex_protocol::document::{OutcomeDocument, ResultDocument};
use auspex_protocol::message::{QuorumMessage, RequestNotice};
use auspex_protocol::quorum::result_digest;
use auspex_protocol::topic::Topics;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::lease::{discover, domain, terms};
use crate::scene::chain::key;
use crate::scene::eventually;

mod encrypted;
mod subscription;

const OWNER: Address = Address::repeat_byte(8);
const OURS: B256 = B256::repeat_byte(1);
const THEIRS: B256 = B256::repeat_byte(2);

/// One process's side of the broker.
fn bus(pool: PgPool, options: BusOptions, ack_timeout: Duration) -> Bus {
    Bus {
        pool,
        domain: domain(),
        topics: Topics::new(31337, Address::repeat_byte(3)),
        options,
        identity: Identity {
            owner: OWNER,
            signer: key(OURS).address(),
            database_id: Uuid::from_u128(1),
        },
        signer: ResultSigner::new(key(OURS)),
        heads: watch::channel(None).1,
        meters: Arc::new(Meters::default()),
        bells: Bells::default(),
        partials: Arc::new(Queue::default()),
        limits: BusLimits {
            ack_timeout,
            sweep: Duration::from_millis(200),
            heartbeat: Duration::from_millis(300),
        },
    }
}

struct Station {
    database: TestDatabase,
    terms: Terms,
    topics: Topics,
    meters: Arc<Meters>,
    bells: Bells,
    partials: Arc<Queue>,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Station {
    async fn start(broker_url: &str, ack_timeout: Duration) -> Self {
        let options = BusOptions::plain(broker_url.parse().expect("a URL"));
        Self::with(options, ack_timeout).await
    }

    async fn with(options: BusOptions, ack_timeout: Duration) -> Self {
        let database = TestDatabase::create().await.expect("a database");
        let terms = terms(1, 900, vec![key(OURS).address(), key(THEIRS).address()]);
        discover(&database.pool(), &terms, 1, 1).await.expect("new");
        let bus = bus(database.pool(), options, ack_timeout);
        let (topics, meters) = (bus.topics.clone(), Arc::clone(&bus.meters));
        let (bells, partials) = (bus.bells.clone(), Arc::clone(&bus.partials));
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(bus.run(shutdown.clone()));
        Self { database, terms, topics, meters, bells, partials, shutdown, task }
    }

    /// Signs a result and queues `count` messages with it.
    async fn queue(&self, count: u64) {
        let pool = &self.database.pool();
        let result = ResultDocument {
            request_id: self.terms.request_id,
            outcome: OutcomeDocument::Answered,
            output_hash: B256::repeat_byte(7),
            trace_root: B256::ZERO,
            retrieval_root: B256::ZERO,
            model_hash: B256::ZERO,
            amount: 5,
            valid_until: 900,
        };
        let digest = result_digest(&domain(), &(&result).into());
        let signature: Bytes = key(OURS).sign_hash_sync(&digest).expect("signed").as_bytes().into();
        let signer = ResultSigner::new(key(OURS));
        let job = claim(pool, &domain(), "a", Duration::from_secs(30), true)
            .await
            .expect("claim")
            .expect("a job");
        record(pool, &job.lease, digest, &result, None).await.expect("recorded");
        let mut messages = Vec::new();
        for sent_at in 0..count {
            let message = QuorumMessage::Cosignature {
                request_id: self.terms.request_id,
                result_digest: digest,
                attestation: signature.clone(),
            };
            let envelope = signer.seal(&domain(), &message, sent_at).await.expect("sealed");
            let topic = self.topics.quorum(self.terms.request_id);
            messages.push(Outgoing { topic, envelope });
        }
        let signing = Signing {
            signer: key(OURS).address(),
            digest,
            signature: &signature,
            messages: &messages,
            answer_stored: false,
        };
        sign(pool, &job.lease, &signing).await.expect("signed");
        self.bells.bus.notify_one();
    }

    async fn waiting(&self) -> i64 {
        sqlx::query_scalar("select count(*) from oracle.outbox where bus_acked_at is null")
            .fetch_one(&self.database.pool())
            .await
            .expect("count")
    }

    async fn connected(&self) {
        eventually("the broker is connected", || async {
            (self.meters.bus_connected.get() == 1).then_some(())
        })
        .await;
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("a clean stop");
    }
}

/// Another client of the broker, which hears everything.
pub(crate) struct Listener {
    client: AsyncClient,
    pub(crate) heard: mpsc::UnboundedReceiver<(String, Vec<u8>)>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

pub(crate) async fn listen(port: u16) -> Listener {
    let name = format!("listener-{}", Uuid::new_v4().simple());
    let mut options = MqttOptions::new(name, "127.0.0.1", port);
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut event_loop) = AsyncClient::new(options, 256);
    client.subscribe("#", QoS::AtLeastOnce).await.expect("subscribe");
    let (said, heard) = mpsc::unbounded_channel();
    let (ready, subscribed) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let mut ready = Some(ready);
        while let Ok(event) = event_loop.poll().await {
            match event {
                Event::Incoming(Packet::SubAck(_)) => {
                    let _ = ready.take().map(|ready| ready.send(()));
                }
                Event::Incoming(Packet::Publish(publish)) => {
                    let _ = said.send((publish.topic, publish.payload.to_vec()));
                }
                Event::Incoming(_) | Event::Outgoing(_) => {}
            }
        }
    });
    subscribed.await.expect("subscribed");
    Listener { client, heard, _task: tokio_util::task::AbortOnDropHandle::new(task) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_messages_than_may_be_under_way_all_arrive() {
    let broker = TestBroker::start().await.expect("a broker");
    let mut listener = listen(broker.port()).await;
    let station = Station::start(broker.url().as_ref(), Duration::from_secs(5)).await;
    station.connected().await;
    station.queue(180).await;
    let mut seen = BTreeMap::new();
    while seen.len() < 180 {
        let next = tokio::time::timeout(Duration::from_secs(30), listener.heard.recv());
        let (topic, payload) = next.await.expect("in time").expect("a message");
        if topic == station.topics.quorum(station.terms.request_id) {
            *seen.entry(payload).or_insert(0) += 1;
        }
    }
    eventually("all are acknowledged", || async { (station.waiting().await == 0).then_some(()) })
        .await;
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_queued_while_the_broker_is_down_arrives_when_it_is_back() {
    let mut broker = TestBroker::start().await.expect("a broker");
    let station = Station::start(broker.url().as_ref(), Duration::from_secs(5)).await;
    station.connected().await;
    broker.kill().await;
    station.queue(60).await;
    broker.restart().await.expect("restarted");
    let mut listener = listen(broker.port()).await;
    eventually("all are acknowledged by the new broker", || async {
        (station.waiting().await == 0).then_some(())
    })
    .await;
    assert!(2 <= station.meters.bus_connections.get());
    // The new broker knew nothing; its retained heartbeat shows that ours is there again.
    let heartbeat = station.topics.heartbeat(key(OURS).address());
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), listener.heard.recv());
        let (topic, payload) = next.await.expect("in time").expect("a message");
        if topic == heartbeat && !payload.is_empty() {
            break;
        }
    }
    station.stop().await;
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), listener.heard.recv());
        let (topic, payload) = next.await.expect("in time").expect("a message");
        if topic == heartbeat && payload.is_empty() {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_and_worthless_messages_change_nothing() {
    let broker = TestBroker::start().await.expect("a broker");
    let listener = listen(broker.port()).await;
    let station = Station::start(broker.url().as_ref(), Duration::from_secs(5)).await;
    station.connected().await;
    let request_id = station.terms.request_id;
    let digest = B256::repeat_byte(9);
    let message = QuorumMessage::Cosignature {
        request_id,
        result_digest: digest,
        attestation: key(THEIRS).sign_hash_sync(&digest).expect("signed").as_bytes().into(),
    };
    let envelope =
        ResultSigner::new(key(THEIRS)).seal(&domain(), &message, 5).await.expect("sealed");
    let vote = serde_json::to_vec(&envelope).expect("JSON");
    let topic = station.topics.quorum(request_id);
    let worthless: [&[u8]; 4] = [b"", b"{", b"null", &[0xff; 4096]];
    for payload in worthless {
        listener.client.publish(&topic, QoS::AtLeastOnce, false, payload).await.expect("published");
    }
    for _ in 0..5 {
        listener
            .client
            .publish(&topic, QoS::AtLeastOnce, false, vote.clone())
            .await
            .expect("published");
    }
    // The indexer's bell comes after them on the same connection, so that they have been looked at when it rings.
    let notice = RequestNotice { request_id, status: "funded".into(), block_number: 1 };
    let notice = serde_json::to_vec(&notice).expect("JSON");
    let bell = station.topics.request(request_id);
    listener.client.publish(&bell, QoS::AtLeastOnce, false, notice).await.expect("published");
    eventually("the vote is there and the bell has rung", || async {
        let votes = votes(&station.database.pool(), request_id).await.expect("votes");
        let wakes: i64 = sqlx::query_scalar("select wakes from oracle.jobs")
            .fetch_one(&station.database.pool())
            .await
            .expect("wakes");
        (votes.len() == 1 && wakes == 2).then_some(())
    })
    .await;
    let kept: i64 = sqlx::query_scalar("select count(*) from oracle.inbox")
        .fetch_one(&station.database.pool())
        .await
        .expect("count");
    assert_eq!(kept, 1);
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_acknowledges_nothing_is_given_up_again_and_again() {
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = mute.local_addr().expect("an address").port();
    let accepting = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut socket, _)) = mute.accept().await {
            open.push(tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = socket.read(&mut buffer).await;
                // CONNACK: accepted, no session. Then silence.
                let _ = socket.write_all(&[0x20, 0x02, 0x00, 0x00]).await;
                while socket.read(&mut buffer).await.is_ok_and(|count| 0 < count) {}
            }));
        }
    });
    let url = format!("mqtt://127.0.0.1:{port}");
    let station = Station::start(&url, Duration::from_millis(400)).await;
    station.connected().await;
    station.queue(3).await;
    eventually("the client was rebuilt", || async {
        (3 <= station.meters.bus_rebuilds.get() && 3 <= station.meters.bus_connections.get())
            .then_some(())
    })
    .await;
    assert_eq!(station.waiting().await, 3, "nothing counts as sent");
    station.stop().await;
    accepting.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_parts_leaves_room_for_what_has_to_arrive() {
    let broker = TestBroker::start().await.expect("a broker");
    let mut listener = listen(broker.port()).await;
    let station = Station::start(broker.url().as_ref(), Duration::from_secs(5)).await;
    station.connected().await;
    let topic = station.topics.partial(station.terms.request_id);
    let mut pushed: u64 = 0;
    for _ in 0..500 {
        pushed +=
            u64::from(station.partials.push(Part { topic: topic.clone(), payload: vec![b'x'; 8] }));
    }
    station.queue(120).await;
    eventually("all are acknowledged", || async { (station.waiting().await == 0).then_some(()) })
        .await;
    let (mut parts, mut messages) = (0, 0);
    while parts < pushed || messages < 120 {
        let next = tokio::time::timeout(Duration::from_secs(30), listener.heard.recv());
        let (heard, _) = next.await.expect("in time").expect("a message");
        parts += u64::from(heard == topic);
        messages += u64::from(heard == station.topics.quorum(station.terms.request_id));
    }
    assert_eq!(station.meters.partials_published.get(), pushed);
    assert_eq!(station.meters.bus_rebuilds.get(), 0);
    station.stop().await;
}
