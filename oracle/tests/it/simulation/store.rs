//! An operator's database as a value. It keeps the rules of `job::store`, `quorum::store` and `transaction::store`: fences,
//! unique intents, one result per request. The tests of those modules show that PostgreSQL keeps them too.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, Bytes};
use auspex_oracle::clock::elapsed;
use auspex_oracle::job::plan::{Delivery, State};
use auspex_oracle::limits::{
    ATTEMPTS_PER_INTENT_MAX, CONSECUTIVE_REVERTS_MAX, DELIVERED_RECHECK, LEASE, RETRY_WAIT_MAX,
    TRANSACTIONS_IN_FLIGHT_MAX,
};
use auspex_oracle::transaction::books::Waiting;
use auspex_oracle::transaction::fee::Fees;
use auspex_oracle::transaction::intent::Call;
use auspex_oracle::transaction::plan::{Attempt, Inclusion, IntentId, Outcome, Queued, Slot};

use super::OPERATORS;
use super::chain::BATCHED_GAS;
use super::operator::Post;

#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) state: State,
    pub(crate) seen_block: u64,
    pub(crate) epoch: u64,
    pub(crate) quorum_at: Option<i64>,
    leased_until: Option<i64>,
    due: i64,
    wakes: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) request: u32,
    epoch: u64,
    wakes: u64,
}

/// A fenced write came too late.
#[derive(Debug)]
pub(crate) struct Lost;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing {
    pub(crate) post: Post,
    pub(crate) bus_acked: bool,
    pub(crate) board_acked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IntentState {
    Queued,
    Sent,
    Included,
    Reverted,
    Confirmed,
    Failed,
    Replaced,
}

#[derive(Debug, Clone)]
struct Intent {
    request: Option<u32>,
    /// The batch that it travels in.
    carrier: Option<usize>,
    is_batch: bool,
    state: IntentState,
    nonce: Option<u64>,
    wanted: bool,
    attempts: Vec<Row>,
    recorded: Option<Inclusion>,
}

/// A signed transaction.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) hash: B256,
    pub(crate) nonce: u64,
    pub(crate) fees: Fees,
    pub(crate) gas_limit: u64,
    pub(crate) cancels: bool,
    pub(crate) delivers: Vec<u32>,
    signed_at: i64,
    sent_at: Option<i64>,
}

#[derive(Debug, Default)]
pub(crate) struct Db {
    pub(crate) jobs: BTreeMap<u32, Job>,
    /// The recorded result's digest, and whether it is signed.
    pub(crate) results: BTreeMap<u32, (u64, bool)>,
    pub(crate) votes: BTreeMap<(u32, usize), u64>,
    pub(crate) outbox: Vec<Outgoing>,
    pub(crate) next_nonce: u64,
    pub(crate) epoch: u64,
    pub(crate) stopped: bool,
    resumed_nonce: u64,
    intents: Vec<Intent>,
    known: BTreeSet<B256>,
    /// How often a reorg has taken a transaction out.
    rolled_back: usize,
    /// Every digest that was ever signed, to show that there is one per request.
    signed: BTreeMap<u32, BTreeSet<u64>>,
}

impl Db {
    pub(crate) fn discover(&mut self, request: u32, seen_block: u64, now: i64) {
        let job = self.jobs.entry(request).or_insert(Job {
            state: State::Queued,
            seen_block,
            epoch: 0,
            quorum_at: None,
            leased_until: None,
            due: now,
            wakes: 0,
        });
        if job.state == State::Dropped {
            job.state = State::Queued;
            job.epoch += 1;
            job.due = now;
        }
        if job.seen_block != seen_block {
            job.seen_block = seen_block;
            job.wakes += 1;
        }
    }

    pub(crate) fn claim(&mut self, now: i64) -> Option<Lease> {
        let (lease, retry) = (ms(LEASE), ms(RETRY_WAIT_MAX));
        let (request, job) = self.jobs.iter_mut().find(|(_, job)| {
            job.state.is_active()
                && (job.due <= now || now + retry < job.due)
                && job.leased_until.is_none_or(|until| until <= now || now + lease < until)
        })?;
        job.epoch += 1;
        job.leased_until = Some(now + lease);
        Some(Lease { request: *request, epoch: job.epoch, wakes: job.wakes })
    }

