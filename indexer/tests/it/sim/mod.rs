//! The deterministic simulation: a scripted chain, lying nodes, crashes, and an independent model that says what must be
//! true after every step. Everything comes from a seed; a failing one is printed as one command.

mod chain;
mod memory;
mod model;
mod node;
mod replay;
mod story;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy::json_abi::Event;
use alloy::primitives::Bytes;
use alloy::sol_types::SolEvent;
use auspex_indexer::contract::Factory;
use auspex_indexer::follow::{Follower, Outcome, Policy};
use auspex_indexer::source::clock::Clock;
use auspex_indexer::source::pool::Pool;
use auspex_indexer::store::Store;
use auspex_indexer::verify::Level;
use auspex_indexer::watch::{Role, WatchList};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use chain::SimChain;
use memory::MemoryStore;
use node::{CHAIN_ID, SimEndpoint, VICES, World};

/// Seeds of one run of the tests, and of a run with `AUSPEX_TEST_PROFILE=long`; `AUSPEX_SIM_SEEDS` sets another number.
const SEEDS: u64 = 10_000;
const SEEDS_LONG: u64 = 1_000_000;
/// Events of one seed's world.
const EVENTS: usize = 40;
/// Steps within which a healed world has to be indexed.
const HEAL_STEPS_MAX: usize = 400;
/// Longer than any quarantine.
const HEAL_PAUSE: Duration = Duration::from_secs(700);

fn watch() -> WatchList {
    let event =
        Event::parse("event Created(address indexed child, uint256 number)").expect("an event");
    let factory = Factory::new(story::FACTORY, &event, "child", vec![story::Noted::SIGNATURE_HASH])
        .expect("a factory");
    let roles = BTreeMap::from([
        (story::AGENTS, Role::AgentRegistry),
        (story::OPERATORS, Role::OperatorRegistry),
        (story::POLICY, Role::EntryPolicy),
        (story::ESCROW, Role::RequestEscrow),
        (story::TOKEN, Role::Token),
    ]);
    WatchList::with_factories(roles, Vec::new(), vec![factory])
}

fn policy(rng: &mut StdRng) -> Policy {
    let mut level = || if rng.random_bool(0.5) { Level::Full } else { Level::Linked };
    // Every block with logs is in the sample: a part of them would be drawn by dice outside the seed.
    Policy { live: level(), backfill: level(), observe_only: false, sample: 1.0 }
}

/// A world with its past already mined, its nodes, and its dice.
fn create(seed: u64) -> (Arc<Mutex<World>>, StdRng, f64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let busy = rng.random_range(0.1..0.9);
    let mut chain = SimChain::new();
    let past = if rng.random_bool(0.5) { rng.random_range(0..90) } else { 0 };
    chain.mine(&mut rng, past, busy);
    let nodes = rng.random_range(1..4);
    (Arc::new(Mutex::new(World::new(chain, nodes, seed))), rng, busy)
}

/// Time that passes when the play says so.
#[derive(Debug, Clone, Default)]
struct Time(Arc<AtomicU64>);

impl Time {
    fn advance(&self, duration: Duration) {
        // Rounded up, so that waiting for the rest of a quarantine ends it.
        self.0.fetch_add(duration.as_millis() as u64 + 1, Ordering::Relaxed);
    }

    fn clock(&self) -> Clock {
        let millis = Arc::clone(&self.0);
        Clock::new(move || Duration::from_millis(millis.load(Ordering::Relaxed)))
    }
}

fn follower<S: Store>(
    world: &Arc<Mutex<World>>,
    time: &Time,
    policy: Policy,
    store: S,
    chain_id: u64,
) -> Follower<SimEndpoint, S> {
    let count = world.lock().expect("the world").nodes.len();
    let endpoints = (0..count).map(|index| SimEndpoint::new(world, index)).collect();
    Follower::new(chain_id, 1, watch(), policy, Arc::new(Pool::new(endpoints, time.clock())), store)
}

