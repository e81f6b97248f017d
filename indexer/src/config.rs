//! Everything that can be set.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use alloy::primitives::Address;
use anyhow::{Context, bail, ensure};
use auspex_protocol::deployment::Deployment;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;
use url::Url;

use crate::contract::{ContractFile, FollowedContract};
use crate::follow::Policy;
use crate::serve::ReadyLimits;
use crate::serve::limits::CONNECTIONS_PER_ADDRESS;
use crate::verify::Level;

/// The indexer's configuration. A flag wins over its environment variable.
#[derive(Debug, Clone, clap::Args)]
pub struct IndexerConfig {
    /// PostgreSQL with pgvector, as `postgres://user@host:port/database`; a private one is started when none is given.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<SecretString>,

    /// Where the contracts are on one chain: a file as `auspex dev` writes it (chain id, first block, the contracts'
    /// addresses), or a public network by its name, such as `base-sepolia`.
    #[arg(long, env = "AUSPEX_DEPLOYMENT", value_name = "FILE|NETWORK")]
    pub deployment: Option<PathBuf>,

    /// Endpoints of that chain (http, https, ws, wss), in order of preference, separated by commas. Two or more are
    /// better than one: what one of them says is checked against the others before anything is taken back.
    #[arg(
        long,
        env = "AUSPEX_RPC_URL",
        value_delimiter = ',',
        hide_env_values = true,
        value_name = "URL"
    )]
    pub rpc_url: Vec<RpcUrl>,

    /// Further ERC-20 tokens of that chain whose transfers and EIP-3009 authorizations are kept.
    #[arg(long, env = "AUSPEX_TOKENS", value_delimiter = ',', value_name = "ADDRESS")]
    pub token: Vec<Address>,

    /// A file that names one more contract of that chain to follow, in JSON: {"name": "Usdc", "address": "0x..",
    /// "abi": "erc20.json", "events": ["Transfer"], "startBlock": 1}. Its events are queried as `usdcTransfers` and so on.
    /// What a factory creates is followed with "factory": {"address": "0x..", "abi": "factory.json", "event": "PoolCreated",
    /// "parameter": "pool"} in place of "address". May be given again.
    #[arg(long, env = "AUSPEX_CONTRACTS", value_delimiter = ',', value_name = "FILE")]
    pub contract: Vec<PathBuf>,

    /// A file for one more chain, in JSON: {"deployment": {..}, "rpcUrls": [..], "tokens": [..], "contracts": [..]}. May be
    /// given again.
    #[arg(long, env = "AUSPEX_CHAINS", value_delimiter = ',', value_name = "FILE")]
    pub chain: Vec<PathBuf>,

    /// How much is checked of blocks above the finalized one: `full` recomputes the receipts root of every block that may
    /// hold a watched log, `linked` checks headers, links and blooms, and receipts where they disagree or by sample.
    #[arg(long, env = "AUSPEX_VERIFY_LIVE", value_enum, default_value = "full")]
    pub verify_live: Level,

    /// The same for blocks at or below the finalized one.
    #[arg(long, env = "AUSPEX_VERIFY_BACKFILL", value_enum, default_value = "linked")]
    pub verify_backfill: Level,

    /// Only count and log failed checks; for chains whose headers or receipts this version cannot recompute.
    #[arg(long, env = "AUSPEX_VERIFY_OBSERVE_ONLY")]
    pub verify_observe_only: bool,

    /// The share of blocks with logs whose receipts are read at level `linked`, between 0 and 1.
    #[arg(long, env = "AUSPEX_VERIFY_SAMPLE", default_value = "0.01", value_parser = share)]
    pub verify_sample: f64,

    /// Pause between two looks at the tip, in milliseconds. An endpoint with a WebSocket rings earlier.
    #[arg(long, env = "AUSPEX_POLL_MS", default_value = "500", value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub poll_ms: u64,

    /// The message broker, as `mqtt://user:password@host:port`. Without one, readers poll.
    #[arg(
        long = "broker-url",
        env = "AUSPEX_BROKER_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub mqtt_url: Option<RpcUrl>,

    /// Gateways for `ipfs:` registration files, tried in order, as `https://host/ipfs/`.
    #[arg(long, env = "AUSPEX_IPFS_GATEWAYS", value_delimiter = ',', value_name = "URL")]
    pub ipfs_gateway: Vec<Url>,

    /// Lets registration files come from private addresses and over plain http; for development only.
    #[arg(long, env = "AUSPEX_ALLOW_PRIVATE_FILES")]
    pub allow_private_files: bool,

    /// Seconds without any endpoint telling its head after which the indexer is not ready (`/ready` answers 503).
    #[arg(long, env = "AUSPEX_READY_AGE_MAX_SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub ready_age_max_seconds: u64,

    /// Seconds since the newest indexed block's own time after which it is not ready either, because its endpoints stand still
    /// or the chain does; 0 means never. Without this option 120, and never on chain 31337, which mines when there is
    /// something to mine.
    #[arg(long, env = "AUSPEX_READY_BLOCK_AGE_MAX_SECONDS", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub ready_block_age_max_seconds: Option<u64>,

    /// Open connections of one address (of one /64 network with IPv6); further ones are closed at once. Behind a proxy all
    /// clients have the proxy's address: then set it to what the proxy may open.
    #[arg(long, env = "AUSPEX_CONNECTIONS_PER_ADDRESS", default_value_t = CONNECTIONS_PER_ADDRESS, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub connections_per_address: u16,
}

