//! Trouble on purpose: with `auspex dev --faults`, a proxy that misbehaves at random stands between every two parts of a
//! world. What people's own commands are told stays direct.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use auspex_devnet::proxy::{Fault, FaultProxy};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::sleep;
use url::Url;

/// How long a connection works between two faults, in milliseconds.
const HEALTHY_MS: std::ops::Range<u64> = 500..6_000;
/// How long a fault lasts, in milliseconds. Most end before a time-out notices them, some do not.
const FAULT_MS: std::ops::Range<u64> = 50..2_000;
/// How late a slow connection passes each piece on, in milliseconds.
const DELAY_MS: std::ops::Range<u64> = 1..80;

/// The proxies of a world. Dropping them closes their connections.
#[derive(Debug)]
pub(crate) struct Faults {
    random: SmallRng,
    proxies: Vec<FaultProxy>,
    weather: JoinSet<()>,
}

impl Faults {
    /// The same seed draws the same faults with the same pauses, proxy by proxy.
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), proxies: Vec::new(), weather: JoinSet::new() }
    }

    /// Puts a proxy in front of `url` and gives back how to reach it there. It passes everything on until [`Self::begin`].
    ///
    /// # Errors
    /// The URL names no IPv4 address and port, or no port is free.
    pub(crate) async fn in_front_of(&mut self, url: Url) -> anyhow::Result<Url> {
        let host = url.host_str().context("a URL without a host")?;
        let port = url.port_or_known_default().context("a URL without a port")?;
        let upstream: SocketAddr =
            format!("{host}:{port}").parse().context("a proxy's upstream")?;
        let proxy = FaultProxy::start(upstream).await?;
        let mut reached = url;
        let moved = reached.set_port(Some(proxy.address().port()));
        moved.ok().context("a URL that takes no port")?;
        self.proxies.push(proxy);
        Ok(reached)
    }

    /// From here on every proxy misbehaves now and then.
    pub(crate) fn begin(&mut self) {
        for proxy in self.proxies.drain(..) {
            let random = SmallRng::from_rng(&mut self.random);
            self.weather.spawn(trouble(proxy, random));
        }
    }
}

async fn trouble(proxy: FaultProxy, mut random: SmallRng) {
    loop {
        sleep(Duration::from_millis(random.random_range(HEALTHY_MS))).await;
        proxy.set(match random.random_range(0..4) {
            0 => Fault::Cut,
            1 => Fault::HalfOpen,
            2 => Fault::CutAfterCommit,
            _ => Fault::Delay(Duration::from_millis(random.random_range(DELAY_MS))),
        });
        sleep(Duration::from_millis(random.random_range(FAULT_MS))).await;
        proxy.set(Fault::None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const SEED: u64 = 1;

    #[tokio::test]
    async fn what_stands_behind_a_proxy_is_reached_through_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("an address").port();
        let mut faults = Faults::new(1);
        let direct =
            Url::parse(&format!("postgres://auspex@127.0.0.1:{port}/world")).expect("a URL");
        let reached = faults.in_front_of(direct.clone()).await.expect("a proxy");
        assert_ne!(reached.port(), direct.port());
        assert_eq!((reached.scheme(), reached.path()), (direct.scheme(), direct.path()));
        let address = format!("127.0.0.1:{}", reached.port().expect("a port"));
        let mut client = TcpStream::connect(address).await.expect("connect");
        let (mut server, _) = listener.accept().await.expect("a connection");
        client.write_all(b"hello").await.expect("written");
        let mut heard = [0; 5];
        server.read_exact(&mut heard).await.expect("read");
        assert_eq!(&heard, b"hello");
    }

    #[tokio::test]
    async fn once_it_begins_connections_do_not_last() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("an address").port();
        // This seed cuts soon.
        let mut faults = Faults::new(SEED);
        let direct = Url::parse(&format!("mqtt://127.0.0.1:{port}")).expect("a URL");
        let reached = faults.in_front_of(direct).await.expect("a proxy");
        let address = format!("127.0.0.1:{}", reached.port().expect("a port"));
        let mut client = TcpStream::connect(address).await.expect("connect");
        let (_server, _) = listener.accept().await.expect("a connection");
        faults.begin();
        let end = tokio::time::timeout(Duration::from_secs(60), client.read(&mut [0; 1])).await;
        assert!(matches!(end.expect("a cut in time"), Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn a_host_that_is_no_address_is_refused() {
        let url = Url::parse("http://example.org/").expect("a URL");
        let refusal = Faults::new(1).in_front_of(url).await.expect_err("refused");
        assert!(refusal.to_string().contains("upstream"), "{refusal}");
    }
}
