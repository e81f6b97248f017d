//! `auspex credit`: what an account can withdraw, and withdrawing it.

use alloy::primitives::{Address, B256, U256};
use anyhow::{Context, bail};
use auspex_protocol::bindings::IRequestEscrow::{self, Split};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::chain;
use crate::connection::ConnectionArguments;
use crate::indexer_client::IndexerClient;
use crate::output::{Output, table};
use crate::token::Token;

#[derive(Debug, Subcommand)]
pub(crate) enum CreditCommand {
    /// Show what an account can withdraw.
    #[command(
        after_help = "Examples:\n  auspex credit show --as requester\n  auspex credit show 0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc"
    )]
    Show {
        /// The account; that of the chosen key when not given.
        account: Option<Address>,
    },
    /// Withdraw everything that an account can claim in one token.
    #[command(
        after_help = "Examples:\n  auspex credit withdraw --token ETH --as payee-1\n  auspex credit withdraw --token AUSPEX --for 0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc --as bystander"
    )]
    Withdraw(WithdrawArguments),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct WithdrawArguments {
    /// The token: an address, a symbol, or ETH.
    #[arg(long, default_value = "ETH")]
    pub(crate) token: String,
    /// Withdraw for this account, which receives the money; anyone may pay the gas for it.
    #[arg(long = "for", value_name = "ACCOUNT")]
    pub(crate) account: Option<Address>,
}

/// A withdrawal.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Withdrawal {
    pub(crate) account: Address,
    pub(crate) token: Address,
    pub(crate) amount: String,
    pub(crate) shown: String,
    pub(crate) transaction_hash: B256,
    pub(crate) gas_used: u64,
}

pub(crate) async fn run(
    command: CreditCommand,
    connection: &ConnectionArguments,
    output: Output,
) -> anyhow::Result<()> {
    match command {
        CreditCommand::Show { account } => show(connection, account, output).await,
        CreditCommand::Withdraw(arguments) => {
            let withdrawal = withdraw(connection, &arguments).await?;
            output.result(&withdrawal, |w| format!("paid {} to {}", w.shown, w.account))
        }
    }
}

/// Withdraws an account's credit and its shares of every split that the indexer knows of.
pub(crate) async fn withdraw(
    connection: &ConnectionArguments,
    arguments: &WithdrawArguments,
) -> anyhow::Result<Withdrawal> {
    let (provider, deployment, wallet) = connection.writer().await?;
    let account = arguments.account.unwrap_or_else(|| wallet.address());
    let token = Token::named(&provider, &deployment, &arguments.token).await?;
    let indexer = IndexerClient::new(connection.indexer()?)?;
    let credits = indexer.credits(account).await?;
    let splits: Vec<Split> = credits
        .iter()
        .filter(|credit| credit.token == token.address)
        .flat_map(|credit| &credit.splits)
        .map(Split::from)
        .collect();
    let escrow = IRequestEscrow::new(deployment.request_escrow, &provider);
    let amount = escrow
        .claimable(account, vec![token.address], splits.clone())
        .call()
        .await
        .map_err(chain::explain)?
        .first()
        .copied()
        .context("the escrow said nothing about the token")?;
    if amount.is_zero() {
        bail!(
            "{account} has nothing to withdraw in {}; `auspex credit show` lists its credits",
            token.symbol
        );
    }
    let call = escrow.withdrawFor(account, token.address, splits);
    let receipt = chain::send(call, &provider, "withdraw").await?;
    Ok(Withdrawal {
        account,
        token: token.address,
        amount: amount.to_string(),
        shown: token.show(amount),
        transaction_hash: receipt.transaction_hash,
        gas_used: receipt.gas_used,
    })
}

async fn show(
    connection: &ConnectionArguments,
    account: Option<Address>,
    output: Output,
) -> anyhow::Result<()> {
    let account = match account {
        Some(account) => account,
        None => connection.wallet()?.address(),
    };
    let indexer = IndexerClient::new(connection.indexer()?)?;
    let credits = indexer.credits(account).await?;
    let (provider, _) = connection.reader().await?;
    let mut tokens = Vec::with_capacity(credits.len());
    for credit in &credits {
        tokens.push(Token::at(&provider, credit.token).await?);
    }
    output.result(&credits, |credits| {
        if credits.is_empty() {
            return format!("{account} has no credits");
        }
        let rows = credits.iter().zip(&tokens).map(|(credit, token)| {
            let amount = |value: U256| token.show(value);
            [
                token.symbol.clone(),
                amount(credit.claimable),
                amount(credit.credited),
                amount(credit.withdrawn),
            ]
        });
        table(["token", "can withdraw", "credited", "withdrawn"], rows)
    })
}
