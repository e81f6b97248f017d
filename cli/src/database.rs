//! The database that a command works on: a given one, or a private PostgreSQL of its own under the data directory.

use std::path::Path;

use anyhow::Context;
use auspex_devnet::migrations::MIGRATOR;
use auspex_devnet::postgres::{Durability, Postgres, PostgresConfig, pgvector};
use auspex_devnet::process::Restart;
use auspex_devnet::provision::{Progress, ToolsConfig};
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

/// The name of the database in a private PostgreSQL.
const DATABASE: &str = "auspex";
/// Connections of a command that is not a service.
const CONNECTIONS_MAX: u32 = 4;

/// A database that is reachable and, when it is private, lives as long as this value.
#[derive(Debug)]
pub(crate) struct Database {
    url: SecretString,
    private: Option<Postgres>,
}

impl Database {
    /// A database that somebody else runs.
    pub(crate) fn given(url: SecretString) -> Self {
        Self { url, private: None }
    }

    /// The given database, or a private one in `directory`.
    pub(crate) async fn open(
        given: Option<&SecretString>,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        if let Some(url) = given {
            return Ok(Self::given(url.clone()));
        }
        let programs = ToolsConfig::from_environment()?.postgres_bin(Progress::auto()).await?;
        let postgres = Postgres::start(
            &programs,
            PostgresConfig {
                data_dir: directory.join("postgres"),
                port: None,
                durability: Durability::Safe,
                restart: Restart::always(),
            },
        )
        .await
        .with_context(|| {
            format!(
                "start a private PostgreSQL in {} (--database-url or DATABASE_URL names another database)",
                directory.display()
            )
        })?;
        postgres.ensure_database(DATABASE).await.context("create the private database")?;
        let url = SecretString::from(postgres.url(DATABASE));
        Ok(Self { url, private: Some(postgres) })
    }

    pub(crate) fn url(&self) -> &SecretString {
        &self.url
    }

    /// Connects, checks that pgvector is there, and brings the schema up to date.
    pub(crate) async fn migrated(&self) -> anyhow::Result<PgPool> {
        let options: PgConnectOptions = self.url.expose_secret().parse().map_err(|_| {
            anyhow::anyhow!(
                "DATABASE_URL is not a PostgreSQL URL; expected postgres://user@host:port/database"
            )
        })?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .connect_with(options)
            .await
            .context("connect to PostgreSQL; check DATABASE_URL and that the server runs")?;
        let mut connection = pool.acquire().await.context("connect to PostgreSQL")?;
        pgvector::check(&mut connection).await?;
        drop(connection);
        MIGRATOR.run(&pool).await.context("bring the database's schema up to date")?;
        Ok(pool)
    }

    /// Stops a private PostgreSQL.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        match self.private {
            Some(postgres) => postgres.stop().await,
            None => Ok(()),
        }
    }
}
