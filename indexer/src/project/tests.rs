use std::collections::BTreeMap;

use alloy::primitives::{Bytes, U256};
use alloy::sol_types::SolEvent;
use auspex_protocol::bindings::{
    IAgentRegistry, IERC20, IERC721, IOperatorRegistry, IPlatformToken,
};
use auspex_protocol::deployment::BURN_ADDRESS;
use proptest::prelude::*;

use super::agent::{Agent, AgentMetadata};
use super::fuzz::known_events;
use super::money::BondCredit;
use super::operator::{Bond, BondStatus, OperatorSet, Slash};
use super::other::X402Settlement;
use super::reputation::Feedback;
use super::row::{Kind, Projection};
use super::*;
use crate::abi::IReputationRegistry;
use crate::watch::Role;

const AGENTS: Address = Address::repeat_byte(0xa0);
const OPERATORS: Address = Address::repeat_byte(0xa1);
const REPUTATION: Address = Address::repeat_byte(0xa3);
const TOKEN: Address = Address::repeat_byte(0xa4);

fn watch() -> WatchList {
    WatchList::from_roles(BTreeMap::from([
        (AGENTS, Role::AgentRegistry),
        (OPERATORS, Role::OperatorRegistry),
        (REPUTATION, Role::ReputationRegistry),
        (TOKEN, Role::Token),
    ]))
}

fn fact(block: u64, log_index: u32, address: Address, event: &impl SolEvent) -> Fact {
    let data = event.encode_log_data();
    Fact {
        block_number: block,
        block_hash: B256::from(U256::from(block)),
        block_time: block * 2,
        log_index,
        transaction_hash: B256::from(U256::from(block)),
        transaction_index: 0,
        gas_used: None,
        address,
        topics: data.topics().to_vec(),
        data: data.data,
        sequence: None,
    }
}

fn registered(id: u64, uri: &str) -> IAgentRegistry::Registered {
    let owner = Address::repeat_byte(1);
    IAgentRegistry::Registered { agentId: U256::from(id), agentURI: uri.to_owned(), owner }
}

fn metadata(key: &str, value: &'static [u8]) -> IAgentRegistry::MetadataSet {
    IAgentRegistry::MetadataSet {
        agentId: U256::ZERO,
        indexedMetadataKey: alloy::primitives::keccak256(key),
        metadataKey: key.to_owned(),
        metadataValue: Bytes::from_static(value),
    }
}

/// Projects onto an empty database.
fn changes(facts: &[Fact]) -> Changes {
    changes_in(&watch(), facts)
}

fn changes_in(watch: &WatchList, facts: &[Fact]) -> Changes {
    let mut loaded = BTreeSet::new();
    loop {
        let context = Context { chain_id: 1, watch };
        let decoded = decode_all(context, facts);
        match project(context, facts, &decoded, &CurrentRows::new(), &loaded) {
            Ok(changes) => return changes,
            Err(missing) => loaded.extend(missing),
        }
    }
}

fn last<T: Projection>(changes: &Changes) -> T {
    let found = changes.versions.iter().rev().find_map(|version| T::from_row(&version.row));
    found.expect("a row of this kind").clone()
}

#[test]
fn an_agents_wallet_is_set_and_cleared_by_its_reserved_metadata() {
    let wallet: &'static [u8] = &[7; 20];
    let mut facts = vec![
        fact(1, 0, AGENTS, &registered(0, "")),
        fact(2, 0, AGENTS, &metadata("agentWallet", wallet)),
    ];
    assert_eq!(last::<Agent>(&changes(&facts)).wallet, Some(Address::repeat_byte(7).into()));
    facts.push(fact(3, 0, AGENTS, &metadata("agentWallet", &[])));
    assert_eq!(last::<Agent>(&changes(&facts)).wallet, None);
}

