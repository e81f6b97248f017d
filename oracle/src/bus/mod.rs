//! The doorbell: MQTT wakes the node and carries operators' messages fast. It is never the truth. Whatever the broker
//! loses, the outbox sends again and the board keeps.
//!
//! rumqttc 0.25 has three known faults: it drops queued messages when a broker comes back without the session
//! (bytebeamio/rumqtt#1056), it can stay in a packet-id collision for ever (#1014), and it forgets which messages it has
//! seen when it reconnects. So no client outlives its first error: it is thrown away with all its state, and the tables
//! `oracle.outbox` and `oracle.inbox` say what is still to be sent and what was applied.

pub mod options;
mod session;
mod sharing;

use std::sync::Arc;
use std::time::Duration;

use alloy::sol_types::Eip712Domain;
use auspex_protocol::topic::Topics;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bus::options::BusOptions;
use crate::heads::Heads;
use crate::identity::{Identity, IdentityError};
use crate::job::work::Bells;
use crate::keys::ResultSigner;
use crate::limits::{BUS_RECONNECT, BUS_RECONNECT_MAX};
use crate::meter::Meters;
use crate::partial::Queue;

/// The node's side of the broker.
#[derive(Debug)]
pub struct Bus {
    pub pool: PgPool,
    pub domain: Eip712Domain,
    pub topics: Topics,
    pub options: BusOptions,
    pub identity: Identity,
    pub signer: ResultSigner,
    pub heads: watch::Receiver<Option<Heads>>,
    pub meters: Arc<Meters>,
    pub bells: Bells,
    /// Parts of unfinished answers: sent once, to whoever listens now.
    pub partials: Arc<Queue>,
    pub limits: BusLimits,
}

/// Times that tests shorten.
#[derive(Debug, Clone, Copy)]
pub struct BusLimits {
    /// A broker that acknowledges nothing for this long is given up.
    pub ack_timeout: Duration,
    pub sweep: Duration,
    pub heartbeat: Duration,
}

/// How a session with the broker ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the node stops")]
    Shutdown,
    #[error(transparent)]
    KeyInUse(#[from] IdentityError),
    #[error("broker: {0}")]
    Connection(String),
    #[error("broker: no acknowledgement within {} s", .0.as_secs())]
    Wedged(Duration),
    #[error("broker: two messages under one packet id")]
    Collision,
}

impl Bus {
    /// Keeps a session with the broker until told to stop. Ends with an error only when another node uses our key.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut wait = BUS_RECONNECT;
        let mut quiet = false;
        loop {
            let connections = self.meters.bus_connections.get();
            let ended = session::run(&self, &shutdown).await;
            self.meters.bus_connected.set(0);
            match ended {
                Ended::Shutdown => return Ok(()),
                Ended::KeyInUse(error) => return Err(error.into()),
                Ended::Connection(_) | Ended::Wedged(_) | Ended::Collision => {
                    self.meters.bus_rebuilds.add(1);
                    if !quiet {
                        tracing::warn!(reason = %ended, "the broker is lost; the board carries on");
                    }
                }
            }
            let was_connected = connections < self.meters.bus_connections.get();
            quiet = !was_connected;
            wait = if was_connected { BUS_RECONNECT } else { (wait * 2).min(BUS_RECONNECT_MAX) };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}
