//! What a node reads from the indexer's list, and what it must not pass over.

use std::sync::Arc;

use alloy::eips::BlockNumberOrTag;
use alloy::providers::Provider;
use auspex_devnet::postgres::TestDatabase;
use auspex_oracle::board::Board;
use auspex_oracle::chain::Head;
use auspex_oracle::config::SecretUrl;
use auspex_oracle::discover::Discovery;
use auspex_oracle::heads::Heads;
use auspex_oracle::identity;
use auspex_protocol::terms::escrow_domain;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::scene::node::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finalized_request_waits_for_a_node_that_does_not_know_the_chain_yet() {
    let world = World::new(1, 1, None).await;
    let request_id = world.scene.request(b"why?", 86_400).await;
    // anvil's finalized block is 64 blocks behind.
    world.scene.mine(70).await;

    let database = TestDatabase::create().await.expect("a database");
    let (deployment, operator) = (&world.scene.deployment, &world.scene.operators[0]);
    let signer = operator.signer_address();
    identity::claim(&database.pool(), deployment, operator.owner, signer).await.expect("ours");
    let (known, heads) = watch::channel(None);
    let discovery = Discovery {
        pool: database.pool(),
        board: Board::new(SecretUrl::new(world.indexer.url.parse().expect("a URL")))
            .expect("a board"),
        domain: escrow_domain(deployment.chain_id, deployment.request_escrow),
        signer,
        heads,
        meters: Arc::default(),
        bell: Arc::default(),
        work: Arc::default(),
        reached: watch::channel(None).0,
    };
    let jobs = async || {
        sqlx::query_scalar::<_, Vec<u8>>("select request_id from oracle.jobs")
            .fetch_all(&database.pool())
            .await
            .expect("jobs")
    };
    discovery.look().await.expect("a look without a head");
    assert_eq!(jobs().await, Vec::<Vec<u8>>::new());

    let block = world.scene.provider.get_block_by_number(BlockNumberOrTag::Latest).await;
    let header = block.expect("a block").expect("a block").header;
    let latest = Head {
        number: header.number,
        hash: header.hash,
        parent: header.parent_hash,
        time: header.timestamp,
        base_fee: 0,
    };
    let now = Instant::now();
    let read = Heads { latest, safe: None, finalized: None, read_at: now, arrived_at: now };
    known.send_replace(Some(read));
    discovery.look().await.expect("a look with a head");
    assert_eq!(jobs().await, [request_id.to_vec()]);
}
