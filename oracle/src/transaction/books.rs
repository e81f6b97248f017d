//! What the database knows of a key's transactions, read for a plan.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};
use anyhow::Context;
use sqlx::PgPool;

use crate::clock::elapsed;
use crate::limits::{BUDGET_WINDOW, CONSECUTIVE_REVERTS_MAX};
use crate::transaction::fee::Fees;
use crate::transaction::intent::Call;
use crate::transaction::plan::{Attempt, Inclusion, IntentId, Slot};

/// An intent that waits for a nonce.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub intent: IntentId,
    pub wanted: bool,
    pub call: Call,
    /// `None` when it was not weighed yet, and when it would revert.
    pub gas_limit: Option<u64>,
    /// A simulation has shown that it would revert now.
    pub would_revert: bool,
    /// Unix seconds of chain time before which it must be mined; only a delivery that travels alone has one.
    pub deadline: Option<u64>,
    /// No earlier delivery of the same request has come back.
    pub first_try: bool,
}

/// An intent with a nonce and no final outcome; `slot.observed` is for the chain to fill in. What it calls and delivers is
/// read when it is needed: a batch is large, and many are open until they are safe.
#[derive(Debug, Clone)]
pub struct OpenSlot {
    pub slot: Slot,
    /// What its receipt, where one was read, says that it has delivered.
    pub delivered: Vec<B256>,
}

/// What the database knows of a key's transactions.
#[derive(Debug, Clone)]
pub struct Books {
    pub next_nonce: u64,
    pub stopped: Option<String>,
    pub slots: Vec<OpenSlot>,
    pub queue: Vec<Waiting>,
    pub spent: u128,
    pub consecutive_reverts: u32,
}

/// Reads all of it, except what was spent, which costs as much as there are transactions in the budget's window; see
/// [`spent`].
pub async fn read(pool: &PgPool, address: Address, spent: u128) -> anyhow::Result<Books> {
    let head = sqlx::query!(
        "select next_nonce, stopped, resumed_nonce from oracle.transmitters where address = $1",
        address.as_slice(),
    )
    .fetch_one(pool)
    .await
    .context("read the transmitter")?;
    let (slots, queue, consecutive_reverts) = tokio::try_join!(
        slots(pool, address),
        queue(pool, address),
        reverts(pool, address, head.resumed_nonce),
    )?;
    Ok(Books {
        next_nonce: u64::try_from(head.next_nonce)?,
        stopped: head.stopped,
        slots,
        queue,
        spent,
        consecutive_reverts,
    })
}

/// Adds up what transactions with a final outcome have paid in the budget's window, in wei.
pub async fn spent(pool: &PgPool, address: Address) -> anyhow::Result<u128> {
    let spent = sqlx::query_scalar!(
        r#"
        select coalesce(sum(paid.cost), 0)::text as "spent!"
        from oracle.intents join oracle.transactions as paid on paid.intent_id = intents.id
        where intents.transmitter = $1 and intents.nonce is not null
            and intents.state in ('confirmed', 'failed', 'replaced')
            and now() - make_interval(secs => $2) < intents.updated_at
        "#,
        address.as_slice(),
        BUDGET_WINDOW.as_secs_f64(),
    )
    .fetch_one(pool)
    .await
    .context("add up what was spent")?;
    spent.parse().context("read what was spent")
}

/// What an intent calls.
pub async fn call(pool: &PgPool, intent: IntentId) -> anyhow::Result<Call> {
    let row = sqlx::query!("select target, calldata from oracle.intents where id = $1", intent.0)
        .fetch_one(pool)
        .await
        .context("read what an intent calls")?;
    Ok(Call { target: Address::try_from(row.target.as_slice())?, calldata: row.calldata.into() })
}

/// What an intent delivers: one request, a batch's several, or none.
pub async fn requests(pool: &PgPool, intent: IntentId) -> anyhow::Result<Vec<B256>> {
    let rows = sqlx::query_scalar!(
        r#"select request_id as "id!" from oracle.intents
         where (id = $1 or carrier = $1) and request_id is not null order by id"#,
        intent.0
    )
    .fetch_all(pool)
    .await
    .context("read what an intent delivers")?;
    rows.iter().map(|id| B256::try_from(id.as_slice()).context("read a request id")).collect()
}

