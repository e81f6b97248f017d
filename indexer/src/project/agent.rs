//! Agents: ERC-8004 identities, which are ERC-721 tokens with a registration file and metadata.

use alloy::primitives::{Address, U256};
use auspex_protocol::bindings::IAgentRegistry::IAgentRegistryEvents;
use auspex_protocol::bindings::IERC721;
use serde::{Deserialize, Serialize};

use super::state::State;
use super::value::{Account, Data, Hash, Uint, key_part};
use super::{Place, text};

/// The metadata key that ERC-8004 reserves for the agent's wallet.
const WALLET_KEY: &str = "agentWallet";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    pub agent_id: Uint,
    pub registry: Account,
    pub owner: Account,
    pub agent_uri: String,
    pub wallet: Option<Account>,
    pub registered_block: u64,
    pub registered_block_hash: Hash,
    pub registered_at: u64,
    pub registered_tx: Hash,
    pub updated_at: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentMetadata {
    pub agent_id: Uint,
    pub key: String,
    pub value: Data,
    pub updated_at: u64,
}

pub(super) fn agent_key(chain_id: u64, agent_id: U256) -> String {
    format!("{chain_id}:{agent_id}")
}

pub(super) fn apply(
    chain_id: u64,
    state: &mut State<'_>,
    place: Place,
    event: &IAgentRegistryEvents,
) -> Result<(), String> {
    match event {
        IAgentRegistryEvents::Registered(event) => {
            let id = agent_key(chain_id, event.agentId);
            let mut agent = agent_or_new(state, place, &id, event.agentId);
            agent.owner = event.owner.into();
            agent.agent_uri = text(&event.agentURI);
            agent.updated_at = place.time;
            state.put(&id, agent);
        }
        IAgentRegistryEvents::URIUpdated(event) => {
            let id = agent_key(chain_id, event.agentId);
            let mut agent = known_agent(state, &id)?;
            agent.agent_uri = text(&event.newURI);
            agent.updated_at = place.time;
            state.put(&id, agent);
        }
        IAgentRegistryEvents::MetadataSet(event) => {
            let id = agent_key(chain_id, event.agentId);
            let mut agent = known_agent(state, &id)?;
            if event.metadataKey == WALLET_KEY {
                agent.wallet = wallet_of(&event.metadataValue);
            }
            agent.updated_at = place.time;
            state.put(&id, agent);
            let metadata_id = format!("{id}:{}", key_part(&event.metadataKey));
            let metadata = AgentMetadata {
                agent_id: event.agentId.into(),
                key: text(&event.metadataKey),
                value: event.metadataValue.clone().into(),
                updated_at: place.time,
            };
            state.put(&metadata_id, metadata);
        }
    }
    Ok(())
}

/// The token changes hands; minting comes before `Registered` and makes the agent known.
pub(super) fn transfer(
    chain_id: u64,
    state: &mut State<'_>,
    place: Place,
    event: &IERC721::Transfer,
) -> Result<(), String> {
    let id = agent_key(chain_id, event.tokenId);
    let mut agent = agent_or_new(state, place, &id, event.tokenId);
    agent.owner = event.to.into();
    agent.updated_at = place.time;
    state.put(&id, agent);
    Ok(())
}

fn agent_or_new(state: &mut State<'_>, place: Place, id: &str, agent_id: U256) -> Agent {
    state.get::<Agent>(id).unwrap_or(Agent {
        agent_id: agent_id.into(),
        registry: place.contract,
        owner: Address::ZERO.into(),
        agent_uri: String::new(),
        wallet: None,
        registered_block: place.block,
        registered_block_hash: place.block_hash,
        registered_at: place.time,
        registered_tx: place.transaction,
        updated_at: place.time,
    })
}

fn known_agent(state: &mut State<'_>, id: &str) -> Result<Agent, String> {
    state.get::<Agent>(id).ok_or_else(|| format!("agent {id} was never registered"))
}

/// The registries write 20 bytes; an empty or other value clears the wallet.
fn wallet_of(value: &[u8]) -> Option<Account> {
    let wallet = Address::try_from(value).ok()?;
    (!wallet.is_zero()).then_some(wallet.into())
}
