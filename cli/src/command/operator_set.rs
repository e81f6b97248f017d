//! `auspex operator-set`: who answers together. Members join with a bond, the set's administrator names an epoch's members,
//! and anyone starts it when its time has come.

pub(crate) mod bond;

use alloy::primitives::{Address, B256};
use alloy::sol_types::SolEvent;
use anyhow::{Context, bail};
use auspex_protocol::bindings::IOperatorRegistry;
use clap::Subcommand;
use serde::Serialize;

use crate::chain;
use crate::connection::ConnectionArguments;
use crate::output::{Output, fields};
use crate::token::Token;
use crate::units;

#[derive(Debug, Subcommand)]
pub(crate) enum OperatorSetCommand {
    /// Create a set, administered by the chosen key.
    #[command(
        after_help = "Example:\n  auspex operator-set create --bond 0.1 --bond-token ETH --as agent"
    )]
    Create {
        /// What each member bonds, in whole tokens.
        #[arg(long, default_value = "0")]
        bond: String,
        /// The token of the bond: an address, a symbol, or ETH.
        #[arg(long, default_value = "ETH")]
        bond_token: String,
    },
    /// Join a set with its bond, as the operator whose owner is the chosen key.
    #[command(after_help = "Example:\n  auspex operator-set join 1 --as operator-1")]
    Join { set_id: u64 },
    /// Begin to leave a set, as the operator whose owner is the chosen key. It must be in no running epoch of the set, or have
    /// revoked the key that it has there.
    #[command(after_help = "Example:\n  auspex operator-set leave 1 --keystore owner.json")]
    Leave { set_id: u64 },
    /// Pay an operator's bond out to its withdrawal address, once its time has come.
    #[command(after_help = "Example:\n  auspex operator-set release 1 --keystore owner.json")]
    Release {
        set_id: u64,
        /// The operator's owner; that of the chosen key when not given.
        #[arg(long)]
        owner: Option<Address>,
    },
    /// Name the members of the next epoch.
    #[command(
        after_help = "Example:\n  auspex operator-set propose 1 --threshold 2 --operator 0x70.. --operator 0x3C.. --operator 0x90.. --as agent"
    )]
    Propose {
        set_id: u64,
        /// Signatures that a result needs.
        #[arg(long)]
        threshold: u8,
        /// An operator's owner; each has joined the set.
        #[arg(long = "operator", required = true)]
        operators: Vec<Address>,
    },
    /// Start the proposed epoch.
    #[command(after_help = "Example:\n  auspex operator-set start 1 --as agent")]
    Start { set_id: u64 },
    /// Start an epoch with the members' present keys, without those that left, were slashed or have no key.
    #[command(after_help = "Example:\n  auspex operator-set refresh 1 --as operator-1")]
    Refresh { set_id: u64 },
    /// Name the set's next administrator, who has to accept; the zero address takes the offer back.
    #[command(after_help = "Example:\n  auspex operator-set hand-over 1 --to 0x70.. --as agent")]
    HandOver {
        set_id: u64,
        #[arg(long)]
        to: Address,
    },
    /// Become the administrator of a set that was handed over to the chosen key.
    #[command(after_help = "Example:\n  auspex operator-set accept 1 --as operator-1")]
    Accept { set_id: u64 },
    /// Show a set's present epoch and its administrator.
    #[command(after_help = "Example:\n  auspex operator-set show 1")]
    Show { set_id: u64 },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SetView {
    set_id: String,
    epoch: String,
    threshold: u8,
    operators: Vec<Address>,
    signers: Vec<Address>,
    operator_set_hash: B256,
    admin: Address,
    pending_admin: Option<Address>,
}

pub(crate) async fn run(
    command: OperatorSetCommand,
    connection: &ConnectionArguments,
    output: Output,
) -> anyhow::Result<()> {
    match command {
        OperatorSetCommand::Create { bond, bond_token } => {
            let set_id = create(connection, &bond_token, &bond).await?;
            output.result(&serde_json::json!({"setId": set_id.to_string()}), |_| {
                format!("created operator set {set_id}\nnext: each operator runs `auspex operator-set join {set_id}`")
            })
        }
        OperatorSetCommand::Join { set_id } => {
            let hash = bond::join(connection, set_id).await?;
            output.result(
                &serde_json::json!({"setId": set_id.to_string(), "transactionHash": hash}),
                |_| format!("joined operator set {set_id}"),
            )
        }
        OperatorSetCommand::Leave { set_id } => bond::leave(connection, set_id, output).await,
        OperatorSetCommand::Release { set_id, owner } => {
            bond::release(connection, set_id, owner, output).await
        }
        OperatorSetCommand::Propose { set_id, threshold, operators } => {
            let hash = propose(connection, set_id, threshold, operators).await?;
            output.result(&serde_json::json!({"setId": set_id.to_string(), "transactionHash": hash}), |_| {
                format!("proposed an epoch of operator set {set_id}\nnext: auspex operator-set start {set_id}")
            })
        }
        OperatorSetCommand::Start { set_id } => {
            let hash = start(connection, set_id).await?;
            output.result(
                &serde_json::json!({"setId": set_id.to_string(), "transactionHash": hash}),
                |_| format!("started the epoch of operator set {set_id}"),
            )
        }
        OperatorSetCommand::Refresh { set_id } => {
            let hash = refresh(connection, set_id).await?;
            output.result(
                &serde_json::json!({"setId": set_id.to_string(), "transactionHash": hash}),
                |_| format!("refreshed the epoch of operator set {set_id}"),
            )
        }
        OperatorSetCommand::HandOver { set_id, to } => {
            let hash = hand_over(connection, set_id, to).await?;
            output.result(&serde_json::json!({"setId": set_id.to_string(), "transactionHash": hash}), |_| {
                if to.is_zero() {
                    format!("took the offer of operator set {set_id} back")
                } else {
                    format!("offered operator set {set_id} to {to}\nnext: {to} runs `auspex operator-set accept {set_id}`")
                }
            })
        }
        OperatorSetCommand::Accept { set_id } => {
            let hash = accept(connection, set_id).await?;
            output.result(
                &serde_json::json!({"setId": set_id.to_string(), "transactionHash": hash}),
                |_| format!("administers operator set {set_id} now"),
            )
        }
        OperatorSetCommand::Show { set_id } => show(connection, set_id, output).await,
    }
}

