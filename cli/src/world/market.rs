//! What a new world is furnished with: three operators in a 2-of-3 set, one operator that is never started, two agents, a
//! corpus, and offers in the platform's token and in native coin.

use std::path::PathBuf;
use std::time::Duration;

use alloy::network::{EthereumWallet, TransactionBuilder};
use alloy::primitives::{Address, B256, U256};
use alloy::providers::{Provider, ProviderBuilder};
use alloy::rpc::types::TransactionRequest;
use anyhow::Context;
use auspex_inference::DeviceChoice;
use auspex_oracle::keys::keystore::Strength;
use auspex_oracle::keys::{init, password};
use auspex_protocol::bindings::IERC20;
use auspex_protocol::deployment::Deployment;
use base64::Engine;
use serde::{Deserialize, Serialize};

use crate::chain;
use crate::command::model::ModelArguments;
use crate::command::offer::{Payee, PublishArguments};
use crate::command::operator::RegisterArguments;
use crate::command::{agent, corpus, offer, operator, operator_set};
use crate::connection::ConnectionArguments;
use crate::indexer_client::IndexerClient;
use crate::output::Output;
use crate::world::accounts::{Accounts, deployer};
use crate::world::layout::Layout;
use crate::world::services::Foundation;

/// Gas money of a new transmitter, in wei.
const TRANSMITTER_FUNDS_WEI: u64 = 1_000_000_000_000_000_000;
/// What the requester starts with, in whole platform tokens.
const REQUESTER_TOKENS: u64 = 10_000;
/// How long a fact may take from its transaction to the indexer during set-up.
const INDEXING_WAIT_MAX: Duration = Duration::from_secs(60);

/// The project's own documentation: what the demo's agent answers from.
const DOCUMENTS: [(&str, &str); 4] = [
    ("README.md", include_str!("../../../README.md")),
    ("ARCHITECTURE.md", include_str!("../../../ARCHITECTURE.md")),
    ("operator.md", include_str!("../../../docs/operator.md")),
    ("contracts.md", include_str!("../../../contracts/README.md")),
];

/// What a world's set-up made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Market {
    pub(crate) deployment: Deployment,
    pub(crate) operators: Vec<Operator>,
    /// The agent that answers from the project's documentation, and its offers.
    pub(crate) agent_id: String,
    pub(crate) token_offer: B256,
    pub(crate) native_offer: B256,
    /// An agent whose operators are down.
    pub(crate) silent_agent_id: String,
    pub(crate) silent_offer: B256,
    pub(crate) corpus_root: B256,
    pub(crate) documents: Vec<String>,
}

/// An operator with its keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Operator {
    /// The account that owns it, and its name in logs and paths.
    pub(crate) name: String,
    pub(crate) owner: Address,
    pub(crate) signer: Address,
    pub(crate) signer_keystore: PathBuf,
    pub(crate) transmitter: Address,
    pub(crate) transmitter_keystore: PathBuf,
}

impl Market {
    /// Furnishes a new world.
    pub(crate) async fn open(
        layout: &Layout,
        foundation: &Foundation,
        accounts: &Accounts,
        deployment: Deployment,
        output: Output,
    ) -> anyhow::Result<Self> {
        let step = output
            .step("creating the operators' encrypted keystores and registering them on chain");
        let mut operators = Vec::new();
        for name in ["operator-1", "operator-2", "operator-3"] {
            operators.push(new_operator(layout, foundation, accounts, name).await?);
        }
        let silent = new_operator(layout, foundation, accounts, "bystander").await?;
        give_tokens(foundation, &deployment, accounts.address("requester")?).await?;

        let agent_account = layout.connection(Some("agent"));
        let set = new_set(layout, &operators, 2).await?;
        let silent_set = new_set(layout, std::slice::from_ref(&silent), 1).await?;

        drop(step);
        let step = output.step("registering two agents (ERC-8004)");
        let uri = registration_uri(
            "Auspex guide",
            "Answers questions about Auspex from its own documentation.",
        );
        let guide = agent::register(&agent_account, &uri).await?;
        let uri = registration_uri(
            "Silent agent",
            "Its operators are down, so that a refund can be shown.",
        );
        let quiet = agent::register(&agent_account, &uri).await?;

        drop(step);
        let step = output
            .step("embedding the project's documentation into each operator's corpus (pgvector)");
        let mut documents = Vec::new();
        for (name, text) in DOCUMENTS {
            std::fs::write(layout.documents().join(name), text).context("write a document")?;
            documents.push(name.to_owned());
        }
        let model = ModelArguments { model_dir: None, device: DeviceChoice::Cpu, profile: None };
        let embedder = corpus::load(&model).await?;
        let mut corpus_root = B256::ZERO;
        for operator in &operators {
            let database = foundation.database_url(&operator.database())?;
            corpus_root = corpus::load_folder(&database, &layout.documents(), &embedder).await?;
        }

        drop(step);
        let _step = output.step("publishing three offers");
        let payees = vec![
            Payee { account: accounts.address("payee-1")?, share: 70 },
            Payee { account: accounts.address("payee-2")?, share: 20 },
            Payee { account: accounts.address("payee-3")?, share: 10 },
        ];
        let terms = PublishArguments {
            agent: guide.agent_id.parse().context("read the agent's id")?,
            token: deployment.platform_token.unwrap_or_default().to_string(),
            price: "10.000000000000000007".to_owned(),
            operator_set: set,
            payees,
            corpus_root,
            model_hash: B256::ZERO,
            duration_min: 30,
            duration_max: 86_400,
        };
        let token_offer = offer::publish(&agent_account, &terms).await?.offer_hash;
        let native = PublishArguments {
            token: "ETH".to_owned(),
            price: "0.001".to_owned(),
            ..terms.clone()
        };
        let native_offer = offer::publish(&agent_account, &native).await?.offer_hash;
        let silent_terms = PublishArguments {
            agent: quiet.agent_id.parse().context("read the agent's id")?,
            operator_set: silent_set,
            corpus_root: B256::ZERO,
            duration_min: 3,
            ..native
        };
        let silent_offer = offer::publish(&agent_account, &silent_terms).await?.offer_hash;
        wait_for_offer(&agent_account, silent_offer).await?;
        Ok(Self {
            deployment,
            operators,
            agent_id: guide.agent_id,
            token_offer,
            native_offer,
            silent_agent_id: quiet.agent_id,
            silent_offer,
            corpus_root,
            documents,
        })
    }
}

