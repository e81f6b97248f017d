//! An operator's processes: two workers and two managers over one database. Every write is a step of its own, so that a
//! crash, a pause or a reorg can fall between any two.

use std::collections::VecDeque;
use std::time::Duration;

use alloy::primitives::{B256, U256};
use auspex_oracle::clock::elapsed;
use auspex_oracle::job::plan::{
    Decision, Policy as JobPolicy, Presence, Standing, State, View, decide,
};
use auspex_oracle::limits::JOB_RECHECK;
use auspex_oracle::transaction::batch::{gather, pays};
use auspex_oracle::transaction::plan::{Action, IntentId, Policy, View as ManagerView, plan};
use rand::Rng;
use rand::rngs::SmallRng;

use super::chain::{BATCHED_GAS, Chain, DELIVERY_GAS, Sent};
use super::store::{Db, Lease, Lost, Row, ms};
use super::{Faults, OPERATORS, THRESHOLD};

const GWEI: u128 = 1_000_000_000;

const JOB_POLICY: JobPolicy =
    JobPolicy { answer_margin: 15, delivery_margin: 4, takeover: Duration::from_secs(8) };

/// What one operator tells the others: a signature over a result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Post {
    pub(crate) from: usize,
    pub(crate) request: u32,
    pub(crate) digest: u64,
}

#[derive(Debug, Default)]
enum Worker {
    #[default]
    Idle,
    Claimed(Lease),
    Looked(Lease, View),
    Answering(Lease, u32),
    Recorded(Lease, u64),
}

#[derive(Debug, Default)]
struct Manager {
    /// The epoch under which it believes to have custody.
    epoch: Option<u64>,
    todo: VecDeque<Todo>,
}

#[derive(Debug)]
enum Todo {
    Act(Action, usize),
    Send(B256),
}

#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) me: usize,
    pub(crate) db: Db,
    /// Derives other answers than the rest.
    odd: bool,
    tight_budget: bool,
    workers: [Worker; 2],
    managers: [Manager; 2],
    /// The manager whose session holds the lock.
    lock: Option<usize>,
    /// Ticks for which each process sleeps: workers first, then managers.
    asleep: [u32; 4],
    clock_offset: i64,
    hashes: u64,
}

impl Operator {
    pub(crate) fn new(me: usize, tight_budget: bool, odd: bool) -> Self {
        Self {
            me,
            db: Db::default(),
            odd,
            tight_budget,
            workers: Default::default(),
            managers: Default::default(),
            lock: None,
            asleep: [0; 4],
            clock_offset: 0,
            hashes: 0,
        }
    }

    pub(crate) fn policy(&self) -> Policy {
        let deliveries = if self.tight_budget { 2 } else { 1_000 };
        Policy {
            fee_cap: 20 * GWEI,
            budget: deliveries * u128::from(DELIVERY_GAS) * 3 * GWEI,
            raise_after: Duration::from_secs(6),
            resend_after: Duration::from_secs(3),
        }
    }

