//! `auspex broker`: the embedded MQTT broker as a process of its own.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Args;

/// Run the embedded MQTT broker (MQTT 3.1.1) on loopback. It has no credentials: use a real broker across machines.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  auspex broker --port 1883")]
pub(crate) struct BrokerCommand {
    /// Port on 127.0.0.1.
    #[arg(long, default_value_t = 1883)]
    port: u16,
}

pub(crate) fn run(command: &BrokerCommand) -> anyhow::Result<()> {
    auspex_devnet::broker::run(SocketAddr::from((Ipv4Addr::LOCALHOST, command.port)))
}
