//! What an operator has at stake in a set: joining with it, and getting it back.

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolEvent;
use anyhow::Context;
use auspex_protocol::bindings::{IERC20, IOperatorRegistry};
use auspex_protocol::document::decimal;
use serde::Deserialize;

use crate::chain;
use crate::connection::ConnectionArguments;
use crate::indexer_client::IndexerClient;
use crate::output::Output;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetTerms {
    bond_token: Address,
    #[serde(with = "decimal")]
    bond: U256,
}

/// Joins a set with its bond, which the indexer knows from the set's creation.
pub(super) async fn join(connection: &ConnectionArguments, set_id: u64) -> anyhow::Result<B256> {
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

/// Begins to leave a set.
pub(super) async fn leave(
    connection: &ConnectionArguments,
    set_id: u64,
    output: Output,
) -> anyhow::Result<()> {
    let (provider, deployment, _) = connection.writer().await?;
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    let receipt = chain::send(registry.startUnbonding(set_id), &provider, "leave the set").await?;
    let started = receipt
        .logs()
        .iter()
        .filter(|log| log.address() == deployment.operator_registry)
        .find_map(|log| IOperatorRegistry::UnbondingStarted::decode_log(&log.inner).ok())
        .context("the registry's receipt holds no UnbondingStarted event")?;
    let result = serde_json::json!({
        "setId": set_id.to_string(),
        "releaseAt": started.releaseAt.to_string(),
        "transactionHash": receipt.transaction_hash,
    });
    output.result(&result, |_| {
        format!(
            "leaving operator set {set_id}; the bond is due at {}\nnext: auspex operator-set release {set_id}",
            started.releaseAt
        )
    })
}

/// Has a bond paid out to the operator's withdrawal address.
pub(super) async fn release(
    connection: &ConnectionArguments,
    set_id: u64,
    owner: Option<Address>,
    output: Output,
) -> anyhow::Result<()> {
    let (provider, deployment, wallet) = connection.writer().await?;
    let owner = owner.unwrap_or_else(|| wallet.address());
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    let call = registry.releaseBond(set_id, owner);
    let receipt = chain::send(call, &provider, "release the bond").await?;
    let released = receipt
        .logs()
        .iter()
        .filter(|log| log.address() == deployment.operator_registry)
        .find_map(|log| IOperatorRegistry::BondReleased::decode_log(&log.inner).ok())
        .context("the registry's receipt holds no BondReleased event")?;
    let result = serde_json::json!({
        "setId": set_id.to_string(),
        "owner": owner,
        "to": released.to,
        "amount": released.amount.to_string(),
        "transactionHash": receipt.transaction_hash,
    });
    output.result(&result, |_| format!("paid {} to {}", released.amount, released.to))
}
