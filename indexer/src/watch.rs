//! Which logs of a chain matter: the watched contracts and what each of them is.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bloom, BloomInput};
use alloy::sol;
use alloy::sol_types::SolEvent;
use auspex_protocol::bindings::{IERC20, IPlatformToken};
use auspex_protocol::deployment::Deployment;

sol! {
    interface Ownable {
        event OwnershipTransferred(address indexed previousOwner, address indexed newOwner);
        event OwnershipTransferStarted(address indexed previousOwner, address indexed newOwner);
    }
}

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
}

impl Role {
    /// True for contracts whose every event carries a sequence number as its first data word.
    pub fn is_sequenced(self) -> bool {
        match self {
            Self::OperatorRegistry | Self::EntryPolicy | Self::RequestEscrow => true,
            Self::AgentRegistry
            | Self::ReputationRegistry
            | Self::ValidationRegistry
            | Self::Token => false,
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
            | Self::ValidationRegistry => &[],
        }
    }
}

/// The watched contracts of one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchList {
    roles: BTreeMap<Address, Role>,
    /// What a block's bloom holds when the block holds a log that is kept, one per contract and kept event.
    inputs: Vec<Bloom>,
}

impl WatchList {
    /// Watches a deployment's contracts and the given further tokens.
    pub fn new(deployment: &Deployment, tokens: &[Address]) -> Self {
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
        Self::from_roles(roles)
    }

    /// Watches exactly these contracts.
    pub fn from_roles(roles: BTreeMap<Address, Role>) -> Self {
        let inputs =
            roles.iter().flat_map(|(address, role)| bloom_inputs(*address, *role)).collect();
        Self { roles, inputs }
    }

    pub fn role(&self, address: Address) -> Option<Role> {
        self.roles.get(&address).copied()
    }

    /// True when a log with this address and first topic is kept.
    pub fn keeps(&self, address: Address, topic0: Option<&B256>) -> bool {
        let Some(role) = self.role(address) else { return false };
        let topics = role.topics();
        topics.is_empty() || topic0.is_some_and(|topic| topics.contains(topic))
    }

    pub fn addresses(&self) -> impl Iterator<Item = Address> {
        self.roles.keys().copied()
    }

    /// The contracts whose events carry a sequence number.
    pub fn sequenced(&self) -> impl Iterator<Item = Address> {
        self.roles.iter().filter(|(_, role)| role.is_sequenced()).map(|(address, _)| *address)
    }

    /// Whether a block with this bloom may hold a log that is kept. A bloom never denies what is there.
    pub fn may_be_in(&self, bloom: &Bloom) -> bool {
        self.inputs.iter().any(|input| bloom.contains(input))
    }
}

fn bloom_inputs(address: Address, role: Role) -> Vec<Bloom> {
    let mut of_address = Bloom::ZERO;
    of_address.accrue(BloomInput::Raw(address.as_slice()));
    if role.topics().is_empty() {
        return vec![of_address];
    }
    let with_topic = |topic: &B256| {
        let mut bloom = of_address;
        bloom.accrue(BloomInput::Raw(topic.as_slice()));
        bloom
    };
    role.topics().iter().map(with_topic).collect()
}
