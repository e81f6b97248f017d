//! What happens on a branch, and what must be true after it: the independent model. It computes credits and statuses on its
//! own, from what it made happen, and never looks at the indexer's code.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, Bytes, LogData, U256, keccak256};
use alloy::sol;
use alloy::sol_types::{SolEvent, SolValue};
use auspex_protocol::bindings::IRequestEscrow::{
    Delivered, Offer, OfferPublished, OfferRetired, Outcome, Refunded, Request, Requested,
    Result as SignedResult, Settled, Split, Withdrawn,
};
use auspex_protocol::bindings::{IAgentRegistry, IERC20, IERC721, IPlatformToken};
use rand::Rng;
use rand::rngs::StdRng;

pub(super) const AGENTS: Address = Address::repeat_byte(0xa0);
pub(super) const OPERATORS: Address = Address::repeat_byte(0xa1);
pub(super) const POLICY: Address = Address::repeat_byte(0xa2);
pub(super) const ESCROW: Address = Address::repeat_byte(0xa3);
pub(super) const TOKEN: Address = Address::repeat_byte(0xa4);
pub(super) const FACTORY: Address = Address::repeat_byte(0xa5);
const STRANGER: Address = Address::repeat_byte(0xee);

sol! {
    /// Tells of a contract that the factory created.
    event Created(address indexed child, uint256 number);
    /// What such a contract says, and others too.
    event Noted(uint256 number);
}

/// The contracts' state on one branch.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Story {
    sequence: u64,
    salt: u64,
    /// Agent id to owner and URI.
    pub(super) agents: BTreeMap<u64, (Address, String)>,
    pub(super) offers: BTreeMap<B256, bool>,
    offer_terms: Vec<(B256, Offer, Split)>,
    pub(super) requests: BTreeMap<B256, (&'static str, u128)>,
    /// Who pays for a request, and who is paid.
    parties: BTreeMap<B256, (Address, Split)>,
    open: Vec<B256>,
    pub(super) split_totals: BTreeMap<B256, U256>,
    /// Account to what was credited and what was withdrawn, all of one token.
    pub(super) credits: BTreeMap<Address, (U256, U256)>,
    pub(super) payments: u64,
    /// What the factory created.
    pub(super) children: BTreeSet<Address>,
}

/// A log before it has a place.
pub(super) type Draft = (Address, LogData);

