//! A private PostgreSQL with pgvector.
//!
//! It listens on 127.0.0.1 and on a socket in a folder that only its user (and root) can enter, and trusts
//! every connection: it is for development and tests. PostgreSQL refuses to run as root; when we are
//! root, it runs as an unprivileged user (see [`crate::user`]).
//!
//! Readiness is probed through the private socket, so that another server on the same port cannot be
//! taken for ours.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::limits::{
    POSTGRES_CONNECTIONS_MAX, POSTGRES_START_DEADLINE, READY_POLL, SERVICE_STOP_GRACE,
    START_ATTEMPTS_MAX,
};
use crate::port::{self, Reservation};
use crate::process::{Ended, Process, ProcessConfig, Restart, Status, StopSignal, log};

mod cluster;
pub mod pgvector;
mod test_database;

use cluster::{Cluster, Origin};
pub use test_database::TestDatabase;

/// How to run the server.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// Created on first use. As root, a folder that the unprivileged user cannot reach becomes a link to
    /// one below `/var/lib/auspex`.
    pub data_dir: PathBuf,
    /// Any free port if none is given.
    pub port: Option<u16>,
    pub durability: Durability,
    /// What happens when the server crashes. [`Restart::Always`] keeps the same port.
    pub restart: Restart,
}

/// What survives a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Every committed transaction.
    Safe,
    /// Possibly nothing, since PostgreSQL does not wait for the disk. A crash of the server alone loses
    /// nothing, because the operating system has what was committed.
    Throwaway,
}

/// A running server. Dropping it stops it (see [`crate::process`]).
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: Reservation,
    cluster: Cluster,
}

impl Postgres {
    /// Starts the server, creating its cluster on first use, and waits until it answers.
    ///
    /// `bin` is the folder of PostgreSQL's programs, [`crate::provision::Tools::postgres_bin`].
    ///
    /// # Errors
    /// The data directory is in use, belongs to somebody else or cannot be reached; the port is taken; the
    /// server has no pgvector; it does not answer within [`POSTGRES_START_DEADLINE`].
    pub async fn start(bin: &Path, config: PostgresConfig) -> anyhow::Result<Postgres> {
        Self::start_inner(bin, config, None, Origin::Nothing).await
    }

    /// Starts a standby of this server: a copy in a data directory of its own that follows by streaming replication and
    /// takes no writes. The copy is made on first use; afterwards the standby goes on where it was.
    ///
    /// # Errors
    /// As [`start`](Self::start); this server does not run; its cluster is older than the permission to follow it.
    pub async fn standby(&self, bin: &Path, config: PostgresConfig) -> anyhow::Result<Postgres> {
        let origin = Origin::Primary { socket: self.cluster.socket(), port: self.port() };
        Self::start_inner(bin, config, None, origin).await
    }

    /// With a folder that is to vanish if this process dies without stopping the server.
    async fn start_inner(
        bin: &Path,
        config: PostgresConfig,
        remove_when_orphaned: Option<PathBuf>,
        origin: Origin<'_>,
    ) -> anyhow::Result<Postgres> {
        // The stable name may be a link in a folder that the server's user cannot enter.
        let bin = &bin
            .canonicalize()
            .with_context(|| format!("find PostgreSQL's programs in {}", bin.display()))?;
        let cluster = Cluster::open(bin, &config.data_dir, origin).await?;
        for attempt in 1.. {
            let port = port::reserve_or(config.port)?;
            let started =
                cluster_start(bin, &cluster, &config, &port, remove_when_orphaned.clone());
            match started.await? {
                Started::Ready(process) => {
                    let server = Postgres { process, port, cluster };
                    pgvector::check(&mut server.connect_privately().await?).await?;
                    return Ok(server);
                }
                Started::PortTaken if config.port.is_none() && attempt < START_ATTEMPTS_MAX => {}
                Started::PortTaken => bail!(
                    "PostgreSQL cannot listen on port {} of 127.0.0.1, another program has it: choose another port",
                    port.number(),
                ),
            }
        }
        bail!("PostgreSQL was not started")
    }

    /// The connection string of a database over TCP.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port())
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The server's log.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// The process id of the postmaster, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Follows the server's process; see [`Process::status`].
    pub fn status(&self) -> tokio::sync::watch::Receiver<Status> {
        self.process.status()
    }

    /// Creates a database if it does not exist.
    ///
    /// # Errors
    /// The name is not 1 to 63 characters of `a-z`, `0-9` and `_`.
    pub async fn ensure_database(&self, name: &str) -> anyhow::Result<()> {
        check_database_name(name)?;
        let mut connection = self.connect_privately().await?;
        let exists = sqlx::query_scalar::<_, bool>(
            "select exists (select from pg_database where datname = $1)",
        )
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .context("look up database")?;
        if !exists {
            let statement = format!("create database {name}");
            sqlx::query(sqlx::AssertSqlSafe(statement))
                .execute(&mut connection)
                .await
                .with_context(|| format!("create database {name}"))?;
        }
        connection.close().await.context("close connection")
    }