async fn slots(pool: &PgPool, address: Address) -> anyhow::Result<Vec<OpenSlot>> {
    let intents = sqlx::query!(
        r#"
        select id, nonce as "nonce!", wanted from oracle.intents
        where transmitter = $1 and carrier is null and state in ('sent', 'included', 'reverted')
        order by nonce
        "#,
        address.as_slice()
    )
    .fetch_all(pool)
    .await
    .context("read open intents")?;
    let ids: Vec<i64> = intents.iter().map(|intent| intent.id).collect();
    let mut attempts = attempts(pool, &ids).await?;
    intents
        .into_iter()
        .map(|row| {
            let (attempts, recorded) = attempts.remove(&row.id).unwrap_or_default();
            Ok(OpenSlot {
                slot: Slot {
                    intent: IntentId(row.id),
                    nonce: u64::try_from(row.nonce)?,
                    wanted: row.wanted,
                    attempts,
                    recorded,
                    observed: None,
                },
                delivered: Vec::new(),
            })
        })
        .collect()
}

type AttemptsByIntent = BTreeMap<i64, (Vec<Attempt>, Option<Inclusion>)>;

async fn attempts(pool: &PgPool, intents: &[i64]) -> anyhow::Result<AttemptsByIntent> {
    let rows = sqlx::query!(
        r#"
        select hash, intent_id, gas_limit, max_fee, priority_fee, cancels, block_number, block_hash,
            succeeded, cost::text as cost,
            extract(epoch from now() - signed_at)::float8 as "since_signed!",
            extract(epoch from now() - sent_at)::float8 as since_sent
        from oracle.transactions where intent_id = any($1) order by max_fee, signed_at
        "#,
        intents
    )
    .fetch_all(pool)
    .await
    .context("read signed transactions")?;
    let mut by_intent = AttemptsByIntent::new();
    for row in rows {
        let (attempts, recorded) = by_intent.entry(row.intent_id).or_default();
        let hash = B256::try_from(row.hash.as_slice())?;
        attempts.push(Attempt {
            hash,
            fees: Fees {
                max_fee: u128::try_from(row.max_fee)?,
                priority: u128::try_from(row.priority_fee)?,
            },
            gas_limit: u64::try_from(row.gas_limit)?,
            cancels: row.cancels,
            since_signed: elapsed(row.since_signed),
            since_sent: row.since_sent.map(elapsed),
        });
        if let (Some(number), Some(block_hash), Some(succeeded), Some(cost)) =
            (row.block_number, row.block_hash, row.succeeded, row.cost)
        {
            *recorded = Some(Inclusion {
                hash,
                block_number: u64::try_from(number)?,
                block_hash: B256::try_from(block_hash.as_slice())?,
                succeeded,
                cost: cost.parse().context("read a transaction's cost")?,
            });
        }
    }
    Ok(by_intent)
}

async fn queue(pool: &PgPool, address: Address) -> anyhow::Result<Vec<Waiting>> {
    let rows = sqlx::query!(
        r#"
        select intents.id, intents.wanted, intents.target, intents.calldata, intents.gas_limit,
            intents.gas_limit is null and intents.reason is not null as "would_revert!",
            jobs.deadline as "deadline?",
            not exists (
                select from oracle.intents as earlier
                where earlier.request_id = intents.request_id and earlier.id < intents.id
            ) as "first_try!"
        from oracle.intents left join oracle.jobs using (request_id)
        where intents.transmitter = $1 and intents.state = 'queued' and intents.carrier is null
        order by coalesce(
            jobs.deadline,
            (
                select min(carried_jobs.deadline)
                from oracle.intents as carried join oracle.jobs as carried_jobs using (request_id)
                where carried.carrier = intents.id
            )
        ), intents.id
        limit 256
        "#,
        address.as_slice()
    )
    .fetch_all(pool)
    .await
    .context("read queued intents")?;
    rows.into_iter()
        .map(|row| {
            Ok(Waiting {
                intent: IntentId(row.id),
                wanted: row.wanted,
                call: Call {
                    target: Address::try_from(row.target.as_slice())?,
                    calldata: row.calldata.into(),
                },
                gas_limit: row.gas_limit.map(u64::try_from).transpose()?,
                would_revert: row.would_revert,
                deadline: row.deadline.map(u64::try_from).transpose()?,
                first_try: row.first_try,
            })
        })
        .collect()
}

/// Reverts in a row, newest first. A revert of a delivery that somebody else had made pointless says nothing about us.
async fn reverts(pool: &PgPool, address: Address, resumed_nonce: i64) -> anyhow::Result<u32> {
    let states = sqlx::query_scalar!(
        "select state from oracle.intents
         where transmitter = $1 and kind in ('delivery', 'batch') and $2 <= nonce and (
            state in ('included', 'confirmed') or (state in ('reverted', 'failed') and wanted)
         )
         order by nonce desc limit $3",
        address.as_slice(),
        resumed_nonce,
        i64::from(CONSECUTIVE_REVERTS_MAX),
    )
    .fetch_all(pool)
    .await
    .context("read recent outcomes")?;
    let reverted =
        states.iter().take_while(|state| matches!(state.as_str(), "reverted" | "failed"));
    Ok(u32::try_from(reverted.count())?)
}
