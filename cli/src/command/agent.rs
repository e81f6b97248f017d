//! `auspex agent`: registering agents and looking at them.

use alloy::primitives::{Address, U256};
use alloy::sol_types::SolEvent;
use anyhow::{Context, bail};
use auspex_protocol::bindings::{IAgentRegistry, IERC721};
use clap::Subcommand;
use serde::{Deserialize, Serialize};

use crate::chain;
use crate::connection::ConnectionArguments;
use crate::indexer_client::{IndexerClient, Page};
use crate::output::{Output, fields, table};

/// Longest registration URI; a `data:` URI carries the whole file.
const URI_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Register an agent in the ERC-8004 identity registry.
    #[command(
        after_help = "Example:\n  auspex agent register --uri https://example.com/agent.json --as agent"
    )]
    Register {
        /// Where the agent's registration file is: https:, ipfs: or data:.
        #[arg(long)]
        uri: String,
    },
    /// Show one agent.
    #[command(after_help = "Example:\n  auspex agent show 0")]
    Show {
        /// The agent's ERC-8004 id.
        agent_id: U256,
    },
    /// List agents.
    #[command(
        after_help = "Example:\n  auspex agent list --owner 0x14dC79964da2C08b23698B3D3cc7Ca32193d9955"
    )]
    List {
        /// Only agents of this owner.
        #[arg(long)]
        owner: Option<Address>,
        /// Rows to show, at most 1,000.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
}

/// A newly registered agent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Registration {
    pub(crate) agent_id: String,
    pub(crate) owner: Address,
    pub(crate) transaction_hash: alloy::primitives::B256,
    pub(crate) gas_used: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AgentView {
    agent_id: String,
    owner: Address,
    agent_uri: Option<String>,
    wallet: Option<Address>,
    finality: String,
}

pub(crate) async fn run(
    command: AgentCommand,
    connection: &ConnectionArguments,
    output: Output,
) -> anyhow::Result<()> {
    match command {
        AgentCommand::Register { uri } => {
            let registration = register(connection, &uri).await?;
            output.result(&registration, |r| {
                format!(
                    "registered agent {} of {} (transaction {})\nnext: auspex offer publish --agent {} --help",
                    r.agent_id, r.owner, r.transaction_hash, r.agent_id
                )
            })
        }
        AgentCommand::Show { agent_id } => show(connection, agent_id, output).await,
        AgentCommand::List { owner, limit } => list(connection, owner, limit, output).await,
    }
}

/// Registers an agent for the chosen key.
pub(crate) async fn register(
    connection: &ConnectionArguments,
    uri: &str,
) -> anyhow::Result<Registration> {
    if URI_BYTES_MAX < uri.len() {
        bail!("--uri: {} bytes, over the limit of {URI_BYTES_MAX}", uri.len());
    }
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    if !matches!(scheme, "https" | "ipfs" | "data") {
        bail!("--uri: {scheme:?} is not a scheme of ERC-8004; use https:, ipfs: or data:");
    }
    let (provider, deployment, wallet) = connection.writer().await?;
    let registry = IAgentRegistry::new(deployment.agent_registry, &provider);
    let receipt =
        chain::send(registry.register_1(uri.to_owned()), &provider, "register the agent").await?;
    let event = receipt
        .logs()
        .iter()
        .filter(|log| log.address() == deployment.agent_registry)
        .find_map(|log| IAgentRegistry::Registered::decode_log(&log.inner).ok())
        .context("the registry's receipt holds no Registered event")?;
    Ok(Registration {
        agent_id: event.agentId.to_string(),
        owner: wallet.address(),
        transaction_hash: receipt.transaction_hash,
        gas_used: receipt.gas_used,
    })
}

async fn show(
    connection: &ConnectionArguments,
    agent_id: U256,
    output: Output,
) -> anyhow::Result<()> {
    let indexer = IndexerClient::new(connection.indexer()?)?;
    let view: Option<serde_json::Value> = indexer.get(&format!("v1/agents/{agent_id}")).await?;
    let Some(view) = view else {
        // The chain may know what the indexer has not reached yet.
        let (provider, deployment) = connection.reader().await?;
        let owner =
            IERC721::new(deployment.agent_registry, &provider).ownerOf(agent_id).call().await;
        match owner {
            Ok(owner) => bail!(
                "agent {agent_id} is registered to {owner}, but the indexer has not seen it yet; try again in a moment"
            ),
            Err(_) => {
                bail!("agent {agent_id} does not exist; `auspex agent list` shows those that do")
            }
        }
    };
    output.result(&view, |view| {
        let text = |name: &str| match &view[name] {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        let mut rows: Vec<(&str, String)> =
            ["agentId", "owner", "wallet"].into_iter().map(|name| (name, text(name))).collect();
        rows.push(("agentUri", readable_uri(&text("agentUri"))));
        for name in ["name", "description"] {
            if let Some(value) = view["registration"][name].as_str() {
                rows.push((name, value.to_owned()));
            }
        }
        if let Some(error) = view["registrationError"].as_str() {
            rows.push(("registration", format!("not readable: {error}")));
        }
        rows.push(("finality", text("finality")));
        for offer in view["offers"].as_array().into_iter().flatten() {
            rows.push(("offer", offer["offerHash"].as_str().unwrap_or("-").to_owned()));
        }
        fields(rows)
    })
}

async fn list(
    connection: &ConnectionArguments,
    owner: Option<Address>,
    limit: u16,
    output: Output,
) -> anyhow::Result<()> {
    let indexer = IndexerClient::new(connection.indexer()?)?;
    let owner = owner.map(|owner| format!("&owner={owner:#x}")).unwrap_or_default();
    let page: Page<AgentView> = indexer
        .get(&format!("v1/agents?limit={limit}{owner}"))
        .await?
        .context("the indexer does not serve agents")?;
    output.result(&page.items, |agents| {
        table(
            ["agent", "owner", "uri", "finality"],
            agents.iter().map(|agent| {
                let uri = agent.agent_uri.as_deref().unwrap_or("-");
                [
                    agent.agent_id.clone(),
                    agent.owner.to_string(),
                    readable_uri(uri),
                    agent.finality.clone(),
                ]
            }),
        )
    })
}

/// A URI for a table's cell: a `data:` URI is the whole file, which nobody can read as it stands.
fn readable_uri(uri: &str) -> String {
    match uri.split_once(',') {
        Some((kind, _)) if uri.starts_with("data:") => format!("{kind} ({} bytes)", uri.len()),
        _ => uri.to_owned(),
    }
}
