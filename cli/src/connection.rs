//! Where commands find a chain, an indexer and a key.
//!
//! `auspex dev` writes a world file with all of it; a real network is given by options or environment variables, which
//! win over the world file field by field.

use std::path::{Path, PathBuf};

use alloy::network::EthereumWallet;
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::signers::Signer;
use anyhow::{Context, bail};
use auspex_protocol::deployment::Deployment;
use clap::Args;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::wallet::Wallet;

/// How the names of a world's operators begin.
const OPERATOR_PREFIX: &str = "operator-";

/// The operator of a world that is meant when none is named.
const FIRST_OPERATOR: &str = "operator-1";

/// Options that every command shares.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArguments {
    /// World file of `auspex dev`: endpoints, addresses and development keystores.
    #[arg(long, global = true, env = "AUSPEX_WORLD", value_name = "FILE")]
    pub(crate) world: Option<PathBuf>,

    /// JSON-RPC endpoint of the chain (http, https, ws or wss).
    #[arg(long, global = true, env = "AUSPEX_RPC_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) rpc_url: Option<Url>,

    /// The indexer to read from.
    #[arg(long, global = true, env = "AUSPEX_INDEXER_URL", value_name = "URL")]
    pub(crate) indexer_url: Option<Url>,

    /// The contracts' addresses: a file, or a public network by its name, such as `base-sepolia`.
    #[arg(long, global = true, env = "AUSPEX_DEPLOYMENT", value_name = "FILE|NETWORK")]
    pub(crate) deployment: Option<PathBuf>,

    /// Encrypted keystore (V3) that signs what this command sends.
    #[arg(long, global = true, env = "AUSPEX_KEYSTORE", value_name = "FILE")]
    pub(crate) keystore: Option<PathBuf>,

    /// File with the keystore's password, readable by its owner only; asked for on the terminal otherwise.
    #[arg(long, global = true, env = "AUSPEX_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,

    /// Sign as one of the world file's accounts, such as `requester` or `agent`.
    // An id of its own, because global options share one space of ids with every command's own options.
    #[arg(
        id = "sign_as",
        long = "as",
        global = true,
        value_name = "NAME",
        conflicts_with = "keystore"
    )]
    pub(crate) account: Option<String>,
}

/// What `auspex dev` tells the other commands.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorldFile {
    pub(crate) rpc_url: Url,
    pub(crate) ws_url: Url,
    pub(crate) indexer_url: Url,
    pub(crate) broker_url: Url,
    pub(crate) database_url: Url,
    pub(crate) deployment: Deployment,
    /// Password file of every development keystore.
    pub(crate) password_file: PathBuf,
    pub(crate) accounts: Vec<WorldAccount>,
    /// The oracle nodes; empty until the first of them has started.
    pub(crate) nodes: Vec<WorldNode>,
}

/// An operator's running node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorldNode {
    /// The operator's name among the accounts.
    pub(crate) operator: String,
    /// The node's own HTTP address.
    pub(crate) url: Url,
    /// Socket of the process that holds the operator's hot keys.
    pub(crate) signer_socket: PathBuf,
}

/// A funded development account.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorldAccount {
    pub(crate) name: String,
    pub(crate) address: alloy::primitives::Address,
    pub(crate) keystore: PathBuf,
}

impl WorldFile {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        read_json(path).with_context(|| format!("read world file {}", path.display()))
    }

    /// The database of one of the world's operators, which stands beside the indexer's in the same PostgreSQL.
    pub(crate) fn operator_database(&self, operator: &str) -> anyhow::Result<SecretString> {
        let known = self.accounts.iter().any(|account| account.name == operator);
        if !known || !operator.starts_with(OPERATOR_PREFIX) {
            bail!(
                "operator {operator}: this world's operators are operator-1, operator-2 and operator-3"
            );
        }
        let mut url = self.database_url.clone();
        url.set_path(&format!("/auspex_{}", operator.replace('-', "_")));
        Ok(SecretString::from(String::from(url)))
    }

    /// The node of one of the world's operators.
    pub(crate) fn node(&self, operator: &str) -> anyhow::Result<&WorldNode> {
        self.nodes.iter().find(|node| node.operator == operator).with_context(|| {
            let names: Vec<_> = self.nodes.iter().map(|node| node.operator.as_str()).collect();
            format!("--as {operator}: the world file's nodes are those of {names:?}")
        })
    }

    /// An account by its name.
    pub(crate) fn account(&self, name: &str) -> anyhow::Result<&WorldAccount> {
        self.accounts.iter().find(|account| account.name == name).with_context(|| {
            let names: Vec<_> = self.accounts.iter().map(|account| account.name.as_str()).collect();
            format!("--as: no account {name:?} in the world file; it has {}", names.join(", "))
        })
    }
}