impl Operator {
    /// The database that belongs to this operator alone.
    pub(crate) fn database(&self) -> String {
        format!("auspex_{}", self.name.replace('-', "_"))
    }
}

async fn new_operator(
    layout: &Layout,
    foundation: &Foundation,
    accounts: &Accounts,
    name: &str,
) -> anyhow::Result<Operator> {
    let secret = password::from_file(&layout.password_file())?;
    let folder = layout.keys().join(format!("{name}-node"));
    let keys = init::init(&folder, &secret, &secret, Strength::Light)?;
    foundation.send_coins(keys.transmitter, U256::from(TRANSMITTER_FUNDS_WEI)).await?;
    let owner = accounts.address(name)?;
    // An account apart from the other three, as the registry demands; nobody has to sign for it.
    let withdrawal = accounts.address("payee-3")?;
    let roles =
        RegisterArguments { signer: keys.signer, transmitter: keys.transmitter, withdrawal };
    operator::register(&layout.connection(Some(name)), &roles).await?;
    Ok(Operator {
        name: name.to_owned(),
        owner,
        signer: keys.signer,
        signer_keystore: keys.signer_keystore,
        transmitter: keys.transmitter,
        transmitter_keystore: keys.transmitter_keystore,
    })
}

async fn new_set(layout: &Layout, members: &[Operator], threshold: u8) -> anyhow::Result<u64> {
    let administrator = layout.connection(Some("deployer"));
    let set = operator_set::create(&administrator, "ETH", "0.05").await?;
    for member in members {
        let bond = U256::from(50_000_000_000_000_000u64);
        let connection = layout.connection(Some(&member.name));
        operator_set::bond::join_with_bond(&connection, set, Address::ZERO, bond).await?;
    }
    let owners = members.iter().map(|member| member.owner).collect();
    operator_set::propose(&administrator, set, threshold, owners).await?;
    operator_set::start(&administrator, set).await?;
    Ok(set)
}

async fn give_tokens(
    foundation: &Foundation,
    deployment: &Deployment,
    account: Address,
) -> anyhow::Result<()> {
    let Some(token) = deployment.platform_token else { return Ok(()) };
    let provider = ProviderBuilder::new()
        .wallet(EthereumWallet::from(deployer()))
        .connect_http(foundation.http_url())
        .erased();
    let amount = U256::from(REQUESTER_TOKENS) * U256::from(10u64).pow(U256::from(18u64));
    let contract = IERC20::new(token, &provider);
    chain::send(contract.transfer(account, amount), &provider, "give the requester tokens").await?;
    Ok(())
}

/// Sends coins from the deployer.
pub(crate) async fn send_coins(rpc_url: url::Url, to: Address, amount: U256) -> anyhow::Result<()> {
    let provider = ProviderBuilder::new()
        .wallet(EthereumWallet::from(deployer()))
        .connect_http(rpc_url)
        .erased();
    let transaction = TransactionRequest::default().with_to(to).with_value(amount);
    let pending = provider.send_transaction(transaction).await.context("send gas money")?;
    chain::receipt(&provider, *pending.tx_hash()).await?;
    Ok(())
}

/// An ERC-8004 registration file inside its own URI.
fn registration_uri(name: &str, description: &str) -> String {
    let file = serde_json::json!({
        "type": "https://eips.ethereum.org/EIPS/eip-8004#registration-v1",
        "name": name,
        "description": description,
        "image": "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>",
        "services": [],
        "x402Support": false,
        "active": true,
        "registrations": [],
        "supportedTrust": ["crypto-economic"],
    });
    let encoded = base64::engine::general_purpose::STANDARD.encode(file.to_string());
    format!("data:application/json;base64,{encoded}")
}

/// Waits until the indexer serves what the chain has just taken.
async fn wait_for_offer(connection: &ConnectionArguments, offer: B256) -> anyhow::Result<()> {
    let indexer = IndexerClient::new(connection.indexer()?)?;
    let started = tokio::time::Instant::now();
    loop {
        if indexer.offer(offer).await?.is_some() {
            return Ok(());
        }
        anyhow::ensure!(
            started.elapsed() < INDEXING_WAIT_MAX,
            "the indexer did not serve the offer within {} s; its log says why",
            INDEXING_WAIT_MAX.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
