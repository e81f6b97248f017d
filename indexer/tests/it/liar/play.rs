//! One follower, one node, one chain of a shared database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolEvent;
use auspex_devnet::postgres::TestDatabase;
use auspex_devnet::replay::{Branch, Draft, Faults, Replay};
use auspex_indexer::follow::{Follower, Outcome, Policy};
use auspex_indexer::source::clock::Clock;
use auspex_indexer::source::pool::Pool;
use auspex_indexer::source::rpc::RpcEndpoint;
use auspex_indexer::store::postgres::PgStore;
use auspex_indexer::verify::Level;
use auspex_indexer::watch::{Role, WatchList};
use auspex_protocol::bindings::{IERC20, IEntryPolicy};
use sqlx::PgPool;

pub(crate) const LEVELS: [Level; 2] = [Level::Full, Level::Linked];

/// Blocks of a chain's past, and how far its safe and finalized blocks lie behind its head.
pub(crate) const PAST: u64 = 200;
pub(crate) const SAFE_LAG: u64 = 30;
pub(crate) const FINALIZED_LAG: u64 = 80;

/// Steps within which a node's every state is followed.
const STEPS_MAX: usize = 200;

const TOKEN: Address = Address::repeat_byte(0xa4);
const POLICY: Address = Address::repeat_byte(0xa2);

/// What the chain's blocks hold after three transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    /// An event of our own contracts, with its sequence number.
    Numbered,
    /// A fourth transfer, which nothing numbers.
    Transfer,
}

pub(crate) struct Play {
    pub(crate) node: Replay,
    follower: Follower<RpcEndpoint, PgStore>,
    time: Arc<AtomicU64>,
    pool: PgPool,
    chain_id: u64,
}

/// Adds blocks to a chain until it has this height.
pub(crate) fn grow(branch: &mut Branch, height: u64, last: Last) {
    while branch.head() < height {
        let number = branch.head() + 1;
        let mut transactions: Vec<Vec<Draft>> = (0..3).map(|n| vec![transfer(number, n)]).collect();
        transactions.push(vec![match last {
            Last::Transfer => transfer(number, 3),
            Last::Numbered => {
                let token = Address::left_padding_from(&number.to_be_bytes());
                let event = IEntryPolicy::TokenAllowed { sequence: number, token, allowed: true };
                (POLICY, event.encode_log_data())
            }
        }]);
        branch.mine(&transactions).expect("build a block");
    }
}

fn transfer(number: u64, index: u64) -> Draft {
    let account =
        |salt: u64| Address::left_padding_from(&(number * 8 + index + salt).to_be_bytes());
    let event =
        IERC20::Transfer { from: account(1), to: account(1 << 40), value: U256::from(index) };
    (TOKEN, event.encode_log_data())
}

pub(crate) fn past(last: Last) -> Branch {
    let mut branch = Branch::genesis().expect("build a genesis");
    grow(&mut branch, PAST, last);
    branch
}

impl Play {
    /// A follower with nothing indexed, of a node that serves this branch up to its end.
    pub(crate) async fn new(database: &TestDatabase, branch: &Branch, level: Level) -> Self {
        static CHAINS: AtomicU64 = AtomicU64::new(1);
        let chain_id = CHAINS.fetch_add(1, Ordering::Relaxed);
        let lags = (SAFE_LAG, FINALIZED_LAG);
        let node = Replay::start(chain_id, branch.clone(), branch.head(), lags)
            .await
            .expect("start a replay node");
        let watch = WatchList::from_roles(
            [(TOKEN, Role::Token), (POLICY, Role::EntryPolicy)].into_iter().collect(),
        );
        let policy = Policy { live: level, backfill: level, observe_only: false, sample: 0.0 };
        let endpoint = RpcEndpoint::new(&node.url().parse().expect("a URL")).expect("an endpoint");
        let time = Arc::new(AtomicU64::new(0));
        let clock = {
            let time = Arc::clone(&time);
            Clock::new(move || Duration::from_millis(time.load(Ordering::Relaxed)))
        };
        let options = database.url().parse().expect("read the database's URL");
        let mut store = PgStore::new(&options, chain_id).expect("a chain id that fits");
        assert!(store.lead().await.expect("reach PostgreSQL"), "nobody else follows");
        let pool = Arc::new(Pool::new(vec![endpoint], clock));
        let follower = Follower::new(chain_id, 1, watch, policy, pool, store);
        Self { node, follower, time, pool: database.pool(), chain_id }
    }

    /// Lets the follower make up to so many steps; ends early when it has nothing to do.
    pub(crate) async fn steps(&mut self, most: usize) {
        for _ in 0..most {
            let outcome = self.follower.converge().await.expect("PostgreSQL makes the step");
            if outcome == Outcome::Idle {
                return;
            }
            // Longer than any pause, so that the node is asked again.
            self.time.fetch_add(700_000, Ordering::Relaxed);
        }
    }

    /// What is stored is the branch up to the cursor.
    pub(crate) async fn assert_prefix_of(&self, branch: &Branch, name: &str) {
        let tip = self.follower.cursor().map_or(0, |cursor| cursor.tip.number);
        let mut expected = Vec::new();
        for block in branch.blocks().iter().skip(1).take(tip as usize) {
            let count = i32::try_from(block.log_count()).expect("few logs");
            expected.extend((0..count).map(|index| (block.hash, index)));
        }
        let stored = self.stored().await;
        assert_eq!(stored.len(), expected.len(), "{name}: facts up to block {tip}");
        assert!(stored == expected, "{name}: other facts than the chain's up to block {tip}");
    }

    /// With an honest node, the whole branch is indexed within a bounded number of steps.
    pub(crate) async fn assert_follows(&mut self, branch: &Branch, name: &str) {
        self.node.set_faults(Faults::default());
        self.time.fetch_add(700_000, Ordering::Relaxed);
        self.steps(STEPS_MAX).await;
        let tip = self.follower.cursor().map(|cursor| (cursor.tip.number, cursor.tip.hash));
        let head = branch.block(branch.head()).expect("a head");
        let standings = self.follower.pool().standings();
        assert_eq!(tip, Some((head.number, head.hash)), "{name}: {standings:?}");
        self.assert_prefix_of(branch, name).await;
    }

    /// How far the chain is indexed.
    pub(crate) fn tip(&self) -> Option<u64> {
        self.follower.cursor().map(|cursor| cursor.tip.number)
    }

    pub(crate) fn halted(&self) -> Option<String> {
        self.follower.cursor().and_then(|cursor| cursor.halted.clone())
    }

    pub(crate) async fn stored(&self) -> Vec<(B256, i32)> {
        sqlx::query_as::<_, (Vec<u8>, i32)>(
            "select block_hash, log_index from indexer.facts where chain_id = $1 order by block_number, log_index",
        )
        .bind(i64::try_from(self.chain_id).expect("a chain id that fits"))
        .fetch_all(&self.pool)
        .await
        .expect("read the facts")
        .into_iter()
        .map(|(hash, index)| (B256::from_slice(&hash), index))
        .collect()
    }
}
