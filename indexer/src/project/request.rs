//! Requests: what the escrow's events say of them.

use auspex_protocol::bindings::IRequestEscrow;
use auspex_protocol::bindings::IRequestEscrow::IRequestEscrowEvents;
use serde::{Deserialize, Serialize};

use super::money::{self, CreditKind};
use super::offer;
use super::state::State;
use super::value::{Account, Data, Hash, Uint, Uint64};
use super::{Place, hex_id};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Funded,
    Delivered,
    Settled,
    Refunded,
    Slashed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Answered,
    Declined,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub request_id: Hash,
    pub sequence: u64,
    pub status: Status,
    pub agent_id: Uint,
    pub payer: Account,
    pub offer_hash: Hash,
    pub operator_set_hash: Hash,
    pub split_hash: Hash,
    pub token: Account,
    pub max_amount: Uint,
    pub fee_bps: u16,
    pub fee_recipient: Account,
    pub deadline: u64,
    pub challenge_window: u32,
    pub referee: Account,
    pub callback: Account,
    pub callback_gas: u32,
    pub input_hash: Hash,
    pub salt: Hash,
    pub input: Data,
    pub requested_block: u64,
    pub requested_block_hash: Hash,
    pub requested_at: u64,
    pub requested_tx: Hash,
    pub requested_gas_used: Option<u64>,
    pub outcome: Option<Outcome>,
    pub output_hash: Option<Hash>,
    pub trace_root: Option<Hash>,
    pub retrieval_root: Option<Hash>,
    pub model_hash: Option<Hash>,
    pub result_amount: Option<Uint>,
    pub valid_until: Option<Uint64>,
    pub signers: Option<Vec<Account>>,
    pub transmitter: Option<Account>,
    pub delivered_block: Option<u64>,
    pub delivered_block_hash: Option<Hash>,
    pub delivered_at: Option<u64>,
    pub delivered_tx: Option<Hash>,
    pub delivered_gas_used: Option<u64>,
    pub settled_amount: Option<Uint>,
    pub settled_fee: Option<Uint>,
    pub settled_returned: Option<Uint>,
    pub split_total_before: Option<Uint>,
    pub split_residue: Option<Uint>,
    pub settled_block: Option<u64>,
    pub settled_block_hash: Option<Hash>,
    pub settled_at: Option<u64>,
    pub settled_tx: Option<Hash>,
    pub settled_gas_used: Option<u64>,
    pub refunded_amount: Option<Uint>,
    pub refunded_block: Option<u64>,
    pub refunded_block_hash: Option<Hash>,
    pub refunded_at: Option<u64>,
    pub refunded_tx: Option<Hash>,
    pub refunded_gas_used: Option<u64>,
    pub slashed_signer: Option<Account>,
    pub slashed_amount: Option<Uint>,
    pub slashed_block: Option<u64>,
    pub slashed_block_hash: Option<Hash>,
    pub slashed_at: Option<u64>,
    pub slashed_tx: Option<Hash>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestNote {
    pub request_id: Hash,
    pub kind: NoteKind,
    pub address: Account,
    pub created_block: u64,
    pub created_at: u64,
    pub created_tx: Hash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    CallbackFailed,
    PermitFailed,
}

pub(super) fn apply(
    state: &mut State<'_>,
    place: Place,
    event: &IRequestEscrowEvents,
) -> Result<(), String> {
    match event {
        IRequestEscrowEvents::OfferPublished(event) => offer::publish(state, place, event),
        IRequestEscrowEvents::OfferRetired(event) => offer::retire(state, place, event)?,
        IRequestEscrowEvents::Requested(event) => fund(state, place, event),
        IRequestEscrowEvents::Delivered(event) => deliver(state, place, event)?,
        IRequestEscrowEvents::Settled(event) => settle(state, place, event)?,
        IRequestEscrowEvents::Refunded(event) => {
            let (id, mut request) = known_request(state, event.requestId.into())?;
            request.status = Status::Refunded;
            request.refunded_amount = Some(event.amount.into());
            request.refunded_block = Some(place.block);
            request.refunded_block_hash = Some(place.block_hash);
            request.refunded_at = Some(place.time);
            request.refunded_tx = Some(place.transaction);
            request.refunded_gas_used = place.gas_used;
            let payer = event.payer.into();
            money::credit(state, place, &request, CreditKind::Refund, payer, event.amount.into());
            state.put(id, request);
        }
        IRequestEscrowEvents::Slashed(event) => {
            let (id, mut request) = known_request(state, event.requestId.into())?;
            request.status = Status::Slashed;
            request.slashed_signer = Some(event.signer.into());
            request.slashed_amount = Some(event.amount.into());
            request.slashed_block = Some(place.block);
            request.slashed_block_hash = Some(place.block_hash);
            request.slashed_at = Some(place.time);
            request.slashed_tx = Some(place.transaction);
            let payer = request.payer;
            money::credit(state, place, &request, CreditKind::Slash, payer, event.amount.into());
            state.put(id, request);
        }
        IRequestEscrowEvents::Withdrawn(event) => money::withdraw(
            state,
            place,
            event.sequence,
            event.account.into(),
            event.token.into(),
            event.amount.into(),
        ),
        IRequestEscrowEvents::CallbackFailed(event) => {
            let address = event.callback.into();
            note(state, place, event.requestId.into(), NoteKind::CallbackFailed, address);
        }
        IRequestEscrowEvents::PermitFailed(event) => {
            let address = event.token.into();
            note(state, place, event.requestId.into(), NoteKind::PermitFailed, address);
        }
    }
    Ok(())
}

