//! Which logs of a chain matter: the watched contracts and what each of them is.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, Bloom, BloomInput};
use alloy::sol;
use alloy::sol_types::SolEvent;
use auspex_protocol::bindings::{IERC20, IPlatformToken};
use auspex_protocol::deployment::Deployment;

use crate::contract::{Factory, FollowedContract, Place, anywhere};
use crate::source::LogFilter;

sol! {
    interface Ownable {
        event OwnershipTransferred(address indexed previousOwner, address indexed newOwner);
        event OwnershipTransferStarted(address indexed previousOwner, address indexed newOwner);
    }
}

/// Topics of a block that are remembered: more would cost more to compare than to hash.
const ACCEPTED_TOPICS_MAX: usize = 16;

/// What a watched contract is, hence how its logs are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    AgentRegistry,
    OperatorRegistry,
    EntryPolicy,
    RequestEscrow,
    ReputationRegistry,
    ValidationRegistry,
    /// An ERC-20 token whose transfers and EIP-3009 authorizations are kept.
    Token,
    /// A contract that the configuration names, of which only the named events are kept.
    Followed,
}

impl Role {
    /// True for contracts whose every event carries a sequence number as its first data word.
    pub fn is_sequenced(self) -> bool {
        match self {
            Self::OperatorRegistry | Self::EntryPolicy | Self::RequestEscrow => true,
            Self::AgentRegistry
            | Self::ReputationRegistry
            | Self::ValidationRegistry
            | Self::Token
            | Self::Followed => false,
        }
    }

    /// True for an event that has to carry a sequence number. What a contract inherits from OpenZeppelin's `Ownable` has none,
    /// so an omission of a change of ownership is not seen by its number.
    pub fn numbers(self, topic0: Option<&B256>) -> bool {
        const UNNUMBERED: [B256; 2] = [
            Ownable::OwnershipTransferred::SIGNATURE_HASH,
            Ownable::OwnershipTransferStarted::SIGNATURE_HASH,
        ];
        self.is_sequenced() && topic0.is_none_or(|topic| !UNNUMBERED.contains(topic))
    }

    /// The event signatures that are kept of such a contract; all of them when none are named.
    fn topics(self) -> &'static [B256] {
        const TOKEN: &[B256] =
            &[IERC20::Transfer::SIGNATURE_HASH, IPlatformToken::AuthorizationUsed::SIGNATURE_HASH];
        match self {
            Self::Token => TOKEN,
            Self::AgentRegistry
            | Self::OperatorRegistry
            | Self::EntryPolicy
            | Self::RequestEscrow
            | Self::ReputationRegistry
            | Self::ValidationRegistry
            | Self::Followed => &[],
        }
    }
}

/// The watched contracts of one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchList {
    roles: BTreeMap<Address, Role>,
    /// The event signatures that are kept of each contract; all of them where none are named.
    kept: BTreeMap<Address, Vec<B256>>,
    /// What each address adds to a bloom, and what each kept event signature does.
    addresses: BTreeMap<Address, Bloom>,
    signatures: BTreeMap<B256, Bloom>,
    /// What a block's bloom holds when the block holds a log that is kept, one per contract and kept event.
    inputs: Vec<Bloom>,
    /// Contracts that create others, of which some events are kept.
    factories: Vec<Factory>,
    /// The events that are read from every contract, because one that a factory creates may have emitted them.
    anywhere: BTreeSet<B256>,
    filter: LogFilter,
}

impl WatchList {
    /// Watches a deployment's contracts, further tokens, and what the configuration names.
    pub fn new(
        deployment: &Deployment,
        tokens: &[Address],
        contracts: &[FollowedContract],
    ) -> Self {
        let mut roles = BTreeMap::new();
        for token in tokens.iter().copied().chain(deployment.platform_token) {
            roles.insert(token, Role::Token);
        }
        roles.insert(deployment.agent_registry, Role::AgentRegistry);
        roles.insert(deployment.operator_registry, Role::OperatorRegistry);
        roles.insert(deployment.entry_policy, Role::EntryPolicy);
        roles.insert(deployment.request_escrow, Role::RequestEscrow);
        if let Some(registry) = deployment.reputation_registry {
            roles.insert(registry, Role::ReputationRegistry);
        }
        if let Some(registry) = deployment.validation_registry {
            roles.insert(registry, Role::ValidationRegistry);
        }
        Self::build(roles, contracts)
    }

    /// Watches exactly these contracts.
    pub fn from_roles(roles: BTreeMap<Address, Role>) -> Self {
        Self::build(roles, &[])
    }

    fn build(roles: BTreeMap<Address, Role>, contracts: &[FollowedContract]) -> Self {
        let mut factories = Vec::new();
        let mut named = Vec::new();
        for contract in contracts {
            match &contract.place {
                Place::At(address) => {
                    named.push((
                        *address,
                        contract.events.iter().map(|event| event.topic0).collect(),
                    ));
                }
                Place::CreatedBy(factory) => factories.push(factory.clone()),
            }
        }
        Self::with_factories(roles, named, factories)
    }

