//! Who is owed what: splits to the last unit, credits, withdrawals.

use alloy::hex;
use alloy::primitives::{Address, U256};
use auspex_protocol::bindings::IRequestEscrow;
use auspex_protocol::split::{credits_of_settlement, entitlement};
use serde::{Deserialize, Serialize};

use super::offer::Split;
use super::request::Request;
use super::state::State;
use super::value::{Account, Hash, Uint};
use super::{Place, hex_id, joined_id, pair_id};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitTotal {
    pub split_hash: Hash,
    pub token: Account,
    pub settled_total: Uint,
    pub credited: Uint,
    pub residue: Uint,
    pub settlements: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettlementCredit {
    pub request_id: Hash,
    pub kind: CreditKind,
    pub position: Option<u32>,
    pub account: Account,
    pub token: Account,
    pub amount: Uint,
    pub created_block: u64,
    pub created_at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreditKind {
    Share,
    Fee,
    Returned,
    Refund,
    Slash,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Credit {
    pub account: Account,
    pub token: Account,
    pub credited: Uint,
    pub withdrawn: Uint,
    pub updated_at: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BondCredit {
    pub account: Account,
    pub token: Account,
    pub credited: Uint,
    pub withdrawn: Uint,
    pub updated_at: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Withdrawal {
    pub contract: Account,
    pub sequence: u64,
    pub account: Account,
    pub token: Account,
    pub amount: Uint,
    pub created_block: u64,
    pub created_at: u64,
    pub created_tx: Hash,
}

/// Settles `amount` into a request's split, as the escrow does. Returns the split's total before and its residue after.
pub(super) fn share_out(
    state: &mut State<'_>,
    place: Place,
    request: &Request,
    amount: u128,
) -> Result<(Uint, Uint), String> {
    let split_id = hex_id(request.split_hash.0);
    let split = state
        .get_as(&split_id, split_of)
        .ok_or_else(|| format!("split {split_id} was never published"))?;
    let total_id = joined_id(&[&split_id, hex::Buffer::<20, true>::new().format(&request.token.0)]);
    let mut total = state.get::<SplitTotal>(&total_id).unwrap_or(SplitTotal {
        split_hash: request.split_hash,
        token: request.token,
        settled_total: Uint::default(),
        credited: Uint::default(),
        residue: Uint::default(),
        settlements: 0,
    });
    let before = total.settled_total;
    if amount == 0 {
        return Ok((before, total.residue));
    }
    let amount = U256::from(amount);
    let after = before.0.checked_add(amount).ok_or("the split's total is over 2^256")?;
    let gains = credits_of_settlement(&split, before.0, amount);
    for (position, (account, gain)) in (0u32..).zip(split.recipients.iter().zip(gains)) {
        enter_credit(
            state,
            place,
            request,
            CreditKind::Share,
            Some(position),
            (*account).into(),
            gain,
        );
    }
    let credited: U256 =
        split.recipients.iter().map(|account| entitlement(&split, *account, after)).sum();
    total.settled_total = after.into();
    total.credited = credited.into();
    total.residue = after.saturating_sub(credited).into();
    total.settlements += 1;
    let residue = total.residue;
    state.put(total_id, total);
    Ok((before, residue))
}

/// Credits an account outright.
pub(super) fn credit(
    state: &mut State<'_>,
    place: Place,
    request: &Request,
    kind: CreditKind,
    account: Account,
    amount: Uint,
) {
    enter_credit(state, place, request, kind, None, account, amount.0);
}

/// The escrow paid a credit out.
pub(super) fn withdraw(
    state: &mut State<'_>,
    place: Place,
    sequence: u64,
    account: Account,
    token: Account,
    amount: Uint,
) {
    let id = pair_id(account.0, token.0);
    let mut credit = credit_or_new(state, place, &id, account, token);
    credit.withdrawn = credit.withdrawn.0.saturating_add(amount.0).into();
    credit.updated_at = place.time;
    state.put(id, credit);
    record_withdrawal(state, place, sequence, account, token, amount);
}

/// A slashed bond is owed to its beneficiary by the operator registry.
pub(super) fn credit_bond(
    state: &mut State<'_>,
    place: Place,
    account: Account,
    token: Account,
    amount: Uint,
) {
    let id = pair_id(account.0, token.0);
    let mut credit = bond_credit_or_new(state, place, &id, account, token);
    credit.credited = credit.credited.0.saturating_add(amount.0).into();
    credit.updated_at = place.time;
    state.put(id, credit);
}

/// The operator registry paid a slashed bond out.
pub(super) fn withdraw_bond(
    state: &mut State<'_>,
    place: Place,
    sequence: u64,
    account: Account,
    token: Account,
    amount: Uint,
) {
    let id = pair_id(account.0, token.0);
    let mut credit = bond_credit_or_new(state, place, &id, account, token);
    credit.withdrawn = credit.withdrawn.0.saturating_add(amount.0).into();
    credit.updated_at = place.time;
    state.put(id, credit);
    record_withdrawal(state, place, sequence, account, token, amount);
}

fn enter_credit(
    state: &mut State<'_>,
    place: Place,
    request: &Request,
    kind: CreditKind,
    position: Option<u32>,
    account: Account,
    amount: U256,
) {
    let name = match kind {
        CreditKind::Share => "share",
        CreditKind::Fee => "fee",
        CreditKind::Returned => "returned",
        CreditKind::Refund => "refund",
        CreditKind::Slash => "slash",
    };
    let entry = SettlementCredit {
        request_id: request.request_id,
        kind,
        position,
        account,
        token: request.token,
        amount: amount.into(),
        created_block: place.block,
        created_at: place.time,
    };
    let request_id = hex_id(request.request_id.0);
    let mut account_text = hex::Buffer::<20, true>::new();
    let entry_id = joined_id(&[&request_id, name, account_text.format(&account.0)]);
    state.put_child::<Request, _>(request_id, entry_id, entry);

    let id = pair_id(account.0, request.token.0);
    let mut credit = credit_or_new(state, place, &id, account, request.token);
    credit.credited = credit.credited.0.saturating_add(amount).into();
    credit.updated_at = place.time;
    state.put(id, credit);
}

fn credit_or_new(
    state: &mut State<'_>,
    place: Place,
    id: &str,
    account: Account,
    token: Account,
) -> Credit {
    state.get::<Credit>(id).unwrap_or(Credit {
        account,
        token,
        credited: Uint::default(),
        withdrawn: Uint::default(),
        updated_at: place.time,
    })
}

fn bond_credit_or_new(
    state: &mut State<'_>,
    place: Place,
    id: &str,
    account: Account,
    token: Account,
) -> BondCredit {
    state.get::<BondCredit>(id).unwrap_or(BondCredit {
        account,
        token,
        credited: Uint::default(),
        withdrawn: Uint::default(),
        updated_at: place.time,
    })
}

fn record_withdrawal(
    state: &mut State<'_>,
    place: Place,
    sequence: u64,
    account: Account,
    token: Account,
    amount: Uint,
) {
    let withdrawal = Withdrawal {
        contract: place.contract,
        sequence,
        account,
        token,
        amount,
        created_block: place.block,
        created_at: place.time,
        created_tx: place.transaction,
    };
    state.insert(place.event_id(), withdrawal);
}

fn split_of(row: &Split) -> IRequestEscrow::Split {
    IRequestEscrow::Split {
        recipients: row.recipients.iter().map(|account| account.0).collect::<Vec<Address>>(),
        allocations: row.allocations.iter().map(|allocation| allocation.0).collect(),
        totalAllocation: row.total_allocation.0,
        distributionIncentive: row.distribution_incentive,
    }
}