#[test]
fn text_that_postgresql_cannot_hold_is_changed_and_long_keys_are_hashed() {
    let long = "k".repeat(10_000);
    let facts = [
        fact(1, 0, AGENTS, &registered(0, "a\0b")),
        fact(1, 1, AGENTS, &metadata("a\0b", b"")),
        fact(1, 2, AGENTS, &metadata(&long, b"")),
        fact(1, 3, AGENTS, &metadata("#short", b"")),
    ];
    let changes = changes(&facts);
    assert_eq!(last::<Agent>(&changes).agent_uri, "a\u{fffd}b");
    let ids: Vec<&str> = changes
        .versions
        .iter()
        .filter(|version| version.key.0 == Kind::AgentMetadata)
        .map(|version| version.key.1.as_str())
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| id.len() < 200 && !id.contains('\0')), "{ids:?}");
    assert!(changes.versions.iter().any(|version| {
        AgentMetadata::from_row(&version.row).is_some_and(|row| row.key == long)
    }));
}

#[test]
fn only_a_transfer_with_an_authorization_is_an_x402_settlement() {
    let (payer, payee) = (Address::repeat_byte(5), Address::repeat_byte(6));
    let transfer =
        |from, value: u64| IERC20::Transfer { from, to: payee, value: U256::from(value) };
    let used = IPlatformToken::AuthorizationUsed { authorizer: payer, nonce: B256::repeat_byte(9) };
    let bare = changes(&[fact(1, 0, TOKEN, &transfer(payer, 1))]);
    assert_eq!(bare, Changes::default());
    let settled = changes(&[
        fact(1, 0, TOKEN, &used),
        fact(1, 1, TOKEN, &transfer(payee, 1)),
        fact(1, 2, TOKEN, &transfer(payer, 2)),
    ]);
    assert_eq!(last::<X402Settlement>(&settled).amount.0, U256::from(2));
    // The transfer of another transaction does not count.
    let apart = changes(&[fact(1, 0, TOKEN, &used), fact(2, 0, TOKEN, &transfer(payer, 2))]);
    assert_eq!(apart, Changes::default());
}

fn started(epoch: u64, refreshed: bool, operators: &[Address]) -> IOperatorRegistry::EpochStarted {
    IOperatorRegistry::EpochStarted {
        sequence: 3,
        setId: 1,
        epoch,
        threshold: 2,
        operators: operators.to_vec(),
        signers: operators.to_vec(),
        operatorSetHash: B256::repeat_byte(8),
        refreshed,
    }
}

fn set_created(admin: Address) -> IOperatorRegistry::SetCreated {
    IOperatorRegistry::SetCreated {
        sequence: 1,
        setId: 1,
        admin,
        bondToken: TOKEN,
        bond: 9,
        referee: Address::ZERO,
    }
}

#[test]
fn a_refresh_leaves_the_proposal_pending_whoever_its_members_are() {
    let [a, b, c] = [1, 2, 3].map(Address::repeat_byte);
    let created = set_created(a);
    let proposed = IOperatorRegistry::EpochProposed {
        sequence: 2,
        setId: 1,
        epoch: 2,
        threshold: 2,
        operators: vec![a, b, c],
        activeAt: 100,
    };
    let pending_after = |started: IOperatorRegistry::EpochStarted| {
        let facts = [
            fact(1, 0, OPERATORS, &created),
            fact(2, 0, OPERATORS, &proposed),
            fact(3, 0, OPERATORS, &started),
        ];
        last::<OperatorSet>(&changes(&facts)).pending_threshold
    };
    assert_eq!(pending_after(started(2, true, &[a, b])), Some(2));
    assert_eq!(pending_after(started(2, true, &[a, b, c])), Some(2));
    // The proposal after a refresh, its members in the order of their signers.
    assert_eq!(pending_after(started(3, false, &[c, a, b])), None);
}

