//! The pure cores (lease, quorum, transaction manager) in a world that goes wrong: crashes between any two writes, workers
//! that wake up after their lease, clocks that jump two hours, messages lost, doubled and re-ordered, fee spikes, empty
//! balances, dropped transactions, endpoints that lag, reorgs of requests and of deliveries.
//!
//! One seed is one world. `AUSPEX_SEED=n` runs one seed, `AUSPEX_SEEDS=n` runs that many. The promises are checked at every
//! step while the world is broken, and once it has healed every request must have come to its end:
//!
//! - O5: a request has one result, and is done only once its delivery is safe.
//! - O6: the nonces used are contiguous, and each was used by a transaction that the database knows.
//! - O7: what is sent was stored before.
//! - O8: a request that has the time is delivered, whatever happened before.
//! - O9: no work starts inside the answer margin of chain time.
//! - O10: attempts, transactions under way, messages and votes are bounded.
//! - O11: what is spent stays within the budget, on every branch.
//! - O12: a request is dropped, and a transaction taken out, only when a reorg has removed it; an endpoint that is behind
//!   proves nothing.
//!
//! O1 to O4 are the indexer's.

mod chain;
mod operator;
mod store;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use auspex_oracle::job::plan::{Presence, State};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use self::chain::Chain;
use self::operator::{Operator, Post};

/// Operators of the one set, and how many of them a delivery needs.
pub(crate) const OPERATORS: usize = 3;
pub(crate) const THRESHOLD: usize = 2;

const SEEDS: u64 = 10_000;
/// A tick is half a second.
const TICK_MS: i64 = 500;
const CHAOS_TICKS: u64 = 160;
const HEALING_TICKS_MAX: u64 = 3_000;

#[test]
fn every_seed_keeps_every_promise() {
    let read = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    if let Some(seed) = read("AUSPEX_SEED") {
        World::new(seed).run();
        return;
    }
    let seeds = read("AUSPEX_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let (delivered, batched) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seeds <= seed {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| World::new(seed).run())) {
                        Ok(done) => {
                            delivered.fetch_add(done.delivered, Ordering::Relaxed);
                            batched.fetch_add(done.batched, Ordering::Relaxed);
                        }
                        Err(panic) => {
                            eprintln!(
                                "seed {seed} breaks a promise; AUSPEX_SEED={seed} runs it alone"
                            );
                            resume_unwind(panic);
                        }
                    }
                }
            });
        }
    });
    // A world in which nothing happens keeps every promise.
    assert!(seeds < delivered.load(Ordering::Relaxed), "too little was delivered to mean anything");
    assert!(seeds / 10 < batched.load(Ordering::Relaxed), "too little travelled together");
}

/// What one world came to.
struct Done {
    delivered: u64,
    batched: u64,
}

/// How often things go wrong, drawn once per seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) crash: f64,
    pub(crate) pause: f64,
    pub(crate) clock_jump: f64,
    pub(crate) message_loss: f64,
    pub(crate) message_double: f64,
    pub(crate) board_down: f64,
    pub(crate) reorg: f64,
    pub(crate) drop: f64,
    pub(crate) spike: f64,
    pub(crate) empty: f64,
    pub(crate) lag: f64,
    pub(crate) slow_block: f64,
    /// New deliveries come while a manager notes what became of earlier ones.
    pub(crate) deferral: f64,
}

impl Faults {
    fn drawn(rng: &mut SmallRng) -> Self {
        let mut draw =
            |most: f64| if rng.random_bool(0.4) { 0.0 } else { rng.random_range(0.0..most) };
        Self {
            crash: draw(0.03),
            pause: draw(0.03),
            clock_jump: draw(0.02),
            message_loss: draw(0.9),
            message_double: draw(0.5),
            board_down: draw(0.8),
            reorg: draw(0.06),
            drop: draw(0.05),
            spike: draw(0.15),
            empty: draw(0.01),
            lag: draw(0.5),
            slow_block: draw(0.3),
            deferral: draw(0.7),
        }
    }

    fn none() -> Self {
        Self {
            crash: 0.0,
            pause: 0.0,
            clock_jump: 0.0,
            message_loss: 0.0,
            message_double: 0.0,
            board_down: 0.0,
            reorg: 0.0,
            drop: 0.0,
            spike: 0.0,
            empty: 0.0,
            lag: 0.0,
            slow_block: 0.0,
            deferral: 0.0,
        }
    }
}

