//! Sending one transaction for a person: simulate, send, wait for its receipt with a limit, and say what went wrong in
//! the contract's own words.

use std::time::Duration;

use alloy::contract::{CallBuilder, CallDecoder, Error as ContractError};
use alloy::primitives::{B256, TxHash};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::TransactionReceipt;
use alloy::sol_types::SolInterface;
use anyhow::{Context, bail};
use auspex_protocol::bindings::IAgentRegistry::IAgentRegistryErrors;
use auspex_protocol::bindings::IEntryPolicy::IEntryPolicyErrors;
use auspex_protocol::bindings::IOperatorRegistry::IOperatorRegistryErrors;
use auspex_protocol::bindings::IPlatformToken::IPlatformTokenErrors;
use auspex_protocol::bindings::IRequestEscrow::IRequestEscrowErrors;

/// How long a command waits for its transaction to be included. The outcome is never guessed: past this the command
/// says that it does not know, and with which hash to ask again.
const RECEIPT_WAIT_MAX: Duration = Duration::from_secs(120);
const RECEIPT_POLL_INTERVAL: Duration = Duration::from_millis(150);

/// Sends a call and waits until it is included and succeeded.
pub(crate) async fn send<P: Provider, D: CallDecoder>(
    call: CallBuilder<P, D>,
    provider: &DynProvider,
    what: &str,
) -> anyhow::Result<TransactionReceipt> {
    let gas = call.estimate_gas().await.map_err(explain).with_context(|| what.to_owned())?;
    // A fifth more than estimated, because a request that lands in between may change storage costs.
    let pending =
        call.gas(gas + gas / 5).send().await.map_err(explain).with_context(|| what.to_owned())?;
    let receipt = receipt(provider, *pending.tx_hash()).await?;
    if !receipt.status() {
        bail!("{what}: transaction {} was included but reverted", receipt.transaction_hash);
    }
    Ok(receipt)
}

/// Waits for a transaction's receipt.
pub(crate) async fn receipt(
    provider: &DynProvider,
    hash: TxHash,
) -> anyhow::Result<TransactionReceipt> {
    let started = tokio::time::Instant::now();
    loop {
        if let Some(receipt) =
            provider.get_transaction_receipt(hash).await.context("ask for a receipt")?
        {
            return Ok(receipt);
        }
        if RECEIPT_WAIT_MAX < started.elapsed() {
            bail!(
                "transaction {hash} is sent but was not included within {} s; it may still be: look it up before sending again",
                RECEIPT_WAIT_MAX.as_secs()
            );
        }
        tokio::time::sleep(RECEIPT_POLL_INTERVAL).await;
    }
}

/// The chain's own time, in Unix seconds, and the number of its latest block.
pub(crate) async fn head(provider: &DynProvider) -> anyhow::Result<(u64, u64)> {
    let block = provider
        .get_block_by_number(alloy::eips::BlockNumberOrTag::Latest)
        .await
        .context("ask for the latest block")?
        .context("the chain has no latest block")?;
    Ok((block.header.timestamp, block.header.number))
}

/// Turns a refused call into the contract's own error, with its arguments.
pub(crate) fn explain(error: ContractError) -> anyhow::Error {
    if let Some(text) = error.as_revert_data().and_then(|data| revert_text(&data)) {
        return anyhow::anyhow!("the contract refuses: {text}");
    }
    match error {
        ContractError::TransportError(transport) => match transport.as_error_resp() {
            Some(response) => anyhow::anyhow!("the chain refuses: {}", response.message),
            // A transport's text can hold the endpoint's URL with its key.
            None => {
                anyhow::anyhow!("the chain does not answer; check --rpc-url and that the node runs")
            }
        },
        other => anyhow::Error::new(other),
    }
}

fn revert_text(data: &[u8]) -> Option<String> {
    let selector: [u8; 4] = data.get(..4)?.try_into().ok()?;
    if selector == [0x08, 0xc3, 0x79, 0xa0] || selector == [0x4e, 0x48, 0x7b, 0x71] {
        return alloy::sol_types::decode_revert_reason(data);
    }
    let text = if let Ok(error) = IRequestEscrowErrors::abi_decode(data) {
        format!("{error:?}")
    } else if let Ok(error) = IOperatorRegistryErrors::abi_decode(data) {
        format!("{error:?}")
    } else if let Ok(error) = IAgentRegistryErrors::abi_decode(data) {
        format!("{error:?}")
    } else if let Ok(error) = IEntryPolicyErrors::abi_decode(data) {
        format!("{error:?}")
    } else if let Ok(error) = IPlatformTokenErrors::abi_decode(data) {
        format!("{error:?}")
    } else {
        return Some(format!("error 0x{}", hex::encode(selector)));
    };
    // `Name(Name { field: value })` says the name twice.
    let inner = text.split_once('(').map_or(text.as_str(), |(_, rest)| rest.trim_end_matches(')'));
    Some(inner.to_owned())
}

/// A random 32-byte value.
pub(crate) fn random_salt() -> B256 {
    B256::from(rand::random::<[u8; 32]>())
}
