//! Processes are killed or frozen, connections misbehave and blocks are replaced at random moments of a request: nothing is
//! lost and nothing is paid twice.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use url::Url;

use crate::ledger::{
    SETTLED, balance, check_chain, check_indexer, check_nonces, check_rebuild, head, logs,
};
use crate::world::{World, eventually, text};

const QUESTION: &str = "How does the indexer follow a reorg?";
/// The world's processes, all of them.
const VICTIMS: [&str; 10] = [
    "indexer",
    "operator-1",
    "operator-2",
    "operator-3",
    "operator-1-signer",
    "operator-2-signer",
    "operator-3-signer",
    "broker",
    "postgres",
    "chain",
];
/// A request takes about so long from its first call to its settlement; a kill comes somewhere within it.
const REQUEST_TIME: Duration = Duration::from_millis(4_000);
/// The most blocks that are replaced at once. The requests of a round lie deeper, so that all of them stay paid for.
const REORG_DEPTH_MAX: u64 = 3;

/// Every process dies while a request is submitted, answered or settled, at a moment that the seed chooses.
#[test]
fn any_process_can_be_killed_at_any_moment_of_a_request() {
    let mut random = StdRng::seed_from_u64(seed());
    let rounds = if is_long() { 8 } else { 1 };

    let mut world = World::start();
    let before = balance(&world, "requester");
    let mut requests = BTreeSet::new();
    for round in 1..=rounds {
        let mut victims = VICTIMS;
        victims.shuffle(&mut random);
        for victim in victims {
            let pause = random.random_range(Duration::ZERO..REQUEST_TIME);
            eprintln!("round {round}: {victim} dies after {} ms", pause.as_millis());
            let request = std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(pause);
                    kill9(&world, victim);
                });
                submit(&world)
            });
            settle(&world, &request, victim);
            assert!(requests.insert(request), "{victim}: an id of its own");
        }
    }
    check_chain(&world, &requests, before);
    let rows = check_indexer(&world, &requests);
    check_rebuild(&mut world, rows);
}

/// All at once: a proxy that misbehaves between every two parts, a process that dies in each round, blocks that are
/// replaced, while requests flow. The chain itself is only reorganised: what one loses is another matter.
#[test]
fn whatever_fails_together_every_request_settles_once() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let (rounds, requests_per_round) = if is_long() { (100, 10) } else { (2, 3) };

    let mut world = World::start_with(&["--faults", &seed.to_string()]);
    assert_routed(&world);
    let before = balance(&world, "requester");
    let mut requests = BTreeSet::new();
    for round in 1..=rounds {
        for _ in 0..requests_per_round {
            assert!(requests.insert(submit(&world)), "an id of its own");
        }
        let paid = head(&world);
        eventually("blocks above the requests", || {
            (paid + REORG_DEPTH_MAX <= head(&world)).then_some(())
        });
        let mortal = &VICTIMS[..VICTIMS.len() - 1];
        let victim = mortal.choose(&mut random).expect("a victim");
        eprintln!("round {round} of {rounds}: {victim} dies");
        kill9(&world, victim);
        std::thread::sleep(random.random_range(Duration::ZERO..REQUEST_TIME));
        if random.random_bool(0.5) {
            let depth = random.random_range(1..=REORG_DEPTH_MAX);
            eprintln!("round {round} of {rounds}: {depth} blocks are replaced");
            world.rpc("anvil_reorg", &json!([depth, []]));
        }
    }
    for request in &requests {
        settle(&world, request, "everything");
    }
    // A world without trouble answers every question at the first try.
    assert!(world.stop(Signal::SIGINT).success());
    world.resume();
    check_chain(&world, &requests, before);
    check_nonces(&world);
    let rows = check_indexer(&world, &requests);
    check_rebuild(&mut world, rows);
}

/// No part of the world reaches another directly.
fn assert_routed(world: &World) {
    let file = world.file();
    for part in ["indexer", "operator-1", "operator-2", "operator-3"] {
        let environment = std::fs::read(format!("/proc/{}/environ", world.pid(part)));
        let environment = environment.expect("its environment");
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let urls =
            environment.split('\0').filter_map(|entry| Url::parse(entry.split_once('=')?.1).ok());
        let reached: BTreeSet<u16> = urls.filter_map(|url| url.port()).collect();
        assert!(3 <= reached.len(), "{part} reaches database, chain and broker: {reached:?}");
        for direct in ["rpcUrl", "brokerUrl", "databaseUrl", "indexerUrl"] {
            let url: Url = text(&file[direct]).parse().expect("a URL");
            let port = url.port().expect("a port");
            assert!(!reached.contains(&port), "{part} reaches {direct} directly");
        }
    }
}

#[test]
fn a_request_settles_while_the_broker_is_frozen() {
    let world = World::start();
    world.signal("broker", Signal::SIGSTOP);
    let request = submit(&world);
    let view = world.watch(&request);
    world.signal("broker", Signal::SIGCONT);
    assert_eq!(view["status"], "settled");
    assert_eq!(logs(&world, SETTLED, Some(&request)).len(), 1);
}

/// A process that has just been started again by itself has another number, so that it is looked up until the signal hits.
fn kill9(world: &World, victim: &str) {
    eventually(&format!("the death of {victim}"), || {
        let pid = Pid::from_raw(i32::try_from(world.pid(victim)).ok()?);
        kill(pid, Signal::SIGKILL).ok()
    });
}

/// As a person would: a command that fails, because what it asks is down, is repeated.
fn submit(world: &World) -> String {
    let offer = world.native_offer();
    // Trouble costs time, and what is told here is not how much.
    let arguments = [
        "request",
        "submit",
        "--offer",
        &offer,
        "--input",
        QUESTION,
        "--duration",
        "3600",
        "--as",
        "requester",
    ];
    let submission = eventually("a submission", || {
        let attempt = world.attempt(&arguments);
        if !attempt.status.success() {
            eprintln!("  {}", String::from_utf8_lossy(&attempt.stderr).trim());
        }
        attempt.status.success().then(|| serde_json::from_slice::<Value>(&attempt.stdout).ok())?
    });
    text(&submission["requestId"])
}

fn settle(world: &World, request: &str, victim: &str) {
    let view = eventually(&format!("the settlement after {victim} was killed"), || {
        let attempt = world.attempt(&["request", "watch", request, "--timeout", "20"]);
        attempt.status.success().then(|| serde_json::from_slice::<Value>(&attempt.stdout).ok())?
    });
    assert_eq!(view["status"], "settled", "{victim}: {view}");
}

fn is_long() -> bool {
    std::env::var("AUSPEX_TEST_PROFILE").is_ok_and(|profile| profile == "long")
}

fn seed() -> u64 {
    let seed = std::env::var("AUSPEX_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().random());
    eprintln!("AUSPEX_SEED={seed}");
    seed
}
