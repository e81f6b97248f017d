//! Doing what was planned: signing, storing, sending, noting.

use alloy::eips::BlockId;
use alloy::primitives::{B256, Bytes};
use anyhow::Context;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::{Manager, Memory};
use crate::chain::{ChainError, Head};
use crate::failpoint::{Point, pass};
use crate::job::plan::Presence;
use crate::limits::{CANCEL_GAS, CHAIN_QUESTIONS_MAX};
use crate::transaction::books::{self, Books, OpenSlot};
use crate::transaction::custody::{self, Custody};
use crate::transaction::fee::Fees;
use crate::transaction::outcome;
use crate::transaction::plan::{Action, Inclusion, IntentId, Outcome};
use crate::transaction::reply::Reply;
use crate::transaction::sign::{self, Signed, Terms};
use crate::transaction::store;

impl Manager {
    /// Does what was planned.
    pub(super) async fn act(
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
                custody::adopt(&self.pool, custody, *next_nonce).await?;
            }
            Action::Record { intent, inclusion } => {
                self.record(custody, books, head, *intent, inclusion.as_ref()).await?;
            }
            Action::Settle { intent, outcome } => {
                // Unless it is known to be stored, what was spent is added up again.
                let spent = memory.spent.take();
                outcome::settle(&self.pool, custody, *intent, *outcome).await?;
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
                custody::stop(&self.pool, custody, &reason).await?;
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
                let terms = self.terms(*nonce, *fees, CANCEL_GAS);
                let signed = sign::cancel(&self.key, terms).await?;
                pass(Point::FillerSigned);
                if store::fill(&self.pool, custody, *nonce, &signed).await? {
                    self.send_signed(&signed).await?;
                }
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
        outcome::include(&self.pool, custody, intent, inclusion, &delivered, head.time).await?;
        self.work.notify_one();
        Ok(())
    }

    async fn is_delivered(&self, request_id: B256) -> Result<(B256, bool), ChainError> {
        match self.chain.presence(request_id, BlockId::latest()).await {
            Ok(presence) => Ok((request_id, presence == Presence::Delivered)),
            // Where the escrow cannot be asked, no delivery shows; the job looks for itself.
            Err(ChainError::Reverts { .. }) => Ok((request_id, false)),
            Err(error) => Err(error),
        }
    }

    fn terms(&self, nonce: u64, fees: Fees, gas_limit: u64) -> Terms {
        Terms { chain_id: self.chain.deployment().chain_id, nonce, fees, gas_limit }
    }

    async fn send_signed(&self, signed: &Signed) -> anyhow::Result<()> {
        self.send(signed.hash, &signed.raw).await
    }

    /// Hands stored bytes to an endpoint. What it says is noted and decides nothing: the chain does.
    async fn send(&self, hash: B256, raw: &Bytes) -> anyhow::Result<()> {
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

fn slot_of(books: &Books, intent: IntentId) -> anyhow::Result<&OpenSlot> {
    books
        .slots
        .iter()
        .find(|open| open.slot.intent == intent)
        .with_context(|| format!("find the transactions of intent {}", intent.0))
}
