//! `auspex operator-set`: who answers together. Members join with a bond, the set's administrator names an epoch's members,
//! and anyone starts it when its time has come.

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolEvent;
use anyhow::{Context, bail};
use auspex_protocol::bindings::IERC20;
use auspex_protocol::bindings::IOperatorRegistry;
use auspex_protocol::document::decimal;
use clap::Subcommand;
use serde::{Deserialize, Serialize};

use crate::chain;
use crate::connection::ConnectionArguments;
use crate::indexer_client::IndexerClient;
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
    /// Show a set's present epoch.
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
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetTerms {
    bond_token: Address,
    #[serde(with = "decimal")]
    bond: U256,
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
            let hash = join(connection, set_id).await?;
            output.result(
                &serde_json::json!({"setId": set_id.to_string(), "transactionHash": hash}),
                |_| format!("joined operator set {set_id}"),
            )
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

/// Joins a set with its bond, which the indexer knows from the set's creation.
async fn join(connection: &ConnectionArguments, set_id: u64) -> anyhow::Result<B256> {
    let indexer = IndexerClient::new(connection.indexer()?)?;
    let terms: SetTerms = indexer
        .get(&format!("v1/operator-sets/{set_id}"))
        .await?
        .with_context(|| format!("operator set {set_id} is unknown to the indexer"))?;
    join_with_bond(connection, set_id, terms.bond_token, terms.bond).await
}

/// Joins a set whose bond is known.
pub(crate) async fn join_with_bond(
    connection: &ConnectionArguments,
    set_id: u64,
    bond_token: Address,
    bond: U256,
) -> anyhow::Result<B256> {
    let (provider, deployment, _) = connection.writer().await?;
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    let native = bond_token.is_zero();
    if !native && !bond.is_zero() {
        let token = IERC20::new(bond_token, &provider);
        let call = token.approve(deployment.operator_registry, bond);
        chain::send(call, &provider, "approve the bond").await?;
    }
    let value = if native { bond } else { U256::ZERO };
    let receipt =
        chain::send(registry.join(set_id).value(value), &provider, "join the set").await?;
    Ok(receipt.transaction_hash)
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

async fn show(connection: &ConnectionArguments, set_id: u64, output: Output) -> anyhow::Result<()> {
    let (provider, deployment) = connection.reader().await?;
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    let epoch = registry.epochOf(set_id).call().await.map_err(chain::explain)?;
    let hash = registry.operatorSetHash(set_id).call().await.map_err(chain::explain)?;
    if hash.is_zero() {
        bail!("operator set {set_id} does not exist, or its first epoch has not started");
    }
    let view = SetView {
        set_id: set_id.to_string(),
        epoch: epoch.epoch.to_string(),
        threshold: epoch.threshold,
        operators: epoch.operators,
        signers: epoch.signers,
        operator_set_hash: hash,
    };
    output.result(&view, |view| {
        let mut rows = vec![
            ("set", view.set_id.clone()),
            ("epoch", view.epoch.clone()),
            ("quorum", format!("{} of {}", view.threshold, view.signers.len())),
            ("hash", view.operator_set_hash.to_string()),
        ];
        for (operator, signer) in view.operators.iter().zip(&view.signers) {
            rows.push(("member", format!("{operator} signs with {signer}")));
        }
        fields(rows)
    })
}