/// The configuration of a process that serves what another one indexes.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeConfig {
    /// The indexer's PostgreSQL, or a replica of it. Nothing is written to it.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: SecretString,

    /// Where the contracts are on one chain: a file, or a public network by its name.
    #[arg(long, env = "AUSPEX_DEPLOYMENT", value_name = "FILE|NETWORK")]
    pub deployment: Option<PathBuf>,

    /// The message broker, as `mqtt://user:password@host:port`. Without one, readers get no unfinished answers.
    #[arg(
        long = "broker-url",
        env = "AUSPEX_BROKER_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub mqtt_url: Option<RpcUrl>,

    /// A file that names one more contract of that chain, as given to `auspex indexer run`. May be given again.
    #[arg(long, env = "AUSPEX_CONTRACTS", value_delimiter = ',', value_name = "FILE")]
    pub contract: Vec<PathBuf>,

    /// A file for one more chain, as given to `auspex indexer run`. May be given again.
    #[arg(long, env = "AUSPEX_CHAINS", value_delimiter = ',', value_name = "FILE")]
    pub chain: Vec<PathBuf>,

    /// Seconds without any endpoint telling its head after which the server is not ready (`/ready` answers 503).
    #[arg(long, env = "AUSPEX_READY_AGE_MAX_SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub ready_age_max_seconds: u64,

    /// Seconds since the newest indexed block's own time after which it is not ready either, because its endpoints stand still
    /// or the chain does; 0 means never. Without this option 120, and never on chain 31337, which mines when there is
    /// something to mine.
    #[arg(long, env = "AUSPEX_READY_BLOCK_AGE_MAX_SECONDS", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub ready_block_age_max_seconds: Option<u64>,

    /// Open connections of one address (of one /64 network with IPv6); further ones are closed at once. Behind a proxy all
    /// clients have the proxy's address: then set it to what the proxy may open.
    #[arg(long, env = "AUSPEX_CONNECTIONS_PER_ADDRESS", default_value_t = CONNECTIONS_PER_ADDRESS, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub connections_per_address: u16,
}

impl ServeConfig {
    /// The chains to serve, without endpoints. Fails when there is none, or one of them twice.
    pub fn chains(&self) -> anyhow::Result<Vec<ChainConfig>> {
        let mut chains = Vec::new();
        if let Some(file) = &self.deployment {
            chains.push(ChainConfig {
                deployment: Deployment::named(file).context("--deployment")?,
                rpc_urls: Vec::new(),
                tokens: Vec::new(),
                contracts: read_contracts(&self.contract)?,
            });
        }
        with_files(
            chains,
            &self.chain,
            "no chain to serve: name one with --deployment, or with --chain",
        )
    }

    /// When a chain is not ready.
    pub fn ready(&self) -> ReadyLimits {
        ready_limits(self.ready_age_max_seconds, self.ready_block_age_max_seconds)
    }
}

/// One chain to follow.
#[derive(Debug, Clone)]
pub struct ChainConfig {
    pub deployment: Deployment,
    pub rpc_urls: Vec<RpcUrl>,
    pub tokens: Vec<Address>,
    pub contracts: Vec<FollowedContract>,
}

impl ChainConfig {
    /// The first block that can hold a log that is kept.
    pub fn start_block(&self) -> u64 {
        let contracts = self.contracts.iter().map(|contract| contract.start_block);
        contracts.chain([self.deployment.start_block]).min().unwrap_or_default()
    }
}

impl IndexerConfig {
    /// The chains to follow, from the flags and the files. Fails when there is none, or one of them twice.
    pub fn chains(&self) -> anyhow::Result<Vec<ChainConfig>> {
        let mut chains = Vec::new();
        match (&self.deployment, self.rpc_url.is_empty()) {
            (Some(file), false) => chains.push(ChainConfig {
                deployment: Deployment::named(file).context("--deployment")?,
                rpc_urls: self.rpc_url.clone(),
                tokens: self.token.clone(),
                contracts: read_contracts(&self.contract)?,
            }),
            (Some(file), true) => bail!(
                "no endpoint for {}: name one with --rpc-url or AUSPEX_RPC_URL",
                file.display()
            ),
            (None, false) => bail!(
                "no deployment for --rpc-url: name its file with --deployment or AUSPEX_DEPLOYMENT"
            ),
            (None, true) => {}
        }
        let none = "no chain to follow: name one with --rpc-url and --deployment, or with --chain";
        with_files(chains, &self.chain, none)
    }