/// Creates a set without a referee and gives its id.
pub(crate) async fn create(
    connection: &ConnectionArguments,
    bond_token: &str,
    bond: &str,
) -> anyhow::Result<u64> {
    let (provider, deployment, wallet) = connection.writer().await?;
    let token = Token::named(&provider, &deployment, bond_token).await?;
    let bond = units::parse("--bond", bond, token.decimals)?;
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    let call = registry.createSet(wallet.address(), token.address, bond, Address::ZERO);
    let receipt = chain::send(call, &provider, "create the operator set").await?;
    let created = receipt
        .logs()
        .iter()
        .filter(|log| log.address() == deployment.operator_registry)
        .find_map(|log| IOperatorRegistry::SetCreated::decode_log(&log.inner).ok())
        .context("the registry's receipt holds no SetCreated event")?;
    Ok(created.setId)
}

/// Names the members of the next epoch.
pub(crate) async fn propose(
    connection: &ConnectionArguments,
    set_id: u64,
    threshold: u8,
    operators: Vec<Address>,
) -> anyhow::Result<B256> {
    if threshold == 0 || operators.len() < usize::from(threshold) {
        bail!(
            "--threshold: {threshold}, but it has to be 1 to the number of operators, {}",
            operators.len()
        );
    }
    let (provider, deployment, _) = connection.writer().await?;
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    let call = registry.proposeEpoch(set_id, threshold, operators);
    Ok(chain::send(call, &provider, "propose the epoch").await?.transaction_hash)
}

/// Starts the proposed epoch.
pub(crate) async fn start(connection: &ConnectionArguments, set_id: u64) -> anyhow::Result<B256> {
    let (provider, deployment, _) = connection.writer().await?;
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    Ok(chain::send(registry.startEpoch(set_id), &provider, "start the epoch")
        .await?
        .transaction_hash)
}

/// Starts an epoch with the members that still count.
async fn refresh(connection: &ConnectionArguments, set_id: u64) -> anyhow::Result<B256> {
    let (provider, deployment, _) = connection.writer().await?;
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    Ok(chain::send(registry.refreshEpoch(set_id), &provider, "refresh the epoch")
        .await?
        .transaction_hash)
}

/// Names the set's next administrator.
async fn hand_over(
    connection: &ConnectionArguments,
    set_id: u64,
    to: Address,
) -> anyhow::Result<B256> {
    let (provider, deployment, _) = connection.writer().await?;
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    Ok(chain::send(registry.proposeSetAdmin(set_id, to), &provider, "hand the set over")
        .await?
        .transaction_hash)
}

/// Becomes a set's administrator.
async fn accept(connection: &ConnectionArguments, set_id: u64) -> anyhow::Result<B256> {
    let (provider, deployment, _) = connection.writer().await?;
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    Ok(chain::send(registry.acceptSetAdmin(set_id), &provider, "accept the set")
        .await?
        .transaction_hash)
}

async fn show(connection: &ConnectionArguments, set_id: u64, output: Output) -> anyhow::Result<()> {
    let (provider, deployment) = connection.reader().await?;
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    let epoch = registry.epochOf(set_id).call().await.map_err(chain::explain)?;
    let hash = registry.operatorSetHash(set_id).call().await.map_err(chain::explain)?;
    if hash.is_zero() {
        bail!("operator set {set_id} does not exist, or its first epoch has not started");
    }
    let administrators = registry.adminOf(set_id).call().await.map_err(chain::explain)?;
    let view = SetView {
        set_id: set_id.to_string(),
        epoch: epoch.epoch.to_string(),
        threshold: epoch.threshold,
        operators: epoch.operators,
        signers: epoch.signers,
        operator_set_hash: hash,
        admin: administrators.admin,
        pending_admin: Some(administrators.pendingAdmin).filter(|admin| !admin.is_zero()),
    };
    output.result(&view, |view| {
        let mut rows = vec![
            ("set", view.set_id.clone()),
            ("epoch", view.epoch.clone()),
            ("quorum", format!("{} of {}", view.threshold, view.signers.len())),
            ("hash", view.operator_set_hash.to_string()),
            ("administrator", view.admin.to_string()),
        ];
        if let Some(pending) = view.pending_admin {
            rows.push(("offered to", pending.to_string()));
        }
        for (operator, signer) in view.operators.iter().zip(&view.signers) {
            rows.push(("member", format!("{operator} signs with {signer}")));
        }
        fields(rows)
    })
}
