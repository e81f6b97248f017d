//! A chain small enough to be copied block by block, so that a reorg is a truncation.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{B256, U256};
use auspex_oracle::job::plan::Presence;
use auspex_oracle::transaction::fee::{Fees, Market};
use auspex_oracle::transaction::plan::{ChainView, Inclusion};
use rand::Rng;
use rand::rngs::SmallRng;

use super::{Faults, OPERATORS};

const GWEI: u128 = 1_000_000_000;
const CALM_FEE: u128 = GWEI;
pub(crate) const DELIVERY_GAS: u64 = 300_000;
/// Gas that a batch is given per delivery.
pub(crate) const BATCHED_GAS: u64 = 270_000;

/// A transaction on the network.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) hash: B256,
    pub(crate) sender: usize,
    pub(crate) nonce: u64,
    pub(crate) fees: Fees,
    pub(crate) gas_limit: u64,
    /// The requests that it delivers; none for a transfer of nothing.
    pub(crate) delivers: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Block {
    hash: B256,
    time: u64,
    base_fee: u128,
    presence: Vec<Presence>,
    delivered: Vec<u8>,
    nonces: [u64; OPERATORS],
    balances: [u128; OPERATORS],
    paid: [u128; OPERATORS],
    mined: BTreeMap<B256, (usize, Inclusion)>,
}

#[derive(Debug)]
struct Request {
    arrives: u64,
    deadline: u64,
    /// Its payer's transaction is on the network.
    wanted: bool,
}

#[derive(Debug)]
pub(crate) struct Chain {
    blocks: Vec<Block>,
    safe: usize,
    safe_lag: usize,
    pool: BTreeMap<B256, Sent>,
    requests: Vec<Request>,
    hashes: u64,
    calm: bool,
    /// What reorgs have ever taken out: the evidence that a rollback needs.
    removed_requests: BTreeSet<u32>,
    removed_transactions: BTreeSet<B256>,
}

impl Chain {
    pub(crate) fn new(rng: &mut SmallRng) -> Self {
        let count = rng.random_range(1..6);
        let requests: Vec<Request> = (0..count)
            .map(|_| Request {
                arrives: rng.random_range(0..super::CHAOS_TICKS / 2),
                deadline: 1_000 + rng.random_range(40..500),
                wanted: false,
            })
            .collect();
        let genesis = Block {
            hash: B256::ZERO,
            time: 1_000,
            base_fee: CALM_FEE,
            presence: vec![Presence::Absent; requests.len()],
            delivered: vec![0; requests.len()],
            nonces: [0; OPERATORS],
            balances: [1_000_000_000 * GWEI; OPERATORS],
            paid: [0; OPERATORS],
            mined: BTreeMap::new(),
        };
        Self {
            blocks: vec![genesis],
            safe: 0,
            safe_lag: rng.random_range(3..10),
            pool: BTreeMap::new(),
            requests,
            hashes: 0,
            calm: false,
            removed_requests: BTreeSet::new(),
            removed_transactions: BTreeSet::new(),
        }
    }

    pub(crate) fn arrivals(&mut self, tick: u64, _rng: &mut SmallRng) {
        for request in &mut self.requests {
            request.wanted |= request.arrives == tick;
        }
    }

    pub(crate) fn mine(&mut self, faults: &Faults, rng: &mut SmallRng) {
        let mut block = self.head().clone();
        self.hashes += 1;
        block.hash = B256::from(U256::from(self.hashes));
        block.time += 2;
        block.base_fee = match (self.calm, rng.random_bool(faults.spike)) {
            (true, _) => CALM_FEE,
            (false, true) => block.base_fee * rng.random_range(2..12),
            (false, false) => (block.base_fee * 4 / 5).max(CALM_FEE / 4),
        };
        let number = self.blocks.len() as u64;
        for (index, request) in self.requests.iter().enumerate() {
            if request.wanted
                && block.presence[index] == Presence::Absent
                && block.time + 20 < request.deadline
            {
                block.presence[index] = Presence::Funded;
            }
        }
        for sender in 0..OPERATORS {
            while let Some(sent) = self.best(&block, sender) {
                if !self.calm && rng.random_bool(0.2) {
                    break;
                }
                execute(&mut block, &sent, number, &self.requests);
            }
        }
        for (index, request) in self.requests.iter().enumerate() {
            if block.presence[index] == Presence::Funded
                && request.deadline <= block.time
                && rng.random_bool(0.3)
            {
                block.presence[index] = Presence::Refunded;
            }
        }
        self.blocks.push(block);
        self.safe = self.safe.max((self.blocks.len() - 1).saturating_sub(self.safe_lag));
    }

