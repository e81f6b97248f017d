//! A TCP relay in front of a broker, which is what makes the broker look killed: when the relay stops, its
//! listener and all its connections close, just as the kernel closes those of a dead process.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

/// Relays connections until it is stopped or dropped.
#[derive(Debug)]
pub(super) struct Relay {
    /// Dropping it stops the task.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Relay {
    pub(super) async fn start(listen: SocketAddr, to: SocketAddr) -> anyhow::Result<Relay> {
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(accept(listener, to, stopped));
        Ok(Relay { stop, task })
    }

    /// Returns once every socket is closed.
    pub(super) async fn stop(self) {
        drop(self.stop);
        // A panic in the task has closed the sockets, too, and has been printed.
        let _ = self.task.await;
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    connections.spawn(relay(client, to));
                }
                Err(error) => {
                    tracing::warn!(%error, "accept connection to broker");
                    tokio::task::yield_now().await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn relay(mut client: TcpStream, to: SocketAddr) {
    let Ok(mut broker) = TcpStream::connect(to).await else { return };
    // MQTT's packets are small; waiting for more of them would only delay.
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    // An error means that one side closed, which closes the other.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
}