/// Lets something happen to the world.
fn happen(world: &mut World, rng: &mut StdRng, busy: f64) {
    match rng.random_range(0..20) {
        0..=7 => {
            let count = rng.random_range(1..5);
            world.chain.mine(rng, count, busy);
        }
        8..=9 => {
            let most = world.chain.depth_max();
            if 0 < most {
                let usual = if rng.random_bool(0.7) { 4 } else { 60 };
                let depth = rng.random_range(1..=most.min(usual));
                // Shorter, equally long, and longer branches.
                let length =
                    (depth + rng.random_range(0..4)).saturating_sub(rng.random_range(0..3)).max(1);
                world.chain.reorganize(rng, depth, length, busy);
            }
        }
        10 => {
            // A node's branch becomes the canonical one again: the reorg of the reorg.
            let head = world.nodes[0].head;
            world.chain.switch_to(head);
        }
        11..=14 => {
            let head = world.chain.head().hash;
            for node in &mut world.nodes {
                if rng.random_bool(0.8) {
                    node.head = head;
                }
            }
        }
        15..=16 => {
            let index = rng.random_range(0..world.nodes.len());
            let node = &mut world.nodes[index];
            node.vices =
                (0..rng.random_range(0..4)).filter_map(|_| VICES.choose(rng).copied()).collect();
            node.rate = rng.random_range(0.05..0.6);
        }
        17 => {
            for node in &mut world.nodes {
                node.vices.clear();
            }
        }
        _ => {
            let index = rng.random_range(0..world.nodes.len());
            world.nodes[index].head = world.chain.head().hash;
        }
    }
}

/// Plays one seed on the in-memory store, checking after every step.
async fn play(seed: u64) {
    let (world, mut rng, busy) = create(seed);
    let policy = policy(&mut rng);
    let store = MemoryStore::default();
    let time = Time::default();
    let mut follower = follower(&world, &time, policy.clone(), store.clone(), CHAIN_ID);
    let mut finalized = 0;
    for _ in 0..EVENTS {
        happen(&mut world.lock().expect("the world"), &mut rng, busy);
        match rng.random_range(0..30) {
            // A crash: only the store survives.
            0 => follower = self::follower(&world, &time, policy.clone(), store.clone(), CHAIN_ID),
            1 => store.lock().fail_before = rng.random_range(1..3),
            2 => store.lock().fail_after = 1,
            // Somebody else writes.
            3 => {
                if let Some(cursor) = &mut store.lock().cursor {
                    cursor.epoch += 1;
                }
            }
            _ => {}
        }
        for _ in 0..rng.random_range(1..4) {
            // A failed write shows in the next step.
            let outcome = follower.converge().await;
            model::check(&world.lock().expect("the world"), &mut store.lock(), &mut finalized);
            if let Ok(Outcome::Waiting { pause, .. }) = outcome {
                time.advance(pause);
            }
        }
        time.advance(Duration::from_secs(1));
    }
    heal(&world, &time, &mut follower).await;
    let world = world.lock().expect("the world");
    let mut memory = store.lock();
    model::check(&world, &mut memory, &mut finalized);
    model::check_at_rest(&world, &memory, &mut rng);
}

/// With honest nodes, the chain's head is indexed within a bounded number of steps.
async fn heal<S: Store>(
    world: &Arc<Mutex<World>>,
    time: &Time,
    follower: &mut Follower<SimEndpoint, S>,
) {
    world.lock().expect("the world").heal();
    time.advance(HEAL_PAUSE);
    let head = world.lock().expect("the world").chain.head().number;
    for _ in 0..HEAL_STEPS_MAX {
        match follower.converge().await {
            Ok(Outcome::Idle)
                if follower.cursor().is_some_and(|cursor| cursor.tip.number == head) =>
            {
                return;
            }
            Ok(Outcome::Waiting { pause, .. }) => time.advance(pause),
            Ok(_) | Err(_) => time.advance(Duration::from_millis(100)),
        }
    }
    panic!(
        "block {head} was not indexed within {HEAL_STEPS_MAX} steps; the cursor is {:?}, the endpoints {:?}",
        follower.cursor(),
        follower.pool().standings()
    );
}

fn in_one_thread(task: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("build a runtime")
        .block_on(task);
}

/// Runs a seed and says how to run it again when it fails.
fn run_seed(seed: u64) {
    let result = std::panic::catch_unwind(|| in_one_thread(play(seed)));
    if let Err(panic) = result {
        eprintln!(
            "failing seed: AUSPEX_SIM_SEED={seed} cargo test -p auspex-indexer --test it sim::one_seed"
        );
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn ten_thousand_seeds_end_with_the_truth() {
    let is_long = std::env::var("AUSPEX_TEST_PROFILE").as_deref() == Ok("long");
    let usual = if is_long { SEEDS_LONG } else { SEEDS };
    let count =
        std::env::var("AUSPEX_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get() as u64);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || (thread..count).step_by(threads as usize).for_each(run_seed));
        }
    });
    eprintln!("{count} seeds in {:.1} s", begun.elapsed().as_secs_f64());
}

