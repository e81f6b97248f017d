//! A private PostgreSQL, one database per measurement.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use auspex_devnet::postgres::{Durability, Postgres, PostgresConfig};
use auspex_devnet::process::Restart;
use auspex_devnet::provision::{Progress, ToolsConfig};
use sqlx::{Connection, PgConnection};
use tokio::sync::Mutex;
use tokio::time::sleep;

/// The server. It keeps every committed transaction, as in production.
pub(crate) struct Server(Postgres);

/// One database of it.
pub(crate) struct Database {
    url: String,
    connection: Mutex<PgConnection>,
}

/// Longest time that is waited for the indexer.
const PATIENCE: Duration = Duration::from_secs(600);

impl Server {
    pub(crate) async fn start(directory: &Path) -> anyhow::Result<Self> {
        if directory.exists() {
            std::fs::remove_dir_all(directory).context("remove the former run's files")?;
        }
        std::fs::create_dir_all(directory)?;
        let tools = ToolsConfig::from_environment()?;
        let bin = tools.postgres_bin(Progress::Silent).await.context("find PostgreSQL")?;
        let config = PostgresConfig {
            data_dir: std::path::absolute(directory)?.join("postgres"),
            port: None,
            durability: Durability::Safe,
            restart: Restart::Never,
        };
        Ok(Self(Postgres::start(&bin, config).await.context("start PostgreSQL")?))
    }

    pub(crate) async fn database(&self, name: &str) -> anyhow::Result<Database> {
        self.0.ensure_database(name).await?;
        let url = self.0.url(name);
        let connection = Mutex::new(PgConnection::connect(&url).await?);
        Ok(Database { url, connection })
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.0.stop().await
    }
}

impl Database {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<PgConnection> {
        PgConnection::connect(&self.url).await.context("connect to PostgreSQL")
    }

    /// Waits until the cursor is at a block; returns the time since `started`.
    pub(crate) async fn wait_for_block(
        &self,
        number: u64,
        started: Instant,
    ) -> anyhow::Result<Duration> {
        let number = i64::try_from(number)?;
        loop {
            if self.cursor().await == Some(number) {
                return Ok(started.elapsed());
            }
            if PATIENCE < started.elapsed() {
                bail!("block {number} was not indexed within {} s", PATIENCE.as_secs());
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Null before there is one, also while the tables are still being made.
    async fn cursor(&self) -> Option<i64> {
        let mut connection = self.connection.lock().await;
        sqlx::query_scalar::<_, i64>("select number from indexer.cursors")
            .fetch_optional(&mut *connection)
            .await
            .ok()
            .flatten()
    }

    pub(crate) async fn facts(&self) -> anyhow::Result<u64> {
        let mut connection = self.connection.lock().await;
        let count = sqlx::query_scalar::<_, i64>("select count(*) from indexer.facts")
            .fetch_one(&mut *connection)
            .await?;
        Ok(u64::try_from(count)?)
    }
}
