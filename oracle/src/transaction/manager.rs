//! The loop that makes intents true: read the chain and the books, plan, act.

use std::sync::Arc;
use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256};
use anyhow::Context;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use sqlx::PgPool;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chain::{Chain, ChainError, Head};
use crate::failpoint::{Point, pass};
use crate::job::plan::Presence;
use crate::keys::{SignerError, Transmitter};
use crate::limits::{
    CHAIN_QUESTIONS_MAX, DELIVERY_GAS_MAX, NOTING_DEFERRED_MAX, SPENT_READ_AGE_MAX,
    TRANSACTIONS_IN_FLIGHT_MAX,
};
use crate::meter::{Meter, Meters};
use crate::transaction::batch::{self, Experience};
use crate::transaction::books::{self, Books, OpenSlot, Waiting};
use crate::transaction::branch::Branch;
use crate::transaction::fee::Market;
use crate::transaction::intent::Call;
use crate::transaction::plan::{
    Action, ChainView, Inclusion, IntentId, Outcome, Policy, Queued, Slot, View, plan,
};
use crate::transaction::reply::Reply;
use crate::transaction::sign::{self, Signed, Terms};
use crate::transaction::store::{self, Custody, CustodyError};

/// Works on one transmitter's nonces.
#[derive(Debug)]
pub struct Manager {
    pub pool: PgPool,
    pub chain: Chain,
    pub key: Transmitter,
    pub policy: Policy,
    pub holder: String,
    pub meters: Arc<Meters>,
    pub bell: Arc<Notify>,
    /// Rung for the workers when something happened to a delivery.
    pub work: Arc<Notify>,
    pub interval: Duration,
    pub memory: Mutex<Memory>,
}

/// What a manager keeps from one look to the next. All of it can be found out anew.
#[derive(Debug, Default)]
pub struct Memory {
    branch: Branch,
    /// What was spent in the budget's window, in wei, and when that was added up. Too high by what has left the window since,
    /// and never too low: only this manager settles, and adds what it settles.
    spent: Option<(u128, Instant)>,
    experience: Option<Experience>,
    /// How often in a row what became of transactions was left for the next look.
    deferred: u32,
}

