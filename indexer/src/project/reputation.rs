//! Feedback on agents and validations of their work (ERC-8004's reputation and validation registries).

use std::borrow::Borrow;

use alloy::sol_types::SolEvent;
use serde::{Deserialize, Serialize};

use super::agent::agent_key;
use super::state::State;
use super::value::{Account, Hash, Int128, Uint, Uint64};
use super::{Place, hex_id, text};
use crate::abi::IReputationRegistry;
use crate::abi::IReputationRegistry::IReputationRegistryEvents;
use crate::abi::IValidationRegistry::IValidationRegistryEvents;
use crate::chain::Fact;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    pub agent_id: Uint,
    pub client: Account,
    pub feedback_index: Uint64,
    pub value: Int128,
    pub value_decimals: u8,
    pub tag1: String,
    pub tag2: String,
    pub endpoint: String,
    pub feedback_uri: String,
    pub feedback_hash: Hash,
    pub revoked: bool,
    pub response_count: u32,
    pub created_block: u64,
    pub created_at: u64,
    pub created_tx: Hash,
    pub revoked_at: Option<u64>,
    pub backed_request: Option<Hash>,
    pub backed_amount: Option<Uint>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeedbackResponse {
    pub feedback_id: String,
    pub agent_id: Uint,
    pub responder: Account,
    pub response_uri: String,
    pub response_hash: Hash,
    pub created_block: u64,
    pub created_at: u64,
    pub created_tx: Hash,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    pub request_hash: Hash,
    pub agent_id: Uint,
    pub validator: Account,
    pub request_uri: String,
    pub response: Option<u8>,
    pub response_uri: Option<String>,
    pub response_hash: Option<Hash>,
    pub tag: Option<String>,
    pub requested_block: u64,
    pub requested_at: u64,
    pub requested_tx: Hash,
    pub responded_at: Option<u64>,
    pub responded_tx: Option<Hash>,
}

pub(super) fn apply(
    chain_id: u64,
    state: &mut State<'_>,
    place: Place,
    before: &[impl Borrow<Fact>],
    event: &IReputationRegistryEvents,
) -> Result<(), String> {
    let feedback_key = |agent_id, client: alloy::primitives::Address, index: u64| {
        format!("{}:{client:#x}:{index}", agent_key(chain_id, agent_id))
    };
    match event {
        IReputationRegistryEvents::NewFeedback(event) => {
            let id = feedback_key(event.agentId, event.clientAddress, event.feedbackIndex);
            let backing = backing(place, before, event);
            let feedback = Feedback {
                agent_id: event.agentId.into(),
                client: event.clientAddress.into(),
                feedback_index: event.feedbackIndex.into(),
                value: event.value.into(),
                value_decimals: event.valueDecimals,
                tag1: text(&event.tag1),
                tag2: text(&event.tag2),
                endpoint: text(&event.endpoint),
                feedback_uri: text(&event.feedbackURI),
                feedback_hash: event.feedbackHash.into(),
                revoked: false,
                response_count: 0,
                created_block: place.block,
                created_at: place.time,
                created_tx: place.transaction,
                revoked_at: None,
                backed_request: backing.as_ref().map(|backing| backing.requestId.into()),
                backed_amount: backing.as_ref().map(|backing| backing.amount.into()),
            };
            state.put(&id, feedback);
        }
        // Read together with the feedback that follows it.
        IReputationRegistryEvents::FeedbackBacked(_) => {}
        IReputationRegistryEvents::FeedbackRevoked(event) => {
            let id = feedback_key(event.agentId, event.clientAddress, event.feedbackIndex);
            let mut feedback = known_feedback(state, &id)?;
            feedback.revoked = true;
            feedback.revoked_at = Some(place.time);
            state.put(&id, feedback);
        }
        IReputationRegistryEvents::ResponseAppended(event) => {
            let id = feedback_key(event.agentId, event.clientAddress, event.feedbackIndex);
            let mut feedback = known_feedback(state, &id)?;
            feedback.response_count = feedback.response_count.saturating_add(1);
            state.put(&id, feedback);
            let response = FeedbackResponse {
                feedback_id: id.clone(),
                agent_id: event.agentId.into(),
                responder: event.responder.into(),
                response_uri: text(&event.responseURI),
                response_hash: event.responseHash.into(),
                created_block: place.block,
                created_at: place.time,
                created_tx: place.transaction,
            };
            let response_id = format!("{id}:{:#x}:{}", event.responder, place.event_id());
            state.insert(&response_id, response);
        }
    }
    Ok(())
}

pub(super) fn apply_validation(
    state: &mut State<'_>,
    place: Place,
    event: &IValidationRegistryEvents,
) -> Result<(), String> {
    match event {
        IValidationRegistryEvents::ValidationRequest(event) => {
            let id = hex_id(event.requestHash);
            let validation = Validation {
                request_hash: event.requestHash.into(),
                agent_id: event.agentId.into(),
                validator: event.validatorAddress.into(),
                request_uri: text(&event.requestURI),
                response: None,
                response_uri: None,
                response_hash: None,
                tag: None,
                requested_block: place.block,
                requested_at: place.time,
                requested_tx: place.transaction,
                responded_at: None,
                responded_tx: None,
            };
            state.put(&id, validation);
        }
        IValidationRegistryEvents::ValidationResponse(event) => {
            let id = hex_id(event.requestHash);
            let mut validation = state
                .get::<Validation>(&id)
                .ok_or_else(|| format!("validation {id} was never requested"))?;
            validation.response = Some(event.response);
            validation.response_uri = Some(text(&event.responseURI));
            validation.response_hash = Some(event.responseHash.into());
            validation.tag = Some(text(&event.tag));
            validation.responded_at = Some(place.time);
            validation.responded_tx = Some(place.transaction);
            state.put(&id, validation);
        }
    }
    Ok(())
}

/// What the registry said of this feedback just before it, in the same transaction: the request that it is about.
fn backing(
    place: Place,
    before: &[impl Borrow<Fact>],
    feedback: &IReputationRegistry::NewFeedback,
) -> Option<IReputationRegistry::FeedbackBacked> {
    before
        .iter()
        .map(Borrow::borrow)
        .rev()
        .take_while(|fact| fact.transaction_hash == place.transaction.0)
        .filter(|fact| fact.address == place.contract.0)
        .filter_map(|fact| {
            let topics = fact.topics.iter().copied();
            IReputationRegistry::FeedbackBacked::decode_raw_log(topics, &fact.data).ok()
        })
        .find(|backed| {
            (backed.agentId, backed.clientAddress, backed.feedbackIndex)
                == (feedback.agentId, feedback.clientAddress, feedback.feedbackIndex)
        })
}

fn known_feedback(state: &mut State<'_>, id: &str) -> Result<Feedback, String> {
    state.get::<Feedback>(id).ok_or_else(|| format!("feedback {id} was never given"))
}