    fn held(&mut self, lease: &Lease) -> Result<&mut Job, Lost> {
        match self.jobs.get_mut(&lease.request) {
            Some(job) if job.epoch == lease.epoch => Ok(job),
            _ => Err(Lost),
        }
    }

    pub(crate) fn renew(&mut self, lease: &Lease, now: i64) -> Result<(), Lost> {
        self.held(lease)?.leased_until = Some(now + ms(LEASE));
        Ok(())
    }

    pub(crate) fn release(&mut self, lease: &Lease, wait: i64, now: i64) -> Result<(), Lost> {
        let job = self.held(lease)?;
        job.leased_until = None;
        job.due = if job.wakes == lease.wakes { now + wait } else { now };
        Ok(())
    }

    pub(crate) fn become_state(
        &mut self,
        lease: &Lease,
        state: State,
        now: i64,
    ) -> Result<(), Lost> {
        let job = self.held(lease)?;
        job.state = state;
        job.due = now;
        job.leased_until = None;
        if matches!(
            state,
            State::Delivered | State::Done | State::Dropped | State::Closed | State::Declined
        ) {
            for intent in self.of(lease.request) {
                if matches!(intent.state, IntentState::Queued | IntentState::Sent) {
                    intent.wanted = false;
                }
            }
            let fatal = matches!(state, State::Dropped | State::Closed | State::Declined);
            let carrier = self
                .of(lease.request)
                .filter(|intent| matches!(intent.state, IntentState::Queued | IntentState::Sent))
                .filter_map(|intent| intent.carrier)
                .max();
            if let Some(carrier) = carrier {
                let still = self.intents.iter().any(|i| i.carrier == Some(carrier) && i.wanted);
                self.intents[carrier].wanted &= !fatal && still;
            }
        }
        Ok(())
    }

    fn of(&mut self, request: u32) -> impl Iterator<Item = &mut Intent> {
        self.intents.iter_mut().filter(move |intent| intent.request == Some(request))
    }

    pub(crate) fn record(&mut self, lease: &Lease, digest: u64) -> Result<u64, Lost> {
        self.held(lease)?;
        Ok(self.results.entry(lease.request).or_insert((digest, false)).0)
    }

    pub(crate) fn sign(
        &mut self,
        lease: &Lease,
        me: usize,
        digest: u64,
        now: i64,
    ) -> Result<(), Lost> {
        self.held(lease)?;
        assert_eq!(self.results[&lease.request].0, digest, "what is signed is what was recorded");
        self.results.insert(lease.request, (digest, true));
        self.signed.entry(lease.request).or_default().insert(digest);
        self.votes.insert((lease.request, me), digest);
        let post = Post { from: me, request: lease.request, digest };
        self.outbox.push(Outgoing { post, bus_acked: false, board_acked: false });
        let job = self.held(lease)?;
        job.state = State::Signed;
        job.leased_until = Some(now + ms(LEASE));
        Ok(())
    }

    pub(crate) fn receive(&mut self, post: &Post) {
        let Some(job) = self.jobs.get_mut(&post.request) else { return };
        let ours = self.results.get(&post.request).map(|(digest, _)| *digest);
        let vote = self.votes.entry((post.request, post.from)).or_insert(post.digest);
        if Some(*vote) != ours {
            *vote = post.digest;
        }
        job.wakes += 1;
        job.due = job.due.min(i64::MIN / 2);
    }

    pub(crate) fn votes_for(&self, request: u32, digest: u64) -> usize {
        self.votes.iter().filter(|((about, _), said)| *about == request && **said == digest).count()
    }

    pub(crate) fn reached(&mut self, lease: &Lease, now: i64) -> Result<(), Lost> {
        self.held(lease)?.quorum_at.get_or_insert(now);
        Ok(())
    }

