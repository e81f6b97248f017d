//! Nodes that see their own part of the tree, and fail and lie in every way that the field has seen.

use std::sync::{Arc, Mutex, MutexGuard};

use alloy::primitives::{B256, Bytes};
use auspex_indexer::chain::RawLog;
use auspex_indexer::source::{ClaimedHeads, Endpoint, Fault, LogFilter};
use auspex_indexer::verify::ClaimedHeader;
use auspex_indexer::verify::receipts::ClaimedReceipt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::chain::{FINALIZED_LAG, SAFE_LAG, SimBlock, SimChain};

pub(super) const CHAIN_ID: u64 = 31_337;

/// One way to fail or to lie. The comments name the reference table's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vice {
    /// No answer.
    Down,
    RateLimited,
    /// Null for blocks that exist.
    Null,
    /// Each answer may come from a node that is some blocks behind (load balancer).
    Stale,
    /// Some logs of a block are left out under its true hash.
    OmitSome,
    /// All logs are left out.
    OmitAll,
    /// The answer ends early without a word.
    Truncate,
    Duplicate,
    Shuffle,
    /// A log of a cancelled branch, marked so.
    Removed,
    /// Logs carry another block's hash.
    ForeignHash,
    /// A log that never was.
    Invent,
    /// A log's data is changed.
    Alter,
    /// The header is not what hashes to its hash.
    ForgeHeader,
    /// Log indexes of receipts are shifted.
    Renumber,
    OtherChain,
    /// Large ranges are refused.
    RangeLimit,
    /// All logs are left out, and there are no receipts that would tell. At level `linked` this is seen only as far as a bloom
    /// tells, so that it is not among the vices that are drawn.
    OmitUnproved,
}

pub(super) const VICES: &[Vice] = &[
    Vice::Down,
    Vice::RateLimited,
    Vice::Null,
    Vice::Stale,
    Vice::OmitSome,
    Vice::OmitAll,
    Vice::Truncate,
    Vice::Duplicate,
    Vice::Shuffle,
    Vice::Removed,
    Vice::ForeignHash,
    Vice::Invent,
    Vice::Alter,
    Vice::ForgeHeader,
    Vice::Renumber,
    Vice::OtherChain,
    Vice::RangeLimit,
];

#[derive(Debug)]
pub(super) struct World {
    pub(super) chain: SimChain,
    pub(super) nodes: Vec<Node>,
    pub(super) chain_id: u64,
    /// Whether blocks become safe and final.
    pub(super) has_finality: bool,
    rng: StdRng,
}

#[derive(Debug)]
pub(super) struct Node {
    /// The tip of what this node takes for the chain.
    pub(super) head: B256,
    pub(super) vices: Vec<Vice>,
    /// The share of answers in which a vice shows.
    pub(super) rate: f64,
}

impl World {
    pub(super) fn new(chain: SimChain, nodes: usize, seed: u64) -> Self {
        let head = chain.head().hash;
        let nodes = (0..nodes).map(|_| Node { head, vices: Vec::new(), rate: 0.0 }).collect();
        Self {
            chain,
            nodes,
            chain_id: CHAIN_ID,
            has_finality: true,
            rng: StdRng::seed_from_u64(seed ^ 0x5eed),
        }
    }

    /// Every node is honest and sees the canonical chain, which goes on by a block: as long as it only got shorter, nobody
    /// could tell it from one that lags.
    pub(super) fn heal(&mut self) {
        self.chain.mine(&mut self.rng, 1, 0.5);
        let head = self.chain.head().hash;
        for node in &mut self.nodes {
            *node = Node { head, vices: Vec::new(), rate: 0.0 };
        }
    }
}

/// One node as the indexer sees it.
#[derive(Debug, Clone)]
pub(super) struct SimEndpoint {
    name: String,
    world: Arc<Mutex<World>>,
    index: usize,
}

impl SimEndpoint {
    pub(super) fn new(world: &Arc<Mutex<World>>, index: usize) -> Self {
        Self { name: format!("node-{index}"), world: Arc::clone(world), index }
    }

    fn look(&self) -> View<'_> {
        let mut world = self.world.lock().expect("no test panics while it holds the world");
        let World { chain, nodes, rng, .. } = &mut *world;
        let node = &nodes[self.index];
        let shows = !node.vices.is_empty() && rng.random_bool(node.rate);
        let vice = if shows { node.vices.choose(rng).copied() } else { None };
        let mut head = node.head;
        if vice == Some(Vice::Stale) {
            let behind = rng.random_range(1..8);
            let number = chain.block(head).map_or(0, |block| block.number.saturating_sub(behind));
            head = chain.ancestor(head, number).map_or(head, |block| block.hash);
        }
        View { world, head, vice }
    }
}

/// What one answer is made from.
struct View<'a> {
    world: MutexGuard<'a, World>,
    head: B256,
    vice: Option<Vice>,
}

