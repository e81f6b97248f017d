//! A node whose every connection passes through a proxy that misbehaves at random: to its database, its chain, its
//! indexer and its broker. Whatever happens, each request is settled exactly once and no nonce is lost.

use std::net::SocketAddr;
use std::time::Duration;

use alloy::primitives::B256;
use alloy::providers::Provider;
use auspex_devnet::broker::TestBroker;
use auspex_devnet::postgres::TestDatabase;
use auspex_devnet::proxy::{Fault, FaultProxy};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use url::Url;

use crate::scene::eventually;
use crate::scene::node::{Running, World, echo};

/// The seed of the faults; a failure prints it.
const SEED: u64 = 0x0dd5;
const REQUESTS: u8 = 12;

/// A URL whose port is a proxy's.
async fn behind(url: &str) -> (FaultProxy, Url) {
    let mut url = Url::parse(url).expect("a URL");
    let upstream = format!("127.0.0.1:{}", url.port().expect("a port"));
    let proxy = FaultProxy::start(upstream.parse::<SocketAddr>().expect("an address"))
        .await
        .expect("a proxy");
    url.set_port(Some(proxy.address().port())).expect("a port");
    (proxy, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_settled_once_whatever_the_network_does() {
    let rounds = match std::env::var("AUSPEX_TEST_PROFILE").as_deref() {
        Ok("long") => 400,
        Ok(_) | Err(_) => 24,
    };
    let mut world = World::new(1, 1, None).await;
    let broker = TestBroker::start().await.expect("a broker");
    let database = TestDatabase::create().await.expect("a database");
    let (to_database, database_url) = behind(database.url()).await;
    let (to_chain, rpc_url) = behind(world.scene.anvil.http_url().as_str()).await;
    let (to_indexer, indexer_url) = behind(&world.indexer.url).await;
    let (to_broker, broker_url) = behind(broker.url().as_ref()).await;
    world.rpc_url = rpc_url.to_string();
    world.indexer.url = indexer_url.to_string();
    let broker_option = format!("--broker-url={broker_url}");
    let operator = world.scene.operators[0].clone();
    let start = async |world: &World, database: TestDatabase| {
        let config = world.config(&operator, database_url.as_str(), &[&broker_option]);
        world.start_with(config, database, echo()).await
    };
    let mut node: Running = start(&world, database).await;

    eprintln!("seed {SEED:#x}");
    let mut random = SmallRng::seed_from_u64(SEED);
    let proxies = [&to_database, &to_chain, &to_indexer, &to_broker];
    let mut requests: Vec<B256> = Vec::new();
    for round in 0..rounds {
        if round % (rounds / usize::from(REQUESTS)) == 0 {
            let question = format!("round {round}");
            requests.push(world.scene.request(question.as_bytes(), 3_600).await);
        }
        for proxy in proxies {
            proxy.set(match random.random_range(0..10) {
                0 => Fault::Cut,
                1 => Fault::HalfOpen,
                2 => Fault::Delay(Duration::from_millis(random.random_range(1..80))),
                3 | 4 => Fault::CutAfterCommit,
                _ => Fault::None,
            });
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(20..250))).await;
        if node.task.is_finished() {
            // A supervisor would start it again.
            for proxy in proxies {
                proxy.set(Fault::None);
            }
            let database = node.kill().await;
            node = start(&world, database).await;
        }
    }
    for proxy in proxies {
        proxy.set(Fault::None);
    }
    if node.task.is_finished() {
        let database = node.kill().await;
        node = start(&world, database).await;
    }
    for request_id in &requests {
        world.settled(*request_id).await;
    }
    assert!(proxies.iter().all(|proxy| 0 < proxy.cuts()), "every connection was cut");
    let pool = node.database.pool();
    eventually("every nonce is used", || async {
        let sent: i64 = sqlx::query_scalar("select next_nonce from oracle.transmitters")
            .fetch_one(&pool)
            .await
            .expect("the nonces");
        let address = operator.transmitter_address();
        let used = world.scene.provider.get_transaction_count(address).await.expect("a count");
        (u64::try_from(sent).ok() == Some(used)).then_some(())
    })
    .await;
    node.stop().await;
}
