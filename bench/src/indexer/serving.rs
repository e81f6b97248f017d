//! How many questions per second the indexer answers, warm, while the clients share the machine with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use auspex_devnet::replay::{Branch, Replay};
use serde_json::json;

use crate::chain;
use crate::database::Database;
use crate::process::{Indexer, Settings};
use crate::table::{Row, Table};
use crate::tip::percentile;

const CLIENTS: usize = 16;
const WARM_UP: Duration = Duration::from_secs(1);
const DURATION: Duration = Duration::from_secs(5);

const GRAPHQL_BAR: f64 = 1_500.0;
const GRAPHQL_BAR_MS: f64 = 50.0;
const REST_BAR: f64 = 3_000.0;

pub(crate) async fn measure(
    branch: &Branch,
    database: &Database,
    table: &mut Table,
) -> anyhow::Result<()> {
    let node = Replay::start(chain::CHAIN_ID, branch.clone(), branch.head(), (0, 0)).await?;
    let indexer = Indexer::start(database, node.url(), &Settings::linked()).await?;
    let client = reqwest::Client::new();
    let query = json!({ "query": "{ agents(first: 100) { id agentURI owner createdAt } }" });
    let graphql = client.post(indexer.url("/graphql")).json(&query);
    let (rate, p99) = load(&graphql, "agentURI").await.context("ask by GraphQL")?;
    table.push(Row::at_least("GraphQL, list of 100 agents", rate, "requests/s", GRAPHQL_BAR));
    table.push(Row::at_most("GraphQL, list of 100 agents, p99", p99, "ms", GRAPHQL_BAR_MS));
    let rest = client.get(indexer.url("/v1/agents/7"));
    let (rate, p99) = load(&rest, "7").await.context("ask by REST")?;
    table.push(Row::at_least("REST, one agent", rate, "requests/s", REST_BAR));
    table.push(Row::plain("REST, one agent, p99", p99, "ms"));
    indexer.stop()?;
    Ok(())
}

/// Requests per second, and the time in milliseconds that 99 of 100 do not exceed.
async fn load(
    request: &reqwest::RequestBuilder,
    expected: &'static str,
) -> anyhow::Result<(f64, f64)> {
    let request = Arc::new(request.try_clone().context("a request that can be repeated")?);
    let begun = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let request = Arc::clone(&request);
            tokio::spawn(async move {
                let mut times = Vec::new();
                while begun.elapsed() < WARM_UP + DURATION {
                    let sent = Instant::now();
                    let request = request.try_clone().context("a request that can be repeated")?;
                    let response = request.send().await?.error_for_status()?;
                    let text = response.text().await?;
                    ensure!(text.contains(expected), "an answer without {expected}: {text:.300}");
                    if WARM_UP < begun.elapsed() {
                        times.push(sent.elapsed().as_secs_f64() * 1_000.0);
                    }
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await??);
    }
    let rate = times.len() as f64 / DURATION.as_secs_f64();
    Ok((rate, percentile(&mut times, 99)))
}
