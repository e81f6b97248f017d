//! `auspex demo`: the main job once, from nothing to a settled, checked answer, told as it happens.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloy::primitives::B256;
use alloy::providers::Provider;
use anyhow::{Context, bail};
use clap::Args;
use sqlx::{Connection, PgConnection};

use crate::chain;
use crate::command::credit::{WithdrawArguments, withdraw};
use crate::command::demo::report::{Programs, Report, RequestReport};
use crate::command::dev::Interrupt;
use crate::command::request::submit::{Submission, submit};
use crate::command::request::{self, Payment, SubmitArguments};
use crate::indexer_client::IndexerClient;
use crate::output::Output;
use crate::world::{BLOCK_TIME, World, layout};

mod report;
mod summary;

/// How long one request may take before the demo gives up.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);

/// What the demo reads back through GraphQL at its end.
const HISTORY_QUERY: &str = "{ _meta { block { number hash } hasIndexingErrors } \
    requests(first: 10, orderBy: sequence) { id requestId status payer maxAmount settledAmount refundedAmount } \
    agents(first: 10) { id agentId owner } }";

/// Run the main job once in a fresh world: three paid requests, two answered, one refunded. Then stop everything.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  auspex demo --directory target/demo")]
pub(crate) struct DemoCommand {
    /// Where the demo's world lives; it is emptied first. The report is written to DIRECTORY/report.json.
    #[arg(long, default_value = "target/demo")]
    directory: PathBuf,
}

/// One request of the demo.
struct Scene {
    title: &'static str,
    question: &'static str,
    offer: B256,
    pay: Payment,
    duration: Option<u32>,
}

pub(crate) async fn run(command: DemoCommand, output: Output) -> anyhow::Result<()> {
    empty(&command.directory)?;
    let mut interrupt = Interrupt::listen()?;
    let started = Instant::now();
    let world = tokio::select! {
        world = World::start(&command.directory, BLOCK_TIME, None, output) => world?,
        () = interrupt.wait() => bail!("interrupted; everything that was started is stopped"),
    };
    let outcome = tokio::select! {
        report = perform(&world, output) => report,
        () = interrupt.wait() => Err(anyhow::anyhow!("interrupted")),
    };
    let step = output.step("stopping everything");
    world.stop().await?;
    drop(step);
    let mut report = outcome?;
    report.duration_ms = millis(started.elapsed());
    let path = command.directory.join("report.json");
    std::fs::write(&path, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("write {}", path.display()))?;
    output.result(&report, |report| summary::render(report, &path))
}

async fn perform(world: &World, output: Output) -> anyhow::Result<Report> {
    let market = &world.market;
    let scenes = [
        Scene {
            title: "paid in the platform's token, by one signature (EIP-3009)",
            question: "What happens when nobody delivers a result before the deadline?",
            offer: market.token_offer,
            pay: Payment::Authorization,
            duration: None,
        },
        Scene {
            title: "paid in native coin",
            question: "How are the shares of a split computed, and what happens to the residue?",
            offer: market.native_offer,
            pay: Payment::Direct,
            duration: None,
        },
    ];
    let mut requests = Vec::new();
    for scene in &scenes {
        requests.push(answered(world, scene, output).await?);
    }
    let silent = Scene {
        title: "to an agent whose operators are down",
        question: "Is anybody there?",
        offer: market.silent_offer,
        pay: Payment::Direct,
        duration: Some(3),
    };
    requests.push(refunded(world, &silent, output).await?);
    output.say("reading the history back through GraphQL");
    let indexer = IndexerClient::new(world.file.indexer_url.clone())?;
    let history = indexer.graphql(HISTORY_QUERY).await?;
    if history.get("errors").is_some() {
        bail!("the indexer's GraphQL refuses the demo's query: {history}");
    }
    let programs = programs(world).await?;
    Ok(Report::new(world, programs, requests, HISTORY_QUERY, history))
}