impl View<'_> {
    fn reachable(&self) -> Result<(), Fault> {
        match self.vice {
            Some(Vice::Down) => Err(Fault::Unavailable("down".into())),
            Some(Vice::RateLimited) => Err(Fault::RateLimited("slow down".into())),
            Some(_) | None => Ok(()),
        }
    }

    fn at(&self, number: u64) -> Option<&Arc<SimBlock>> {
        self.world.chain.ancestor(self.head, number)
    }

    /// A block by its hash. Nodes keep the blocks of branches that they left for a while.
    fn by_hash(&self, hash: B256) -> Option<Arc<SimBlock>> {
        if self.vice == Some(Vice::Null) {
            return None;
        }
        let block = self.world.chain.block(hash)?;
        let head = self.world.chain.block(self.head)?.number;
        (block.number <= head).then(|| Arc::clone(block))
    }

    fn header(&self, block: &SimBlock) -> ClaimedHeader {
        let mut claimed = block.claimed();
        if self.vice == Some(Vice::ForgeHeader) {
            claimed.header.receipts_root = B256::repeat_byte(0xff);
        }
        claimed
    }

    /// Lies about logs.
    fn spoil(&mut self, mut logs: Vec<RawLog>) -> Vec<RawLog> {
        let Some(vice) = self.vice else { return logs };
        let rng = &mut self.world.rng;
        if vice == Vice::Invent
            && let Some(log) = logs.first().cloned()
        {
            logs.push(RawLog {
                log_index: 1_000,
                transaction_index: 1_000,
                topics: vec![B256::from(rng.random::<[u8; 32]>())],
                ..log
            });
        }
        if logs.is_empty() {
            return logs;
        }
        let chosen = rng.random_range(0..logs.len());
        match vice {
            Vice::OmitSome => {
                logs.remove(chosen);
            }
            Vice::OmitAll | Vice::OmitUnproved => logs.clear(),
            Vice::Truncate => logs.truncate(logs.len() / 2),
            Vice::Duplicate => logs.insert(chosen, logs[chosen].clone()),
            Vice::Shuffle => logs.reverse(),
            Vice::Removed => logs[chosen].removed = true,
            Vice::ForeignHash => {
                for log in &mut logs {
                    log.block_hash = B256::repeat_byte(0xbb);
                }
            }
            Vice::Alter => {
                let mut data = logs[chosen].data.to_vec();
                data.push(1);
                logs[chosen].data = Bytes::from(data);
            }
            Vice::Renumber => {
                for log in &mut logs {
                    log.log_index += 1;
                }
            }
            Vice::Down
            | Vice::RateLimited
            | Vice::Null
            | Vice::Stale
            | Vice::Invent
            | Vice::ForgeHeader
            | Vice::OtherChain
            | Vice::RangeLimit => {}
        }
        logs
    }
}

fn of(filter: &LogFilter, block: &SimBlock) -> Vec<RawLog> {
    let asked = |log: &&RawLog| filter.asks_for(log.address, log.topics.first());
    block.logs().filter(asked).cloned().collect()
}

impl Endpoint for SimEndpoint {
    fn name(&self) -> &str {
        &self.name
    }

    async fn chain_id(&self) -> Result<u64, Fault> {
        let view = self.look();
        view.reachable()?;
        let lie = u64::from(view.vice == Some(Vice::OtherChain));
        Ok(view.world.chain_id + lie)
    }

    async fn heads(&self) -> Result<ClaimedHeads, Fault> {
        let view = self.look();
        view.reachable()?;
        let Some(latest) = view.world.chain.block(view.head).cloned() else {
            return Err(Fault::Absent("its head".into()));
        };
        if view.vice == Some(Vice::Null) {
            return Err(Fault::Absent("its head".into()));
        }
        let lagging = |lag: u64| {
            let number = latest.number.checked_sub(lag).filter(|_| view.world.has_finality)?;
            view.at(number).map(|block| block.claimed())
        };
        Ok(ClaimedHeads {
            latest: view.header(&latest),
            safe: lagging(SAFE_LAG),
            finalized: lagging(FINALIZED_LAG),
        })
    }

    async fn headers(&self, first: u64, last: u64) -> Result<Vec<Option<ClaimedHeader>>, Fault> {
        let view = self.look();
        view.reachable()?;
        if view.vice == Some(Vice::Null) {
            return Ok((first..=last).map(|_| None).collect());
        }
        Ok((first..=last).map(|number| view.at(number).map(|block| view.header(block))).collect())
    }

    async fn header_by_hash(&self, hash: B256) -> Result<Option<ClaimedHeader>, Fault> {
        let view = self.look();
        view.reachable()?;
        Ok(view.by_hash(hash).map(|block| view.header(&block)))
    }

    async fn logs_in(
        &self,
        first: u64,
        last: u64,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, Fault> {
        let mut view = self.look();
        view.reachable()?;
        if view.vice == Some(Vice::RangeLimit) && first + 8 < last {
            return Err(Fault::TooLarge("query exceeds max block range".into()));
        }
        let blocks = (first..=last).filter_map(|number| view.at(number));
        let logs = blocks.flat_map(|block| of(filter, block)).collect();
        Ok(view.spoil(logs))
    }

    async fn logs_of(&self, block: B256, filter: &LogFilter) -> Result<Option<Vec<RawLog>>, Fault> {
        let mut view = self.look();
        view.reachable()?;
        let Some(block) = view.by_hash(block) else { return Ok(None) };
        let logs = of(filter, &block);
        Ok(Some(view.spoil(logs)))
    }

    async fn receipts(&self, blocks: &[B256]) -> Result<Vec<Option<Vec<ClaimedReceipt>>>, Fault> {
        blocks.iter().map(|block| self.receipts_of(*block)).collect()
    }
}

impl SimEndpoint {
    fn receipts_of(&self, block: B256) -> Result<Option<Vec<ClaimedReceipt>>, Fault> {
        let mut view = self.look();
        view.reachable()?;
        if view.vice == Some(Vice::OmitUnproved) {
            return Err(Fault::Unsupported("method not found".into()));
        }
        let Some(block) = view.by_hash(block) else { return Ok(None) };
        let mut receipts = block.receipts.clone();
        if !receipts.is_empty() {
            let chosen = view.world.rng.random_range(0..receipts.len());
            let logs = std::mem::take(&mut receipts[chosen].logs);
            receipts[chosen].logs = view.spoil(logs);
            if view.vice == Some(Vice::Truncate) {
                receipts.truncate(receipts.len() / 2);
            }
        }
        Ok(Some(receipts))
    }
}
