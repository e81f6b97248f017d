//! The store's connection to PostgreSQL, over TCP without delay.
//!
//! sqlx leaves Nagle's algorithm on. A COPY sends its rows and its end one after the other with no answer in between, so
//! that over TCP the end waits until the server acknowledges the rows, which takes Linux 40 ms: at the tip a block is written
//! with three of them. The store therefore opens the TCP connection itself, without delay, and sqlx speaks into it through a
//! Unix socket in a folder that nobody else can enter.

use std::ops::{Deref, DerefMut};

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpStream, UnixListener};
use tokio_util::task::AbortOnDropHandle;

/// Bytes that are carried at once in each direction.
const RELAY_BYTES: usize = 128 * 1024;

/// A connection, and what carries its bytes where that is not sqlx itself.
#[derive(Debug)]
pub(super) struct StoreConnection {
    connection: PgConnection,
    relay: Option<AbortOnDropHandle<()>>,
}

impl StoreConnection {
    /// Fails when the server cannot be reached or refuses.
    pub(super) async fn open(options: &PgConnectOptions) -> Result<Self, sqlx::Error> {
        if options.get_socket().is_some() || options.get_host().starts_with('/') {
            return Self::direct(options).await;
        }
        let (folder, listener) = match listen(options.get_port()) {
            Ok(listening) => listening,
            Err(error) => {
                tracing::debug!(%error, "no folder for a socket; PostgreSQL is written to with Nagle's delay");
                return Self::direct(options).await;
            }
        };
        let server = TcpStream::connect((options.get_host(), options.get_port())).await?;
        server.set_nodelay(true)?;
        let relay = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = relay(listener, server).await {
                tracing::debug!(%error, "the connection to PostgreSQL broke");
            }
        }));
        let options = options.clone().socket(folder.path());
        let connection = PgConnection::connect_with(&options).await?;
        Ok(Self { connection, relay: Some(relay) })
    }

    async fn direct(options: &PgConnectOptions) -> Result<Self, sqlx::Error> {
        let connection = PgConnection::connect_with(options).await?;
        Ok(Self { connection, relay: None })
    }

    /// Says goodbye to the server.
    pub(super) async fn close(self) -> Result<(), sqlx::Error> {
        let Self { connection, relay } = self;
        connection.close().await?;
        if let Some(relay) = relay {
            // It ends when the server has closed its side, and does not panic.
            let _ = relay.await;
        }
        Ok(())
    }
}

impl Deref for StoreConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for StoreConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// Listens in a folder of its own, under the name that sqlx looks for in the folder of a socket.
fn listen(port: u16) -> std::io::Result<(TempDir, UnixListener)> {
    let folder = tempfile::Builder::new().prefix("auspex-").tempdir()?;
    let listener = UnixListener::bind(folder.path().join(format!(".s.PGSQL.{port}")))?;
    Ok((folder, listener))
}

/// Carries the bytes of the first client, until either side has nothing more to say to the other.
async fn relay(listener: UnixListener, mut server: TcpStream) -> std::io::Result<()> {
    let (mut client, _) = listener.accept().await?;
    drop(listener);
    copy_bidirectional_with_sizes(&mut client, &mut server, RELAY_BYTES, RELAY_BYTES).await?;
    Ok(())
}