    fn best(&self, block: &Block, sender: usize) -> Option<Sent> {
        self.pool
            .values()
            .filter(|sent| sent.sender == sender && sent.nonce == block.nonces[sender])
            .filter(|sent| block.base_fee <= sent.fees.max_fee)
            .filter(|sent| sent.fees.worst_cost(sent.gas_limit) <= block.balances[sender])
            .max_by_key(|sent| sent.fees)
            .cloned()
    }

    pub(crate) fn reorg(&mut self, rng: &mut SmallRng) {
        let deepest = self.blocks.len() - 1 - self.safe;
        if deepest == 0 {
            return;
        }
        let depth = rng.random_range(1..=deepest);
        let (before, mined) = (self.head().presence.clone(), self.head().mined.clone());
        self.blocks.truncate(self.blocks.len() - depth);
        // A payer whose request went may have spent the money elsewhere; it may also come back.
        let head = self.head().clone();
        self.removed_transactions
            .extend(mined.into_keys().filter(|hash| !head.mined.contains_key(hash)));
        for (index, request) in self.requests.iter_mut().enumerate() {
            if head.presence[index] == Presence::Absent && before[index] != Presence::Absent {
                self.removed_requests.insert(u32::try_from(index).expect("few requests"));
            }
            if head.presence[index] == Presence::Absent && rng.random_bool(0.2) {
                request.wanted = false;
            }
        }
        self.lose(0.5, rng);
    }

    /// The network forgets transactions.
    pub(crate) fn lose(&mut self, share: f64, rng: &mut SmallRng) {
        self.pool.retain(|_, _| !rng.random_bool(share));
    }

    pub(crate) fn empty(&mut self, operator: usize) {
        let last = self.blocks.len() - 1;
        self.blocks[last].balances[operator] = 0;
    }

    pub(crate) fn heal(&mut self) {
        self.calm = true;
        let last = self.blocks.len() - 1;
        self.blocks[last].balances = [1_000_000_000 * GWEI; OPERATORS];
    }

    /// An endpoint takes a transaction by its own rules.
    pub(crate) fn send(&mut self, sent: Sent) {
        let nonce_used = sent.nonce < self.head().nonces[sent.sender];
        let underpriced = self.pool.values().any(|other| {
            other.sender == sent.sender
                && other.nonce == sent.nonce
                && other.hash != sent.hash
                && sent.fees.max_fee * 100 < other.fees.max_fee * 110
        });
        if nonce_used || underpriced {
            return;
        }
        self.pool.retain(|_, other| other.sender != sent.sender || other.nonce != sent.nonce);
        self.pool.insert(sent.hash, sent);
    }

    /// The number of the block that an endpoint takes for the latest.
    pub(crate) fn seen_head(&self, faults: &Faults, rng: &mut SmallRng) -> usize {
        let last = self.blocks.len() - 1;
        if !rng.random_bool(faults.lag) {
            return last;
        }
        last.saturating_sub(rng.random_range(0..3)).max(self.safe)
    }

    pub(crate) fn length(&self) -> usize {
        self.blocks.len()
    }

    pub(crate) fn presence_at(&self, block: usize, request: u32) -> Presence {
        self.blocks[block].presence[request as usize]
    }

    pub(crate) fn time_at(&self, block: usize) -> u64 {
        self.blocks[block].time
    }

