//! Credits that wait in the escrow are paid out by themselves once they are worth it. The escrow pays the account its due,
//! whoever asks, so the transmitter needs no right for it.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, U256};
use alloy::sol_types::SolCall;
use anyhow::Context;
use auspex_protocol::bindings::IRequestEscrow::{Split, withdrawForCall};
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::chain::Chain;
use crate::config::TokenAmount;
use crate::failpoint::{Point, pass};

/// The task that withdraws.
#[derive(Debug)]
pub struct Withdrawals {
    pub pool: PgPool,
    pub chain: Chain,
    pub board: Board,
    pub transmitter: Address,
    /// Whose credits.
    pub account: Address,
    /// What is worth a transaction, per token; other tokens are left alone.
    pub thresholds: Vec<TokenAmount>,
    pub manager: Arc<Notify>,
    /// How often it looks.
    pub interval: Duration,
}

impl Withdrawals {
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(error = format!("{error:#}"), "credits cannot be withdrawn now");
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(self.interval) => {}
            }
        }
    }

    /// Makes one withdrawal when one is due. What the indexer says only leads us to the splits; the amount is the escrow's.
    async fn look(&self) -> anyhow::Result<()> {
        if self.thresholds.is_empty() || is_open(&self.pool).await? {
            return Ok(());
        }
        for credit in self.board.credits(self.account).await? {
            let limit = self.thresholds.iter().find(|limit| limit.token == credit.token);
            let Some(limit) = limit else { continue };
            let splits: Vec<Split> = credit.splits.iter().map(Split::from).collect();
            let amount = self.chain.claimable(self.account, credit.token, splits.clone()).await?;
            if amount.is_zero() || amount < U256::from(limit.amount) {
                continue;
            }
            let call = withdrawForCall { account: self.account, token: credit.token, splits };
            self.intend(&call).await?;
            tracing::info!(account = %self.account, token = %credit.token, %amount, "credits are withdrawn");
            self.manager.notify_one();
            return Ok(());
        }
        Ok(())
    }

    async fn intend(&self, call: &withdrawForCall) -> anyhow::Result<()> {
        sqlx::query!(
            "insert into oracle.intents (transmitter, kind, target, calldata)
             values ($1, 'withdrawal', $2, $3)",
            self.transmitter.as_slice(),
            self.chain.deployment().request_escrow.as_slice(),
            call.abi_encode(),
        )
        .execute(&self.pool)
        .await
        .context("store a withdrawal")?;
        pass(Point::WithdrawalIntended);
        Ok(())
    }
}

/// One withdrawal at a time: a second one before the first is final would ask for the same credits again.
async fn is_open(pool: &PgPool) -> anyhow::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (
            select from oracle.intents
            where kind = 'withdrawal' and state in ('queued', 'sent', 'included', 'reverted')
        ) as "open!""#
    )
    .fetch_one(pool)
    .await
    .context("look for a withdrawal")
}
