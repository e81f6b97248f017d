//! Kills at random: node, signer and broker, with SIGKILL, while requests flow and the chain reorganises. `AUSPEX_SEED`
//! repeats one run.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::on_stage;
use super::process::played;
use super::stage::Stage;

/// Blocks between a request and what a reorg may take, so that the payers' transactions stay.
const SETTLED_BLOCKS: u64 = 4;

#[test]
fn whoever_is_killed_whenever_every_request_is_settled_once() {
    if played() {
        return;
    }
    let long = std::env::var("AUSPEX_TEST_PROFILE").is_ok_and(|profile| profile == "long");
    let (kills, requests_per_kill) = if long { (100, 10) } else { (12, 2) };
    let seed = std::env::var("AUSPEX_SEED").ok().map(|text| text.parse().expect("a number"));
    let seed: u64 = seed.unwrap_or_else(rand::random);
    eprintln!("AUSPEX_SEED={seed} repeats this run");
    on_stage(
        "crash::random::whoever_is_killed_whenever_every_request_is_settled_once",
        async |stage| {
            let mut random = SmallRng::seed_from_u64(seed);
            stage.start_honest().await;
            stage.start_node(None);
            for kill in 0..kills {
                for number in 0..requests_per_kill {
                    stage.ask(&format!("kill {kill}, request {number}")).await;
                }
                stage.world.scene.mine(SETTLED_BLOCKS).await;
                pause(&mut random).await;
                strike(stage, &mut random).await;
                pause(&mut random).await;
                if random.random_bool(0.5) {
                    reorg(stage, random.random_range(1..SETTLED_BLOCKS)).await;
                }
            }
            stage.stop_node();
            stage.recovers().await;
        },
    );
}

async fn pause(random: &mut SmallRng) {
    tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
}

async fn strike(stage: &mut Stage, random: &mut SmallRng) {
    match random.random_range(0..4) {
        0 | 1 => {
            stage.stop_node();
            stage.start_node(None);
        }
        2 => stage.start_signer(None),
        _ => {
            let broker = stage.world.broker.as_mut().expect("a broker");
            broker.kill().await;
            broker.restart().await.expect("a broker");
        }
    }
}

async fn reorg(stage: &Stage, depth: u64) {
    let provider = &stage.world.scene.provider;
    let _: Value = alloy::providers::Provider::raw_request(
        provider,
        "anvil_reorg".into(),
        (depth, Vec::<Value>::new()),
    )
    .await
    .expect("reorg");
}