    /// Watches contracts by their roles, events of further contracts, and what factories create.
    pub fn with_factories(
        mut roles: BTreeMap<Address, Role>,
        mut named: Vec<(Address, Vec<B256>)>,
        factories: Vec<Factory>,
    ) -> Self {
        named.extend(factories.iter().map(|factory| (factory.address, vec![factory.creation])));
        let mut kept: BTreeMap<Address, Vec<B256>> =
            roles.iter().map(|(address, role)| (*address, role.topics().to_vec())).collect();
        for (address, events) in named {
            // Of a contract that has a role the configuration can only add; where all is kept there is nothing to add.
            let is_new = !roles.contains_key(&address);
            roles.entry(address).or_insert(Role::Followed);
            let topics = kept.entry(address).or_default();
            if is_new || !topics.is_empty() {
                topics.extend(events);
            }
        }
        let anywhere = anywhere(&factories);
        let inputs = kept.iter().flat_map(|(address, topics)| bloom_inputs(*address, topics));
        let inputs = inputs.chain(anywhere.iter().map(|topic| bloom_of(topic.as_slice())));
        let inputs = inputs.collect();
        let filter = LogFilter {
            addresses: roles.keys().copied().collect(),
            anywhere: anywhere.iter().copied().collect(),
        };
        let addresses = roles.keys().map(|address| (*address, bloom_of(address.as_slice())));
        let addresses = addresses.collect();
        let topics = kept.values().flatten().chain(&anywhere);
        let signatures = topics.map(|topic| (*topic, bloom_of(topic.as_slice()))).collect();
        Self { roles, kept, addresses, signatures, inputs, factories, anywhere, filter }
    }

    pub fn role(&self, address: Address) -> Option<Role> {
        self.roles.get(&address).copied()
    }

    /// True when a log with this address and first topic is read: it is kept, or will be if a factory created its contract.
    pub fn keeps(&self, address: Address, topic0: Option<&B256>) -> bool {
        topic0.is_some_and(|topic| self.anywhere.contains(topic)) || self.names(address, topic0)
    }

    /// True when a log with this address and first topic is kept whatever factories create.
    pub fn names(&self, address: Address, topic0: Option<&B256>) -> bool {
        let Some(topics) = self.kept.get(&address) else { return false };
        topics.is_empty() || topic0.is_some_and(|topic| topics.contains(topic))
    }

    /// The logs that endpoints are asked for.
    pub fn filter(&self) -> &LogFilter {
        &self.filter
    }

    pub fn factories(&self) -> &[Factory] {
        &self.factories
    }

    /// The contracts whose events carry a sequence number.
    pub fn sequenced(&self) -> impl Iterator<Item = Address> {
        self.roles.iter().filter(|(_, role)| role.is_sequenced()).map(|(address, _)| *address)
    }

    /// The contracts of whose events projections are made.
    pub fn projected(&self) -> impl Iterator<Item = Address> {
        self.roles.iter().filter(|(_, role)| **role != Role::Followed).map(|(address, _)| *address)
    }

    /// Whether a bloom accepts a log. What the watch list knows is not hashed again, nor are the topics in `accepted`, which
    /// this bloom has accepted before: the events of a block are often about the same things.
    pub fn is_accepted(
        &self,
        bloom: &Bloom,
        address: Address,
        topics: &[B256],
        accepted: &mut Vec<B256>,
    ) -> bool {
        let accepts = |known: Option<&Bloom>, bytes: &[u8]| match known {
            Some(input) => bloom.contains(input),
            None => bloom.contains(&bloom_of(bytes)),
        };
        let mut accepts_topic = |topic: &B256| {
            if accepted.contains(topic) {
                return true;
            }
            let accepts = accepts(self.signatures.get(topic), topic.as_slice());
            if accepts && accepted.len() < ACCEPTED_TOPICS_MAX {
                accepted.push(*topic);
            }
            accepts
        };
        accepts(self.addresses.get(&address), address.as_slice())
            && topics.iter().all(&mut accepts_topic)
    }

    /// Whether a block with this bloom may hold a log that is kept. A bloom never denies what is there.
    pub fn may_be_in(&self, bloom: &Bloom) -> bool {
        self.inputs.iter().any(|input| bloom.contains(input))
    }
}

fn bloom_inputs(address: Address, topics: &[B256]) -> Vec<Bloom> {
    let of_address = bloom_of(address.as_slice());
    if topics.is_empty() {
        return vec![of_address];
    }
    topics.iter().map(|topic| of_address | bloom_of(topic.as_slice())).collect()
}

fn bloom_of(bytes: &[u8]) -> Bloom {
    let mut bloom = Bloom::ZERO;
    bloom.accrue(BloomInput::Raw(bytes));
    bloom
}