struct World {
    rng: SmallRng,
    faults: Faults,
    chain: Chain,
    operators: Vec<Operator>,
    /// What the board holds.
    board: Vec<Post>,
    /// What the broker holds: due tick, addressee, message.
    bus: Vec<(u64, usize, Post)>,
    now_ms: i64,
    tight_budget: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let faults = Faults::drawn(&mut rng);
        let tight_budget = rng.random_bool(0.1);
        let odd = rng.random_bool(0.15);
        let chain = Chain::new(&mut rng);
        let operators =
            (0..OPERATORS).map(|me| Operator::new(me, tight_budget, odd && me == 2)).collect();
        Self {
            rng,
            faults,
            chain,
            operators,
            board: Vec::new(),
            bus: Vec::new(),
            now_ms: 0,
            tight_budget,
        }
    }

    fn run(mut self) -> Done {
        for tick in 0..CHAOS_TICKS {
            self.chain.arrivals(tick, &mut self.rng);
            self.disturb();
            self.tick(tick);
        }
        self.faults = Faults::none();
        let must_deliver = self.deliverable();
        for operator in &mut self.operators {
            operator.heal();
        }
        self.chain.heal();
        let mut tick = CHAOS_TICKS;
        while !self.is_quiet() {
            assert!(
                tick < CHAOS_TICKS + HEALING_TICKS_MAX,
                "a job never ends: {:#?}",
                self.stuck()
            );
            self.tick(tick);
            for operator in &mut self.operators {
                operator.db.resume();
            }
            tick += 1;
        }
        self.verdict(&must_deliver)
    }

    fn tick(&mut self, tick: u64) {
        self.now_ms += TICK_MS;
        if tick.is_multiple_of(4) && !self.rng.random_bool(self.faults.slow_block) {
            self.chain.mine(&self.faults, &mut self.rng);
        }
        self.carry(tick);
        let board_up = !self.rng.random_bool(self.faults.board_down);
        for me in 0..OPERATORS {
            let operator = &mut self.operators[me];
            operator.discover(&self.chain, self.now_ms, &self.faults, &mut self.rng);
            let board = board_up.then_some(&self.board[..]);
            operator.act(tick, self.now_ms, &mut self.chain, board, &self.faults, &mut self.rng);
            self.publish(me, tick, board_up);
        }
        self.promises();
    }

    fn disturb(&mut self) {
        if self.rng.random_bool(self.faults.reorg) {
            self.chain.reorg(&mut self.rng);
        }
        self.chain.lose(self.faults.drop, &mut self.rng);
        for (me, operator) in self.operators.iter_mut().enumerate() {
            operator.disturb(&self.faults, &mut self.rng);
            if self.rng.random_bool(self.faults.empty) {
                self.chain.empty(me);
            }
        }
    }

    /// Takes what an operator has to say to the broker and to the board.
    fn publish(&mut self, me: usize, tick: u64, board_up: bool) {
        for outgoing in &mut self.operators[me].db.outbox {
            if !outgoing.bus_acked {
                for to in (0..OPERATORS).filter(|to| *to != me) {
                    if self.rng.random_bool(self.faults.message_loss) {
                        continue;
                    }
                    let copies =
                        if self.rng.random_bool(self.faults.message_double) { 2 } else { 1 };
                    for _ in 0..copies {
                        let due = tick + self.rng.random_range(0..6);
                        self.bus.push((due, to, outgoing.post));
                    }
                }
                // The broker says that it has it, whether or not anybody gets it.
                outgoing.bus_acked = true;
            }
            if !outgoing.board_acked && board_up {
                self.board.push(outgoing.post);
                outgoing.board_acked = true;
            }
        }
    }

    fn carry(&mut self, tick: u64) {
        let due: Vec<_> = self.bus.extract_if(.., |(due, _, _)| *due <= tick).collect();
        for (_, to, post) in due {
            self.operators[to].db.receive(&post);
        }
    }

    /// What holds at every step, whatever goes wrong.
    fn promises(&self) {
        for (me, operator) in self.operators.iter().enumerate() {
            operator.db.promises();
            // O11, on every branch that was ever the chain.
            assert!(
                self.chain.paid(me) <= operator.policy().budget,
                "operator {me} is over budget"
            );
            // O6 and O7: the chain holds nothing of ours that the database does not know.
            for hash in self.chain.mined(me) {
                assert!(operator.db.knows(hash), "operator {me} has mined an unknown transaction");
            }
            for (request, job) in &operator.db.jobs {
                if job.state == State::Done {
                    let presence = self.chain.safe_presence(*request);
                    assert_eq!(presence, Presence::Delivered, "O5: done before it is safe");
                }
            }
        }
        // O5: the chain itself accepts one result; ours must all be the same one.
        assert!(self.chain.deliveries_max() <= 1);
    }

    /// Requests that a healed world has the time and the money to deliver.
    fn deliverable(&self) -> Vec<u32> {
        if self.tight_budget {
            return Vec::new();
        }
        let time = self.chain.time();
        (0..self.chain.requests())
            .filter(|request| {
                self.chain.presence(*request) == Presence::Funded
                    && time + 120 < self.chain.deadline(*request)
                    && !self.operators.iter().any(|operator| operator.db.is_over(*request))
            })
            .collect()
    }

    fn is_quiet(&self) -> bool {
        let no_work = (0..self.chain.requests()).all(|request| {
            self.chain.presence(request) != Presence::Funded
                || self.chain.deadline(request) <= self.chain.time()
        });
        no_work && self.operators.iter().all(|operator| operator.db.is_quiet())
    }

    fn stuck(&self) -> Vec<String> {
        let mut stuck: Vec<String> =
            self.operators.iter().flat_map(|operator| operator.db.unfinished()).collect();
        for request in 0..self.chain.requests() {
            stuck.push(format!("request {request}: {:?}", self.chain.presence(request)));
        }
        stuck.push(format!("{:?}", self.faults));
        stuck
    }

    fn verdict(&self, must_deliver: &[u32]) -> Done {
        for operator in &self.operators {
            operator.db.nonces_are_contiguous(self.chain.nonce(operator.me));
        }
        for request in must_deliver {
            let presence = self.chain.presence(*request);
            assert_eq!(
                presence,
                Presence::Delivered,
                "O8: request {request} had time and was lost"
            );
        }
        let delivered = (0..self.chain.requests())
            .filter(|request| self.chain.presence(*request) == Presence::Delivered);
        let batched = self.operators.iter().map(|operator| operator.db.batches()).sum();
        Done { delivered: delivered.count() as u64, batched }
    }
}