    /// Stops the server: open transactions are rolled back, committed ones are on disk.
    pub async fn stop(self) -> anyhow::Result<()> {
        let log = self.process.log().to_path_buf();
        match self.process.stop().await {
            Ended::Code(0) => Ok(()),
            ended => bail!(
                "PostgreSQL did not stop cleanly ({ended}); it will recover at its next start. {}: {}",
                log.display(),
                log::tail(&log, 0),
            ),
        }
    }

    /// Kills the postmaster with SIGKILL, as a crash would.
    pub fn kill9(&self) -> bool {
        self.process.kill9()
    }

    async fn connect_privately(&self) -> anyhow::Result<PgConnection> {
        private_options(&self.cluster, self.port())
            .connect()
            .await
            .context("connect to the embedded PostgreSQL")
    }
}

/// Removes a data directory, and what it is a link to if Auspex made it one. Waits for a server that is still being stopped.
///
/// # Errors
/// A server runs on it.
pub fn remove(data_dir: &Path) -> anyhow::Result<()> {
    cluster::remove(data_dir)
}

pub(crate) fn check_database_name(name: &str) -> anyhow::Result<()> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    ensure!(
        !name.is_empty() && name.len() <= 63 && name.bytes().all(allowed),
        "database name {name:?} must be 1 to 63 characters of a-z, 0-9 and _",
    );
    Ok(())
}

enum Started {
    Ready(Process),
    PortTaken,
}

async fn cluster_start(
    bin: &Path,
    cluster: &Cluster,
    config: &PostgresConfig,
    port: &Reservation,
    remove_when_orphaned: Option<PathBuf>,
) -> anyhow::Result<Started> {
    let log = cluster.log();
    let since = log::length(&log);
    let stop_signal = match config.durability {
        // "Fast": roll back what is open, write a checkpoint.
        Durability::Safe => StopSignal::Interrupt,
        // "Immediate": the data are not wanted, and a crash recovers them anyway.
        Durability::Throwaway if remove_when_orphaned.is_some() => StopSignal::Quit,
        Durability::Throwaway => StopSignal::Interrupt,
    };
    let process = Process::start(ProcessConfig {
        args: server_args(cluster, config.durability, port.number()),
        env: cluster::environment(),
        env_remove: cluster::foreign_environment(),
        current_dir: Some(cluster.data()),
        run_as: cluster.user().cloned(),
        restart: config.restart,
        stop_signal,
        grace: SERVICE_STOP_GRACE,
        remove_when_orphaned,
        ..ProcessConfig::new("postgres", bin.join("postgres"), &log)
    })?;
    let deadline = Instant::now() + POSTGRES_START_DEADLINE;
    let options = private_options(cluster, port.number());
    loop {
        let status = process.status().borrow().clone();
        match status {
            Status::Running { restarts: 0, .. } => {}
            Status::Running { .. } | Status::Pausing { .. } | Status::Ended(_) => {
                let said = log::tail(&log, since);
                if said.contains("Address already in use") {
                    return Ok(Started::PortTaken);
                }
                bail!("PostgreSQL ended while it started; {}: {said}", log.display());
            }
        }
        match options.connect().await {
            Ok(connection) => {
                connection.close().await.context("close connection")?;
                return Ok(Started::Ready(process));
            }
            Err(error) if deadline < Instant::now() => {
                return Err(error).with_context(|| {
                    format!(
                        "PostgreSQL did not answer within {} s; {}: {}",
                        POSTGRES_START_DEADLINE.as_secs(),
                        log.display(),
                        log::tail(&log, since),
                    )
                });
            }
            Err(_) => tokio::time::sleep(READY_POLL).await,
        }
    }
}

fn server_args(cluster: &Cluster, durability: Durability, port: u16) -> Vec<std::ffi::OsString> {
    let mut settings = vec![
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        format!("unix_socket_directories={}", cluster.socket().display()),
        format!("max_connections={POSTGRES_CONNECTIONS_MAX}"),
        "logging_collector=off".to_owned(),
        "log_checkpoints=off".to_owned(),
        "log_line_prefix=%m [%p] %d ".to_owned(),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
    ];
    match durability {
        Durability::Safe => {}
        Durability::Throwaway => settings.extend(
            ["fsync=off", "full_page_writes=off", "autovacuum_naptime=5min", "max_wal_size=2GB"]
                .map(str::to_owned),
        ),
    }
    let mut args = vec!["-D".into(), cluster.data().into()];
    for setting in settings {
        args.push("-c".into());
        args.push(setting.into());
    }
    args
}

fn private_options(cluster: &Cluster, port: u16) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(cluster.socket())
        .port(port)
        .username("postgres")
        .database("postgres")
        .disable_statement_logging()
}