    pub(crate) fn disturb(&mut self, faults: &Faults, rng: &mut SmallRng) {
        if rng.random_bool(faults.clock_jump) {
            self.clock_offset += rng.random_range(-7_200_000..7_200_000);
        }
        for process in 0..4 {
            if rng.random_bool(faults.pause) {
                self.asleep[process] = rng.random_range(1..150);
                // A session may die while its process sleeps.
                if 2 <= process && self.lock == Some(process - 2) && rng.random_bool(0.5) {
                    self.lock = None;
                }
            }
            if rng.random_bool(faults.crash) {
                match process {
                    0 | 1 => self.workers[process] = Worker::Idle,
                    _ => {
                        self.managers[process - 2] = Manager::default();
                        if self.lock == Some(process - 2) {
                            self.lock = None;
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.asleep = [0; 4];
    }

    pub(crate) fn discover(
        &mut self,
        chain: &Chain,
        now: i64,
        faults: &Faults,
        rng: &mut SmallRng,
    ) {
        if rng.random_bool(0.5) {
            return;
        }
        let head = chain.seen_head(faults, rng);
        for request in 0..chain.requests() {
            let open = chain.presence_at(head, request) == Presence::Funded;
            if open && chain.time_at(head) < chain.deadline(request) {
                self.db.discover(request, head as u64, now + self.clock_offset);
            }
        }
    }

    pub(crate) fn act(
        &mut self,
        tick: u64,
        now_ms: i64,
        chain: &mut Chain,
        board: Option<&[Post]>,
        faults: &Faults,
        rng: &mut SmallRng,
    ) {
        let now = now_ms + self.clock_offset;
        // Several steps per tick, in an order that differs from tick to tick.
        for turn in 0..8 {
            let process = (tick as usize + turn + rng.random_range(0..2)) % 4;
            if 0 < self.asleep[process] {
                self.asleep[process] -= 1;
                continue;
            }
            match process {
                0 | 1 => {
                    let worker = std::mem::take(&mut self.workers[process]);
                    let next = self.work(worker, now, chain, board, faults, rng);
                    self.workers[process] = next.unwrap_or_default();
                }
                _ => self.manage(process - 2, now, chain, faults, rng),
            }
        }
    }

    /// One step of a worker. `Err` means that its lease is lost: it lets go of the job.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a lost lease takes the worker's state with it"
    )]
    fn work(
        &mut self,
        worker: Worker,
        now: i64,
        chain: &Chain,
        board: Option<&[Post]>,
        faults: &Faults,
        rng: &mut SmallRng,
    ) -> Result<Worker, Lost> {
        match worker {
            Worker::Idle => Ok(self.db.claim(now).map_or(Worker::Idle, Worker::Claimed)),
            Worker::Claimed(lease) => {
                let view = self.look(&lease, now, chain, board, faults, rng)?;
                Ok(Worker::Looked(lease, view))
            }
            Worker::Looked(lease, view) => match decide(&view, &JOB_POLICY) {
                Decision::Wait(wait) => {
                    let wait = wait.map_or(JOB_RECHECK, |wait| wait.min(JOB_RECHECK));
                    self.db.release(&lease, ms(wait), now)?;
                    Ok(Worker::Idle)
                }
                Decision::Become(state, _) => {
                    let gone = state != State::Dropped || chain.was_removed(lease.request);
                    assert!(gone, "O12: a job is dropped whose request was never removed");
                    self.db.become_state(&lease, state, now)?;
                    Ok(Worker::Idle)
                }
                Decision::Work => {
                    let left = view.deadline.saturating_sub(view.chain_time);
                    assert!(JOB_POLICY.answer_margin < left, "O9: work starts too late");
                    match self.db.results.get(&lease.request) {
                        Some((digest, _)) => Ok(Worker::Recorded(lease, *digest)),
                        None => Ok(Worker::Answering(lease, rng.random_range(0..6))),
                    }
                }
                Decision::Deliver => {
                    self.db.intend(&lease, now)?;
                    Ok(Worker::Idle)
                }
            },
            Worker::Answering(lease, 0) => {
                let derived = u64::from(lease.request) + if self.odd { 1_000 } else { 0 };
                let recorded = self.db.record(&lease, derived)?;
                Ok(Worker::Recorded(lease, recorded))
            }
            Worker::Answering(lease, left) => {
                self.db.renew(&lease, now)?;
                Ok(Worker::Answering(lease, left - 1))
            }
            Worker::Recorded(lease, digest) => {
                self.db.sign(&lease, self.me, digest, now)?;
                Ok(Worker::Claimed(lease))
            }
        }
    }

    fn look(
        &mut self,
        lease: &Lease,
        now: i64,
        chain: &Chain,
        board: Option<&[Post]>,
        faults: &Faults,
        rng: &mut SmallRng,
    ) -> Result<View, Lost> {
        let request = lease.request;
        let head = chain.seen_head(faults, rng);
        let latest = chain.presence_at(head, request);
        let result = self.db.results.get(&request).copied();
        let state = self.db.jobs[&request].state;
        let mut quorum_for = None;
        if let (State::Signed, Presence::Funded, Some((digest, _))) = (state, latest, result) {
            if self.db.votes_for(request, digest) < THRESHOLD {
                let posts = board.unwrap_or_default().iter();
                for post in posts.filter(|post| post.request == request && post.from != self.me) {
                    self.db.receive(post);
                }
            }
            if THRESHOLD <= self.db.votes_for(request, digest) {
                self.db.reached(lease, now)?;
                let since = self.db.jobs[&request].quorum_at.map_or(0, |at| now - at);
                quorum_for = Some(elapsed(since as f64 / 1000.0));
            }
        }
        let (delivery, deliveries) = self.db.deliveries(request);
        Ok(View {
            state,
            latest,
            safe: chain.safe_presence(request),
            chain_time: chain.time_at(head),
            head_block: head as u64,
            seen_block: self.db.jobs[&request].seen_block,
            delivered_block: 0,
            deadline: chain.deadline(request),
            may_start: true,
            has_result: result.is_some_and(|(_, signed)| signed),
            standing: Standing {
                rank: (self.me + request as usize) % OPERATORS,
                members: OPERATORS,
                quorum_for,
            },
            delivery,
            deliveries,
        })
    }

    fn manage(
        &mut self,
        index: usize,
        now: i64,
        chain: &mut Chain,
        faults: &Faults,
        rng: &mut SmallRng,
    ) {
        let Some(epoch) = self.managers[index].epoch else {
            if self.lock.is_none() {
                self.lock = Some(index);
                self.db.epoch += 1;
                self.managers[index].epoch = Some(self.db.epoch);
            }
            return;
        };
        let done = match self.managers[index].todo.pop_front() {
            None => {
                // A manager confirms its session before it plans.
                if self.lock != Some(index) {
                    self.managers[index] = Manager::default();
                    return;
                }
                let head = chain.seen_head(faults, rng);
                match self.batch(epoch, chain, head) {
                    Ok(false) => {}
                    Ok(true) => return,
                    Err(Lost) => {
                        self.managers[index] = Manager::default();
                        return;
                    }
                }
                let view = self.manager_view(now, chain, head);
                let actions = plan(&view, &self.policy());
                self.managers[index].todo =
                    actions.into_iter().map(|action| Todo::Act(action, head)).collect();
                Ok(None)
            }
            // Deliveries wait: what is left is only to be noted, and the next look comes upon it again.
            Some(Todo::Act(action, _)) if action.is_noted() && rng.random_bool(faults.deferral) => {
                self.managers[index].todo.clear();
                Ok(None)
            }
            Some(Todo::Act(action, head)) => self.execute(epoch, &action, now, chain, head),
            Some(Todo::Send(hash)) => {
                self.send(hash, now, chain);
                Ok(None)
            }
        };
        match done {
            Ok(Some(hash)) => self.managers[index].todo.push_front(Todo::Send(hash)),
            Ok(None) => {}
            Err(Lost) => self.managers[index] = Manager::default(),
        }
    }

    /// Puts waiting deliveries together; a step of its own. Returns whether it did.
    fn batch(&mut self, epoch: u64, chain: &Chain, head: usize) -> Result<bool, Lost> {
        let gas = |request| (!chain.would_revert(head, request)).then_some(DELIVERY_GAS);
        let queue = self.db.waiting(gas, |request| chain.deadline(request));
        let together = gather(&queue, chain.time_at(head));
        if self.db.stopped || together.is_empty() {
            return Ok(false);
        }
        if !pays(BATCHED_GAS * together.len() as u64, &together) {
            return Ok(false);
        }
        let together: Vec<IntentId> = together.iter().map(|waiting| waiting.intent).collect();
        self.db.form_batch(epoch, &together)?;
        Ok(true)
    }

    fn manager_view(&self, now: i64, chain: &Chain, head: usize) -> ManagerView {
        let account = chain.account_at(head, self.me);
        let mut slots = self.db.slots(now);
        for slot in &mut slots {
            if slot.nonce < account.latest_nonce || slot.recorded.is_some() {
                slot.observed = slot
                    .attempts
                    .iter()
                    .rev()
                    .find_map(|attempt| chain.inclusion_at(head, attempt.hash));
                if let (None, Some(recorded)) = (slot.observed, slot.recorded) {
                    let number = recorded.block_number as usize;
                    if head < number || chain.hash_at(number) == recorded.block_hash {
                        slot.observed = Some(recorded);
                    }
                }
            }
        }
        ManagerView {
            next_nonce: self.db.next_nonce,
            chain: account,
            slots,
            queue: self
                .db
                .queue(|request| (!chain.would_revert(head, request)).then_some(DELIVERY_GAS)),
            spent: self.db.spent(),
            consecutive_reverts: self.db.consecutive_reverts(),
            stopped: self.db.stopped,
        }
    }

    /// The database part of an action; what is to be sent comes back and is sent in a step of its own.
    fn execute(
        &mut self,
        epoch: u64,
        action: &Action,
        now: i64,
        chain: &Chain,
        head: usize,
    ) -> Result<Option<B256>, Lost> {
        match action {
            Action::Adopt { .. } => {
                panic!("O6: the chain has used a nonce that was never given out")
            }
            Action::Fill { nonce, .. } => panic!("O6: nonce {nonce} belongs to no intent"),
            Action::Record { intent, inclusion } => {
                let evidence = inclusion.is_some() || self.was_unmined(*intent, chain);
                assert!(evidence, "O12: a transaction is taken out that no reorg took out");
                let head = head.min(chain_length(chain));
                let requests = self.db.requests_of(*intent).into_iter();
                let delivered: Vec<u32> = requests
                    .filter(|request| chain.presence_at(head, *request) == Presence::Delivered)
                    .collect();
                self.db.include(epoch, *intent, *inclusion, &delivered, now)?;
                Ok(None)
            }
            Action::Settle { intent, outcome } => {
                self.db.settle(epoch, *intent, *outcome, now)?;
                Ok(None)
            }
            Action::Stop { .. } => {
                self.db.stop(epoch)?;
                Ok(None)
            }
            Action::Resend { hash } => Ok(Some(*hash)),
            Action::Raise { intent, nonce, fees, gas_limit, cancels } => {
                let requests = if *cancels { Vec::new() } else { self.db.requests_of(*intent) };
                let row = Row::new(self.hash(), *nonce, (*fees, *gas_limit), requests, now);
                let hash = row.hash;
                self.db.replace(epoch, *intent, row)?;
                Ok(Some(hash))
            }
            Action::Send { intent, nonce, fees, gas_limit } => {
                let requests = self.db.requests_of(*intent);
                let row = Row::new(self.hash(), *nonce, (*fees, *gas_limit), requests, now);
                let hash = row.hash;
                self.db.assign(epoch, *intent, row)?;
                Ok(Some(hash))
            }
            Action::Report(_) => Ok(None),
        }
    }

    fn was_unmined(&self, intent: IntentId, chain: &Chain) -> bool {
        self.db.attempts_of(intent).any(|hash| chain.was_unmined(hash))
    }

    fn send(&mut self, hash: B256, now: i64, chain: &mut Chain) {
        let row = self.db.row(hash);
        chain.send(Sent {
            hash,
            sender: self.me,
            nonce: row.nonce,
            fees: row.fees,
            gas_limit: row.gas_limit,
            delivers: row.delivers,
        });
        self.db.handed_over(hash, now);
    }

    fn hash(&mut self) -> B256 {
        self.hashes += 1;
        B256::from(U256::from(self.hashes * OPERATORS as u64 + self.me as u64) << 64)
    }
}

/// The number of the last block; a reorg may have shortened the chain since the plan was made.
fn chain_length(chain: &Chain) -> usize {
    chain.length() - 1
}
