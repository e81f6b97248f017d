//! One client's life, from connecting to its first error.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::primitives::{Address, B256};
use auspex_protocol::message::{QuorumMessage, RequestNotice};
use rumqttc::{
    AsyncClient, Event, EventLoop, Outgoing, Packet, Publish, QoS, SubscribeFilter,
    SubscribeReasonCode,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::bus::sharing::{Sharing, Step, undivided};
use crate::bus::{Bus, Ended};
use crate::failpoint::{Point, pass};
use crate::identity::IdentityError;
use crate::job::store::wake;
use crate::limits::{
    BUS_IN_FLIGHT_MAX, BUS_RECEIVED_MAX, BUS_UNACKNOWLEDGED_MAX, HEARTBEAT_FRESH,
    PARTIALS_UNDER_WAY_MAX,
};
use crate::outbox;
use crate::quorum::inbox::{Received, receive};

/// Requests to the client that may wait in its channel.
const CHANNEL: usize =
    2 * BUS_IN_FLIGHT_MAX as usize + PARTIALS_UNDER_WAY_MAX + BUS_UNACKNOWLEDGED_MAX;

/// A message that is with the broker.
struct Sent {
    /// The outbox row; a heartbeat has none.
    row: Option<i64>,
    at: Instant,
}

struct Session<'a> {
    bus: &'a Bus,
    client: AsyncClient,
    /// Handed to the client, in order; the client numbers them in the same order.
    unnumbered: VecDeque<Sent>,
    /// By packet id.
    unacknowledged: HashMap<u16, Sent>,
    /// Parts of unfinished answers that were handed to the client, which has not written them yet.
    partials_under_way: usize,
    sharing: Sharing,
}

/// Connects and works until something goes wrong.
pub(super) async fn run(bus: &Bus, shutdown: &CancellationToken) -> Ended {
    let will_topic = bus.topics.heartbeat(bus.signer.address());
    let keep_alive = Duration::from_secs(5).max(bus.limits.heartbeat);
    let (client, event_loop) =
        AsyncClient::new(bus.options.client(&will_topic, keep_alive), CHANNEL);
    let (events, received) = mpsc::channel(BUS_RECEIVED_MAX);
    // The client is polled by a task of its own, because its `poll` must not be cut off in the middle of a packet. The
    // handle stops the task when this session ends, however it ends.
    let _poller = AbortOnDropHandle::new(tokio::spawn(poll(event_loop, events, 3 * keep_alive)));
    let session = Session {
        bus,
        client,
        unnumbered: VecDeque::new(),
        unacknowledged: HashMap::new(),
        partials_under_way: 0,
        sharing: Sharing::new(bus.options.is_shared(), &bus.topics, bus.signer.address()),
    };
    session.serve(received, shutdown).await
}

async fn poll(
    mut event_loop: EventLoop,
    events: mpsc::Sender<Result<Event, String>>,
    silence_max: Duration,
) {
    loop {
        // Pings make events at every keep-alive interval; a client that makes none is wedged.
        let event = match timeout(silence_max, event_loop.poll()).await {
            Ok(event) => event.map_err(|error| error.to_string()),
            Err(_) => Err(format!("silent for {} s", silence_max.as_secs())),
        };
        let failed = event.is_err();
        if events.send(event).await.is_err() || failed {
            return;
        }
    }
}