fn fund(state: &mut State<'_>, place: Place, event: &IRequestEscrow::Requested) {
    let terms = &event.request;
    let request = Request {
        request_id: event.requestId.into(),
        sequence: event.sequence,
        status: Status::Funded,
        agent_id: terms.agentId.into(),
        payer: terms.payer.into(),
        offer_hash: terms.offerHash.into(),
        operator_set_hash: terms.operatorSetHash.into(),
        split_hash: terms.splitHash.into(),
        token: terms.token.into(),
        max_amount: terms.maxAmount.into(),
        fee_bps: terms.feeBps,
        fee_recipient: terms.feeRecipient.into(),
        deadline: terms.deadline.to::<u64>(),
        challenge_window: terms.challengeWindow,
        referee: terms.referee.into(),
        callback: terms.callback.into(),
        callback_gas: terms.callbackGas,
        input_hash: terms.inputHash.into(),
        salt: terms.salt.into(),
        input: event.input.clone().into(),
        requested_block: place.block,
        requested_block_hash: place.block_hash,
        requested_at: place.time,
        requested_tx: place.transaction,
        requested_gas_used: place.gas_used,
        outcome: None,
        output_hash: None,
        trace_root: None,
        retrieval_root: None,
        model_hash: None,
        result_amount: None,
        valid_until: None,
        signers: None,
        transmitter: None,
        delivered_block: None,
        delivered_block_hash: None,
        delivered_at: None,
        delivered_tx: None,
        delivered_gas_used: None,
        settled_amount: None,
        settled_fee: None,
        settled_returned: None,
        split_total_before: None,
        split_residue: None,
        settled_block: None,
        settled_block_hash: None,
        settled_at: None,
        settled_tx: None,
        settled_gas_used: None,
        refunded_amount: None,
        refunded_block: None,
        refunded_block_hash: None,
        refunded_at: None,
        refunded_tx: None,
        refunded_gas_used: None,
        slashed_signer: None,
        slashed_amount: None,
        slashed_block: None,
        slashed_block_hash: None,
        slashed_at: None,
        slashed_tx: None,
    };
    state.put(hex_id(event.requestId), request);
}

fn deliver(
    state: &mut State<'_>,
    place: Place,
    event: &IRequestEscrow::Delivered,
) -> Result<(), String> {
    let result = &event.result;
    let outcome = match result.outcome {
        IRequestEscrow::Outcome::Answered => Outcome::Answered,
        IRequestEscrow::Outcome::Declined => Outcome::Declined,
        IRequestEscrow::Outcome::None | IRequestEscrow::Outcome::__Invalid => {
            return Err("result.outcome is neither answered nor declined".into());
        }
    };
    let (id, mut request) = known_request(state, event.requestId.into())?;
    request.status = Status::Delivered;
    request.outcome = Some(outcome);
    request.output_hash = Some(result.outputHash.into());
    request.trace_root = Some(result.traceRoot.into());
    request.retrieval_root = Some(result.retrievalRoot.into());
    request.model_hash = Some(result.modelHash.into());
    request.result_amount = Some(result.amount.into());
    request.valid_until = Some(result.validUntil.into());
    request.signers = Some(event.signers.iter().copied().map(Account::from).collect());
    request.transmitter = Some(event.transmitter.into());
    request.delivered_block = Some(place.block);
    request.delivered_block_hash = Some(place.block_hash);
    request.delivered_at = Some(place.time);
    request.delivered_tx = Some(place.transaction);
    request.delivered_gas_used = place.gas_used;
    state.put(id, request);
    Ok(())
}

fn settle(
    state: &mut State<'_>,
    place: Place,
    event: &IRequestEscrow::Settled,
) -> Result<(), String> {
    let (id, mut request) = known_request(state, event.requestId.into())?;
    let shared =
        event.amount.checked_sub(event.fee).ok_or("settled.fee is more than settled.amount")?;
    let (before, residue) = money::share_out(state, place, &request, shared)?;
    if 0 < event.fee {
        let account = request.fee_recipient;
        money::credit(state, place, &request, CreditKind::Fee, account, event.fee.into());
    }
    if 0 < event.returned {
        let account = request.payer;
        money::credit(state, place, &request, CreditKind::Returned, account, event.returned.into());
    }
    request.status = Status::Settled;
    request.settled_amount = Some(event.amount.into());
    request.settled_fee = Some(event.fee.into());
    request.settled_returned = Some(event.returned.into());
    request.split_total_before = Some(before);
    request.split_residue = Some(residue);
    request.settled_block = Some(place.block);
    request.settled_block_hash = Some(place.block_hash);
    request.settled_at = Some(place.time);
    request.settled_tx = Some(place.transaction);
    request.settled_gas_used = place.gas_used;
    state.put(id, request);
    Ok(())
}

fn note(state: &mut State<'_>, place: Place, request_id: Hash, kind: NoteKind, address: Account) {
    let name = match kind {
        NoteKind::CallbackFailed => "callback_failed",
        NoteKind::PermitFailed => "permit_failed",
    };
    let id = format!("{}:{name}:{}", hex_id(request_id.0), place.log_index);
    let row = RequestNote {
        request_id,
        kind,
        address,
        created_block: place.block,
        created_at: place.time,
        created_tx: place.transaction,
    };
    // The log index alone could repeat in another block, so the id may be known.
    state.put(id, row);
}

fn known_request(state: &mut State<'_>, request_id: Hash) -> Result<(String, Request), String> {
    let id = hex_id(request_id.0);
    let request =
        state.get::<Request>(&id).ok_or_else(|| format!("request {id} was never funded"))?;
    Ok((id, request))
}
