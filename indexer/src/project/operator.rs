//! Operators, their keys, their sets with epochs, and their bonds.

use auspex_protocol::bindings::IOperatorRegistry::IOperatorRegistryEvents;
use auspex_protocol::deployment::BURN_ADDRESS;
use serde::{Deserialize, Serialize};

use super::money;
use super::state::State;
use super::value::{Account, Hash, Uint, Uint64};
use super::{Place, hex_id};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operator {
    pub owner: Account,
    pub signer: Option<Account>,
    pub transmitter: Account,
    pub withdrawal: Account,
    pub pending_signer: Option<Account>,
    pub pending_signer_active_at: Option<Uint64>,
    pub pending_withdrawal: Option<Account>,
    pub pending_withdrawal_active_at: Option<Uint64>,
    pub registered_block: u64,
    pub registered_at: u64,
    pub registered_tx: Hash,
    pub updated_at: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signer {
    pub signer: Account,
    pub owner: Account,
    pub status: SignerStatus,
    pub updated_at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignerStatus {
    Pending,
    Active,
    Replaced,
    Revoked,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatorSet {
    pub set_id: Uint64,
    pub admin: Account,
    pub pending_admin: Option<Account>,
    pub bond_token: Account,
    pub bond: Uint,
    pub referee: Account,
    pub epoch: Uint64,
    pub threshold: u8,
    pub operators: Vec<Account>,
    pub signers: Vec<Account>,
    pub operator_set_hash: Option<Hash>,
    pub pending_epoch: Option<Uint64>,
    pub pending_threshold: Option<u8>,
    pub pending_operators: Option<Vec<Account>>,
    pub pending_active_at: Option<Uint64>,
    pub created_block: u64,
    pub created_at: u64,
    pub created_tx: Hash,
    pub updated_at: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    pub set_id: Uint64,
    pub epoch: Uint64,
    pub threshold: u8,
    pub operators: Vec<Account>,
    pub signers: Vec<Account>,
    pub operator_set_hash: Hash,
    pub started_block: u64,
    pub started_at: u64,
    pub started_tx: Hash,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bond {
    pub set_id: Uint64,
    pub owner: Account,
    pub amount: Uint,
    pub slashed: Uint,
    pub status: BondStatus,
    pub release_at: Option<Uint64>,
    pub released_to: Option<Account>,
    pub updated_at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BondStatus {
    Bonded,
    Unbonding,
    Released,
    Slashed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slash {
    pub set_id: Uint64,
    pub owner: Account,
    pub request_id: Hash,
    pub signer: Account,
    pub amount: Uint,
    pub beneficiary: Account,
    pub reward: Uint,
    pub created_block: u64,
    pub created_at: u64,
    pub created_tx: Hash,
}

pub(super) fn apply(
    state: &mut State<'_>,
    place: Place,
    event: &IOperatorRegistryEvents,
) -> Result<(), String> {
    use IOperatorRegistryEvents as Event;
    match event {
        Event::OperatorRegistered(event) => {
            let operator = Operator {
                owner: event.owner.into(),
                signer: Some(event.signer.into()),
                transmitter: event.transmitter.into(),
                withdrawal: event.withdrawal.into(),
                pending_signer: None,
                pending_signer_active_at: None,
                pending_withdrawal: None,
                pending_withdrawal_active_at: None,
                registered_block: place.block,
                registered_at: place.time,
                registered_tx: place.transaction,
                updated_at: place.time,
            };
            state.put(operator_id(event.owner.into()), operator);
            put_signer(state, place, event.signer.into(), event.owner.into(), SignerStatus::Active);
        }
        Event::SignerProposed(event) => {
            let (id, mut operator) = known_operator(state, place, event.owner.into())?;
            operator.pending_signer = Some(event.signer.into());
            operator.pending_signer_active_at = Some(event.activeAt.into());
            state.put(&id, operator);
            put_signer(
                state,
                place,
                event.signer.into(),
                event.owner.into(),
                SignerStatus::Pending,
            );
        }
        Event::SignerActivated(event) => {
            let (id, mut operator) = known_operator(state, place, event.owner.into())?;
            if let Some(former) = operator.signer {
                put_signer(state, place, former, event.owner.into(), SignerStatus::Replaced);
            }
            operator.signer = Some(event.signer.into());
            operator.pending_signer = None;
            operator.pending_signer_active_at = None;
            state.put(&id, operator);
            put_signer(state, place, event.signer.into(), event.owner.into(), SignerStatus::Active);
        }
        Event::SignerRevoked(event) => {
            let (id, mut operator) = known_operator(state, place, event.owner.into())?;
            let revoked = Account::from(event.signer);
            if operator.signer == Some(revoked) {
                operator.signer = None;
            }
            if operator.pending_signer == Some(revoked) {
                operator.pending_signer = None;
                operator.pending_signer_active_at = None;
            }
            state.put(&id, operator);
            put_signer(state, place, revoked, event.owner.into(), SignerStatus::Revoked);
        }
        Event::TransmitterChanged(event) => {
            let (id, mut operator) = known_operator(state, place, event.owner.into())?;
            operator.transmitter = event.transmitter.into();
            state.put(&id, operator);
        }
        Event::WithdrawalProposed(event) => {
            let (id, mut operator) = known_operator(state, place, event.owner.into())?;
            operator.pending_withdrawal = Some(event.withdrawal.into());
            operator.pending_withdrawal_active_at = Some(event.activeAt.into());
            state.put(&id, operator);
        }
        Event::WithdrawalActivated(event) => {
            let (id, mut operator) = known_operator(state, place, event.owner.into())?;
            operator.withdrawal = event.withdrawal.into();
            operator.pending_withdrawal = None;
            operator.pending_withdrawal_active_at = None;
            state.put(&id, operator);
        }
        Event::SetCreated(event) => {
            let set = OperatorSet {
                set_id: event.setId.into(),
                admin: event.admin.into(),
                pending_admin: None,
                bond_token: event.bondToken.into(),
                bond: event.bond.into(),
                referee: event.referee.into(),
                epoch: 0.into(),
                threshold: 0,
                operators: Vec::new(),
                signers: Vec::new(),
                operator_set_hash: None,
                pending_epoch: None,
                pending_threshold: None,
                pending_operators: None,
                pending_active_at: None,
                created_block: place.block,
                created_at: place.time,
                created_tx: place.transaction,
                updated_at: place.time,
            };
            state.put(event.setId.to_string(), set);
        }
        Event::SetAdminProposed(event) => {
            let (id, mut set) = known_set(state, place, event.setId)?;
            set.pending_admin =
                Some(event.pendingAdmin).filter(|admin| !admin.is_zero()).map(Account::from);
            state.put(&id, set);
        }
        Event::SetAdminChanged(event) => {
            let (id, mut set) = known_set(state, place, event.setId)?;
            set.admin = event.admin.into();
            set.pending_admin = None;
            state.put(&id, set);
        }
        Event::EpochProposed(event) => {
            let (id, mut set) = known_set(state, place, event.setId)?;
            set.pending_epoch = Some(event.epoch.into());
            set.pending_threshold = Some(event.threshold);
            set.pending_operators = Some(accounts(&event.operators));
            set.pending_active_at = Some(event.activeAt.into());
            state.put(&id, set);
        }
        Event::EpochStarted(event) => {
            let (id, mut set) = known_set(state, place, event.setId)?;
            set.epoch = event.epoch.into();
            set.threshold = event.threshold;
            set.operators = accounts(&event.operators);
            set.signers = accounts(&event.signers);
            set.operator_set_hash = Some(event.operatorSetHash.into());
            // A refresh makes an epoch of the one before, and leaves a proposal pending whatever its number.
            if !event.refreshed {
                set.pending_epoch = None;
                set.pending_threshold = None;
                set.pending_operators = None;
                set.pending_active_at = None;
            }
            state.put(&id, set);
            let epoch = Epoch {
                set_id: event.setId.into(),
                epoch: event.epoch.into(),
                threshold: event.threshold,
                operators: accounts(&event.operators),
                signers: accounts(&event.signers),
                operator_set_hash: event.operatorSetHash.into(),
                started_block: place.block,
                started_at: place.time,
                started_tx: place.transaction,
            };
            state.put(format!("{}:{}", event.setId, event.epoch), epoch);
        }
        Event::Joined(event) => {
            let bond = Bond {
                set_id: event.setId.into(),
                owner: event.owner.into(),
                amount: event.bond.into(),
                slashed: Uint::default(),
                status: BondStatus::Bonded,
                release_at: None,
                released_to: None,
                updated_at: place.time,
            };
            state.put(bond_id(event.setId, event.owner.into()), bond);
        }
        Event::UnbondingStarted(event) => {
            let (id, mut bond) = known_bond(state, place, event.setId, event.owner.into())?;
            bond.status = BondStatus::Unbonding;
            bond.release_at = Some(event.releaseAt.into());
            state.put(&id, bond);
        }
        Event::BondReleased(event) => {
            let (id, mut bond) = known_bond(state, place, event.setId, event.owner.into())?;
            bond.status = BondStatus::Released;
            bond.amount = Uint::default();
            bond.released_to = Some(event.to.into());
            state.put(&id, bond);
        }
        Event::BondSlashed(event) => {
            let (_, set) = known_set(state, place, event.setId)?;
            let (id, mut bond) = known_bond(state, place, event.setId, event.owner.into())?;
            let amount = Uint::from(event.amount);
            bond.amount = bond.amount.0.saturating_sub(amount.0).into();
            bond.slashed = bond.slashed.0.saturating_add(amount.0).into();
            // A bond that was being released is still due, with nothing left in it.
            if bond.status == BondStatus::Bonded {
                bond.status = BondStatus::Slashed;
            }
            state.put(&id, bond);
            let reward = Uint::from(event.reward);
            let slash = Slash {
                set_id: event.setId.into(),
                owner: event.owner.into(),
                request_id: event.requestId.into(),
                signer: event.signer.into(),
                amount,
                beneficiary: event.beneficiary.into(),
                reward,
                created_block: place.block,
                created_at: place.time,
                created_tx: place.transaction,
            };
            state.put(format!("{id}:{}", hex_id(event.requestId)), slash);
            let burned = amount.0.saturating_sub(reward.0).into();
            money::credit_bond(state, place, event.beneficiary.into(), set.bond_token, reward);
            money::credit_bond(state, place, BURN_ADDRESS.into(), set.bond_token, burned);
        }
        Event::Withdrawn(event) => money::withdraw_bond(
            state,
            place,
            event.sequence,
            event.account.into(),
            event.token.into(),
            event.amount.into(),
        ),
    }
    Ok(())
}

fn put_signer(
    state: &mut State<'_>,
    place: Place,
    signer: Account,
    owner: Account,
    status: SignerStatus,
) {
    let row = Signer { signer, owner, status, updated_at: place.time };
    state.put(format!("{:#x}", signer.0), row);
}

fn accounts(addresses: &[alloy::primitives::Address]) -> Vec<Account> {
    addresses.iter().copied().map(Account::from).collect()
}

fn operator_id(owner: Account) -> String {
    format!("{:#x}", owner.0)
}

fn bond_id(set_id: u64, owner: Account) -> String {
    format!("{set_id}:{:#x}", owner.0)
}

/// The operator, already marked as touched now.
fn known_operator(
    state: &mut State<'_>,
    place: Place,
    owner: Account,
) -> Result<(String, Operator), String> {
    let id = operator_id(owner);
    let mut operator =
        state.get::<Operator>(&id).ok_or_else(|| format!("operator {id} was never registered"))?;
    operator.updated_at = place.time;
    Ok((id, operator))
}

/// The set, already marked as touched now.
fn known_set(
    state: &mut State<'_>,
    place: Place,
    set_id: u64,
) -> Result<(String, OperatorSet), String> {
    let id = set_id.to_string();
    let mut set = state
        .get::<OperatorSet>(&id)
        .ok_or_else(|| format!("operator set {id} was never created"))?;
    set.updated_at = place.time;
    Ok((id, set))
}

/// The bond, already marked as touched now.
fn known_bond(
    state: &mut State<'_>,
    place: Place,
    set_id: u64,
    owner: Account,
) -> Result<(String, Bond), String> {
    let id = bond_id(set_id, owner);
    let mut bond = state.get::<Bond>(&id).ok_or_else(|| format!("bond {id} was never paid"))?;
    bond.updated_at = place.time;
    Ok((id, bond))
}
