//! A broker for tests that can be killed and restarted on the same port.

use anyhow::Context;

use super::relay::Relay;
use super::{Broker, url};
use crate::port::{self, Reservation};

/// A real broker behind a relay; see [`TestBroker::kill`]. Dropping it is a kill.
#[derive(Debug)]
pub struct TestBroker {
    port: Reservation,
    relay: Option<Relay>,
}

impl TestBroker {
    /// Starts a broker on a free port. It works in the runtime that calls this.
    pub async fn start() -> anyhow::Result<TestBroker> {
        let mut broker = TestBroker { port: port::reserve()?, relay: None };
        broker.restart().await?;
        Ok(broker)
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `mqtt://127.0.0.1:PORT`, the same after a restart.
    pub fn url(&self) -> String {
        url(self.port())
    }

    pub fn is_running(&self) -> bool {
        self.relay.is_some()
    }

    /// What clients see is what SIGKILL does: connections break, new ones are refused, and all sessions,
    /// subscriptions and messages are gone. (The abandoned broker idles on its own port until the test
    /// process ends, since rumqttd cannot be stopped; nobody can reach it through ours.)
    pub async fn kill(&mut self) {
        if let Some(relay) = self.relay.take() {
            relay.stop().await;
        }
    }

    /// Starts an empty broker on the same port; a running one is killed first.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill().await;
        let broker = tokio::task::spawn_blocking(|| Broker::start(None));
        let broker = broker.await.context("start MQTT broker")??;
        self.relay = Some(Relay::start(self.port.address(), broker.address).await?);
        Ok(())
    }
}