/// Asks the chain and the database what they are.
async fn programs(world: &World) -> anyhow::Result<Programs> {
    let (provider, _) = world.as_account("requester").reader().await?;
    let chain = provider.get_client_version().await.context("ask the chain for its version")?;
    let mut database = PgConnection::connect(world.file.database_url.as_str())
        .await
        .context("connect to the world's PostgreSQL")?;
    let postgresql: String = sqlx::query_scalar("show server_version")
        .fetch_one(&mut database)
        .await
        .context("ask PostgreSQL for its version")?;
    Ok(Programs { chain, postgresql })
}

/// A request that the three operators answer.
async fn answered(world: &World, scene: &Scene, output: Output) -> anyhow::Result<RequestReport> {
    let (submission, started) = ask(world, scene, output).await?;
    let requester = world.as_account("requester");
    let view = request::watch(&requester, submission.request_id, ANSWER_WAIT_MAX, output).await?;
    let latency = started.elapsed();
    if view.status != "settled" {
        bail!("request {} ended as {}, not as settled", submission.request_id, view.status);
    }
    let answer = request::checked_answer(&view)?.context("a settled request has no answer")?;
    output.say(format!("  answer: {}", answer.text));
    output.say("  the answer's hash is the one that the quorum signed");
    RequestReport::answered(world, scene.title, &submission, &view, &answer, millis(latency)).await
}

/// A request that nobody answers and that a stranger refunds.
async fn refunded(world: &World, scene: &Scene, output: Output) -> anyhow::Result<RequestReport> {
    let (submission, started) = ask(world, scene, output).await?;
    let stranger = world.as_account("bystander");
    let (provider, _) = stranger.reader().await?;
    let left = submission.deadline.saturating_sub(chain::head(&provider).await?.0);
    let step = output.step(format!(
        "  nobody answers; waiting for the deadline, which is {left} s of the chain's time away"
    ));
    let waiting = Instant::now();
    while chain::head(&provider).await?.0 < submission.deadline {
        if ANSWER_WAIT_MAX < waiting.elapsed() {
            bail!("the chain's time did not reach the deadline {}", submission.deadline);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(step);
    let receipt = request::refund(&stranger, submission.request_id).await?;
    let view = request::watch(&stranger, submission.request_id, ANSWER_WAIT_MAX, output).await?;
    let latency = started.elapsed();
    if view.status != "refunded" {
        bail!("request {} ended as {}, not as refunded", submission.request_id, view.status);
    }
    let arguments = WithdrawArguments { token: "ETH".to_owned(), account: Some(submission.payer) };
    let paid = withdraw(&stranger, &arguments).await?;
    output.say(format!(
        "  a bystander refunded it, and had {} paid out to the requester",
        paid.shown
    ));
    RequestReport::refunded(
        world,
        scene.title,
        &submission,
        &view,
        &receipt,
        &paid,
        millis(latency),
    )
    .await
}

async fn ask(
    world: &World,
    scene: &Scene,
    output: Output,
) -> anyhow::Result<(Submission, Instant)> {
    output.say(format!("\nrequest {}: {:?}", scene.title, scene.question));
    let arguments = SubmitArguments {
        offer: scene.offer,
        input: scene.question.to_owned(),
        duration: scene.duration,
        pay: scene.pay,
        wait: false,
    };
    let started = Instant::now();
    let submission = submit(&world.as_account("requester"), &arguments).await?;
    output.say(format!(
        "  funded as {} in block {} ({} gas)",
        submission.request_id, submission.block_number, submission.gas_used
    ));
    Ok((submission, started))
}

/// A demo shows a first run, so it never resumes. Only a directory that a demo has made is emptied.
fn empty(directory: &Path) -> anyhow::Result<()> {
    const MARK: &str = ".auspex-demo";
    if directory.exists() {
        let holds_something = std::fs::read_dir(directory)?.next().is_some();
        if holds_something && !directory.join(MARK).exists() {
            bail!(
                "--directory: {} holds something that no demo has made; name another",
                directory.display()
            );
        }
        layout::remove(directory).context("empty --directory")?;
    }
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join(MARK), "made by `auspex demo`, which empties this directory\n")?;
    Ok(())
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}
