//! `auspex operator`: an operator's keys, its registration, and how it is doing.

mod doctor;
mod drain;
mod rotation;
mod view;

use std::path::PathBuf;

use alloy::primitives::{Address, B256};
use anyhow::{Context, bail};
use auspex_oracle::keys::init::{NewKeys, init};
use auspex_oracle::keys::keystore::Strength;
use auspex_oracle::keys::password;
use auspex_oracle::signer::{self, config::SignerConfig};
use auspex_protocol::bindings::IOperatorRegistry;
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};

use crate::chain;
use crate::command::dev::until_interrupted;
use crate::command::operator::doctor::DoctorArguments;
use crate::command::operator::drain::DrainArguments;
use crate::command::operator::rotation::{RevokeArguments, RotateArguments};
use crate::command::operator::view::StatusArguments;
use crate::connection::ConnectionArguments;
use crate::output::{Output, fields};

#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Make an operator's two hot keys: the one that signs results, and the one that pays for gas.
    #[command(
        after_help = "Examples:\n  auspex operator init --directory keys\n  auspex operator init --directory keys --new-password-file /run/secrets/auspex-password"
    )]
    Init(InitArguments),
    /// Register the chosen key as an operator's owner, with its two hot keys and its withdrawal address.
    #[command(
        after_help = "Example:\n  auspex operator register --signer 0x88.. --transmitter 0x41.. --withdrawal 0x70.. --keystore owner.json"
    )]
    Register(RegisterArguments),
    /// Hold the two hot keys in a process of their own, which signs by its own policy on a Unix socket.
    #[command(
        after_help = "Example:\n  auspex operator signer --deployment base-sepolia.json --socket /run/auspex/signer.sock --log /var/lib/auspex/promises.log \\\n    --signer-keystore keys/signer.json --signer-password-file password \\\n    --transmitter-keystore keys/transmitter.json --transmitter-password-file password"
    )]
    Signer(Box<SignerConfig>),
    /// Show a running node's keys, balances, jobs and quorum peers.
    #[command(
        after_help = "Examples:\n  auspex operator status --node http://127.0.0.1:9464\n  auspex operator status --as operator-2\n  auspex operator status --node http://127.0.0.1:9464 --watch"
    )]
    Status(StatusArguments),
    /// Look at everything that operators get wrong, and say how to put it right.
    #[command(
        after_help = "Examples:\n  auspex operator doctor --as operator-2\n  auspex operator doctor --owner 0x70.. --rpc-url https://... --deployment base-sepolia.json --indexer-url http://127.0.0.1:8080 \\\n    --database-url postgres://... --signer-socket /run/auspex/signer.sock --operator-set 1"
    )]
    Doctor(Box<DoctorArguments>),
    /// Let a node finish what it has promised and begin nothing new, so that it can be stopped.
    #[command(
        after_help = "Examples:\n  auspex operator drain --database-url postgres://...\n  auspex operator drain --database-url postgres://... --resume"
    )]
    Drain(DrainArguments),
    /// Announce a new result-signing key, and put it in force when its time has come: run it twice.
    #[command(
        after_help = "Example:\n  auspex operator rotate-signer --new-signer 0x88.. --operator-set 1 --keystore owner.json"
    )]
    RotateSigner(RotateArguments),
    /// Take a result-signing key's power away at once and for ever, also for open requests.
    #[command(
        after_help = "Example:\n  auspex operator revoke --signer 0x88.. --keystore owner.json"
    )]
    Revoke(RevokeArguments),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct InitArguments {
    /// Where the keystores go; made with mode 0700 when it is missing.
    #[arg(long, default_value = "keys")]
    pub(crate) directory: PathBuf,
    /// File with the new keystores' password (mode 0400); asked for twice on the terminal otherwise.
    #[arg(long = "new-password-file")]
    pub(crate) new_password_file: Option<PathBuf>,
    /// Encrypt with little work, so that a guess is cheap too: for development chains and tests only.
    #[arg(long, hide = true)]
    pub(crate) insecure_light_keystore: bool,
}

impl OperatorCommand {
    /// True for a command that runs until it is stopped and logs like a service.
    pub(crate) fn is_service(&self) -> bool {
        match self {
            Self::Signer(_) => true,
            Self::Init(_)
            | Self::Register(_)
            | Self::Status(_)
            | Self::Doctor(_)
            | Self::Drain(_)
            | Self::RotateSigner(_)
            | Self::Revoke(_) => false,
        }
    }
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
        OperatorCommand::Signer(config) => {
            let deployment = connection.deployment()?;
            until_interrupted(|shutdown| async move {
                signer::process::run(*config, &deployment, shutdown).await
            })
            .await
        }
        OperatorCommand::Status(arguments) => view::run(&arguments, connection, output).await,
        OperatorCommand::Doctor(arguments) => doctor::run(*arguments, connection, output).await,
        OperatorCommand::Drain(arguments) => drain::run(&arguments, connection, output).await,
        OperatorCommand::RotateSigner(arguments) => {
            rotation::rotate(connection, &arguments, output).await
        }
        OperatorCommand::Revoke(arguments) => {
            rotation::revoke(connection, &arguments, output).await
        }
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
    let strength =
        if arguments.insecure_light_keystore { Strength::Light } else { Strength::Standard };
    Ok(init(&arguments.directory, &secret, &secret, strength)?)
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
