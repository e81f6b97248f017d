//! `auspex operator`: an operator's keys, its registration, and how it is doing.

use std::path::PathBuf;

use alloy::primitives::{Address, B256};
use anyhow::{Context, bail};
use auspex_oracle::keys::init::{NewKeys, init};
use auspex_oracle::keys::password;
use auspex_protocol::bindings::IOperatorRegistry;
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::chain;
use crate::connection::{ConnectionArguments, shown};
use crate::output::{Output, fields};

#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Make an operator's two hot keys: the one that signs results, and the one that pays for gas.
    #[command(
        after_help = "Examples:\n  auspex operator init --directory keys\n  auspex operator init --directory keys --password-file /run/secrets/auspex-password"
    )]
    Init(InitArguments),
    /// Register the chosen key as an operator's owner, with its two hot keys and its withdrawal address.
    #[command(
        after_help = "Example:\n  auspex operator register --signer 0x88.. --transmitter 0x41.. --withdrawal 0x70.. --keystore owner.json"
    )]
    Register(RegisterArguments),
    /// Show a running node's keys, balances, jobs and quorum peers.
    #[command(after_help = "Example:\n  auspex operator status --node http://127.0.0.1:9464")]
    Status {
        /// The node's own HTTP address.
        #[arg(long, env = "AUSPEX_NODE_URL")]
        node: Url,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct InitArguments {
    /// Where the keystores go; made with mode 0700 when it is missing.
    #[arg(long, default_value = "keys")]
    pub(crate) directory: PathBuf,
    /// File with the new keystores' password (mode 0400); asked for twice on the terminal otherwise.
    #[arg(long = "new-password-file")]
    pub(crate) new_password_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RegisterArguments {
    /// Address of the key that signs results.
    #[arg(long)]
    pub(crate) signer: Address,
    /// Address of the key that sends transactions.
    #[arg(long)]
    pub(crate) transmitter: Address,
    /// Where bonds are paid out to; best a cold account.
    #[arg(long)]
    pub(crate) withdrawal: Address,
}

pub(crate) async fn run(
    command: OperatorCommand,
    connection: &ConnectionArguments,
    output: Output,
) -> anyhow::Result<()> {
    match command {
        OperatorCommand::Init(arguments) => {
            let keys = make_keys(&arguments)?;
            output.result(&keys, |keys| {
                format!(
                    "{}\nnext: fund the transmitter with gas, then\n  auspex operator register --signer {} --transmitter {} --withdrawal ADDRESS",
                    fields([
                        ("signer", keys.signer.to_string()),
                        ("signer keystore", keys.signer_keystore.display().to_string()),
                        ("transmitter", keys.transmitter.to_string()),
                        ("transmitter keystore", keys.transmitter_keystore.display().to_string()),
                    ]),
                    keys.signer, keys.transmitter
                )
            })
        }
        OperatorCommand::Register(arguments) => {
            let (owner, hash) = register(connection, &arguments).await?;
            let result = serde_json::json!({"owner": owner, "transactionHash": hash});
            output.result(&result, |_| {
                format!("registered operator {owner} (transaction {hash})\nnext: auspex operator-set join SET")
            })
        }
        OperatorCommand::Status { node } => status(node, output).await,
    }
}

/// Registers the chosen key as an operator's owner.
pub(crate) async fn register(
    connection: &ConnectionArguments,
    arguments: &RegisterArguments,
) -> anyhow::Result<(Address, B256)> {
    let (provider, deployment, wallet) = connection.writer().await?;
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    let call = registry.register(arguments.signer, arguments.transmitter, arguments.withdrawal);
    let receipt = chain::send(call, &provider, "register the operator").await?;
    Ok((wallet.address(), receipt.transaction_hash))
}

fn make_keys(arguments: &InitArguments) -> anyhow::Result<NewKeys> {
    let secret = match &arguments.new_password_file {
        Some(file) => password::from_file(file)?,
        None => new_password()?,
    };
    Ok(init(&arguments.directory, &secret, &secret)?)
}

/// Asks for a new password twice, since nobody can recover a keystore whose password was mistyped.
fn new_password() -> anyhow::Result<SecretString> {
    use std::io::IsTerminal;
    if !std::io::stdin().is_terminal() {
        bail!(
            "no password: give --new-password-file (mode 0400), since there is no terminal to ask on"
        );
    }
    let first = SecretString::from(
        rpassword::prompt_password("Password of the new keystores: ").context("read password")?,
    );
    let second = SecretString::from(
        rpassword::prompt_password("The same again: ").context("read password")?,
    );
    if first.expose_secret() != second.expose_secret() {
        bail!("the two passwords differ; nothing was written");
    }
    if first.expose_secret().is_empty() {
        bail!("an empty password protects nothing; nothing was written");
    }
    Ok(first)
}

async fn status(node: Url, output: Output) -> anyhow::Result<()> {
    let url = node.join("v1/status").context("build the node's status address")?;
    let response = reqwest::get(url).await.map_err(|_| {
        anyhow::anyhow!(
            "the node at {} does not answer; check --node and that `auspex oracle run` runs",
            shown(&node)
        )
    })?;
    let view: serde_json::Value = response.json().await.context("read the node's status")?;
    output.result(&view, |view| {
        let mut rows = Vec::new();
        flatten("", view, &mut rows);
        fields(rows.iter().map(|(name, value)| (name.as_str(), value.clone())))
    })
}

/// One row per leaf of the node's status.
fn flatten(prefix: &str, value: &serde_json::Value, rows: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(map) => {
            for (name, inner) in map {
                let path =
                    if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&path, inner, rows);
            }
        }
        serde_json::Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                flatten(&format!("{prefix}[{index}]"), inner, rows);
            }
        }
        serde_json::Value::String(text) => rows.push((prefix.to_owned(), text.clone())),
        serde_json::Value::Null => rows.push((prefix.to_owned(), "-".to_owned())),
        other => rows.push((prefix.to_owned(), other.to_string())),
    }
}