impl Story {
    /// Lets one transaction happen; returns its logs.
    pub(super) fn transaction(&mut self, rng: &mut StdRng) -> Vec<Draft> {
        self.salt += 1;
        let mut logs = match rng.random_range(0..11) {
            0 => self.register(),
            1 => self.change_agent(rng),
            2 => self.publish(rng),
            3..=4 => self.request(rng),
            5 => self.deliver(rng),
            6 => self.refund(rng),
            7 => self.withdraw(rng),
            8 => self.pay(rng),
            9 => self.create_or_note(rng),
            _ => Vec::new(),
        };
        // Logs of contracts that nobody watches lie between those that matter.
        if rng.random_bool(0.5) {
            let noise =
                LogData::new_unchecked(vec![B256::from(rng.random::<[u8; 32]>())], Bytes::new());
            logs.insert(rng.random_range(0..=logs.len()), (STRANGER, noise));
        }
        logs
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn register(&mut self) -> Vec<Draft> {
        let id = self.agents.len() as u64;
        let owner = account(self.salt % 5);
        let uri = format!("data:,{}", self.salt);
        self.agents.insert(id, (owner, uri.clone()));
        let agent = U256::from(id);
        vec![
            (
                AGENTS,
                IERC721::Transfer { from: Address::ZERO, to: owner, tokenId: agent }
                    .encode_log_data(),
            ),
            (
                AGENTS,
                IAgentRegistry::Registered { agentId: agent, agentURI: uri, owner }
                    .encode_log_data(),
            ),
        ]
    }

    fn change_agent(&mut self, rng: &mut StdRng) -> Vec<Draft> {
        if self.agents.is_empty() {
            return Vec::new();
        }
        let id = rng.random_range(0..self.agents.len() as u64);
        let Some((owner, uri)) = self.agents.get_mut(&id) else { return Vec::new() };
        let agent = U256::from(id);
        if rng.random_bool(0.5) {
            let from = std::mem::replace(owner, account(rng.random_range(0..5)));
            return vec![(
                AGENTS,
                IERC721::Transfer { from, to: *owner, tokenId: agent }.encode_log_data(),
            )];
        }
        *uri = format!("data:,{}", self.salt);
        let event =
            IAgentRegistry::URIUpdated { agentId: agent, newURI: uri.clone(), updatedBy: *owner };
        vec![(AGENTS, event.encode_log_data())]
    }

    fn publish(&mut self, rng: &mut StdRng) -> Vec<Draft> {
        if let Some((hash, offer, _)) = self.offer_terms.first().cloned()
            && rng.random_bool(0.3)
            && self.offers.insert(hash, false) == Some(true)
        {
            self.offer_terms.remove(0);
            let sequence = self.next_sequence();
            let event = OfferRetired { sequence, offerHash: hash, agentId: offer.agentId };
            return vec![(ESCROW, event.encode_log_data())];
        }
        let count = rng.random_range(1..4u64);
        let allocations: Vec<U256> =
            (0..count).map(|_| U256::from(rng.random_range(1..100u64))).collect();
        let split = Split {
            recipients: (0..count).map(account).collect(),
            totalAllocation: allocations.iter().sum(),
            allocations,
            distributionIncentive: 0,
        };
        let offer = Offer {
            agentId: U256::from(self.salt),
            token: TOKEN,
            price: rng.random_range(1..1_000_000),
            splitHash: keccak256(split.abi_encode()),
            ..Default::default()
        };
        let hash = keccak256(offer.abi_encode());
        self.offers.insert(hash, true);
        self.offer_terms.push((hash, offer.clone(), split.clone()));
        let sequence = self.next_sequence();
        let event =
            OfferPublished { sequence, offerHash: hash, agentId: offer.agentId, offer, split };
        vec![(ESCROW, event.encode_log_data())]
    }

    fn request(&mut self, rng: &mut StdRng) -> Vec<Draft> {
        if self.offer_terms.is_empty() {
            return self.publish(rng);
        }
        let index = rng.random_range(0..self.offer_terms.len());
        let (hash, offer, split) = self.offer_terms[index].clone();
        let terms = Request {
            payer: account(rng.random_range(5..8)),
            agentId: offer.agentId,
            offerHash: hash,
            splitHash: offer.splitHash,
            token: TOKEN,
            maxAmount: offer.price,
            feeRecipient: account(9),
            salt: B256::from(U256::from(self.salt)),
            ..Default::default()
        };
        let id = keccak256(terms.abi_encode());
        self.requests.insert(id, ("funded", offer.price));
        self.open.push(id);
        self.parties.insert(id, (terms.payer, split));
        let sequence = self.next_sequence();
        let (agent, payer) = (terms.agentId, terms.payer);
        let event = Requested {
            sequence,
            requestId: id,
            agentId: agent,
            payer,
            request: terms,
            input: Bytes::from(vec![1, 2, 3]),
        };
        vec![(ESCROW, event.encode_log_data())]
    }

    fn deliver(&mut self, rng: &mut StdRng) -> Vec<Draft> {
        let Some((id, price, payer, split)) = self.take_open(rng) else { return self.request(rng) };
        let amount = rng.random_range(0..=price);
        let fee = amount / 40;
        let outcome = if amount == 0 { Outcome::Declined } else { Outcome::Answered };
        let split_hash = keccak256(split.abi_encode());
        let before = self.split_totals.get(&split_hash).copied().unwrap_or_default();
        let after = before + U256::from(amount - fee);
        if before != after {
            self.split_totals.insert(split_hash, after);
        }
        for (account, allocation) in split.recipients.iter().zip(&split.allocations) {
            let share = |total: U256| total * allocation / split.totalAllocation;
            if amount != fee {
                self.credits.entry(*account).or_default().0 += share(after) - share(before);
            }
        }
        if 0 < fee {
            self.credits.entry(account(9)).or_default().0 += U256::from(fee);
        }
        if amount < price {
            self.credits.entry(payer).or_default().0 += U256::from(price - amount);
        }
        self.requests.insert(id, ("settled", price));
        let result = SignedResult {
            requestId: id,
            outcome,
            outputHash: keccak256(id),
            traceRoot: B256::ZERO,
            retrievalRoot: B256::ZERO,
            modelHash: B256::ZERO,
            amount,
            validUntil: u64::MAX,
        };
        let delivered = Delivered {
            sequence: self.next_sequence(),
            requestId: id,
            transmitter: account(3),
            result,
            signers: vec![account(4)],
        };
        let settled = Settled {
            sequence: self.next_sequence(),
            requestId: id,
            splitHash: split_hash,
            token: TOKEN,
            amount,
            fee,
            returned: price - amount,
        };
        vec![(ESCROW, delivered.encode_log_data()), (ESCROW, settled.encode_log_data())]
    }

    fn refund(&mut self, rng: &mut StdRng) -> Vec<Draft> {
        let Some((id, price, payer, _)) = self.take_open(rng) else { return Vec::new() };
        self.requests.insert(id, ("refunded", price));
        self.credits.entry(payer).or_default().0 += U256::from(price);
        let sequence = self.next_sequence();
        let event = Refunded { sequence, requestId: id, payer, token: TOKEN, amount: price };
        vec![(ESCROW, event.encode_log_data())]
    }

    fn withdraw(&mut self, rng: &mut StdRng) -> Vec<Draft> {
        let rich: Vec<Address> = self
            .credits
            .iter()
            .filter(|(_, (credited, withdrawn))| withdrawn < credited)
            .map(|(account, _)| *account)
            .collect();
        if rich.is_empty() {
            return Vec::new();
        }
        let account = rich[rng.random_range(0..rich.len())];
        let sequence = self.next_sequence();
        let Some((credited, withdrawn)) = self.credits.get_mut(&account) else { return Vec::new() };
        let amount = *credited - *withdrawn;
        *withdrawn = *credited;
        let event = Withdrawn { sequence, account, token: TOKEN, amount };
        vec![(ESCROW, event.encode_log_data())]
    }

    /// An x402 payment: an authorization and its transfer; or a transfer alone, which is none.
    fn pay(&mut self, rng: &mut StdRng) -> Vec<Draft> {
        let (from, to, value) = (account(5), account(6), U256::from(rng.random_range(1..1_000u64)));
        let transfer = (TOKEN, IERC20::Transfer { from, to, value }.encode_log_data());
        if rng.random_bool(0.5) {
            return vec![transfer];
        }
        self.payments += 1;
        let nonce = B256::from(U256::from(self.salt));
        let used = IPlatformToken::AuthorizationUsed { authorizer: from, nonce };
        vec![(TOKEN, used.encode_log_data()), transfer]
    }

    /// One of a few contracts says something, before or after the factory created it; or it is created, and says something
    /// before its factory does.
    fn create_or_note(&mut self, rng: &mut StdRng) -> Vec<Draft> {
        let child = account(rng.random_range(100..108));
        let number = U256::from(self.salt);
        let mut logs = vec![(child, Noted { number }.encode_log_data())];
        if rng.random_bool(0.2) {
            self.children.insert(child);
            logs.push((FACTORY, Created { child, number }.encode_log_data()));
        }
        logs
    }

    fn take_open(&mut self, rng: &mut StdRng) -> Option<(B256, u128, Address, Split)> {
        if self.open.is_empty() {
            return None;
        }
        let id = self.open.remove(rng.random_range(0..self.open.len()));
        let (_, price) = *self.requests.get(&id)?;
        let (payer, split) = self.parties.get(&id).cloned()?;
        Some((id, price, payer, split))
    }
}

fn account(number: u64) -> Address {
    Address::left_padding_from(&(number + 1).to_be_bytes())
}