    pub(crate) fn account_at(&self, block: usize, operator: usize) -> ChainView {
        let (latest, safe) = (&self.blocks[block], &self.blocks[self.safe]);
        ChainView {
            latest_nonce: latest.nonces[operator],
            safe_nonce: safe.nonces[operator],
            safe_block: self.safe as u64,
            market: Market { base_fee: latest.base_fee, priority: GWEI / 1000 },
            balance: latest.balances[operator],
        }
    }

    pub(crate) fn inclusion_at(&self, block: usize, hash: B256) -> Option<Inclusion> {
        self.blocks[block].mined.get(&hash).map(|(_, inclusion)| *inclusion)
    }

    pub(crate) fn hash_at(&self, block: usize) -> B256 {
        self.blocks[block].hash
    }

    pub(crate) fn was_removed(&self, request: u32) -> bool {
        self.removed_requests.contains(&request)
    }

    pub(crate) fn was_unmined(&self, hash: B256) -> bool {
        self.removed_transactions.contains(&hash)
    }

    pub(crate) fn would_revert(&self, block: usize, request: u32) -> bool {
        let block = &self.blocks[block];
        block.presence[request as usize] != Presence::Funded
            || self.requests[request as usize].deadline <= block.time
    }

    pub(crate) fn safe_presence(&self, request: u32) -> Presence {
        self.blocks[self.safe].presence[request as usize]
    }

    pub(crate) fn presence(&self, request: u32) -> Presence {
        self.head().presence[request as usize]
    }

    pub(crate) fn deliveries_max(&self) -> u8 {
        self.head().delivered.iter().copied().max().unwrap_or(0)
    }

    pub(crate) fn requests(&self) -> u32 {
        u32::try_from(self.requests.len()).expect("few requests")
    }

    pub(crate) fn deadline(&self, request: u32) -> u64 {
        self.requests[request as usize].deadline
    }

    pub(crate) fn time(&self) -> u64 {
        self.head().time
    }

    pub(crate) fn nonce(&self, operator: usize) -> u64 {
        self.head().nonces[operator]
    }

    pub(crate) fn paid(&self, operator: usize) -> u128 {
        self.head().paid[operator]
    }

    pub(crate) fn mined(&self, operator: usize) -> impl Iterator<Item = B256> {
        let mined = self.head().mined.iter();
        mined.filter(move |(_, (sender, _))| *sender == operator).map(|(hash, _)| *hash)
    }

    fn head(&self) -> &Block {
        self.blocks.last().expect("a genesis block")
    }
}

fn execute(block: &mut Block, sent: &Sent, number: u64, requests: &[Request]) {
    let on_time = |index: usize| block.time < requests[index].deadline;
    let open: Vec<usize> = sent
        .delivers
        .iter()
        .map(|request| *request as usize)
        .filter(|index| block.presence[*index] == Presence::Funded)
        .collect();
    // A batch leaves out what is settled; what is gone or overdue reverts all of it.
    let gone = |request: &u32| block.presence[*request as usize] == Presence::Absent;
    let succeeded = match sent.delivers.len() {
        0 => true,
        1 => open.iter().any(|index| on_time(*index)),
        _ => !sent.delivers.iter().any(gone) && open.iter().all(|index| on_time(*index)),
    };
    let gas = match (sent.delivers.len(), succeeded) {
        (0, _) => 21_000,
        (_, false) => 60_000,
        (count, true) => 20_000 + 180_000 * count as u128,
    };
    if succeeded {
        for index in open {
            block.presence[index] = Presence::Delivered;
            block.delivered[index] += 1;
        }
    }
    let price = sent.fees.max_fee.min(block.base_fee + sent.fees.priority);
    let cost = price * gas;
    block.nonces[sent.sender] += 1;
    block.balances[sent.sender] -= cost;
    block.paid[sent.sender] += cost;
    let inclusion = Inclusion {
        hash: sent.hash,
        block_number: number,
        block_hash: block.hash,
        succeeded,
        cost,
    };
    block.mined.insert(sent.hash, (sent.sender, inclusion));
}