impl Manager {
    /// Takes custody of the key when it is free, and works until told to stop or until custody is lost, then begins anew.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut quiet = false;
        while !shutdown.is_cancelled() {
            match self.serve(&shutdown).await {
                Ok(()) => quiet = false,
                Err(error) => {
                    if let Some(SignerError::Refused { .. }) =
                        error.chain().find_map(|cause| cause.downcast_ref())
                    {
                        self.meters.signer_refusals.add(1);
                    }
                    if !quiet {
                        tracing::warn!(error = format!("{error:#}"), "transactions stand still");
                    }
                    quiet = true;
                }
            }
            self.meters.has_custody.set(0);
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(self.interval) => {}
            }
        }
        Ok(())
    }

    async fn serve(&self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let Some(mut custody) = self.take_custody().await? else { return Ok(()) };
        // Another process may have settled meanwhile.
        self.memory.lock().await.spent = None;
        self.meters.has_custody.set(1);
        tracing::info!(transmitter = %custody.address, epoch = custody.epoch, "custody of the nonces taken");
        let mut first = true;
        while !shutdown.is_cancelled() {
            let bell = self.bell.notified();
            custody.confirm().await.context("confirm the transmitter's lock")?;
            // What was stored and perhaps never sent goes out at once after a start, as the bytes that it was.
            self.step(&custody, first).await?;
            first = false;
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = bell => {}
                () = tokio::time::sleep(self.interval) => {}
            }
        }
        Ok(())
    }

    /// Takes custody, unless another process of this operator has it.
    pub async fn take_custody(&self) -> anyhow::Result<Option<Custody>> {
        let address = self.key.address();
        let account = self.chain.account(address).await?;
        Custody::take(&self.pool, address, account.latest_nonce, &self.holder).await
    }

    /// One look at everything, and what follows from it. `resend_all` sends all open transactions again.
    pub async fn step(&self, custody: &Custody, resend_all: bool) -> anyhow::Result<Vec<Action>> {
        let mut memory = self.memory.lock().await;
        let intended = self.meters.deliveries_intended.get();
        let meters = &self.meters.manager;
        let mut lap = Lap::default();
        meters.looks.add(1);
        let spent = self.spent(&mut memory, custody.address).await?;
        // The nonces before the receipts: see `ChainView`. The books may be read meanwhile: nothing is sent until then.
        let (head, safe, account, market, mut books) = tokio::try_join!(
            ask(self.chain.head(BlockNumberOrTag::Latest)),
            ask(self.chain.head(BlockNumberOrTag::Safe)),
            ask(self.chain.account(custody.address)),
            ask(self.chain.market(0)),
            books::read(&self.pool, custody.address, spent),
        )?;
        let Some(head) = head else { return Ok(Vec::new()) };
        let safe_block = safe.map_or(0, |safe| safe.number);
        let market = Market { base_fee: head.base_fee, ..market };
        self.meters.balance_wei.set(u64::try_from(account.balance).unwrap_or(u64::MAX));
        memory.branch.follow(&self.chain, head).await?;
        lap.end(&meters.reading);
        self.observe(&memory.branch, &mut books, account.latest_nonce).await?;
        lap.end(&meters.receipts);
        self.batch(custody, &mut memory, &mut books, head.time).await?;
        // What cannot be sent now is weighed when it can.
        let (most, mut unweighed) = (room(&books).max(1), 0);
        let due = books.queue.iter_mut().filter(|waiting| {
            unweighed += usize::from(waiting.gas_limit.is_none() && !waiting.would_revert);
            waiting.would_revert || unweighed <= most
        });
        self.weigh(due).await?;
        lap.end(&meters.weighing);
        if resend_all {
            for attempt in books.slots.iter_mut().flat_map(|open| &mut open.slot.attempts) {
                attempt.since_sent = None;
            }
        }
        let view = View {
            next_nonce: books.next_nonce,
            chain: ChainView {
                latest_nonce: account.latest_nonce,
                safe_nonce: account.safe_nonce,
                safe_block,
                market,
                balance: account.balance,
            },
            slots: books.slots.iter().map(|open| open.slot.clone()).collect(),
            queue: books
                .queue
                .iter()
                .map(|waiting| Queued {
                    intent: waiting.intent,
                    wanted: waiting.wanted,
                    gas_limit: waiting.gas_limit,
                })
                .collect(),
            spent: books.spent,
            consecutive_reverts: books.consecutive_reverts,
            stopped: books.stopped.is_some(),
        };
        let actions = plan(&view, &self.policy);
        self.meters.blocked.set(u64::from(view.stopped));
        self.meters.oldest_transaction_seconds.set(oldest(&view.slots).as_secs());
        let (noted, pressing): (Vec<_>, Vec<_>) =
            actions.iter().partition(|action| action.is_noted());
        for action in pressing {
            self.act(custody, &mut memory, &books, head, action).await?;
        }
        lap.end(&meters.sending);
        for action in noted {
            // Nobody waits for what is noted: the next look comes upon it again.
            let others_wait = self.meters.deliveries_intended.get() != intended;
            if others_wait && memory.deferred < NOTING_DEFERRED_MAX {
                memory.deferred += 1;
                lap.end(&meters.noting);
                return Ok(actions);
            }
            self.act(custody, &mut memory, &books, head, action).await?;
        }
        memory.deferred = 0;
        lap.end(&meters.noting);
        Ok(actions)
    }

    async fn spent(&self, memory: &mut Memory, address: Address) -> anyhow::Result<u128> {
        let read_at = Instant::now();
        let fresh = |at: Instant| read_at.saturating_duration_since(at) < SPENT_READ_AGE_MAX;
        if let Some((spent, _)) = memory.spent.filter(|(_, at)| fresh(*at)) {
            return Ok(spent);
        }
        let spent = books::spent(&self.pool, address).await?;
        memory.spent = Some((spent, read_at));
        Ok(spent)
    }

    /// Finds out where the transactions stand. What was recorded in a block that is still there needs no question.
    async fn observe(
        &self,
        branch: &Branch,
        books: &mut Books,
        latest_nonce: u64,
    ) -> anyhow::Result<()> {
        let mut asking = Vec::new();
        for open in &mut books.slots {
            let stands = open
                .slot
                .recorded
                .filter(|recorded| branch.holds(recorded.block_number, recorded.block_hash));
            if stands.is_some() {
                open.slot.observed = stands;
            } else if open.slot.nonce < latest_nonce || open.slot.recorded.is_some() {
                asking.push(self.ask_for_receipt(open).boxed());
            }
        }
        stream::iter(asking).buffer_unordered(CHAIN_QUESTIONS_MAX).try_collect().await
    }

    /// A receipt that is missing proves nothing: an endpoint may be behind. What was seen in a block is taken out again only
    /// when another block stands in that one's place.
    async fn ask_for_receipt(&self, open: &mut OpenSlot) -> anyhow::Result<()> {
        // The last attempt is the likely one.
        for attempt in open.slot.attempts.iter().rev() {
            if let Some(mined) = self.chain.inclusion(attempt.hash).await? {
                open.slot.observed = Some(mined.inclusion);
                open.delivered = mined.delivered;
                return Ok(());
            }
        }
        if let Some(recorded) = open.slot.recorded {
            let there = self.chain.block_hash(recorded.block_number).await?;
            if there.is_none_or(|hash| hash == recorded.block_hash) {
                open.slot.observed = Some(recorded);
            }
        }
        Ok(())
    }

    /// Finds out how much gas queued intents need. One that would revert waits: its job will find out why.
    async fn weigh(&self, queue: impl Iterator<Item = &mut Waiting>) -> anyhow::Result<()> {
        let unweighed = queue.filter(|waiting| waiting.wanted && waiting.gas_limit.is_none());
        let weighing: Vec<_> = unweighed.map(|waiting| self.weigh_one(waiting).boxed()).collect();
        stream::iter(weighing).buffer_unordered(CHAIN_QUESTIONS_MAX).try_collect().await
    }

    async fn weigh_one(&self, waiting: &mut Waiting) -> anyhow::Result<()> {
        let (gas_limit, reason) = match self.chain.estimate(self.key.address(), &waiting.call).await
        {
            Ok(gas) => (Some(with_reserve(gas).min(DELIVERY_GAS_MAX)), None),
            Err(ChainError::Reverts { message, .. }) => (None, Some(message)),
            Err(error) => return Err(error.into()),
        };
        if let Some(reason) = &reason {
            tracing::info!(intent = waiting.intent.0, reason, "the delivery would revert now");
        }
        store::weighed(&self.pool, waiting.intent, gas_limit, reason.as_deref()).await?;
        waiting.would_revert = gas_limit.is_none();
        waiting.gas_limit = gas_limit;
        Ok(())
    }

    /// Puts deliveries that wait at the same time into one transaction where that is cheaper, weighed as a whole. While as
    /// many transactions as allowed are under way nothing is put together: what comes until then may still come along.
    async fn batch(
        &self,
        custody: &Custody,
        memory: &mut Memory,
        books: &mut Books,
        chain_time: u64,
    ) -> anyhow::Result<()> {
        if books.stopped.is_some() {
            return Ok(());
        }
        for _ in 0..room(books) {
            let together = batch::gather(&books.queue, chain_time);
            let escrow = self.chain.deployment().request_escrow;
            if together.is_empty() {
                return Ok(());
            }
            let Some(call) = batch::combine(escrow, &together) else { return Ok(()) };
            let carried: Vec<IntentId> = together.iter().map(|waiting| waiting.intent).collect();
            let gas = self.weigh_together(memory, &call, &together).await?;
            let gas_limit = gas.map(with_reserve).filter(|gas| batch::pays(*gas, &together));
            let Some(gas_limit) = gas_limit else {
                // One of them is at fault, or all are lighter than expected, which shows when each is weighed alone.
                let known = together.iter().all(|waiting| waiting.gas_limit.is_some());
                let queue = books.queue.iter_mut();
                self.weigh(queue.filter(|waiting| carried.contains(&waiting.intent))).await?;
                if known {
                    return Ok(());
                }
                continue;
            };
            let formed = store::form_batch(&self.pool, custody, &carried, &call, gas_limit).await?;
            let Some(intent) = formed else { return Ok(()) };
            self.meters.deliveries_batched.add(carried.len() as u64);
            tracing::info!(
                intent = intent.0,
                deliveries = carried.len(),
                "deliveries travel together"
            );
            books.queue.retain(|waiting| !carried.contains(&waiting.intent));
            let batch = Waiting {
                intent,
                wanted: true,
                call,
                gas_limit: Some(gas_limit),
                would_revert: false,
                deadline: None,
                first_try: true,
            };
            books.queue.insert(0, batch);
        }
        Ok(())
    }

    /// Gas that a batch comes through with now; `None` when it would revert.
    async fn weigh_together(
        &self,
        memory: &mut Memory,
        call: &Call,
        together: &[&Waiting],
    ) -> anyhow::Result<Option<u64>> {
        let (sender, now) = (self.key.address(), Instant::now());
        let expected = memory.experience.and_then(|known| known.expected(together.len(), now));
        // What costs more than it saves as expected may do so no more.
        let expected = expected.filter(|gas| batch::pays(with_reserve(*gas), together));
        if let Some(gas) = expected
            && self.chain.suffices(sender, call, gas).await?
        {
            return Ok(Some(gas));
        }
        match self.chain.estimate(sender, call).await {
            Ok(gas) => {
                memory.experience = Some(Experience::of(gas, together.len(), now));
                Ok(Some(gas))
            }
            Err(ChainError::Reverts { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn act(
        &self,
        custody: &Custody,
        memory: &mut Memory,
        books: &Books,
        head: Head,
        action: &Action,
    ) -> anyhow::Result<()> {
        match action {
            Action::Adopt { next_nonce } => {
                self.meters.nonces_adopted.add(1);
                tracing::error!(
                    known = books.next_nonce,
                    used = next_nonce,
                    "the transmitter's key sent transactions that are not in this database"
                );
                store::adopt(&self.pool, custody, *next_nonce).await?;
            }
            Action::Record { intent, inclusion } => {
                self.record(custody, books, head, *intent, inclusion.as_ref()).await?;
            }
            Action::Settle { intent, outcome } => {
                // Unless it is known to be stored, what was spent is added up again.
                let spent = memory.spent.take();
                store::settle(&self.pool, custody, *intent, *outcome).await?;
                let settled = books.slots.iter().find(|open| open.slot.intent == *intent);
                let paid = settled.and_then(|open| open.slot.observed).map_or(0, |seen| seen.cost);
                memory.spent = spent.map(|(spent, at)| (spent.saturating_add(paid), at));
                match outcome {
                    Outcome::Confirmed => self.meters.intents_confirmed.add(1),
                    Outcome::Failed => self.meters.intents_failed.add(1),
                    Outcome::Replaced => self.meters.intents_replaced.add(1),
                }
                self.work.notify_one();
            }
            Action::Stop { reverts } => {
                let reason = format!("{reverts} deliveries in a row reverted");
                tracing::error!(reason, "no more deliveries are sent until an operator resumes");
                store::stop(&self.pool, custody, &reason).await?;
                self.meters.blocked.set(1);
            }
            Action::Resend { hash } => {
                let raw = store::raw(&self.pool, *hash).await?;
                self.meters.transactions_resent.add(1);
                self.send(*hash, &raw).await?;
            }
            Action::Raise { intent, nonce, fees, gas_limit, cancels } => {
                let terms = self.terms(*nonce, *fees, *gas_limit);
                let signed = if *cancels {
                    sign::cancel(&self.key, terms).await?
                } else {
                    let call = books::call(&self.pool, *intent).await?;
                    sign::call(&self.key, terms, &call).await?
                };
                pass(Point::ReplacementSigned);
                store::replace(&self.pool, custody, *intent, &signed).await?;
                self.meters.transactions_raised.add(1);
                self.send_signed(&signed).await?;
            }
            Action::Fill { nonce, fees } => {
                let terms = self.terms(*nonce, *fees, crate::limits::CANCEL_GAS);
                let signed = sign::cancel(&self.key, terms).await?;
                pass(Point::FillerSigned);
                store::fill(&self.pool, custody, *nonce, &signed).await?;
                self.send_signed(&signed).await?;
            }
            Action::Send { intent, nonce, fees, gas_limit } => {
                let waiting = books
                    .queue
                    .iter()
                    .find(|waiting| waiting.intent == *intent)
                    .context("find the intent to send")?;
                let terms = self.terms(*nonce, *fees, *gas_limit);
                let signed = sign::call(&self.key, terms, &waiting.call).await?;
                pass(Point::TransactionSigned);
                store::assign(&self.pool, custody, *intent, *nonce, &signed).await?;
                self.meters.transactions_sent.add(1);
                tracing::info!(intent = intent.0, nonce, hash = %signed.hash, "transaction sent");
                self.send_signed(&signed).await?;
            }
            Action::Report(blocked) => {
                self.meters.blocked.set(1);
                tracing::warn!(reason = %blocked, "deliveries wait");
            }
        }
        Ok(())
    }

    async fn record(
        &self,
        custody: &Custody,
        books: &Books,
        head: Head,
        intent: IntentId,
        inclusion: Option<&Inclusion>,
    ) -> Result<(), anyhow::Error> {
        // One delivery that came through has delivered what it carries; what a batch's receipt does not name, somebody else
        // may have delivered.
        let open = slot_of(books, intent)?;
        let requests = books::requests(&self.pool, intent).await?;
        let in_doubt: Vec<B256> = match inclusion {
            None => Vec::new(),
            Some(inclusion) if inclusion.succeeded && requests.len() < 2 => Vec::new(),
            Some(_) => requests.iter().filter(|id| !open.delivered.contains(id)).copied().collect(),
        };
        let asking: Vec<_> = in_doubt.iter().map(|id| self.is_delivered(*id).boxed()).collect();
        let answers: Vec<(B256, bool)> =
            stream::iter(asking).buffered(CHAIN_QUESTIONS_MAX).try_collect().await?;
        let others = answers.into_iter().filter(|(_, delivered)| *delivered).map(|(id, _)| id);
        let delivered: Vec<B256> = open.delivered.iter().copied().chain(others).collect();
        match inclusion {
            Some(inclusion) => tracing::info!(
                intent = intent.0,
                block = inclusion.block_number,
                succeeded = inclusion.succeeded,
                requests = requests.len(),
                delivered = delivered.len(),
                "transaction included"
            ),
            None => tracing::warn!(intent = intent.0, "a reorg took a transaction out"),
        }
        store::include(&self.pool, custody, intent, inclusion, &delivered, head.time).await?;
        self.work.notify_one();
        Ok(())
    }

    async fn is_delivered(&self, request_id: B256) -> Result<(B256, bool), ChainError> {
        let presence = self.chain.presence(request_id, BlockNumberOrTag::Latest).await?;
        Ok((request_id, presence == Presence::Delivered))
    }

    fn terms(&self, nonce: u64, fees: crate::transaction::fee::Fees, gas_limit: u64) -> Terms {
        Terms { chain_id: self.chain.deployment().chain_id, nonce, fees, gas_limit }
    }

    async fn send_signed(&self, signed: &Signed) -> anyhow::Result<()> {
        self.send(signed.hash, &signed.raw).await
    }

    /// Hands stored bytes to an endpoint. What it says is noted and decides nothing: the chain does.
    async fn send(&self, hash: B256, raw: &alloy::primitives::Bytes) -> anyhow::Result<()> {
        let sent = self.chain.send(raw).await;
        pass(Point::TransactionSent);
        match sent {
            Ok(()) => store::handed_over(&self.pool, hash, None).await,
            Err((reply, message)) => {
                // The nonce is used: the receipts of the next look say by what.
                if reply != Reply::NonceUsed {
                    self.meters.transactions_refused.add(1);
                    tracing::warn!(%hash, ?reply, message, "no endpoint took the transaction");
                }
                store::handed_over(&self.pool, hash, Some(&message)).await
            }
        }
    }
}

async fn ask<T>(question: impl Future<Output = Result<T, ChainError>>) -> anyhow::Result<T> {
    Ok(question.await?)
}

/// The time since the last stage of a look ended.
struct Lap(Instant);

impl Default for Lap {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Lap {
    fn end(&mut self, stage: &Meter) {
        let ended = Instant::now();
        stage.add(u64::try_from((ended - self.0).as_micros()).unwrap_or(u64::MAX));
        self.0 = ended;
    }
}

/// Transactions that may be sent beside those under way.
fn room(books: &Books) -> usize {
    let in_flight = books.slots.iter().filter(|open| open.slot.observed.is_none()).count();
    TRANSACTIONS_IN_FLIGHT_MAX.saturating_sub(in_flight)
}

/// How long the oldest transaction that is not mined has been waiting.
fn oldest(slots: &[Slot]) -> Duration {
    let waiting = slots.iter().filter(|slot| slot.observed.is_none());
    let signed = waiting.filter_map(|slot| slot.attempts.iter().map(|a| a.since_signed).max());
    signed.max().unwrap_or_default()
}

/// The gas that a transaction is given when a simulation used `gas`: the state that it meets may be another.
fn with_reserve(gas: u64) -> u64 {
    gas.saturating_add(gas / 5)
}

/// True when a step failed because another process has taken the nonces over.
pub fn lost_custody(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(CustodyError::Lost)))
}

fn slot_of(books: &Books, intent: IntentId) -> anyhow::Result<&OpenSlot> {
    books
        .slots
        .iter()
        .find(|open| open.slot.intent == intent)
        .with_context(|| format!("find the transactions of intent {}", intent.0))
}
