//! Where a request's time goes: between which of the node's rows it passes.

use std::collections::BTreeMap;

use alloy::primitives::B256;
use anyhow::Context;
use sqlx::PgPool;

use crate::listing::Listing;
use crate::table::{Row, Table};

/// What happens to a request, in this order, from when a node could first have seen it.
const STAGES: [&str; 6] = [
    "listed to found",
    "found to answer recorded",
    "recorded to signed",
    "signed to delivery intended",
    "intended to transaction signed",
    "transaction signed to sent",
];

/// Unix seconds of each request's row of every stage, ascending by stage.
async fn times(
    pool: &PgPool,
    requests: &[B256],
) -> anyhow::Result<BTreeMap<B256, [f64; STAGES.len()]>> {
    let ids: Vec<Vec<u8>> = requests.iter().map(|id| id.to_vec()).collect();
    let rows: Vec<(Vec<u8>, Vec<f64>)> = sqlx::query_as(
        "select jobs.request_id, array[
            extract(epoch from jobs.created_at)::float8,
            extract(epoch from results.created_at)::float8,
            extract(epoch from (
                select min(received_at) from oracle.attestations
                where attestations.request_id = jobs.request_id
            ))::float8,
            extract(epoch from min(intents.created_at))::float8,
            extract(epoch from min(signed_at))::float8,
            extract(epoch from min(sent_at))::float8
         ]
         from oracle.jobs
            join oracle.results using (request_id)
            join oracle.intents using (request_id)
            join oracle.transactions on intent_id = coalesce(intents.carrier, intents.id)
         where jobs.request_id = any($1) and sent_at is not null
         group by jobs.request_id, jobs.created_at, results.created_at",
    )
    .bind(ids)
    .fetch_all(pool)
    .await
    .context("read when each stage was reached")?;
    rows.into_iter()
        .map(|(id, times)| {
            let times = <[f64; STAGES.len()]>::try_from(times.as_slice())?;
            Ok((B256::try_from(id.as_slice())?, times))
        })
        .collect()
}

/// Seconds from when a node could first see a request to when its delivery was handed to the chain, ascending.
pub(crate) async fn shares(
    pool: &PgPool,
    listing: &Listing,
    requests: &[B256],
) -> anyhow::Result<Vec<f64>> {
    let mut shares = Vec::with_capacity(requests.len());
    for (id, times) in times(pool, requests).await? {
        let listed = listing.times(id).context("a request was never listed")?.listed;
        shares.push((times[STAGES.len() - 1] - listed).max(0.0));
    }
    shares.sort_by(f64::total_cmp);
    Ok(shares)
}

/// A row per stage with the median and one with the 99th percentile.
pub(crate) async fn report(
    table: &mut Table,
    part: &str,
    pool: &PgPool,
    listing: &Listing,
    requests: &[B256],
) -> anyhow::Result<()> {
    let mut stages: [Vec<f64>; STAGES.len()] = Default::default();
    for (id, times) in times(pool, requests).await? {
        let mut before = listing.times(id).context("a request was never listed")?.listed;
        for (stage, at) in stages.iter_mut().zip(times) {
            stage.push((at - before).max(0.0) * 1e3);
            before = at;
        }
    }
    for (name, mut times) in STAGES.into_iter().zip(stages) {
        times.sort_by(f64::total_cmp);
        for percent in [50, 99] {
            let value = percentile(&times, percent);
            table.push(Row::plain(format!("{part}: {name}, p{percent}"), value, "ms"));
        }
    }
    Ok(())
}

/// The smallest value that at least `percent` of the ascending values do not exceed.
pub(crate) fn percentile(ascending: &[f64], percent: usize) -> f64 {
    let rank = (ascending.len() * percent).div_ceil(100);
    ascending.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
