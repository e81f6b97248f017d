//! The connection on which unfinished answers come. Separate from the one on which notices are published, because
//! strangers may write here: what they break costs partial answers and nothing else.

use std::convert::Infallible;

use anyhow::Context;
use auspex_protocol::limits::PARTIAL_BYTES_MAX;
use rumqttc::{AsyncClient, Event, Packet, QoS, SubscribeFilter};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use crate::broker;
use crate::config::RpcUrl;
use crate::limits::PUBLISH_POLL;
use crate::serve::ServeState;

/// Requests to the client that may wait: there is one, the subscription.
const CHANNEL: usize = 8;

/// Passes unfinished answers from the broker to the readers of `state` until `shutdown`. A broker that is away is tried
/// again; meanwhile readers get none.
pub async fn listen(broker: RpcUrl, state: ServeState, shutdown: CancellationToken) {
    let mut failing = false;
    loop {
        let mut gate = Gate::new(state.pool.clone(), state.partials(), &state.chains);
        let ended = tokio::select! {
            () = shutdown.cancelled() => return,
            ended = session(&broker, &mut gate) => ended,
        };
        let Err(error) = ended;
        if !failing {
            tracing::warn!(%broker, error = format!("{error:#}"), "unfinished answers are not heard");
        }
        failing = true;
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(PUBLISH_POLL) => {}
        }
    }
}

/// One connection, until its first error: rumqttc 0.25 may never recover from one.
async fn session(broker: &RpcUrl, gate: &mut Gate) -> anyhow::Result<Infallible> {
    let mut options = broker::options(broker)?;
    // The client gives up its connection over a larger packet, so it takes more than is passed on.
    options.set_max_packet_size(4 * PARTIAL_BYTES_MAX, PARTIAL_BYTES_MAX);
    let (client, mut events) = AsyncClient::new(options, CHANNEL);
    loop {
        match events.poll().await.context("keep the connection to the broker")? {
            Event::Incoming(Packet::ConnAck(_)) => {
                let filters =
                    gate.filters().map(|topic| SubscribeFilter::new(topic, QoS::AtMostOnce));
                client.try_subscribe_many(filters).context("subscribe to unfinished answers")?;
            }
            Event::Incoming(Packet::Publish(publish)) => {
                gate.take(&publish.topic, &publish.payload).await;
            }
            Event::Incoming(_) | Event::Outgoing(_) => {}
        }
    }
}
