//! `auspex indexer`: following a chain and serving its history.

use std::net::SocketAddr;
use std::path::PathBuf;

use alloy::primitives::Address;
use anyhow::Context;
use auspex_indexer::config::{ChainConfig, IndexerConfig, ServeConfig};
use auspex_indexer::{rebuild, run};
use auspex_protocol::deployment::Deployment;
use clap::{Args, Subcommand};
use secrecy::SecretString;
use tokio::net::TcpListener;

use crate::command::dev::until_interrupted;
use crate::database::Database;
use crate::output::{Output, table};

#[derive(Debug, Subcommand)]
pub(crate) enum IndexerCommand {
    /// Follow the chain and serve GraphQL, REST and a live stream.
    #[command(
        after_help = "Example:\n  auspex indexer run --rpc-url http://127.0.0.1:8545 --deployment deployment.json"
    )]
    Run(Box<RunArguments>),
    /// Serve what another process indexes, from its database or a replica of it; any number of these may run.
    #[command(
        after_help = "Example:\n  auspex indexer serve --deployment deployment.json --database-url postgres://replica/auspex"
    )]
    Serve(Box<ServeArguments>),
    /// Derive every projection again from the stored facts, without a chain.
    #[command(
        after_help = "Example:\n  auspex indexer rebuild --deployment deployment.json --database-url postgres://..."
    )]
    Rebuild(StoredArguments),
    /// Print a digest of the projections per block range: equal digests mean equal rows.
    #[command(
        after_help = "Example:\n  auspex indexer digest --deployment deployment.json --first 0 --last 99999 --width 10000"
    )]
    Digest {
        #[command(flatten)]
        stored: StoredArguments,
        /// First block.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Last block.
        #[arg(long)]
        last: u64,
        /// Blocks per range.
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
        width: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    config: IndexerConfig,
    /// Address to serve on.
    #[arg(long, env = "AUSPEX_INDEXER_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    config: ServeConfig,
    /// Address to serve on.
    #[arg(long, env = "AUSPEX_INDEXER_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

/// What an indexer has stored of one chain.
#[derive(Debug, Args)]
pub(crate) struct StoredArguments {
    /// PostgreSQL with pgvector; the indexer's private one when not given.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<SecretString>,
    /// The chain's deployment: a file, or a public network by its name.
    #[arg(long, env = "AUSPEX_DEPLOYMENT", value_name = "FILE|NETWORK")]
    deployment: PathBuf,
    /// Further ERC-20 tokens that the indexer keeps, as given to `auspex indexer run`.
    #[arg(long, env = "AUSPEX_TOKENS", value_delimiter = ',', value_name = "ADDRESS")]
    token: Vec<Address>,
}

pub(crate) async fn run(command: IndexerCommand, output: Output) -> anyhow::Result<()> {
    match command {
        IndexerCommand::Run(arguments) => follow(*arguments).await,
        IndexerCommand::Serve(arguments) => {
            let listener = bind(arguments.listen).await?;
            let config = arguments.config;
            until_interrupted(|shutdown| run::serve_only(config, listener, shutdown)).await
        }
        IndexerCommand::Rebuild(stored) => {
            let (database, chain) = stored.open().await?;
            let facts = rebuild::rebuild(database.url(), &chain).await?;
            database.close().await?;
            output.result(&serde_json::json!({ "facts": facts }), |_| {
                format!("derived every projection again from {facts} facts")
            })
        }
        IndexerCommand::Digest { stored, first, last, width } => {
            let (database, chain) = stored.open().await?;
            let chain_id = chain.deployment.chain_id;
            let ranges = rebuild::digests(database.url(), chain_id, first, last, width).await?;
            database.close().await?;
            output.result(&ranges, |ranges| {
                table(
                    ["first block", "last block", "rows", "digest"],
                    ranges.iter().map(|range| {
                        [
                            range.first_block.to_string(),
                            range.last_block.to_string(),
                            range.rows.to_string(),
                            range.digest.to_string(),
                        ]
                    }),
                )
            })
        }
    }
}

impl StoredArguments {
    async fn open(&self) -> anyhow::Result<(Database, ChainConfig)> {
        let deployment = Deployment::named(&self.deployment).context("--deployment")?;
        let (rpc_urls, tokens) = (Vec::new(), self.token.clone());
        let contracts = Vec::new();
        let chain = ChainConfig { deployment, rpc_urls, tokens, contracts };
        let directory = private_directory();
        Ok((Database::open(self.database_url.as_ref(), &directory).await?, chain))
    }
}

/// Where the indexer's private PostgreSQL lives.
fn private_directory() -> PathBuf {
    crate::world::default_directory().join("indexer")
}

async fn follow(arguments: RunArguments) -> anyhow::Result<()> {
    let mut config = arguments.config;
    let database = Database::open(config.database_url.as_ref(), &private_directory()).await?;
    database.migrated().await?.close().await;
    config.database_url = Some(database.url().clone());
    let listener = bind(arguments.listen).await?;
    let outcome = until_interrupted(|shutdown| run::run(config, listener, shutdown)).await;
    database.close().await?;
    outcome
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("--listen: bind {address}"))
}
