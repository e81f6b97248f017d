//! Offers and the splits that they name.

use auspex_protocol::bindings::IRequestEscrow;
use serde::{Deserialize, Serialize};

use super::state::State;
use super::value::{Account, Hash, Uint, Uint64};
use super::{Place, hex_id};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    pub offer_hash: Hash,
    pub sequence: u64,
    pub agent_id: Uint,
    pub token: Account,
    pub price: Uint,
    pub operator_set_id: Uint64,
    pub split_hash: Hash,
    pub corpus_root: Hash,
    pub model_hash: Hash,
    pub duration_min: u32,
    pub duration_max: u32,
    pub challenge_window: u32,
    pub referee: Account,
    pub active: bool,
    pub published_block: u64,
    pub published_block_hash: Hash,
    pub published_at: u64,
    pub published_tx: Hash,
    pub retired_at: Option<u64>,
    pub retired_tx: Option<Hash>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Split {
    pub split_hash: Hash,
    pub recipients: Vec<Account>,
    pub allocations: Vec<Uint>,
    pub total_allocation: Uint,
    pub distribution_incentive: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitShare {
    pub split_hash: Hash,
    pub account: Account,
    pub position: u32,
    pub allocation: Uint,
}

pub(super) fn publish(state: &mut State<'_>, place: Place, event: &IRequestEscrow::OfferPublished) {
    let id = hex_id(event.offerHash);
    let terms = &event.offer;
    let offer = Offer {
        offer_hash: event.offerHash.into(),
        sequence: event.sequence,
        agent_id: terms.agentId.into(),
        token: terms.token.into(),
        price: terms.price.into(),
        operator_set_id: terms.operatorSetId.into(),
        split_hash: terms.splitHash.into(),
        corpus_root: terms.corpusRoot.into(),
        model_hash: terms.modelHash.into(),
        duration_min: terms.durationMin,
        duration_max: terms.durationMax,
        challenge_window: terms.challengeWindow,
        referee: terms.referee.into(),
        active: true,
        published_block: place.block,
        published_block_hash: place.block_hash,
        published_at: place.time,
        published_tx: place.transaction,
        retired_at: None,
        retired_tx: None,
    };
    state.put(&id, offer);
    let split_id = hex_id(terms.splitHash);
    if state.get::<Split>(&split_id).is_none() {
        add_split(state, &split_id, terms.splitHash.into(), &event.split);
    }
}

pub(super) fn retire(
    state: &mut State<'_>,
    place: Place,
    event: &IRequestEscrow::OfferRetired,
) -> Result<(), String> {
    let id = hex_id(event.offerHash);
    let mut offer =
        state.get::<Offer>(&id).ok_or_else(|| format!("offer {id} was never published"))?;
    offer.active = false;
    offer.retired_at = Some(place.time);
    offer.retired_tx = Some(place.transaction);
    state.put(&id, offer);
    Ok(())
}

fn add_split(state: &mut State<'_>, id: &str, split_hash: Hash, split: &IRequestEscrow::Split) {
    let row = Split {
        split_hash,
        recipients: split.recipients.iter().copied().map(Account::from).collect(),
        allocations: split.allocations.iter().copied().map(Uint::from).collect(),
        total_allocation: split.totalAllocation.into(),
        distribution_incentive: split.distributionIncentive,
    };
    state.put(id, row);
    for (position, (account, allocation)) in
        (0u32..).zip(split.recipients.iter().zip(&split.allocations))
    {
        let share = SplitShare {
            split_hash,
            account: (*account).into(),
            position,
            allocation: (*allocation).into(),
        };
        state.insert(format!("{id}:{account:#x}"), share);
    }
}