impl ConnectionArguments {
    /// The world file, where one is named or `auspex dev` has left one in its usual place.
    pub(crate) fn world_file(&self) -> anyhow::Result<Option<WorldFile>> {
        let path = match &self.world {
            Some(path) => path.clone(),
            None => {
                let usual = crate::world::default_directory().join("world.json");
                if !usual.exists() {
                    return Ok(None);
                }
                usual
            }
        };
        WorldFile::read(&path).map(Some)
    }

    /// The operator of a world that a command looks at: the one that `--as` names, or the first.
    pub(crate) fn operator(&self) -> &str {
        self.account.as_deref().unwrap_or(FIRST_OPERATOR)
    }

    /// The indexer's base URL.
    pub(crate) fn indexer(&self) -> anyhow::Result<Url> {
        if let Some(url) = &self.indexer_url {
            return Ok(url.clone());
        }
        let world = self.world_file()?.context(
            "no indexer: give --indexer-url or AUSPEX_INDEXER_URL, or start `auspex dev` on this machine",
        )?;
        Ok(world.indexer_url)
    }

    /// The contracts' addresses.
    pub(crate) fn deployment(&self) -> anyhow::Result<Deployment> {
        if let Some(path) = &self.deployment {
            return Deployment::named(path).context("--deployment");
        }
        let world = self.world_file()?.context(
            "no deployment: give --deployment or AUSPEX_DEPLOYMENT, or start `auspex dev` on this machine",
        )?;
        Ok(world.deployment)
    }

    fn rpc(&self) -> anyhow::Result<Url> {
        if let Some(url) = &self.rpc_url {
            return Ok(url.clone());
        }
        let world = self.world_file()?.context(
            "no chain: give --rpc-url or AUSPEX_RPC_URL, or start `auspex dev` on this machine",
        )?;
        Ok(world.rpc_url)
    }

    /// A chain to read from, checked to be the chain that the contracts are on.
    pub(crate) async fn reader(&self) -> anyhow::Result<(DynProvider, Deployment)> {
        let deployment = self.deployment()?;
        let url = self.rpc()?;
        let provider = ProviderBuilder::new().connect(url.as_str()).await;
        let provider =
            provider.with_context(|| format!("connect to the chain at {}", shown(&url)))?.erased();
        check_chain(&provider, &deployment, &url).await?;
        Ok((provider, deployment))
    }

    /// A chain to write to with the key that was chosen.
    pub(crate) async fn writer(&self) -> anyhow::Result<(DynProvider, Deployment, Wallet)> {
        let deployment = self.deployment()?;
        let wallet = self.wallet()?;
        let url = self.rpc()?;
        let signer = wallet.signer().clone().with_chain_id(Some(deployment.chain_id));
        let provider = ProviderBuilder::new()
            .wallet(EthereumWallet::from(signer))
            .connect(url.as_str())
            .await
            .with_context(|| format!("connect to the chain at {}", shown(&url)))?
            .erased();
        check_chain(&provider, &deployment, &url).await?;
        Ok((provider, deployment, wallet))
    }

    /// The key that was chosen.
    pub(crate) fn wallet(&self) -> anyhow::Result<Wallet> {
        if let Some(keystore) = &self.keystore {
            return Wallet::open(keystore, self.password_file.as_deref());
        }
        let Some(name) = &self.account else {
            bail!(
                "no key: give --keystore FILE (or AUSPEX_KEYSTORE), or --as NAME for an account of `auspex dev`"
            );
        };
        let world = self.world_file()?.context(
            "--as names an account of a world file, but there is none; start `auspex dev`",
        )?;
        let account = world.account(name)?;
        Wallet::open(&account.keystore, Some(&world.password_file))
    }
}

/// Reads a JSON file.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path)?;
    Ok(serde_json::from_str(&text)?)
}

/// A URL without the parts that may hold a secret: user, password, path and query.
pub(crate) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

async fn check_chain(
    provider: &DynProvider,
    deployment: &Deployment,
    url: &Url,
) -> anyhow::Result<()> {
    let chain_id = match provider.get_chain_id().await {
        Ok(chain_id) => chain_id,
        // The transport's own error text can carry the whole URL, which may hold an API key.
        Err(error) if error.is_transport_error() => {
            bail!(
                "the chain at {} does not answer; check --rpc-url and that the node runs",
                shown(url)
            )
        }
        Err(error) => return Err(error).context("ask the chain for its id"),
    };
    if chain_id != deployment.chain_id {
        bail!(
            "chain id: {} reports {chain_id}, but the contracts are on {}; check --rpc-url and --deployment",
            shown(url),
            deployment.chain_id
        );
    }
    Ok(())
}