impl Session<'_> {
    async fn serve(
        mut self,
        mut received: mpsc::Receiver<Result<Event, String>>,
        shutdown: &CancellationToken,
    ) -> Ended {
        let limits = self.bus.limits;
        let mut connected = false;
        let mut sweep = ticks(limits.sweep);
        let mut heartbeat = ticks(limits.heartbeat);
        let mut watchdog = ticks(limits.ack_timeout / 4);
        loop {
            let result = tokio::select! {
                () = shutdown.cancelled() => {
                    self.part().await;
                    return Ended::Shutdown;
                }
                event = received.recv() => match event {
                    Some(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                        connected = true;
                        self.subscribe()
                    }
                    Some(Ok(event)) => self.handle(event).await,
                    Some(Err(error)) => {
                        Err(Ended::Connection(self.bus.options.redact(&error)))
                    }
                    None => Err(Ended::Connection("the client ended".into())),
                },
                () = self.bus.bells.bus.notified(), if connected => self.flush().await,
                () = self.bus.partials.rung(), if connected => {
                    self.let_go();
                    Ok(())
                }
                _ = sweep.tick(), if connected => self.flush().await,
                _ = heartbeat.tick(), if connected => self.beat().await,
                _ = watchdog.tick() => self.watch(),
            };
            if let Err(ended) = result {
                return ended;
            }
        }
    }

    fn subscribe(&mut self) -> Result<(), Ended> {
        self.listen(self.sharing.filters(&self.bus.topics, self.bus.identity.owner))?;
        self.bus.meters.bus_connections.add(1);
        self.bus.meters.bus_connected.set(1);
        tracing::info!("connected to the broker");
        // Text of a while ago is of no use to anybody.
        self.bus.meters.partials_dropped.add(self.bus.partials.clear() as u64);
        // What was published while we were away is on the board and in the indexer's list.
        self.bus.bells.discovery.notify_one();
        self.bus.bells.bus.notify_one();
        Ok(())
    }

    fn listen(&self, filters: impl IntoIterator<Item = String>) -> Result<(), Ended> {
        let filters = filters.into_iter().map(|f| SubscribeFilter::new(f, QoS::AtLeastOnce));
        self.client.try_subscribe_many(filters).map_err(full)
    }

    async fn handle(&mut self, event: Event) -> Result<(), Ended> {
        match event {
            // What needs no acknowledgement has no number.
            Event::Outgoing(Outgoing::Publish(0)) => {
                self.partials_under_way = self.partials_under_way.saturating_sub(1);
                self.let_go();
                Ok(())
            }
            Event::Outgoing(Outgoing::Publish(id)) => {
                if let Some(sent) = self.unnumbered.pop_front() {
                    self.unacknowledged.insert(id, sent);
                }
                Ok(())
            }
            Event::Outgoing(Outgoing::AwaitAck(_)) => Err(Ended::Collision),
            Event::Incoming(Packet::PubAck(ack)) => {
                if let Some(Sent { row: Some(row), .. }) = self.unacknowledged.remove(&ack.pkid) {
                    pass(Point::PublicationAcknowledged);
                    log(outbox::bus_acked(&self.bus.pool, row).await);
                }
                if self.unacknowledged.len() < usize::from(BUS_IN_FLIGHT_MAX) / 2 {
                    self.flush().await?;
                }
                Ok(())
            }
            Event::Incoming(Packet::Publish(publish)) => {
                if !self.sharing.heard(&publish.topic) {
                    self.take_in(&publish).await?;
                }
                if self.bus.options.is_shared() {
                    self.client.try_ack(&publish).map_err(full)?;
                }
                Ok(())
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                    tracing::warn!("the broker refuses a subscription; the board carries on");
                }
                Ok(())
            }
            Event::Incoming(Packet::Disconnect) => {
                Err(Ended::Connection("the broker disconnected us".into()))
            }
            Event::Incoming(_) | Event::Outgoing(_) => Ok(()),
        }
    }

    /// Sends what waits in the outbox, as much as may be under way.
    async fn flush(&mut self) -> Result<(), Ended> {
        let under_way = self.unnumbered.len() + self.unacknowledged.len();
        let room = usize::from(BUS_IN_FLIGHT_MAX).saturating_sub(under_way);
        if room == 0 {
            return Ok(());
        }
        let with_broker: Vec<i64> = self
            .unnumbered
            .iter()
            .chain(self.unacknowledged.values())
            .filter_map(|sent| sent.row)
            .collect();
        let messages = match outbox::for_bus(&self.bus.pool, &with_broker).await {
            Ok(messages) => messages,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the outbox cannot be read");
                return Ok(());
            }
        };
        for message in messages.into_iter().take(room) {
            self.client
                .try_publish(message.topic, QoS::AtLeastOnce, false, message.payload)
                .map_err(full)?;
            pass(Point::MessagePublished);
            self.unnumbered.push_back(Sent { row: Some(message.id), at: Instant::now() });
        }
        Ok(())
    }

    /// Sends parts of unfinished answers, never so many that they take the room of what has to arrive.
    fn let_go(&mut self) {
        let meters = &self.bus.meters;
        while self.partials_under_way < PARTIALS_UNDER_WAY_MAX {
            let Some(part) = self.bus.partials.pop() else { return };
            match self.client.try_publish(part.topic, QoS::AtMostOnce, false, part.payload) {
                Ok(()) => {
                    self.partials_under_way += 1;
                    meters.partials_published.add(1);
                }
                Err(_) => meters.partials_dropped.add(1),
            }
        }
    }

    async fn beat(&mut self) -> Result<(), Ended> {
        let bus = self.bus;
        self.share()?;
        let head_block = bus.heads.borrow().map_or(0, |heads| heads.latest.number);
        let message = QuorumMessage::Heartbeat { head_block, version: bus.identity.version() };
        let envelope = match bus.signer.seal(&bus.domain, &message, now()).await {
            Ok(envelope) => envelope,
            Err(error) => {
                // Without a signer the node is silent; the broker has no part in that.
                tracing::warn!(%error, "no heartbeat is sent");
                return Ok(());
            }
        };
        let payload =
            serde_json::to_vec(&envelope).map_err(|error| Ended::Connection(error.to_string()))?;
        let topic = bus.topics.heartbeat(bus.signer.address());
        self.client.try_publish(topic, QoS::AtLeastOnce, true, payload).map_err(full)?;
        self.unnumbered.push_back(Sent { row: None, at: Instant::now() });
        Ok(())
    }

    /// Finds out whether the broker shares.
    fn share(&mut self) -> Result<(), Ended> {
        match self.sharing.step() {
            Step::Nothing => Ok(()),
            Step::Probe => {
                let topic = self.sharing.own_topic();
                self.client.try_publish(topic, QoS::AtLeastOnce, false, "probe").map_err(full)?;
                self.unnumbered.push_back(Sent { row: None, at: Instant::now() });
                Ok(())
            }
            Step::GiveUp => {
                tracing::warn!("the broker shares no messages; this process reads every one");
                // Not to heartbeats again: the broker would show those that it keeps as if they had been there before us.
                self.listen(undivided(&self.bus.topics))
            }
        }
    }

    fn watch(&self) -> Result<(), Ended> {
        let limit = self.bus.limits.ack_timeout;
        let oldest =
            self.unnumbered.iter().chain(self.unacknowledged.values()).map(|sent| sent.at).min();
        match oldest {
            Some(at) if limit <= at.elapsed() => Err(Ended::Wedged(limit)),
            _ => Ok(()),
        }
    }

    async fn take_in(&self, publish: &Publish) -> Result<(), Ended> {
        let bus = self.bus;
        if publish.payload.is_empty() {
            // A heartbeat that was taken off the broker.
            return Ok(());
        }
        if let Some(request_id) = self.request_of(&publish.topic) {
            self.ring(request_id, &publish.payload).await;
            return Ok(());
        }
        let ours = bus.signer.address();
        match receive(&bus.pool, &bus.domain, ours, &publish.payload).await {
            Ok(Received::Applied { .. }) => {
                bus.meters.messages_applied.add(1);
                bus.bells.work.notify_one();
            }
            Ok(Received::UnknownRequest(_)) => bus.bells.discovery.notify_one(),
            Ok(Received::Heartbeat { signer, version, sent_at }) => {
                return self.suspect(signer, &version, sent_at, publish.retain);
            }
            Ok(Received::Refused(error)) => {
                bus.meters.messages_ignored.add(1);
                tracing::debug!(%error, topic = publish.topic, "a message was refused");
            }
            Ok(Received::Ignored(reason)) => {
                bus.meters.messages_ignored.add(1);
                tracing::debug!(%reason, topic = publish.topic, "a message does not count");
            }
            Ok(Received::Known | Received::TooMany) => {}
            Err(error) => {
                // The board keeps it for when the database is back.
                tracing::warn!(error = format!("{error:#}"), "a message could not be applied");
            }
        }
        Ok(())
    }

    /// A fresh heartbeat with our key from another database: the one who came later gives way, which is the one who finds
    /// the other's heartbeat on the broker when it first connects. A node that is at work only counts and warns, so that
    /// a stolen key cannot be used to stop it.
    fn suspect(
        &self,
        signer: Address,
        version: &str,
        sent_at: u64,
        was_there_before: bool,
    ) -> Result<(), Ended> {
        if !self.bus.identity.is_stranger(signer, version) {
            return Ok(());
        }
        let seconds = now().saturating_sub(sent_at);
        if HEARTBEAT_FRESH.as_secs() < seconds {
            return Ok(());
        }
        self.bus.meters.strangers_with_our_key.add(1);
        let first_connection = self.bus.meters.bus_connections.get() == 1;
        if first_connection && was_there_before {
            return Err(IdentityError::KeyInUse { signer, seconds }.into());
        }
        tracing::error!(%signer, "another node signs with our key; revoke the signer if it is not yours");
        Ok(())
    }

    fn request_of(&self, topic: &str) -> Option<B256> {
        let id: B256 = topic.rsplit('/').next()?.parse().ok()?;
        (topic == self.bus.topics.request(id)).then_some(id)
    }

    /// The indexer's bell. Its content is only used to see which job to look at.
    async fn ring(&self, request_id: B256, payload: &[u8]) {
        let Ok(notice) = serde_json::from_slice::<RequestNotice>(payload) else {
            self.bus.meters.messages_ignored.add(1);
            return;
        };
        if notice.request_id != request_id {
            self.bus.meters.messages_ignored.add(1);
            return;
        }
        self.bus.bells.discovery.notify_one();
        match self.bus.pool.acquire().await {
            Ok(mut connection) => {
                if let Err(error) = wake(&mut connection, request_id).await {
                    tracing::warn!(%error, "a job could not be woken");
                }
            }
            Err(error) => tracing::warn!(%error, "a job could not be woken"),
        }
        self.bus.bells.work.notify_one();
    }

    /// Leaves politely: takes the heartbeat off the broker, which the will would only do after a timeout.
    async fn part(&self) {
        let topic = self.bus.topics.heartbeat(self.bus.signer.address());
        let leaving = async {
            let _ = self.client.publish(topic, QoS::AtLeastOnce, true, Vec::new()).await;
            let _ = self.client.disconnect().await;
            // The poller needs a moment to write the two packets; nothing depends on it.
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let _ = timeout(Duration::from_secs(1), leaving).await;
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The channel to the client holds more than may be under way, so a full one means that the client does not work.
#[expect(clippy::needless_pass_by_value, reason = "handed to `map_err` as it stands")]
fn full(error: rumqttc::ClientError) -> Ended {
    Ended::Connection(error.to_string())
}

fn log(result: anyhow::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(error = format!("{error:#}"), "an acknowledgement could not be noted");
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
