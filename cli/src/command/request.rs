//! `auspex request`: paying for an answer, watching it, reading it, taking a refund.

use std::time::Duration;

use alloy::primitives::{B256, U256};
use anyhow::{Context, bail};
use auspex_protocol::answer::Answer;
use auspex_protocol::bindings::IRequestEscrow::{self, Offer, Request};
use clap::{Args, Subcommand, ValueEnum};

use crate::chain;
use crate::command::request::submit::Submission;
use crate::connection::ConnectionArguments;
use crate::indexer_client::{IndexerClient, RequestView};
use crate::output::{Output, fields};
use crate::token::Token;
use crate::units;

pub(crate) mod submit;
mod unfinished;

/// How often a watched request is said to be as it was.
const STILL_INTERVAL: Duration = Duration::from_secs(5);
/// How long an indexer may be away while a request is watched.
const TROUBLE_MAX: Duration = Duration::from_secs(30);
/// How often a watched request is looked up.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(crate) enum RequestCommand {
    /// Pay for a request under an offer.
    #[command(
        after_help = "Examples:\n  auspex request submit --offer 0x5d...e1 --input \"How does a refund work?\" --as requester --wait\n  auspex request submit --offer 0x5d...e1 --input @question.txt --pay authorization --as requester"
    )]
    Submit(SubmitArguments),
    /// Show a request with its answer, citations and split.
    #[command(after_help = "Example:\n  auspex request show 0x4b...07")]
    Show { request_id: B256 },
    /// Follow a request until it is settled or refunded.
    #[command(after_help = "Example:\n  auspex request watch 0x4b...07 --timeout 120")]
    Watch {
        request_id: B256,
        /// Give up after this many seconds; the request itself goes on.
        #[arg(long, default_value_t = 600)]
        timeout: u64,
    },
    /// Credit the payer of an unanswered request after its deadline. Anyone may call it.
    #[command(after_help = "Example:\n  auspex request refund 0x4b...07 --as bystander")]
    Refund { request_id: B256 },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SubmitArguments {
    /// The offer to request under.
    #[arg(long)]
    pub(crate) offer: B256,
    /// The question, or @FILE to read it from a file; at most 8 KiB.
    #[arg(long)]
    pub(crate) input: String,
    /// Seconds until anyone may take a refund; 300, or what the offer allows that is closest to it, when not given.
    #[arg(long)]
    pub(crate) duration: Option<u32>,
    /// How to pay.
    #[arg(long, value_enum, default_value_t = Payment::Direct)]
    pub(crate) pay: Payment,
    /// Wait until the request is settled or refunded, and show the answer.
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Payment {
    /// Native value, or an allowance that is raised first when it is too small.
    Direct,
    /// One EIP-3009 signature that is order and payment in one.
    Authorization,
}

pub(crate) async fn run(
    command: RequestCommand,
    connection: &ConnectionArguments,
    output: Output,
) -> anyhow::Result<()> {
    match command {
        RequestCommand::Submit(arguments) => {
            let submission = submit::submit(connection, &arguments).await?;
            if arguments.wait {
                output.say(format!("submitted {}; waiting", submission.request_id));
                let limit = Duration::from_secs(600);
                let view = watch(connection, submission.request_id, limit, output).await?;
                return print(connection, &view, output).await;
            }
            output.result(&submission, |Submission { request_id, deadline, .. }| {
                format!(
                    "submitted request {request_id}, to be answered before {}\nnext: auspex request watch {request_id}",
                    units::show_moment(*deadline)
                )
            })
        }
        RequestCommand::Show { request_id } => {
            let view = known(connection, request_id).await?;
            print(connection, &view, output).await
        }
        RequestCommand::Watch { request_id, timeout } => {
            let limit = Duration::from_secs(timeout);
            let view = watch(connection, request_id, limit, output).await?;
            print(connection, &view, output).await
        }
        RequestCommand::Refund { request_id } => {
            let receipt = refund(connection, request_id).await?;
            let result = serde_json::json!({
                "requestId": request_id,
                "transactionHash": receipt.transaction_hash,
                "gasUsed": receipt.gas_used,
            });
            output.result(&result, |_| {
                format!("refunded {request_id}: its payer is credited in full\nnext: auspex credit withdraw")
            })
        }
    }
}

/// Waits until a request has ended, saying each new status.
pub(crate) async fn watch(
    connection: &ConnectionArguments,
    request_id: B256,
    limit: Duration,
    output: Output,
) -> anyhow::Result<RequestView> {
    let base = connection.indexer()?;
    let _telling = (!output.is_json()).then(|| unfinished::tell(&base, request_id, output));
    let indexer = IndexerClient::new(base)?;
    let started = tokio::time::Instant::now();
    let mut said = String::new();
    let mut said_at = started;
    let mut troubled_since = None;
    loop {
        // Watching outlasts an indexer that is busy or starts again.
        let view = match indexer.request(request_id).await {
            Ok(view) => {
                troubled_since = None;
                view
            }
            Err(error) => {
                if troubled_since.is_none() {
                    output.say(format!("{error:#}; trying again"));
                }
                let since = *troubled_since.get_or_insert_with(tokio::time::Instant::now);
                if TROUBLE_MAX < since.elapsed() {
                    return Err(error);
                }
                None
            }
        };
        if let Some(view) = view {
            let is_new = view.status != said;
            if is_new || STILL_INTERVAL < said_at.elapsed() {
                said.clone_from(&view.status);
                said_at = tokio::time::Instant::now();
                let still = if is_new { "" } else { "still " };
                let elapsed = started.elapsed().as_secs_f64();
                output.say(format!("{elapsed:>6.1} s  {still}{said}"));
            }
            if is_over(&view) {
                return Ok(view);
            }
        }
        if limit < started.elapsed() {
            bail!(
                "request {request_id} is still {} after {} s; it goes on without this command, and after its deadline `auspex request refund {request_id}` credits the payer",
                if said.is_empty() { "unknown to the indexer" } else { &said },
                limit.as_secs()
            );
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// Refunds a request that nobody answered in time.
pub(crate) async fn refund(
    connection: &ConnectionArguments,
    request_id: B256,
) -> anyhow::Result<alloy::rpc::types::TransactionReceipt> {
    let view = known(connection, request_id).await?;
    let (provider, deployment, _) = connection.writer().await?;
    let (now, _) = chain::head(&provider).await?;
    if now < view.request.deadline && view.status == "funded" {
        bail!(
            "request {request_id} can be refunded from {} on, in {} s of chain time",
            units::show_moment(view.request.deadline),
            view.request.deadline - now
        );
    }
    let escrow = IRequestEscrow::new(deployment.request_escrow, &provider);
    let terms = Request::try_from(&view.request)?;
    chain::send(escrow.refund(terms), &provider, "refund the request").await
}

/// A request that the indexer knows.
pub(crate) async fn known(
    connection: &ConnectionArguments,
    request_id: B256,
) -> anyhow::Result<RequestView> {
    let indexer = IndexerClient::new(connection.indexer()?)?;
    indexer
        .request(request_id)
        .await?
        .with_context(|| format!("request {request_id} is unknown to the indexer"))
}

/// The answer behind a result, checked against the hash that the quorum signed.
pub(crate) fn checked_answer(view: &RequestView) -> anyhow::Result<Option<Answer>> {
    let (Some(result), Some(answer)) = (&view.result, &view.answer) else {
        return Ok(None);
    };
    let answer: Answer = serde_json::from_value(answer.clone()).context("read the answer")?;
    let hash = answer.output_hash().context("hash the answer")?;
    if hash != result.output_hash {
        bail!(
            "the answer that the indexer serves hashes to {hash}, but the quorum signed {}: do not trust it",
            result.output_hash
        );
    }
    Ok(Some(answer))
}

fn is_over(view: &RequestView) -> bool {
    match view.status.as_str() {
        "settled" => {
            let declined = view
                .result
                .as_ref()
                .is_some_and(|r| r.outcome == auspex_protocol::document::OutcomeDocument::Declined);
            declined || view.answer.is_some()
        }
        "refunded" | "slashed" => true,
        _ => false,
    }
}

async fn print(
    connection: &ConnectionArguments,
    view: &RequestView,
    output: Output,
) -> anyhow::Result<()> {
    let answer = checked_answer(view)?;
    let (provider, _) = connection.reader().await?;
    let token = Token::at(&provider, view.request.token).await?;
    output.result(view, |view| {
        let mut rows = vec![
            ("request", view.request_id.to_string()),
            ("status", format!("{} ({})", view.status, view.finality)),
            ("question", view.input_text.clone().unwrap_or_else(|| "(not text)".to_owned())),
            ("price", token.show(U256::from(view.request.max_amount))),
            ("deadline", units::show_moment(view.request.deadline)),
        ];
        if let Some(answer) = &answer {
            rows.push(("answer", answer.text.clone()));
            for (number, citation) in answer.citations.iter().enumerate() {
                rows.push(("citation", format!("[{}] {}", number + 1, cite(citation))));
            }
            rows.push((
                "checked",
                "the answer's hash is the one that the quorum signed".to_owned(),
            ));
        }
        for signer in view.signers.iter().flatten() {
            rows.push(("signed by", signer.to_string()));
        }
        if let Some(settled) = &view.settled {
            for credit in &settled.credits {
                rows.push(("paid", format!("{} to {}", token.show(credit.amount), credit.account)));
            }
        }
        if let Some(refunded) = &view.refunded {
            rows.push(("refunded", token.show(refunded.amount)));
        }
        fields(rows)
    })
}

/// Where a quoted sentence stands.
pub(crate) fn cite(citation: &auspex_protocol::answer::Citation) -> String {
    format!("{} bytes {}..{}", citation.document, citation.start, citation.end)
}

pub(crate) fn offer_of(view: &crate::indexer_client::OfferView) -> Offer {
    Offer::from(&view.offer)
}
