//! The chains that are followed: ERC-20 transfers, and our own contracts' events.

use alloy::primitives::aliases::U40;
use alloy::primitives::{Address, B256, Bytes, U256, address, keccak256};
use alloy::sol_types::{SolEvent, SolValue};
use auspex_devnet::replay::{Branch, Draft};
use auspex_protocol::bindings::IRequestEscrow::{
    Delivered, Offer, OfferPublished, Outcome, Request, Requested, Result as SignedResult, Settled,
    Split,
};
use auspex_protocol::bindings::{IAgentRegistry, IERC20, IERC721};
use auspex_protocol::deployment::Deployment;

pub(crate) const CHAIN_ID: u64 = 8_453;
const TOKEN: Address = address!("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913");
const ESCROW: Address = address!("0x00000000000000000000000000000000000000a3");
const AGENTS: Address = address!("0x00000000000000000000000000000000000000a0");

/// Agents of the chain of our own events; enough to fill a page.
const AGENT_COUNT: u64 = 500;
/// Agents that are registered in each of the first blocks.
const AGENTS_PER_BLOCK: u64 = 10;

pub(crate) fn deployment() -> Deployment {
    Deployment {
        chain_id: CHAIN_ID,
        start_block: 1,
        agent_registry: AGENTS,
        operator_registry: address!("0x00000000000000000000000000000000000000a1"),
        entry_policy: address!("0x00000000000000000000000000000000000000a2"),
        request_escrow: ESCROW,
        platform_token: None,
        reputation_registry: None,
        validation_registry: None,
    }
}

/// The token as a contract that is followed by configuration alone.
pub(crate) fn contract() -> serde_json::Value {
    serde_json::json!({
        "name": "Usdc", "address": TOKEN, "abi": "erc20.json", "events": ["Transfer"], "startBlock": 1,
    })
}

pub(crate) const TOKEN_ABI: &str = r#"[{"type": "event", "name": "Transfer", "anonymous": false, "inputs": [
    {"name": "from", "type": "address", "indexed": true},
    {"name": "to", "type": "address", "indexed": true},
    {"name": "value", "type": "uint256"}]}]"#;

/// All logs of a chain; nothing else is on it.
pub(crate) fn events(branch: &Branch) -> u64 {
    branch.blocks().iter().map(|block| block.log_count() as u64).sum()
}

/// Blocks with one transfer per transaction, between accounts that hardly repeat.
pub(crate) fn transfers(blocks: u64, per_block: u64) -> anyhow::Result<Branch> {
    let mut branch = Branch::genesis()?;
    for number in 1..=blocks {
        let transactions: Vec<Vec<Draft>> =
            (0..per_block).map(|index| vec![transfer(number * per_block + index)]).collect();
        branch.mine(&transactions)?;
    }
    Ok(branch)
}

fn transfer(number: u64) -> Draft {
    let account = |salt: u64| Address::from_word(keccak256((number / 3 + salt).to_be_bytes()));
    let transfer =
        IERC20::Transfer { from: account(0), to: account(1 << 40), value: U256::from(number) };
    (TOKEN, transfer.encode_log_data())
}

/// First agents and one offer, then blocks that each fund two requests, and deliver and settle two earlier ones.
pub(crate) fn own(blocks: u64) -> anyhow::Result<Branch> {
    let mut branch = Branch::genesis()?;
    let mut escrow = Escrow::new();
    let mut registered = 0;
    while registered < AGENT_COUNT {
        let end = AGENT_COUNT.min(registered + AGENTS_PER_BLOCK);
        let transactions: Vec<Vec<Draft>> = (registered..end).map(register).collect();
        branch.mine(&transactions)?;
        registered = end;
    }
    branch.mine(&[vec![escrow.publish()]])?;
    let mut open = Vec::new();
    while branch.head() < blocks {
        let mut transactions = Vec::new();
        for terms in std::mem::take(&mut open) {
            transactions.push(escrow.deliver(&terms));
        }
        for _ in 0..2 {
            let (terms, draft) = escrow.request(branch.head());
            open.push(terms);
            transactions.push(vec![draft]);
        }
        branch.mine(&transactions)?;
    }
    Ok(branch)
}

pub(crate) fn register(id: u64) -> Vec<Draft> {
    let owner = Address::from_word(keccak256(id.to_be_bytes()));
    let agent = U256::from(id);
    let minted = IERC721::Transfer { from: Address::ZERO, to: owner, tokenId: agent };
    let uri = format!("data:application/json,{{\"name\":\"agent {id}\"}}");
    let registered = IAgentRegistry::Registered { agentId: agent, agentURI: uri, owner };
    vec![(AGENTS, minted.encode_log_data()), (AGENTS, registered.encode_log_data())]
}

/// An escrow that says what the true one would.
struct Escrow {
    sequence: u64,
    offer: Offer,
    split: Split,
}

const PRICE: u128 = 1_000_003;

impl Escrow {
    fn new() -> Self {
        let recipients: Vec<Address> = (1..=3).map(Address::with_last_byte).collect();
        let split = Split {
            recipients,
            allocations: vec![U256::from(50), U256::from(30), U256::from(20)],
            totalAllocation: U256::from(100),
            distributionIncentive: 0,
        };
        let offer = Offer {
            token: TOKEN,
            price: PRICE,
            splitHash: keccak256(split.abi_encode()),
            ..Default::default()
        };
        Self { sequence: 0, offer, split }
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn offer_hash(&self) -> B256 {
        keccak256(self.offer.abi_encode())
    }

    fn publish(&mut self) -> Draft {
        let event = OfferPublished {
            sequence: self.next(),
            offerHash: self.offer_hash(),
            agentId: self.offer.agentId,
            offer: self.offer.clone(),
            split: self.split.clone(),
        };
        (ESCROW, event.encode_log_data())
    }

    fn request(&mut self, time: u64) -> (Request, Draft) {
        let sequence = self.next();
        let payer = Address::from_word(keccak256((sequence % 1_000).to_be_bytes()));
        let terms = Request {
            payer,
            offerHash: self.offer_hash(),
            splitHash: self.offer.splitHash,
            token: TOKEN,
            maxAmount: PRICE,
            feeBps: 250,
            feeRecipient: Address::with_last_byte(9),
            deadline: U40::from(time + 600),
            salt: B256::from(U256::from(sequence)),
            ..Default::default()
        };
        let event = Requested {
            sequence,
            requestId: keccak256(terms.abi_encode()),
            agentId: terms.agentId,
            payer,
            request: terms.clone(),
            input: Bytes::from_static(b"How does the indexer follow a reorg?"),
        };
        (terms, (ESCROW, event.encode_log_data()))
    }

    fn deliver(&mut self, terms: &Request) -> Vec<Draft> {
        let id = keccak256(terms.abi_encode());
        let result = SignedResult {
            requestId: id,
            outcome: Outcome::Answered,
            outputHash: keccak256(id),
            traceRoot: B256::ZERO,
            retrievalRoot: B256::ZERO,
            modelHash: B256::ZERO,
            amount: PRICE,
            validUntil: u64::MAX,
        };
        let delivered = Delivered {
            sequence: self.next(),
            requestId: id,
            transmitter: Address::with_last_byte(7),
            result,
            signers: vec![Address::with_last_byte(8)],
        };
        let settled = Settled {
            sequence: self.next(),
            requestId: id,
            splitHash: terms.splitHash,
            token: TOKEN,
            amount: PRICE,
            fee: PRICE * 250 / 10_000,
            returned: 0,
        };
        vec![(ESCROW, delivered.encode_log_data()), (ESCROW, settled.encode_log_data())]
    }
}
