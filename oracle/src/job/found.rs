//! Requests become jobs, each once.

use std::collections::BTreeSet;

use alloy::primitives::B256;
use anyhow::Context;
use auspex_protocol::document::{OfferDocument, OperatorSetDocument, RequestDocument};
use sqlx::PgPool;

use crate::failpoint::{Point, pass};
use crate::job::terms::Terms;

/// What became of a request that discovery found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    New,
    /// A reorg had removed it.
    Returned,
    Known,
}

/// A request as discovery has found it.
#[derive(Debug)]
pub struct Discovered {
    pub terms: Terms,
    pub sequence: u64,
    /// The block in which the indexer saw it.
    pub seen_block: u64,
}

/// Makes a job of each request, once. A dropped one comes back to life; all others are left alone, and are not in what comes
/// back. No request may be there twice.
pub async fn discover_all(
    pool: &PgPool,
    discovered: &[Discovered],
) -> anyhow::Result<Vec<(B256, Found)>> {
    let mut rows = Rows::default();
    for Discovered { terms, sequence, seen_block } in discovered {
        rows.ids.push(terms.request_id.to_vec());
        rows.sequences.push(signed(*sequence)?);
        rows.blocks.push(signed(*seen_block)?);
        rows.terms.push(serde_json::to_value(RequestDocument::from(&terms.request))?);
        rows.offers.push(serde_json::to_value(OfferDocument::from(&terms.offer))?);
        let operator_set = OperatorSetDocument::from(&terms.operator_set);
        rows.operator_sets.push(serde_json::to_value(operator_set)?);
        rows.inputs.push(terms.input.clone());
        rows.deadlines.push(signed(terms.deadline())?);
    }
    let found = sqlx::query!(
        r#"
        insert into oracle.jobs as job
            (request_id, sequence, block_number, terms, offer, operator_set, input, deadline)
        select * from unnest(
            $1::bytea[], $2::bigint[], $3::bigint[], $4::jsonb[], $5::jsonb[], $6::jsonb[], $7::bytea[], $8::bigint[]
        )
        on conflict (request_id) do update set
            state = case when job.state = 'dropped' then 'queued' else job.state end,
            reason = case when job.state = 'dropped' then null else job.reason end,
            sequence = excluded.sequence,
            block_number = excluded.block_number,
            wakes = job.wakes + 1,
            epoch = case when job.state = 'dropped' then job.epoch + 1 else job.epoch end,
            due_at = case when job.state = 'dropped' then now() else job.due_at end,
            updated_at = now()
        where job.state = 'dropped' or job.block_number is distinct from excluded.block_number
        returning request_id, xmax = 0 as "new!"
        "#,
        &rows.ids,
        &rows.sequences,
        &rows.blocks,
        &rows.terms,
        &rows.offers,
        &rows.operator_sets,
        &rows.inputs,
        &rows.deadlines,
    )
    .fetch_all(pool)
    .await
    .context("store discovered requests")?;
    pass(Point::RequestDiscovered);
    found
        .into_iter()
        .map(|row| {
            let request_id = B256::try_from(row.request_id.as_slice())?;
            Ok((request_id, if row.new { Found::New } else { Found::Returned }))
        })
        .collect()
}

/// The columns of several jobs.
#[derive(Debug, Default)]
struct Rows {
    ids: Vec<Vec<u8>>,
    sequences: Vec<i64>,
    blocks: Vec<i64>,
    terms: Vec<serde_json::Value>,
    offers: Vec<serde_json::Value>,
    operator_sets: Vec<serde_json::Value>,
    inputs: Vec<Vec<u8>>,
    deadlines: Vec<i64>,
}

/// Those of the requests, each with the block in which the indexer sees it, that [`discover_all`] would leave alone.
pub async fn known(pool: &PgPool, seen: &[(B256, u64)]) -> anyhow::Result<BTreeSet<B256>> {
    let ids: Vec<Vec<u8>> = seen.iter().map(|(id, _)| id.to_vec()).collect();
    let blocks: Vec<i64> =
        seen.iter().map(|(_, block)| signed(*block)).collect::<Result<_, _>>()?;
    let rows = sqlx::query_scalar!(
        r#"select request_id as "id!"
         from oracle.jobs
            join unnest($1::bytea[], $2::bigint[]) as seen (request_id, block_number)
                using (request_id, block_number)
         where state <> 'dropped'"#,
        &ids,
        &blocks,
    )
    .fetch_all(pool)
    .await
    .context("look for known requests")?;
    rows.iter().map(|id| B256::try_from(id.as_slice()).context("read a request id")).collect()
}

fn signed(number: u64) -> anyhow::Result<i64> {
    i64::try_from(number).with_context(|| format!("store {number}: over the limit of 2^63 - 1"))
}
