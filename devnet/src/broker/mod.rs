//! An MQTT 3.1.1 broker on the loopback interface: rumqttd, embedded.
//!
//! It keeps messages in memory only. That is enough: MQTT wakes and gossips in Auspex, and is never the
//! source of truth.
//!
//! rumqttd has no way to stop, therefore `auspex dev` runs it as a process of its own ([`run`]), and tests
//! use a [`TestBroker`], which can be killed and restarted on its port.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rumqttd::{ConnectionSettings, RouterConfig, ServerSettings};

use crate::limits::{
    BROKER_CONNECT_TIMEOUT, BROKER_CONNECTIONS_MAX, BROKER_INFLIGHT_MAX,
    BROKER_OUTGOING_PACKETS_MAX, BROKER_PAYLOAD_BYTES_MAX, BROKER_SEGMENT_BYTES_MAX,
    BROKER_SEGMENTS_MAX, BROKER_START_DEADLINE, READY_POLL,
};
use crate::port;

mod relay;
mod test_broker;

pub use test_broker::TestBroker;

/// Runs a broker until the process ends.
///
/// # Errors
/// It cannot listen on the address. There is no other way in which it returns.
pub fn run(listen: SocketAddr) -> anyhow::Result<()> {
    let mut broker = rumqttd::Broker::new(settings(listen));
    broker.start().with_context(|| format!("run MQTT broker on {listen}"))?;
    // rumqttd logs why its listener ended, and returns without an error.
    bail!(
        "the MQTT broker cannot listen on {listen}: another program has the address, or it is none of this machine"
    )
}

/// A broker on threads of this process. It cannot be stopped, not even by dropping this value: it ends
/// with the process.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
}

impl Broker {
    /// Starts a broker on 127.0.0.1 and waits until it accepts connections. Blocks for a few
    /// milliseconds.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(port: Option<u16>) -> anyhow::Result<Broker> {
        let port = port::reserve_or(port)?;
        let address = port.address();
        let thread = std::thread::Builder::new()
            .name("mqtt-broker".to_owned())
            .spawn(move || {
                let ended = run(address);
                // Reserved for as long as the broker runs.
                drop(port);
                ended
            })
            .context("start thread of MQTT broker")?;
        await_listening(address, &thread)?;
        Ok(Broker { address })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `mqtt://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        url(self.port())
    }
}

fn url(port: u16) -> String {
    format!("mqtt://127.0.0.1:{port}")
}

fn await_listening(
    address: SocketAddr,
    thread: &JoinHandle<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + BROKER_START_DEADLINE;
    while Instant::now() < deadline {
        let answered = TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok();
        if thread.is_finished() {
            bail!("the MQTT broker cannot listen on {address}: another program has it");
        }
        if answered {
            return Ok(());
        }
        std::thread::sleep(READY_POLL);
    }
    bail!("the MQTT broker did not listen within {} s", BROKER_START_DEADLINE.as_secs())
}

fn settings(listen: SocketAddr) -> rumqttd::Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: u16::try_from(BROKER_CONNECT_TIMEOUT.as_millis())
            .unwrap_or(u16::MAX),
        max_payload_size: BROKER_PAYLOAD_BYTES_MAX,
        max_inflight_count: BROKER_INFLIGHT_MAX,
        auth: None,
        external_auth: None,
        // Without it, only filters that are configured could be published to.
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "mqtt".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    rumqttd::Config {
        router: RouterConfig {
            max_connections: BROKER_CONNECTIONS_MAX,
            max_outgoing_packet_count: BROKER_OUTGOING_PACKETS_MAX,
            max_segment_size: BROKER_SEGMENT_BYTES_MAX,
            max_segment_count: BROKER_SEGMENTS_MAX,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("1".to_owned(), server)])),
        ..rumqttd::Config::default()
    }
}