#[test]
fn a_sets_administrator_changes_when_its_successor_accepts() {
    let [admin, successor] = [1, 2].map(Address::repeat_byte);
    let named = |sequence, admin| IOperatorRegistry::SetAdminProposed {
        sequence,
        setId: 1,
        pendingAdmin: admin,
    };
    let mut facts = vec![
        fact(1, 0, OPERATORS, &set_created(admin)),
        fact(2, 0, OPERATORS, &named(2, successor)),
    ];
    let seen = |facts: &[Fact]| {
        let set = last::<OperatorSet>(&changes(facts));
        (set.admin.0, set.pending_admin.map(|account| account.0))
    };
    assert_eq!(seen(&facts), (admin, Some(successor)));
    let taken_back =
        [facts.clone(), vec![fact(3, 0, OPERATORS, &named(3, Address::ZERO))]].concat();
    assert_eq!(seen(&taken_back), (admin, None));
    let accepted = IOperatorRegistry::SetAdminChanged { sequence: 3, setId: 1, admin: successor };
    facts.push(fact(3, 0, OPERATORS, &accepted));
    assert_eq!(seen(&facts), (successor, None));
}

#[test]
fn a_conviction_takes_the_bond_and_credits_the_payer_with_its_reward_alone() {
    let [admin, owner, payer] = [1, 2, 3].map(Address::repeat_byte);
    let joined = IOperatorRegistry::Joined { sequence: 2, setId: 1, owner, bond: 9 };
    let slashed = IOperatorRegistry::BondSlashed {
        sequence: 3,
        setId: 1,
        owner,
        requestId: B256::repeat_byte(7),
        signer: Address::repeat_byte(4),
        amount: 9,
        beneficiary: payer,
        reward: 4,
    };
    let unbonding =
        IOperatorRegistry::UnbondingStarted { sequence: 3, setId: 1, owner, releaseAt: 100 };
    let mut facts = vec![
        fact(1, 0, OPERATORS, &set_created(admin)),
        fact(2, 0, OPERATORS, &joined),
        fact(4, 0, OPERATORS, &slashed),
    ];
    let changes_of_conviction = changes(&facts);
    let bond = last::<Bond>(&changes_of_conviction);
    assert_eq!((bond.amount.0, bond.slashed.0), (U256::ZERO, U256::from(9)));
    assert_eq!(bond.status, BondStatus::Slashed);
    let slash = last::<Slash>(&changes_of_conviction);
    assert_eq!((slash.amount.0, slash.reward.0), (U256::from(9), U256::from(4)));
    assert_eq!(slash.signer.0, Address::repeat_byte(4));
    let credited: BTreeMap<_, _> = changes_of_conviction
        .versions
        .iter()
        .filter_map(|version| BondCredit::from_row(&version.row))
        .map(|credit| (credit.account.0, credit.credited.0))
        .collect();
    let wanted = [(payer, U256::from(4)), (BURN_ADDRESS, U256::from(5))];
    assert_eq!(credited, BTreeMap::from(wanted));
    // What was being released is still due, with nothing left in it.
    facts.insert(2, fact(3, 0, OPERATORS, &unbonding));
    assert_eq!(last::<Bond>(&changes(&facts)).status, BondStatus::Unbonding);
}

#[test]
fn feedback_names_the_request_that_backs_it_and_no_other() {
    let client = Address::repeat_byte(1);
    let backed = |index| IReputationRegistry::FeedbackBacked {
        agentId: U256::from(4),
        clientAddress: client,
        feedbackIndex: index,
        requestId: B256::repeat_byte(7),
        amount: 30,
    };
    let given = IReputationRegistry::NewFeedback {
        agentId: U256::from(4),
        clientAddress: client,
        feedbackIndex: 2,
        value: 90,
        valueDecimals: 0,
        indexedTag1: B256::ZERO,
        tag1: String::new(),
        tag2: String::new(),
        endpoint: String::new(),
        feedbackURI: String::new(),
        feedbackHash: B256::ZERO,
    };
    let backing = |facts: &[Fact]| {
        let feedback = last::<Feedback>(&changes(facts));
        feedback.backed_request.map(|request| (request.0, feedback.backed_amount.unwrap().0))
    };
    let given_at = |block, index| fact(block, index, REPUTATION, &given);
    let named = Some((B256::repeat_byte(7), U256::from(30)));
    assert_eq!(backing(&[fact(1, 0, REPUTATION, &backed(2)), given_at(1, 1)]), named);
    assert_eq!(backing(&[fact(1, 0, REPUTATION, &backed(1)), given_at(1, 1)]), None);
    assert_eq!(backing(&[fact(1, 0, AGENTS, &backed(2)), given_at(1, 1)]), None);
    assert_eq!(backing(&[fact(1, 0, REPUTATION, &backed(2)), given_at(2, 0)]), None);
}

