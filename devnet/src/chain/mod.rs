//! A local chain that survives the death of its node.
//!
//! anvil keeps its chain in memory, so that SIGKILL loses whatever it has not written. A kept chain stands in front of it:
//! it alone decides when a block is mined and which time the block has, writes every transaction and every block to a
//! journal on disk *before* anvil hears of it, and makes the same chain again, hash by hash, when anvil was killed. Its
//! readers wait for a moment and notice nothing.
//!
//! ```text
//! people ── HTTP, WebSocket ──► gate ── reads ──────────────────────────► anvil
//!                                 └──── writes ──► keeper ── journal ──► anvil
//! ```
//!
//! - `method` tells reads from writes; `journal` and `dump` are what is on disk;
//! - `keeper` owns the chain; `gate` is what people connect to.
//!
//! Invariant: whoever was answered was answered by a chain that can be made again.
//!
//! The journal has at most [`JOURNAL_BLOCKS_MAX`](crate::limits::JOURNAL_BLOCKS_MAX) blocks: then the whole chain is written
//! to disk, as it is after every call that no journal can repeat (`anvil_reorg`, `anvil_setBalance`, ...), and a new journal
//! begins. What a kill does lose: snapshots, filters and subscriptions, which are of one anvil and of no chain; and the
//! state of accounts at past blocks, which anvil does not write.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use alloy::primitives::ChainId;
use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::limits::CHAIN_QUEUE;
use crate::port::{self, Reservation};

mod dump;
mod gate;
mod journal;
mod keeper;
mod method;
mod upstream;

use gate::Gate;
use keeper::Keeper;
pub use method::Mining;
use upstream::Upstream;

/// How to keep a chain.
#[derive(Debug, Clone)]
pub struct ChainOptions {
    /// Any free port if none is given.
    pub port: Option<u16>,
    pub chain_id: ChainId,
    /// When blocks are mined; calls such as `evm_setIntervalMining` change it.
    pub mining: Mining,
    /// Where the chain is kept. It is this chain's alone, and made when it does not exist.
    pub folder: PathBuf,
    /// Receives anvil's messages.
    pub log: PathBuf,
}

/// A running chain, on a thread of its own. Dropping it stops it and waits until anvil is gone.
#[derive(Debug)]
pub struct Chain {
    port: Reservation,
    upstream: watch::Receiver<Option<Upstream>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Chain {
    /// Begins a chain, or resumes the one in the folder, and waits until it answers. `program` is
    /// [`crate::provision::Tools::anvil`].
    ///
    /// # Errors
    /// The port is taken; the folder cannot be used; what is in it is damaged; anvil does not start.
    pub async fn start(program: &Path, options: ChainOptions) -> anyhow::Result<Self> {
        let port = port::reserve_or(options.port)?;
        let (published, upstream) = watch::channel(None);
        let (ready, is_ready) = oneshot::channel();
        let stop = CancellationToken::new();
        let (address, program, stopped) = (port.address(), program.to_path_buf(), stop.clone());
        let seen = upstream.clone();
        let thread = std::thread::Builder::new()
            .name("chain".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = match runtime.context("start the chain's runtime") {
                    Ok(runtime) => runtime,
                    // Whoever waits may have gone.
                    Err(error) => return drop(ready.send(Err(error))),
                };
                let open = async {
                    let listener = TcpListener::bind(address).await;
                    let listener = listener.with_context(|| format!("listen on {address}"))?;
                    Ok((listener, Keeper::open(program, options, published).await?))
                };
                let serve = async {
                    match open.await {
                        Ok((listener, keeper)) => {
                            drop(ready.send(Ok(())));
                            serve(listener, keeper, seen).await;
                        }
                        Err(error) => drop(ready.send(Err(error))),
                    }
                };
                runtime.block_on(stopped.run_until_cancelled(serve));
            })
            .context("start the chain's thread")?;
        let chain = Self { port, upstream, stop, thread: Some(thread) };
        is_ready.await.context("the chain's thread ended while it started")??;
        Ok(chain)
    }

    pub fn http_url(&self) -> Url {
        port::loopback_url("http", self.port())
    }

    pub fn ws_url(&self) -> Url {
        port::loopback_url("ws", self.port())
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The process id of the anvil of the moment; `None` while the chain is being made again.
    pub fn pid(&self) -> Option<u32> {
        self.upstream.borrow().as_ref().map(|upstream| upstream.pid)
    }

    /// Stops the chain. What is on disk is all of it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed; there is nothing to add.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Keeper and gate live and end together.
async fn serve(listener: TcpListener, keeper: Keeper, upstream: watch::Receiver<Option<Upstream>>) {
    let (commands, queue) = mpsc::channel(CHAIN_QUEUE);
    let app = gate::router(Gate { client: reqwest::Client::new(), upstream, commands });
    tokio::select! {
        () = keeper.work(queue) => {}
        served = async { axum::serve(listener, app).await } => {
            if let Err(error) = served {
                tracing::error!(%error, "the chain's gate ended");
            }
        }
    }
}
