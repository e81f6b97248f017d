//! Databases for tests: one throw-away server per test process, one fresh database per test.
//!
//! The server belongs to a thread of its own, with its own runtime, because every test has another
//! runtime and the first one ends before the last. A test process ends without running destructors; the
//! watchdog of [`crate::process`] then stops the server and removes its files, also after a panic or
//! SIGKILL.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, anyhow};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::{mpsc, oneshot};

use super::cluster::Origin;
use super::{Durability, Postgres, PostgresConfig};
use crate::limits::{TEST_DATABASE_QUEUE, TEST_POOL_CONNECTIONS_MAX};
use crate::migrations::MIGRATOR;
use crate::process::Restart;
use crate::provision::{Progress, ToolsConfig};
use crate::user::User;

const TEMPLATE: &str = "auspex_template";

/// A migrated database of one test. Dropping it drops the database, also if the test panics.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    url: String,
    pool: PgPool,
    janitor: mpsc::Sender<Request>,
}

impl TestDatabase {
    /// Creates a database with all migrations applied. The first call of a process installs PostgreSQL if
    /// need be, starts the server, and migrates a template (about two seconds); later ones copy the
    /// template (some 30 ms).
    pub async fn create() -> anyhow::Result<TestDatabase> {
        let janitor = janitor();
        let (reply, created) = oneshot::channel();
        janitor
            .send(Request::Create(reply))
            .await
            .map_err(|_| anyhow!("the thread of the test databases has ended"))?;
        let created = created.await.context("the thread of the test databases has ended")?;
        let (name, url) = created.map_err(|error| anyhow!(error))?;
        let options: PgConnectOptions = url.parse().context("parse database URL")?;
        let pool = PgPoolOptions::new()
            .max_connections(TEST_POOL_CONNECTIONS_MAX)
            .connect_with(options)
            .await
            .context("connect to test database")?;
        Ok(TestDatabase { name, url, pool, janitor: janitor.clone() })
    }

    /// The connection string, for a service under test.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The database's name, unique in the process.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A pool that belongs to the test's runtime.
    pub fn pool(&self) -> PgPool {
        self.pool.clone()
    }
}

/// Does not wait: dropping a database is the janitor's work, and with a full queue the database simply
/// stays until the process ends.
impl Drop for TestDatabase {
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.name);
        let _ = self.janitor.try_send(Request::Drop(name));
    }
}

#[derive(Debug)]
enum Request {
    /// Replies with the name and the URL.
    Create(oneshot::Sender<Result<(String, String), String>>),
    Drop(String),
}

fn janitor() -> &'static mpsc::Sender<Request> {
    static JANITOR: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    JANITOR.get_or_init(|| {
        let (sender, receiver) = mpsc::channel(TEST_DATABASE_QUEUE);
        // If the thread cannot be started the receiver is dropped, and every send says so.
        let _ = std::thread::Builder::new()
            .name("test-databases".to_owned())
            .spawn(move || keep_server(receiver));
        sender
    })
}

fn keep_server(mut requests: mpsc::Receiver<Request>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return refuse_all(&mut requests, &format!("start runtime: {error}")),
    };
    let server = match runtime.block_on(Server::start()) {
        Ok(server) => server,
        Err(error) => return refuse_all(&mut requests, &format!("{error:#}")),
    };
    runtime.block_on(async {
        let mut created = 0;
        while let Some(request) = requests.recv().await {
            match request {
                Request::Create(reply) => {
                    created += 1;
                    let result = server.create(&format!("test_{created}")).await;
                    // A test that was cancelled in the meantime leaves its database behind.
                    let _ = reply.send(result.map_err(|error| format!("{error:#}")));
                }
                Request::Drop(name) => {
                    if let Err(error) = server.drop_database(&name).await {
                        tracing::warn!(database = name, "drop test database: {error:#}");
                    }
                }
            }
        }
    });
}

fn refuse_all(requests: &mut mpsc::Receiver<Request>, why: &str) {
    while let Some(request) = requests.blocking_recv() {
        if let Request::Create(reply) = request {
            let _ = reply.send(Err(why.to_owned()));
        }
    }
}

struct Server {
    postgres: Postgres,
}

impl Server {
    async fn start() -> anyhow::Result<Server> {
        let bin = ToolsConfig::from_environment()?.postgres_bin(Progress::auto()).await?;
        let folder = tempfile::Builder::new()
            .prefix("auspex-test-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(temporary_folder()?)
            .context("create folder for test databases")?;
        if let Some(user) = User::for_server(None)? {
            chown(folder.path(), Some(user.uid), Some(user.gid))
                .context("give folder to the server's user, as whom the watchdog runs")?;
        }
        let config = PostgresConfig {
            data_dir: folder.path().to_path_buf(),
            port: None,
            durability: Durability::Throwaway,
            restart: Restart::Never,
        };
        let postgres =
            Postgres::start_inner(&bin, config, Some(folder.path().to_path_buf()), Origin::Nothing)
                .await?;
        postgres.ensure_database(TEMPLATE).await?;
        let mut connection = PgConnection::connect(&postgres.url(TEMPLATE))
            .await
            .context("connect to template database")?;
        MIGRATOR.run(&mut connection).await.context("migrate template database")?;
        connection.close().await.context("close connection to template database")?;
        // From here on it is the watchdog who removes it, after the server has stopped.
        let _ = folder.keep();
        Ok(Server { postgres })
    }

    async fn create(&self, name: &str) -> anyhow::Result<(String, String)> {
        self.execute(format!("create database {name} template {TEMPLATE}")).await?;
        Ok((name.to_owned(), self.postgres.url(name)))
    }

    async fn drop_database(&self, name: &str) -> anyhow::Result<()> {
        self.execute(format!("drop database if exists {name} with (force)")).await
    }

    async fn execute(&self, statement: String) -> anyhow::Result<()> {
        let mut connection = self.postgres.connect_privately().await?;
        sqlx::query(sqlx::AssertSqlSafe(statement.clone()))
            .execute(&mut connection)
            .await
            .with_context(|| statement)?;
        connection.close().await.context("close connection")
    }
}

/// The system's folder for temporary files, or `/tmp` if the server's user cannot reach that.
fn temporary_folder() -> anyhow::Result<PathBuf> {
    let usual = std::env::temp_dir();
    let blocked = match User::for_server(None)? {
        Some(user) => user.blocked_at(&usual)?,
        None => None,
    };
    Ok(blocked.map_or(usual, |_| Path::new("/tmp").to_path_buf()))
}
