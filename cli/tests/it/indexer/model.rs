//! What is right: the history that a follower of an honest node derives, with every block proven by its receipts.

use std::sync::Arc;

use auspex_devnet::postgres::TestDatabase;
use auspex_devnet::replay::{Branch, Replay};
use auspex_indexer::follow::{Follower, Outcome, Policy};
use auspex_indexer::source::clock::Clock;
use auspex_indexer::source::pool::Pool;
use auspex_indexer::source::rpc::RpcEndpoint;
use auspex_indexer::store::postgres::PgStore;
use auspex_indexer::verify::Level;

use super::chain::watch_list;

/// Steps within which an honest node's chain is read.
const STEPS_MAX: usize = 500;

/// Indexes a branch to its end, from a node that says nothing but the truth.
pub(super) async fn index(
    database: &TestDatabase,
    chain_id: u64,
    branch: &Branch,
    lags: (u64, u64),
) {
    let node = Replay::start(chain_id, branch.clone(), branch.head(), lags).await;
    let node = node.expect("start a node");
    let endpoint = RpcEndpoint::new(&node.url().parse().expect("a URL")).expect("an endpoint");
    let options = database.url().parse().expect("read the database's URL");
    let mut store = PgStore::new(&options, chain_id).expect("a chain id that fits");
    assert!(store.lead().await.expect("reach PostgreSQL"), "nobody else follows");
    let policy =
        Policy { live: Level::Full, backfill: Level::Full, observe_only: false, sample: 0.0 };
    let pool = Arc::new(Pool::new(vec![endpoint], Clock::system()));
    let mut follower = Follower::new(chain_id, 1, watch_list(chain_id), policy, pool, store);
    for _ in 0..STEPS_MAX {
        if follower.converge().await.expect("PostgreSQL makes the step") == Outcome::Idle {
            return;
        }
    }
    panic!("the model did not reach the head of chain {chain_id} in {STEPS_MAX} steps");
}