#[test]
fn an_event_about_nothing_known_is_set_aside_and_the_rest_goes_on() {
    let moved = IAgentRegistry::URIUpdated {
        agentId: U256::from(5),
        newURI: String::new(),
        updatedBy: Address::ZERO,
    };
    let facts = [fact(1, 0, AGENTS, &moved), fact(1, 1, AGENTS, &registered(6, "x"))];
    let changes = changes(&facts);
    assert!(last::<other::UndecodableLog>(&changes).reason.contains("never registered"));
    assert_eq!(last::<Agent>(&changes).agent_id.0, U256::from(6));
}

/// Words as they stand in an event's data: mostly small numbers and offsets, so that much of it can be read.
fn words(most: usize) -> impl Strategy<Value = Vec<[u8; 32]>> {
    let word = prop_oneof![
        4 => (0u64..4).prop_map(|number| U256::from(number).to_be_bytes()),
        4 => (0u64..20).prop_map(|offset| U256::from(32 * offset).to_be_bytes()),
        1 => Just(U256::MAX.to_be_bytes()),
        2 => any::<[u8; 32]>(),
    ];
    prop::collection::vec(word, 0..most)
}

proptest! {
    #[test]
    fn no_log_of_any_contract_panics(
        logs in prop::collection::vec((any::<prop::sample::Index>(), words(3), words(40), 0usize..32), 1..4),
    ) {
        let events = known_events();
        let (role, _) = logs[0].0.get(&events);
        let watch = WatchList::from_roles(BTreeMap::from([(AGENTS, *role)]));
        let facts: Vec<Fact> = (0u32..).zip(&logs).map(|(index, (event, topics, data, cut))| {
            let mut fact = fact(1, index, AGENTS, &registered(0, ""));
            let topics = topics.iter().copied().map(B256::from);
            fact.topics = [event.get(&events).1].into_iter().chain(topics).collect();
            let data = data.concat();
            fact.data = Bytes::copy_from_slice(&data[..data.len().saturating_sub(*cut)]);
            fact
        }).collect();
        for version in changes_in(&watch, &facts).versions {
            let json = serde_json::to_string(&version.row).unwrap();
            prop_assert_eq!(Row::from_json(version.key.0, &json).unwrap(), version.row);
        }
    }

    #[test]
    fn no_data_panics(
        topics in prop::collection::vec(any::<[u8; 32]>(), 0..4),
        data in prop::collection::vec(any::<u8>(), 0..400),
        known in 0usize..2,
    ) {
        let mut fact = fact(1, 0, AGENTS, &registered(0, ""));
        let signature = [IAgentRegistry::Registered::SIGNATURE_HASH, IERC721::Transfer::SIGNATURE_HASH][known];
        fact.topics = [signature].into_iter().chain(topics.into_iter().map(B256::from)).take(4).collect();
        fact.data = data.into();
        let _ = changes(&[fact]);
    }

    #[test]
    fn a_row_survives_json(id in any::<[u8; 32]>(), uri in ".*", wallet in any::<Option<[u8; 20]>>()) {
        let agent = Agent {
            agent_id: U256::from_be_bytes(id).into(),
            registry: AGENTS.into(),
            owner: AGENTS.into(),
            agent_uri: uri,
            wallet: wallet.map(|wallet| Address::from(wallet).into()),
            registered_block: 1,
            registered_block_hash: B256::ZERO.into(),
            registered_at: 2,
            registered_tx: B256::ZERO.into(),
            updated_at: 3,
        };
        let row = Row::from(agent);
        let json = serde_json::to_string(&row).unwrap();
        prop_assert_eq!(Row::from_json(Kind::Agent, &json).unwrap(), row);
    }
}