#[test]
fn one_seed() {
    let seed =
        std::env::var("AUSPEX_SIM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    run_seed(seed);
}

/// A branch of twelve hours of Base is found, checked and swapped.
#[test]
fn a_reorg_of_25_000_blocks_is_followed() {
    in_one_thread(async {
        let mut rng = StdRng::seed_from_u64(1);
        let mut chain = SimChain::new();
        chain.mine(&mut rng, 10, 1.0);
        let fork = chain.head().number;
        chain.mine_without_finality(&mut rng, 25_000);
        let world = Arc::new(Mutex::new(World::new(chain, 1, 1)));
        let policy =
            Policy { live: Level::Full, backfill: Level::Full, observe_only: false, sample: 0.0 };
        let store = MemoryStore::default();
        let time = Time::default();
        let mut follower = follower(&world, &time, policy, store.clone(), CHAIN_ID);
        world.lock().expect("the world").has_finality = false;
        until_idle(&mut follower).await;
        {
            let mut world = world.lock().expect("the world");
            world.chain.replace_without_finality(&mut rng, fork, 25_001);
            let head = world.chain.head().hash;
            world.nodes[0].head = head;
        }
        until_idle(&mut follower).await;
        let world = world.lock().expect("the world");
        let mut memory = store.lock();
        let tip = memory.cursor.as_ref().map(|cursor| cursor.tip.hash);
        assert_eq!(tip, Some(world.chain.head().hash));
        model::check(&world, &mut memory, &mut 0);
    });
}

/// At level `linked` a node may leave out logs of blocks whose bloom tells nothing new. For our own contracts the next event
/// tells by its number: the stored blocks are read again, and nothing stays missing.
#[test]
fn events_left_out_below_the_finalized_block_are_put_back() {
    for seed in 0..20 {
        in_one_thread(left_out_and_put_back(seed));
    }
}

async fn left_out_and_put_back(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut chain = SimChain::new();
    chain.mine(&mut rng, 300, 0.8);
    let world = Arc::new(Mutex::new(World::new(chain, 1, seed)));
    let policy =
        Policy { live: Level::Full, backfill: Level::Linked, observe_only: false, sample: 0.0 };
    let store = MemoryStore::default();
    let time = Time::default();
    let mut follower = follower(&world, &time, policy, store.clone(), CHAIN_ID);
    {
        let node = &mut world.lock().expect("the world").nodes[0];
        node.vices = vec![node::Vice::OmitSome];
        node.rate = 0.8;
    }
    for _ in 0..10 {
        let _ = follower.converge().await;
        time.advance(HEAL_PAUSE);
    }
    {
        let mut world = world.lock().expect("the world");
        world.chain.mine(&mut rng, 60, 0.8);
        world.heal();
    }
    heal(&world, &time, &mut follower).await;
    assert_eq!(stored_of_escrow(&store), told_by_escrow(&world), "seed {seed}");
    let memory = store.lock();
    assert!(
        memory.reader.iter().eq(memory.current()),
        "a reader of the outbox believes something else"
    );
}

/// What the escrow said on the canonical branch.
fn told_by_escrow(world: &Mutex<World>) -> Vec<Bytes> {
    let world = world.lock().expect("the world");
    let head = world.chain.head();
    let mut told = Vec::new();
    for number in 1..=head.number {
        let block = world.chain.ancestor(head.hash, number).expect("a canonical block");
        let of_escrow = block.logs().filter(|log| log.address == story::ESCROW);
        told.extend(of_escrow.map(|log| log.data.clone()));
    }
    told
}

fn stored_of_escrow(store: &MemoryStore) -> Vec<Bytes> {
    let memory = store.lock();
    let facts = memory.facts.values().flatten();
    let of_escrow = facts.filter(|fact| fact.address == story::ESCROW);
    of_escrow.map(|fact| fact.data.clone()).collect()
}

/// At level `linked`, an empty answer that the bloom speaks against is not taken from a node without receipts: another one is
/// asked, and where there is none, following waits unless it is only to observe.
#[test]
fn an_omission_that_no_receipts_can_tell_is_not_stored() {
    for (nodes, observe_only) in [(2, false), (1, false), (1, true)] {
        in_one_thread(left_out_unproved(nodes, observe_only));
    }
}

async fn left_out_unproved(nodes: usize, observe_only: bool) {
    let mut rng = StdRng::seed_from_u64(3);
    let mut chain = SimChain::new();
    chain.mine(&mut rng, 90, 0.8);
    let world = Arc::new(Mutex::new(World::new(chain, nodes, 3)));
    let policy = Policy { live: Level::Linked, backfill: Level::Linked, observe_only, sample: 0.0 };
    let store = MemoryStore::default();
    let time = Time::default();
    let mut follower = follower(&world, &time, policy, store.clone(), CHAIN_ID);
    {
        let node = &mut world.lock().expect("the world").nodes[0];
        node.vices = vec![node::Vice::OmitUnproved];
        node.rate = 1.0;
    }
    let mut reasons = Vec::new();
    for _ in 0..50 {
        if let Outcome::Refused { fault, .. } =
            follower.converge().await.expect("a memory does not fail")
        {
            reasons.push(fault.to_string());
        }
        time.advance(HEAL_PAUSE);
    }
    let told = told_by_escrow(&world);
    let tip = follower.cursor().map_or(0, |cursor| cursor.tip.number);
    let stored = stored_of_escrow(&store);
    if observe_only {
        assert_eq!((tip, stored.len()), (90, 0), "what is only observed is used all the same");
        return;
    }
    let reason = "an empty answer that the bloom speaks against";
    assert!(reasons.iter().any(|text| text.contains(reason)), "{reasons:?}");
    let is_truth = stored.len() <= told.len() && stored == told[..stored.len()];
    assert!(is_truth, "something was left out below block {tip}");
    assert_eq!(tip == 90, nodes == 2, "indexed up to block {tip}");
}

async fn until_idle<S: Store>(follower: &mut Follower<SimEndpoint, S>) {
    for _ in 0..2_000 {
        if follower.converge().await.expect("a memory does not fail") == Outcome::Idle {
            return;
        }
    }
    panic!("not idle after 2,000 steps");
}

/// A node that stands still goes on answering, and nothing that it says is wrong.
#[test]
fn a_node_that_stands_still_is_left_for_one_that_is_ahead() {
    in_one_thread(async {
        let mut rng = StdRng::seed_from_u64(9);
        let mut chain = SimChain::new();
        chain.mine(&mut rng, 40, 0.5);
        let world = Arc::new(Mutex::new(World::new(chain, 2, 9)));
        let policy =
            Policy { live: Level::Full, backfill: Level::Full, observe_only: false, sample: 0.0 };
        let store = MemoryStore::default();
        let time = Time::default();
        let mut follower = follower(&world, &time, policy, store.clone(), CHAIN_ID);
        until_idle(&mut follower).await;
        let head = {
            let mut world = world.lock().expect("the world");
            world.chain.mine(&mut rng, 5, 0.5);
            let head = Arc::clone(world.chain.head());
            world.nodes[1].head = head.hash;
            head.number
        };
        for _ in 0..40 {
            follower.converge().await.expect("a memory does not fail");
            time.advance(Duration::from_secs(1));
        }
        assert_eq!(follower.cursor().map(|cursor| cursor.tip.number), Some(head));
    });
}

/// A branch that parts below the finalized block stops the indexer, which deletes nothing, says so, and goes on when the
/// endpoint is right again.
#[test]
fn a_chain_that_contradicts_what_is_final_halts_and_heals() {
    in_one_thread(async {
        let mut rng = StdRng::seed_from_u64(7);
        let mut chain = SimChain::new();
        chain.mine(&mut rng, 100, 0.5);
        let honest = chain.head().hash;
        let world = Arc::new(Mutex::new(World::new(chain, 1, 7)));
        let policy =
            Policy { live: Level::Full, backfill: Level::Full, observe_only: false, sample: 0.0 };
        let store = MemoryStore::default();
        let time = Time::default();
        let mut follower = follower(&world, &time, policy, store.clone(), CHAIN_ID);
        until_idle(&mut follower).await;
        let facts = store.lock().facts.clone();

        let mut other = SimChain::new();
        other.mine(&mut StdRng::seed_from_u64(8), 120, 0.5);
        {
            let mut world = world.lock().expect("the world");
            let head = world.chain.graft(&other);
            world.nodes[0].head = head;
        }
        let mut halted = false;
        for _ in 0..20 {
            halted |= matches!(
                follower.converge().await.expect("a memory does not fail"),
                Outcome::Halted { .. }
            );
            time.advance(HEAL_PAUSE);
        }
        assert!(halted);
        assert_eq!(store.lock().facts, facts, "nothing was deleted");
        let reason = store.lock().cursor.as_ref().and_then(|cursor| cursor.halted.clone());
        assert!(reason.is_some_and(|reason| reason.contains("finalized")), "the reason is stored");

        world.lock().expect("the world").nodes[0].head = honest;
        time.advance(HEAL_PAUSE);
        until_idle(&mut follower).await;
        assert_eq!(store.lock().cursor.as_ref().and_then(|cursor| cursor.halted.clone()), None);
    });
}
