//! A TCP proxy that misbehaves on demand, to stand between two real parts: it delays, cuts, swallows, or cuts at the one
//! moment at which a database client cannot know whether its transaction was committed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::limits::PROXY_CHUNK_BYTES;

/// What PostgreSQL's clients send to commit, in a message of its own.
const COMMIT: &[u8] = b"COMMIT\0";

/// How the proxy treats all of its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Passes everything on.
    None,
    /// Passes everything on, late.
    Delay(Duration),
    /// Closes open connections and takes no new ones.
    Cut,
    /// Keeps connections open and passes nothing on, as a cable that was pulled does.
    HalfOpen,
    /// Passes everything on until a client commits: the commit arrives, its acknowledgement does not.
    CutAfterCommit,
}

/// A running proxy. Dropping it closes its connections.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    cuts: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 and passes connections on to `upstream`.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("bind the proxy's port")?;
        let address = listener.local_addr().context("read the proxy's port")?;
        let (fault, faults) = watch::channel(Fault::None);
        let cuts = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, upstream, faults, Arc::clone(&cuts)));
        Ok(Self { address, fault, cuts, task })
    }

    /// Where clients connect instead of the upstream.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how all connections are treated, at once.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// How many connections were closed by a fault.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    upstream: SocketAddr,
    faults: watch::Receiver<Fault>,
    cuts: Arc<AtomicU64>,
) {
    let mut connections = JoinSet::new();
    loop {
        let client = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => client,
                Err(_) => continue,
            },
        };
        let (faults, cuts) = (faults.clone(), Arc::clone(&cuts));
        connections.spawn(async move {
            if *faults.borrow() == Fault::Cut {
                return;
            }
            // An upstream that is down looks to the client like one that closes the connection.
            let Ok(server) = TcpStream::connect(upstream).await else { return };
            if relay(client, server, faults).await == End::Fault {
                cuts.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Fault,
}

async fn relay(client: TcpStream, server: TcpStream, faults: watch::Receiver<Fault>) -> End {
    // What is passed on in pieces would otherwise wait for acknowledgements of the pieces before.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let committed = AtomicBool::new(false);
    let up = Pump { faults: faults.clone(), committed: &committed, is_client: true };
    let down = Pump { faults, committed: &committed, is_client: false };
    // The end of either direction ends both: dropping the halves closes the sockets.
    tokio::select! {
        end = up.run(from_client, to_server) => end,
        end = down.run(from_server, to_client) => end,
    }
}

struct Pump<'a> {
    faults: watch::Receiver<Fault>,
    /// A commit went up whose acknowledgement must not come down.
    committed: &'a AtomicBool,
    is_client: bool,
}

impl Pump<'_> {
    async fn run(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> End {
        let mut chunk = vec![0; PROXY_CHUNK_BYTES];
        let mut swallowed = false;
        loop {
            let fault = *self.faults.borrow_and_update();
            // What was swallowed is missing from the stream for ever.
            if fault == Fault::Cut || (swallowed && fault != Fault::HalfOpen) {
                return End::Fault;
            }
            let length = tokio::select! {
                changed = self.faults.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return End::Closed,
                },
                read = from.read(&mut chunk) => match read {
                    Ok(0) | Err(_) => return End::Closed,
                    Ok(length) => length,
                },
            };
            let content = &chunk[..length];
            let fault = *self.faults.borrow();
            match fault {
                Fault::None => {}
                Fault::Delay(time) => tokio::time::sleep(time).await,
                Fault::Cut => return End::Fault,
                Fault::HalfOpen => {
                    swallowed = true;
                    continue;
                }
                Fault::CutAfterCommit if self.is_client => {
                    if content.windows(COMMIT.len()).any(|part| part == COMMIT) {
                        self.committed.store(true, Ordering::Relaxed);
                    }
                }
                // The server has answered, so it has committed.
                Fault::CutAfterCommit if self.committed.load(Ordering::Relaxed) => {
                    return End::Fault;
                }
                Fault::CutAfterCommit => {}
            }
            if to.write_all(content).await.is_err() {
                return End::Closed;
            }
        }
    }
}