    pub(crate) fn intend(&mut self, lease: &Lease, now: i64) -> Result<(), Lost> {
        self.held(lease)?;
        let request = lease.request;
        if !self.of(request).any(|intent| intent.is_under_way()) {
            let asleep = self.of(request).filter(|intent| {
                let open = matches!(
                    intent.state,
                    IntentState::Queued | IntentState::Sent | IntentState::Included
                );
                open && intent.carrier.is_none() && !intent.attempts.iter().any(|row| row.cancels)
            });
            match asleep.last() {
                Some(intent) => intent.wanted = true,
                None => self.intents.push(Intent::queued(Some(request))),
            }
        }
        self.become_state(lease, State::Delivering, now)
    }

    pub(crate) fn deliveries(&self, request: u32) -> (Option<Delivery>, u32) {
        let mine = self.intents.iter().filter(|intent| intent.request == Some(request));
        let newest = mine.clone().next_back().map(|intent| match intent.is_under_way() {
            true => Delivery::UnderWay,
            false => Delivery::Over,
        });
        let reverted = mine
            .filter(|intent| matches!(intent.state, IntentState::Reverted | IntentState::Failed));
        (newest, u32::try_from(reverted.count()).expect("few"))
    }

    pub(crate) fn slots(&self, now: i64) -> Vec<Slot> {
        let mut slots: Vec<Slot> = Vec::new();
        for (index, intent) in self.intents.iter().enumerate() {
            let open = matches!(
                intent.state,
                IntentState::Sent | IntentState::Included | IntentState::Reverted
            );
            if let (true, Some(nonce)) = (open, intent.nonce) {
                let since = |at: i64| elapsed((now - at) as f64 / 1000.0);
                let mut attempts: Vec<Attempt> = intent
                    .attempts
                    .iter()
                    .map(|row| Attempt {
                        hash: row.hash,
                        fees: row.fees,
                        gas_limit: row.gas_limit,
                        cancels: row.cancels,
                        since_signed: since(row.signed_at),
                        since_sent: row.sent_at.map(since),
                    })
                    .collect();
                attempts.sort_by_key(|attempt| attempt.fees);
                slots.push(Slot {
                    intent: IntentId(index as i64),
                    nonce,
                    wanted: intent.wanted,
                    attempts,
                    recorded: intent.recorded,
                    observed: None,
                });
            }
        }
        slots.sort_by_key(|slot| slot.nonce);
        slots
    }

    pub(crate) fn queue(&self, gas: impl Fn(u32) -> Option<u64>) -> Vec<Queued> {
        let queued = self.intents.iter().enumerate();
        queued
            .filter(|(_, intent)| intent.state == IntentState::Queued && intent.carrier.is_none())
            .map(|(index, intent)| Queued {
                intent: IntentId(index as i64),
                wanted: intent.wanted,
                gas_limit: match intent.is_batch {
                    true => {
                        Some(BATCHED_GAS * self.requests_of(IntentId(index as i64)).len() as u64)
                    }
                    false => intent.request.and_then(&gas),
                },
            })
            .collect()
    }

    /// What may travel together, as the manager reads it.
    pub(crate) fn waiting(
        &self,
        gas: impl Fn(u32) -> Option<u64>,
        deadline: impl Fn(u32) -> u64,
    ) -> Vec<Waiting> {
        let alone =
            self.intents.iter().enumerate().filter(|(_, intent)| {
                intent.state == IntentState::Queued && intent.carrier.is_none()
            });
        alone
            .filter_map(|(index, intent)| {
                let request = intent.request?;
                let mut earlier = self.intents[..index].iter();
                Some(Waiting {
                    intent: IntentId(index as i64),
                    wanted: intent.wanted,
                    call: Call { target: Address::ZERO, calldata: Bytes::new() },
                    gas_limit: gas(request),
                    would_revert: gas(request).is_none(),
                    deadline: Some(deadline(request)),
                    first_try: !earlier.any(|intent| intent.request == Some(request)),
                })
            })
            .collect()
    }

    pub(crate) fn form_batch(&mut self, epoch: u64, together: &[IntentId]) -> Result<(), Lost> {
        self.guard(epoch)?;
        let carrier = self.intents.len();
        self.intents.push(Intent { is_batch: true, ..Intent::queued(None) });
        for delivery in together {
            self.intents[delivery.0 as usize].carrier = Some(carrier);
        }
        Ok(())
    }

