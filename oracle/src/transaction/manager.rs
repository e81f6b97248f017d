//! The loop that makes intents true: read the chain and the books, plan, act.

mod act;
mod weigh;

use std::sync::Arc;
use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::Address;
use anyhow::Context;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use sqlx::PgPool;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::weigh::room;
use crate::chain::{Chain, ChainError};
use crate::keys::{SignerError, Transmitter};
use crate::limits::{CHAIN_QUESTIONS_MAX, NOTING_DEFERRED_MAX, SPENT_READ_AGE_MAX};
use crate::meter::{Meter, Meters};
use crate::transaction::batch::Experience;
use crate::transaction::books::{self, Books, OpenSlot};
use crate::transaction::branch::Branch;
use crate::transaction::custody::{Custody, CustodyError};
use crate::transaction::fee::Market;
use crate::transaction::plan::{Action, ChainView, Policy, Queued, Slot, View, plan};

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

/// How long the oldest transaction that is not mined has been waiting.
fn oldest(slots: &[Slot]) -> Duration {
    let waiting = slots.iter().filter(|slot| slot.observed.is_none());
    let signed = waiting.filter_map(|slot| slot.attempts.iter().map(|a| a.since_signed).max());
    signed.max().unwrap_or_default()
}

/// True when a step failed because another process has taken the nonces over.
pub fn lost_custody(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(CustodyError::Lost)))
}
