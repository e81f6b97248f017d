//! The socket. Only processes of the same user get an answer: the file's mode keeps others out, and the kernel says who
//! is at the other end of a connection.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use futures::{SinkExt, StreamExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

use crate::keys::file::private_directory;
use crate::limits::SIGNER_CONNECTIONS_MAX;
use crate::signer::vault::Vault;
use crate::signer::wire::{Answer, Ask, lines};

/// A socket that is ready to answer. Dropping it removes the file.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Makes the socket with mode 0600. A socket that a dead signer left behind is replaced, a living one is not.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        let user = nix::unistd::geteuid().as_raw();
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            private_directory(folder)?;
            let metadata = std::fs::metadata(folder)
                .with_context(|| format!("--socket: look at {}", folder.display()))?;
            if metadata.mode() & 0o022 != 0 || metadata.uid() != user {
                bail!(
                    "--socket: others could replace a socket in {}; name a folder that belongs to this user alone",
                    folder.display()
                );
            }
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            bail!(
                "--socket: {}: another signer answers there; stop that one first",
                path.display()
            );
        }
        match std::fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("--socket: remove {}", path.display()));
            }
        }
        let listener = UnixListener::bind(path)
            .with_context(|| format!("--socket: listen at {}", path.display()))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .with_context(|| format!("--socket: protect {}", path.display()))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers the processes of one user until told to stop.
    pub async fn run(
        self,
        user: u32,
        vault: Vault,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let places = Arc::new(Semaphore::new(SIGNER_CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, _) = accepted.context("accept a connection")?;
            let peer = stream.peer_cred().context("read who connects")?.uid();
            if peer != user {
                tracing::warn!(peer, "a connection of another user was closed");
                continue;
            }
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                tracing::warn!(limit = SIGNER_CONNECTIONS_MAX, "too many connections");
                continue;
            };
            let vault = vault.clone();
            connections.spawn(async move {
                if let Err(error) = converse(stream, &vault).await {
                    tracing::debug!(error = format!("{error:#}"), "a connection ended");
                }
                drop(place);
            });
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A file that is gone needs no removal.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn converse(stream: UnixStream, vault: &Vault) -> anyhow::Result<()> {
    let mut framed = Framed::new(stream, lines());
    while let Some(line) = framed.next().await {
        let answer = match serde_json::from_str::<Ask>(&line.context("read a question")?) {
            Ok(ask) => vault.answer(ask).await,
            Err(error) => Answer::Refused { reason: format!("ask: {error}"), lasting: true },
        };
        framed.send(serde_json::to_string(&answer)?).await.context("write an answer")?;
    }
    Ok(())
}
