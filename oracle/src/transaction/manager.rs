//! The loop that makes intents true: read the chain and the books, plan, act.

use std::sync::Arc;
use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::B256;
use anyhow::Context;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::chain::{Chain, ChainError};
use crate::job::plan::Presence;
use crate::keys::Transmitter;
use crate::limits::DELIVERY_GAS_MAX;
use crate::meter::Meters;
use crate::transaction::books::{self, Books, OpenSlot};
use crate::transaction::plan::{
    Action, ChainView, Inclusion, IntentId, Outcome, Policy, Queued, View, plan,
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
}

impl Manager {
    /// Takes custody of the key when it is free, and works until told to stop or until custody is lost, then begins anew.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut quiet = false;
        while !shutdown.is_cancelled() {
            match self.serve(&shutdown).await {
                Ok(()) => quiet = false,
                Err(error) => {
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
        let Some(head) = self.chain.head(BlockNumberOrTag::Latest).await? else {
            return Ok(Vec::new());
        };
        let safe_block =
            self.chain.head(BlockNumberOrTag::Safe).await?.map_or(0, |safe| safe.number);
        // The nonces before the receipts: see `ChainView`.
        let account = self.chain.account(custody.address).await?;
        let market = self.chain.market(head.base_fee).await?;
        self.meters.balance_wei.set(u64::try_from(account.balance).unwrap_or(u64::MAX));
        let mut books = books::read(&self.pool, custody.address).await?;
        self.observe(&mut books, account.latest_nonce).await?;
        self.weigh(&mut books).await?;
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
        self.meters.blocked.set(0);
        for action in &actions {
            self.act(custody, &books, action).await?;
        }
        Ok(actions)
    }

    /// Asks for the receipts of what may have been mined.
    async fn observe(&self, books: &mut Books, latest_nonce: u64) -> anyhow::Result<()> {
        for open in &mut books.slots {
            let may_be_mined = open.slot.nonce < latest_nonce || open.slot.recorded.is_some();
            if !may_be_mined {
                continue;
            }
            // The last attempt is the likely one.
            for attempt in open.slot.attempts.iter().rev() {
                open.slot.observed = self.chain.inclusion(attempt.hash).await?;
                if open.slot.observed.is_some() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Finds out how much gas queued intents need. One that would revert waits: its job will find out why.
    async fn weigh(&self, books: &mut Books) -> anyhow::Result<()> {
        for waiting in books.queue.iter_mut().filter(|waiting| waiting.wanted) {
            if waiting.gas_limit.is_some() {
                continue;
            }
            let (gas_limit, reason) =
                match self.chain.estimate(self.key.address(), &waiting.call).await {
                    Ok(gas) => (Some((gas + gas / 5).min(DELIVERY_GAS_MAX)), None),
                    Err(ChainError::Reverts { message, .. }) => (None, Some(message)),
                    Err(error) => return Err(error.into()),
                };
            if let Some(reason) = &reason {
                tracing::info!(intent = waiting.intent.0, reason, "the delivery would revert now");
            }
            store::weighed(&self.pool, waiting.intent, gas_limit, reason.as_deref()).await?;
            waiting.gas_limit = gas_limit;
        }
        Ok(())
    }

    async fn act(&self, custody: &Custody, books: &Books, action: &Action) -> anyhow::Result<()> {
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
                self.record(custody, books, *intent, inclusion.as_ref()).await?;
            }
            Action::Settle { intent, outcome } => {
                store::settle(&self.pool, custody, *intent, *outcome).await?;
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
                let open = slot_of(books, *intent)?;
                let signed = if *cancels {
                    sign::cancel(&self.key, terms).await?
                } else {
                    sign::call(&self.key, terms, &open.call).await?
                };
                store::replace(&self.pool, custody, *intent, &signed).await?;
                self.meters.transactions_raised.add(1);
                self.send_signed(&signed).await?;
            }
            Action::Fill { nonce, fees } => {
                let terms = self.terms(*nonce, *fees, crate::limits::CANCEL_GAS);
                let signed = sign::cancel(&self.key, terms).await?;
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
        intent: IntentId,
        inclusion: Option<&Inclusion>,
    ) -> Result<(), anyhow::Error> {
        let mut pointless = false;
        if let (Some(Inclusion { succeeded: false, .. }), Some(request_id)) =
            (inclusion, slot_of(books, intent)?.request_id)
        {
            let presence = self.chain.presence(request_id, BlockNumberOrTag::Latest).await?;
            pointless = presence == Presence::Delivered;
        }
        match inclusion {
            Some(inclusion) => tracing::info!(
                intent = intent.0,
                block = inclusion.block_number,
                succeeded = inclusion.succeeded,
                pointless,
                "transaction included"
            ),
            None => tracing::warn!(intent = intent.0, "a reorg took a transaction out"),
        }
        store::include(&self.pool, custody, intent, inclusion, pointless).await?;
        self.work.notify_one();
        Ok(())
    }

    fn terms(&self, nonce: u64, fees: crate::transaction::fee::Fees, gas_limit: u64) -> Terms {
        Terms { chain_id: self.chain.deployment().chain_id, nonce, fees, gas_limit }
    }

    async fn send_signed(&self, signed: &Signed) -> anyhow::Result<()> {
        self.send(signed.hash, &signed.raw).await
    }

    /// Hands stored bytes to an endpoint. What it says is noted and decides nothing: the chain does.
    async fn send(&self, hash: B256, raw: &alloy::primitives::Bytes) -> anyhow::Result<()> {
        match self.chain.send(raw).await {
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