    pub fn policy(&self) -> Policy {
        Policy {
            live: self.verify_live,
            backfill: self.verify_backfill,
            observe_only: self.verify_observe_only,
            sample: self.verify_sample,
        }
    }

    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    /// When a chain is not ready.
    pub fn ready(&self) -> ReadyLimits {
        ready_limits(self.ready_age_max_seconds, self.ready_block_age_max_seconds)
    }

    /// How to reach the database. The error never holds the URL.
    pub fn database(&self) -> anyhow::Result<PgConnectOptions> {
        let url = self.database_url.as_ref();
        database_options(url.context("no database: name one with --database-url or DATABASE_URL")?)
    }
}

fn ready_limits(head_age_max: u64, block_age_max: Option<u64>) -> ReadyLimits {
    ReadyLimits {
        head_age_max: Duration::from_secs(head_age_max),
        block_age_max: block_age_max.map(Duration::from_secs),
    }
}

/// Reads a database URL. The error never holds it.
pub fn database_options(url: &SecretString) -> anyhow::Result<PgConnectOptions> {
    url.expose_secret().parse::<PgConnectOptions>().map_err(|_| {
        anyhow::anyhow!(
            "DATABASE_URL is not a PostgreSQL URL; expected postgres://user:password@host:port/database"
        )
    })
}

/// A URL that may hold a key or a password: only scheme, host and port are ever shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RpcUrl(Url);

impl RpcUrl {
    pub fn scheme(&self) -> &str {
        self.0.scheme()
    }

    /// The URL with its secrets.
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for RpcUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or("?"))?;
        self.0.port().map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

impl fmt::Debug for RpcUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Why a URL is refused; says nothing of its text.
#[derive(Debug, thiserror::Error)]
#[error("not a URL with a host; expected for example http://127.0.0.1:8545")]
pub struct RpcUrlError;

impl FromStr for RpcUrl {
    type Err = RpcUrlError;

    fn from_str(text: &str) -> Result<Self, RpcUrlError> {
        let url = Url::parse(text.trim()).map_err(|_| RpcUrlError)?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(RpcUrlError);
        }
        Ok(Self(url))
    }
}

impl TryFrom<String> for RpcUrl {
    type Error = RpcUrlError;

    fn try_from(text: String) -> Result<Self, RpcUrlError> {
        text.parse()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChainFile {
    deployment: Deployment,
    rpc_urls: Vec<RpcUrl>,
    #[serde(default)]
    tokens: Vec<Address>,
    #[serde(default)]
    contracts: Vec<ContractFile>,
}

fn read_contracts(files: &[PathBuf]) -> anyhow::Result<Vec<FollowedContract>> {
    files.iter().map(|file| FollowedContract::read(file)).collect()
}

/// Adds the chains of these files. Fails with `none` when there is no chain at all, or when one is named twice.
fn with_files(
    mut chains: Vec<ChainConfig>,
    files: &[PathBuf],
    none: &'static str,
) -> anyhow::Result<Vec<ChainConfig>> {
    for file in files {
        chains.push(read_chain(file)?);
    }
    ensure!(!chains.is_empty(), none);
    let mut seen = BTreeSet::new();
    for chain in &chains {
        let id = chain.deployment.chain_id;
        ensure!(
            seen.insert(id),
            "chain {id} is configured twice: one follower per chain and database"
        );
    }
    Ok(chains)
}

fn read_chain(file: &Path) -> anyhow::Result<ChainConfig> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("read the chain file {}", file.display()))?;
    // The parser's message may quote the text, which holds keys; its place is enough.
    let chain: ChainFile = serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        anyhow::anyhow!(
            "{}: line {line} column {column} is not what a chain file holds: \
             {{\"deployment\": {{..}}, \"rpcUrls\": [..], \"tokens\": [..], \"contracts\": [..]}}",
            file.display()
        )
    })?;
    let ChainFile { deployment, rpc_urls, tokens, contracts } = chain;
    ensure!(!rpc_urls.is_empty(), "{}: rpcUrls is empty", file.display());
    let folder = file.parent().unwrap_or(Path::new("."));
    let contracts = contracts
        .into_iter()
        .map(|contract| FollowedContract::new(contract, folder))
        .collect::<anyhow::Result<Vec<_>>>()
        .with_context(|| format!("{}: contracts", file.display()))?;
    Ok(ChainConfig { deployment, rpc_urls, tokens, contracts })
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(_) | Err(_) => Err(format!("{text:?} is not a number between 0 and 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_urls_secrets_are_never_shown() {
        let url: RpcUrl =
            "https://user:canary-1@node.example:8443/v2/canary-2?key=canary-3".parse().unwrap();
        let shown = format!("{url} {url:?}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("https://node.example:8443"));
        let error = "canary-4".parse::<RpcUrl>().unwrap_err();
        assert!(!error.to_string().contains("canary"));
    }

    #[test]
    fn a_share_is_between_nothing_and_all() {
        assert_eq!(share("0.25"), Ok(0.25));
        for bad in ["-0.1", "1.1", "NaN", "x", ""] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }
}
