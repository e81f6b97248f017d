//! Deploying the contracts to a development chain, from the artifacts that are committed and checked.

use alloy::network::{EthereumWallet, TransactionBuilder};
use alloy::primitives::{Address, Bytes, U256};
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolValue;
use anyhow::{Context, bail};
use auspex_protocol::bindings::{IEntryPolicy, IRequestEscrow};
use auspex_protocol::deployment::Deployment;
use serde::Deserialize;
use url::Url;

use crate::chain;
use crate::world::accounts::deployer;

/// Supply of the platform's token in a development world, in whole tokens.
const SUPPLY_TOKENS: u64 = 1_000_000_000;
/// The protocol's fee in a development world, in hundredths of a percent.
const FEE_BPS: u16 = 50;

const PLATFORM_TOKEN: &str = include_str!("../../../contracts/artifacts/PlatformToken.json");
const AGENT_REGISTRY: &str = include_str!("../../../contracts/artifacts/AgentRegistry.json");
const ENTRY_POLICY: &str = include_str!("../../../contracts/artifacts/EntryPolicy.json");
const REQUEST_ESCROW: &str = include_str!("../../../contracts/artifacts/RequestEscrow.json");

#[derive(Deserialize)]
struct Artifact {
    bytecode: Bytes,
}

/// Deploys everything as the deployer, who also owns the entry policy: on a development chain there is no timelock to
/// wait for.
pub(crate) async fn deploy(rpc_url: &Url) -> anyhow::Result<Deployment> {
    let owner = deployer();
    let provider = ProviderBuilder::new()
        .wallet(EthereumWallet::from(owner.clone()))
        .connect_http(rpc_url.clone())
        .erased();
    let chain_id = provider.get_chain_id().await.context("ask the chain for its id")?;
    let (_, start_block) = chain::head(&provider).await?;
    let supply = U256::from(SUPPLY_TOKENS) * U256::from(10u64).pow(U256::from(18u64));
    let token =
        create(&provider, PLATFORM_TOKEN, (owner.address(), supply).abi_encode_params()).await?;
    let agents = create(&provider, AGENT_REGISTRY, Vec::new()).await?;
    let policy = create(&provider, ENTRY_POLICY, owner.address().abi_encode()).await?;
    let permit2 = Address::ZERO;
    let escrow =
        create(&provider, REQUEST_ESCROW, (agents, policy, permit2).abi_encode_params()).await?;
    let entry = IEntryPolicy::new(policy, &provider);
    for allowed in [token, Address::ZERO] {
        chain::send(entry.setTokenAllowed(allowed, true), &provider, "allow a token").await?;
    }
    chain::send(entry.setFee(FEE_BPS, owner.address()), &provider, "set the fee").await?;
    let operators = IRequestEscrow::new(escrow, &provider)
        .operatorRegistry()
        .call()
        .await
        .map_err(chain::explain)
        .context("ask the escrow for its operator registry")?;
    Ok(Deployment {
        chain_id,
        start_block,
        agent_registry: agents,
        operator_registry: operators,
        entry_policy: policy,
        request_escrow: escrow,
        platform_token: Some(token),
        reputation_registry: None,
        validation_registry: None,
    })
}

/// True when the chain has code where the deployment says.
pub(crate) async fn are_deployed(rpc_url: &Url, deployment: &Deployment) -> anyhow::Result<bool> {
    let provider = ProviderBuilder::new().connect_http(rpc_url.clone());
    let code =
        provider.get_code_at(deployment.request_escrow).await.context("look at the escrow")?;
    Ok(!code.is_empty())
}

async fn create(
    provider: &DynProvider,
    artifact: &str,
    arguments: Vec<u8>,
) -> anyhow::Result<Address> {
    let artifact: Artifact =
        serde_json::from_str(artifact).context("read a contract's artifact")?;
    let code: Bytes = [artifact.bytecode.as_ref(), &arguments].concat().into();
    let pending = provider
        .send_transaction(TransactionRequest::default().with_deploy_code(code))
        .await
        .context("deploy a contract")?;
    let receipt = chain::receipt(provider, *pending.tx_hash()).await?;
    if !receipt.status() {
        bail!("deploying a contract reverted in transaction {}", receipt.transaction_hash);
    }
    receipt.contract_address.context("the deployment's receipt has no address")
}