    pub(crate) fn spent(&self) -> u128 {
        let settled = self.intents.iter().filter(|intent| intent.is_settled());
        settled.filter_map(|intent| intent.recorded).map(|inclusion| inclusion.cost).sum()
    }

    pub(crate) fn consecutive_reverts(&self) -> u32 {
        let mut outcomes: Vec<(u64, bool)> = self
            .intents
            .iter()
            .filter_map(|intent| {
                let nonce = intent.nonce.filter(|nonce| self.resumed_nonce <= *nonce)?;
                match intent.state {
                    IntentState::Included | IntentState::Confirmed => Some((nonce, false)),
                    IntentState::Reverted | IntentState::Failed if intent.wanted => {
                        Some((nonce, true))
                    }
                    _ => None,
                }
            })
            .collect();
        outcomes.sort_unstable();
        let reverted = outcomes.iter().rev().take_while(|(_, reverted)| *reverted).count();
        u32::try_from(reverted).expect("few").min(CONSECUTIVE_REVERTS_MAX)
    }

    pub(crate) fn requests_of(&self, intent: IntentId) -> Vec<u32> {
        self.family(intent).filter_map(|member| self.intents[member].request).collect()
    }

    pub(crate) fn attempts_of(&self, intent: IntentId) -> impl Iterator<Item = B256> + use<'_> {
        self.intents[intent.0 as usize].attempts.iter().map(|row| row.hash)
    }

    /// An intent and, of a batch, what it carries.
    fn family(&self, intent: IntentId) -> impl Iterator<Item = usize> + use<'_> {
        let id = intent.0 as usize;
        let members = self.intents.iter().enumerate();
        members.filter(move |(index, i)| *index == id || i.carrier == Some(id)).map(|(i, _)| i)
    }

    pub(crate) fn assign(&mut self, epoch: u64, intent: IntentId, row: Row) -> Result<(), Lost> {
        self.guard(epoch)?;
        let target = &mut self.intents[intent.0 as usize];
        if target.state != IntentState::Queued || self.next_nonce != row.nonce {
            return Err(Lost);
        }
        target.state = IntentState::Sent;
        target.nonce = Some(row.nonce);
        let carried = self.intents.iter_mut().filter(|i| i.carrier == Some(intent.0 as usize));
        for member in carried.filter(|member| member.state == IntentState::Queued) {
            member.state = IntentState::Sent;
        }
        self.next_nonce += 1;
        self.keep(intent, row);
        Ok(())
    }

    pub(crate) fn replace(&mut self, epoch: u64, intent: IntentId, row: Row) -> Result<(), Lost> {
        self.guard(epoch)?;
        self.keep(intent, row);
        Ok(())
    }

    fn keep(&mut self, intent: IntentId, row: Row) {
        self.known.insert(row.hash);
        self.intents[intent.0 as usize].attempts.push(row);
    }

    pub(crate) fn include(
        &mut self,
        epoch: u64,
        intent: IntentId,
        inclusion: Option<Inclusion>,
        delivered: &[u32],
        now: i64,
    ) -> Result<(), Lost> {
        self.guard(epoch)?;
        let target = &mut self.intents[intent.0 as usize];
        if target.is_settled() {
            return Ok(());
        }
        target.recorded = inclusion;
        self.rolled_back += usize::from(inclusion.is_none());
        let target = &self.intents[intent.0 as usize];
        let state = match inclusion {
            None => IntentState::Sent,
            Some(inclusion) => {
                let cancelled =
                    target.attempts.iter().any(|row| row.hash == inclusion.hash && row.cancels);
                match inclusion.succeeded && !cancelled {
                    true => IntentState::Included,
                    false => IntentState::Reverted,
                }
            }
        };
        let is_batch = target.is_batch;
        let family: Vec<usize> = self.family(intent).collect();
        for index in family.iter().copied() {
            if let Some(request) = self.intents[index].request {
                self.include_delivery(index, request, state, delivered);
            }
        }
        if is_batch {
            let members = || self.intents.iter().filter(|i| i.carrier == Some(intent.0 as usize));
            let wanted = match state {
                IntentState::Included => true,
                IntentState::Reverted => {
                    self.intents[intent.0 as usize].wanted
                        && members().any(|i| i.request.is_none_or(|r| !delivered.contains(&r)))
                }
                _ => members().any(|member| member.wanted),
            };
            let batch = &mut self.intents[intent.0 as usize];
            (batch.state, batch.wanted) = (state, wanted);
        }
        self.move_jobs(&family, IntentState::Included, now);
        Ok(())
    }

    /// Jobs follow their deliveries, unless a worker holds them: then their bell rings, as it does when nothing came through.
    fn move_jobs(&mut self, family: &[usize], came_through: IntentState, now: i64) {
        for index in family.iter().copied() {
            let Intent { request: Some(request), state, wanted, .. } = self.intents[index] else {
                continue;
            };
            let other = self.intents.iter().any(|i| {
                let unsettled = matches!(i.state, IntentState::Queued | IntentState::Sent);
                i.request == Some(request) && i.wanted && unsettled
            });
            let Some(job) = self.jobs.get_mut(&request) else { continue };
            let next = match (job.state, state) {
                (State::Signed | State::Delivering, IntentState::Included) if wanted => {
                    Some((State::Delivered, DELIVERED_RECHECK))
                }
                (State::Delivered, IntentState::Confirmed) if !other => {
                    Some((State::Done, DELIVERED_RECHECK))
                }
                _ => None,
            };
            match next.filter(|_| state == came_through && job.leased_until.is_none()) {
                Some((next, wait)) => {
                    job.state = next;
                    job.epoch += 1;
                    job.due = now + ms(wait);
                }
                None => {
                    job.wakes += 1;
                    job.due = job.due.min(i64::MIN / 2);
                }
            }
        }
    }

    fn include_delivery(
        &mut self,
        index: usize,
        request: u32,
        state: IntentState,
        delivered: &[u32],
    ) {
        let displaced = self.intents.iter().enumerate().any(|(other, intent)| {
            other != index && intent.request == Some(request) && intent.is_under_way()
        });
        let ended = self.jobs.get(&request).is_some_and(|job| !job.state.is_active());
        let here = delivered.contains(&request);
        let target = &mut self.intents[index];
        let left_out = state == IntentState::Included && target.carrier.is_some() && !here;
        target.state = if left_out { IntentState::Reverted } else { state };
        target.wanted = (target.wanted || target.state == IntentState::Included)
            && !(target.state == IntentState::Reverted && (left_out || here))
            && !displaced
            && !(ended && target.state == IntentState::Sent);
    }

    pub(crate) fn settle(
        &mut self,
        epoch: u64,
        intent: IntentId,
        outcome: Outcome,
        now: i64,
    ) -> Result<(), Lost> {
        self.guard(epoch)?;
        let state = match outcome {
            Outcome::Confirmed => IntentState::Confirmed,
            Outcome::Failed => IntentState::Failed,
            Outcome::Replaced => IntentState::Replaced,
        };
        let family: Vec<usize> = self.family(intent).collect();
        for index in family.iter().copied() {
            let target = &mut self.intents[index];
            if target.is_settled() {
                continue;
            }
            let left_out = target.carrier.is_some() && target.state != IntentState::Included;
            target.state = match left_out && outcome == Outcome::Confirmed {
                true => IntentState::Replaced,
                false => state,
            };
        }
        self.move_jobs(&family, IntentState::Confirmed, now);
        Ok(())
    }

    pub(crate) fn stop(&mut self, epoch: u64) -> Result<(), Lost> {
        self.guard(epoch)?;
        self.stopped = true;
        Ok(())
    }

    pub(crate) fn resume(&mut self) {
        if self.stopped {
            self.stopped = false;
            self.resumed_nonce = self.next_nonce;
        }
    }

    fn guard(&self, epoch: u64) -> Result<(), Lost> {
        if self.epoch == epoch { Ok(()) } else { Err(Lost) }
    }

    pub(crate) fn row(&self, hash: B256) -> Row {
        let rows = self.intents.iter().flat_map(|intent| &intent.attempts);
        rows.clone().find(|row| row.hash == hash).expect("O7: what is sent was stored").clone()
    }

    pub(crate) fn handed_over(&mut self, hash: B256, now: i64) {
        for row in self.intents.iter_mut().flat_map(|intent| &mut intent.attempts) {
            if row.hash == hash {
                row.sent_at = Some(now);
            }
        }
    }

    pub(crate) fn knows(&self, hash: B256) -> bool {
        self.known.contains(&hash)
    }

    pub(crate) fn promises(&self) {
        for (request, digests) in &self.signed {
            assert_eq!(digests.len(), 1, "two results were signed for request {request}");
        }
        for request in self.jobs.keys() {
            let mine = self.intents.iter().filter(|intent| intent.request == Some(*request));
            let under_way = mine.filter(|intent| intent.is_under_way()).count();
            assert!(under_way <= 1, "request {request} has {under_way} deliveries under way");
        }
        let nonces: BTreeSet<u64> = self.intents.iter().filter_map(|intent| intent.nonce).collect();
        assert_eq!(nonces.len() as u64, self.next_nonce, "O6: nonces have gaps or doubles");
        self.bounds();
    }

    /// O10: everything that the database holds is bounded by the number of requests.
    fn bounds(&self) {
        for intent in &self.intents {
            assert!(intent.attempts.len() <= ATTEMPTS_PER_INTENT_MAX, "O10: {intent:?}");
        }
        let unmined = self
            .intents
            .iter()
            .filter(|i| i.nonce.is_some() && i.state == IntentState::Sent && i.recorded.is_none());
        // Each reorg may bring back what was included, beside what has been sent since.
        let in_flight = TRANSACTIONS_IN_FLIGHT_MAX * (1 + self.rolled_back);
        assert!(unmined.count() <= in_flight, "O10: too many transactions are under way");
        let requests = self.jobs.len();
        assert!(self.outbox.len() <= requests, "O10: the outbox grows");
        assert!(self.votes.len() <= requests * OPERATORS, "O10: the votes grow");
    }

    pub(crate) fn nonces_are_contiguous(&self, chain_nonce: u64) {
        assert_eq!(self.next_nonce, chain_nonce, "O6: a nonce is stuck");
        let numbered = self.intents.iter().filter(|intent| intent.nonce.is_some());
        assert_eq!(numbered.count() as u64, self.next_nonce);
    }

    /// How many batches were sent.
    pub(crate) fn batches(&self) -> u64 {
        self.intents.iter().filter(|i| i.is_batch && i.nonce.is_some()).count() as u64
    }

    /// True when the job ended for a reason that no healing takes back.
    pub(crate) fn is_over(&self, request: u32) -> bool {
        let declined = self
            .jobs
            .get(&request)
            .is_some_and(|job| matches!(job.state, State::Declined | State::Closed));
        declined || auspex_oracle::limits::DELIVERIES_PER_REQUEST_MAX <= self.deliveries(request).1
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.jobs.values().all(|job| !job.state.is_active())
            && self.intents.iter().all(Intent::is_settled)
    }

    pub(crate) fn unfinished(&self) -> Vec<String> {
        let jobs = self.jobs.iter().filter(|(_, job)| job.state.is_active());
        let intents = self.intents.iter().filter(|intent| !intent.is_settled());
        let jobs = jobs.map(|(request, job)| format!("{request}: {job:?}"));
        jobs.chain(intents.map(|intent| format!("{intent:?}"))).collect()
    }
}

impl Intent {
    fn queued(request: Option<u32>) -> Self {
        Self {
            request,
            carrier: None,
            is_batch: false,
            state: IntentState::Queued,
            nonce: None,
            wanted: true,
            attempts: Vec::new(),
            recorded: None,
        }
    }

    fn is_under_way(&self) -> bool {
        self.wanted
            && matches!(self.state, IntentState::Queued | IntentState::Sent | IntentState::Included)
    }

    fn is_settled(&self) -> bool {
        matches!(self.state, IntentState::Confirmed | IntentState::Failed | IntentState::Replaced)
    }
}

impl Row {
    pub(crate) fn new(
        hash: B256,
        nonce: u64,
        (fees, gas_limit): (Fees, u64),
        delivers: Vec<u32>,
        now: i64,
    ) -> Self {
        let cancels = delivers.is_empty();
        Self { hash, nonce, fees, gas_limit, cancels, delivers, signed_at: now, sent_at: None }
    }
}

pub(crate) fn ms(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("short")
}
