//! The rows of jobs: leasing them, moving them on, waking them. All writes of a worker are fenced by the epoch of its
//! claim.

use std::time::Duration;

use alloy::primitives::B256;
use alloy::sol_types::Eip712Domain;
use anyhow::{Context, anyhow};
use auspex_protocol::document::{OfferDocument, OperatorSetDocument, RequestDocument};
use sqlx::{PgConnection, PgPool};

use crate::clock::elapsed;
use crate::failpoint::{Point, pass};
use crate::job::plan::{Delivery, State};
use crate::job::terms::Terms;
use crate::limits::RETRY_WAIT_MAX;
use crate::quorum::store::{Recorded, Vote};

/// A job under a lease, with what the database knows about it.
#[derive(Debug, Clone)]
pub struct Claim {
    pub lease: Lease,
    pub state: State,
    pub terms: Terms,
    /// The block in which the indexer saw the request.
    pub seen_block: u64,
    /// The block in which, or up to which, a delivery was seen; 0 when none was.
    pub delivered_block: u64,
    pub failures: u32,
    pub answer_stored: bool,
    pub quorum_for: Option<Duration>,
    pub recorded: Option<Recorded>,
    /// The signatures that were there when ours was stored, where that has just happened.
    pub votes: Option<Vec<Vote>>,
    /// Our newest delivery.
    pub delivery: Option<Delivery>,
    /// How many of our deliveries have reverted.
    pub deliveries: u32,
}

/// What a worker's writes have to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub request_id: B256,
    pub epoch: i64,
    /// The bells that had rung when the job was claimed.
    pub wakes: i64,
}

/// Why a fenced write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum FencedError {
    /// Another worker has claimed the job since; whatever we know about it is out of date.
    #[error("the lease on the job was lost to another worker")]
    Lost,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Leases the most urgent due job, if there is one; only one that was begun while the operator drains its nodes, and where
/// `begins` is false. Among those
/// whose delivery is made and which wait for the chain, the one that has been due for longest stands for all. A time twice as
/// far ahead as any that is ever set was set before the database's clock went back, and counts as past: the epoch protects
/// from whoever may still hold the old lease. One that is a little further ahead was set by a statement that began a moment
/// after this one, and was seen by it all the same.
pub async fn claim(
    pool: &PgPool,
    domain: &Eip712Domain,
    worker: &str,
    lease: Duration,
    begins: bool,
) -> anyhow::Result<Option<Claim>> {
    // Each candidate is the first entry of an index that fits, so that a claim costs the same whatever waits.
    let row = sqlx::query!(
        r#"
        with to_work as (
            select request_id, deadline, sequence from oracle.jobs
            where $4 and state in ('queued', 'signed')
                and (
                    state <> 'queued'
                    or not exists (
                        select from oracle.identity where draining_since is not null
                    )
                )
                and (due_at <= now() or now() + 2 * make_interval(secs => $3) < due_at)
                and (
                    leased_until is null
                    or leased_until <= now()
                    or now() + 2 * make_interval(secs => $2) < leased_until
                )
            order by deadline, sequence
            limit 1
            for no key update skip locked
        ), begun as (
            select request_id, deadline, sequence from oracle.jobs
            where not $4 and state = 'signed'
                and (due_at <= now() or now() + 2 * make_interval(secs => $3) < due_at)
                and (
                    leased_until is null
                    or leased_until <= now()
                    or now() + 2 * make_interval(secs => $2) < leased_until
                )
            order by deadline, sequence
            limit 1
            for no key update skip locked
        ), due as (
            select request_id, deadline, sequence from oracle.jobs
            where state in ('delivering', 'delivered')
                and due_at <= now()
                and (
                    leased_until is null
                    or leased_until <= now()
                    or now() + 2 * make_interval(secs => $2) < leased_until
                )
            order by due_at
            limit 1
            for no key update skip locked
        ), due_after_all as (
            select request_id, deadline, sequence from oracle.jobs
            where state in ('delivering', 'delivered')
                and now() + 2 * make_interval(secs => $3) < due_at
                and (
                    leased_until is null
                    or leased_until <= now()
                    or now() + 2 * make_interval(secs => $2) < leased_until
                )
            order by due_at desc
            limit 1
            for no key update skip locked
        ), claimed as (
            update oracle.jobs set
                epoch = epoch + 1,
                leased_by = $1,
                leased_until = now() + make_interval(secs => $2)
            where request_id = (
                select request_id from (
                    table to_work union all table begun
                    union all table due union all table due_after_all
                ) as candidate
                order by deadline, sequence
                limit 1
            )
            returning request_id, epoch, wakes, state, terms, offer, operator_set, input,
                block_number, coalesce(delivered_block, 0) as delivered_block, failures, answer_stored,
                extract(epoch from now() - quorum_at)::float8 as quorum_seconds
        )
        select claimed.request_id as "request_id!", epoch as "epoch!", wakes as "wakes!",
            state as "state!", terms as "terms!", offer as "offer!",
            operator_set as "operator_set!", input as "input!", block_number as "block_number!",
            delivered_block as "delivered_block!",
            failures as "failures!", answer_stored as "answer_stored!", quorum_seconds,
            results.digest as "digest?", results.result as "result?", results.answer,
            results.signature,
            (
                select wanted and intents.state in ('queued', 'sent', 'included')
                from oracle.intents where intents.request_id = claimed.request_id
                order by id desc limit 1
            ) as under_way,
            (
                select count(*) from oracle.intents
                where intents.request_id = claimed.request_id
                    and intents.state in ('reverted', 'failed')
            ) as "reverted!"
        from claimed left join oracle.results on results.request_id = claimed.request_id
        "#,
        worker,
        lease.as_secs_f64(),
        RETRY_WAIT_MAX.as_secs_f64(),
        begins,
    )
    .fetch_optional(pool)
    .await
    .context("claim a job")?;
    let Some(row) = row else { return Ok(None) };
    pass(Point::JobClaimed);
    let request_id =
        B256::try_from(row.request_id.as_slice()).context("read a job's request id")?;
    let request: RequestDocument = serde_json::from_value(row.terms)?;
    let offer: OfferDocument = serde_json::from_value(row.offer)?;
    let operator_set: OperatorSetDocument = serde_json::from_value(row.operator_set)?;
    let terms = Terms::verified(domain, request_id, &request, &offer, &operator_set, row.input)?;
    let state = State::from_name(&row.state)
        .ok_or_else(|| anyhow!("job {request_id}: unknown state {:?}", row.state))?;
    let recorded = match (row.digest, row.result) {
        (Some(digest), Some(result)) => {
            Some(Recorded::read(&digest, result, row.answer, row.signature)?)
        }
        _ => None,
    };
    let delivery = row.under_way.map(|under_way| match under_way {
        true => Delivery::UnderWay,
        false => Delivery::Over,
    });
    Ok(Some(Claim {
        lease: Lease { request_id, epoch: row.epoch, wakes: row.wakes },
        state,
        terms,
        seen_block: u64::try_from(row.block_number)?,
        delivered_block: u64::try_from(row.delivered_block)?,
        failures: u32::try_from(row.failures)?,
        answer_stored: row.answer_stored,
        quorum_for: row.quorum_seconds.map(elapsed),
        recorded,
        votes: None,
        delivery,
        deliveries: u32::try_from(row.reverted)?,
    }))
}

/// Prolongs a lease.
pub async fn renew(pool: &PgPool, lease: &Lease, length: Duration) -> Result<(), FencedError> {
    let changed = sqlx::query!(
        "update oracle.jobs set leased_until = now() + make_interval(secs => $3)
         where request_id = $1 and epoch = $2",
        lease.request_id.as_slice(),
        lease.epoch,
        length.as_secs_f64(),
    )
    .execute(pool)
    .await?;
    pass(Point::LeaseRenewed);
    fenced(changed.rows_affected())
}

/// Gives a job back, to be looked at again after `wait`, or at once when a bell has rung since it was claimed.
pub async fn release(
    pool: &PgPool,
    lease: &Lease,
    wait: Duration,
    failures: u32,
) -> Result<(), FencedError> {
    let changed = sqlx::query!(
        "update oracle.jobs set
            leased_by = null,
            leased_until = null,
            failures = $4,
            due_at = case when wakes = $5 then now() + make_interval(secs => $3) else now() end
         where request_id = $1 and epoch = $2",
        lease.request_id.as_slice(),
        lease.epoch,
        wait.as_secs_f64(),
        i32::try_from(failures).unwrap_or(i32::MAX),
        lease.wakes,
    )
    .execute(pool)
    .await?;
    pass(Point::JobReleased);
    fenced(changed.rows_affected())
}

/// Moves a job on and gives it back, to be looked at again after `wait`. A job that needs no delivery any more leaves its
/// delivery unwanted.
pub async fn become_state(
    pool: &PgPool,
    lease: &Lease,
    state: State,
    reason: &str,
    wait: Duration,
) -> Result<(), FencedError> {
    let mut transaction = pool.begin().await?;
    move_on(&mut transaction, lease, state, reason, wait).await?;
    let needless = match state {
        State::Delivered | State::Done | State::Dropped | State::Closed | State::Declined => true,
        State::Queued | State::Signed | State::Delivering => false,
    };
    if needless {
        sqlx::query!(
            "update oracle.intents set wanted = false, updated_at = now()
             where request_id = $1 and state in ('queued', 'sent') and wanted",
            lease.request_id.as_slice()
        )
        .execute(&mut *transaction)
        .await?;
        // A batch leaves out what was delivered or refunded, but reverts over a request that is gone or overdue.
        let fatal = matches!(state, State::Dropped | State::Closed | State::Declined);
        sqlx::query!(
            "update oracle.intents as batch set wanted = false, updated_at = now()
             where id = (
                select max(carrier) from oracle.intents
                where request_id = $1 and state in ('queued', 'sent')
             ) and wanted and ($2 or not exists (
                select from oracle.intents as carried where carried.carrier = batch.id and carried.wanted
             ))",
            lease.request_id.as_slice(),
            fatal,
        )
        .execute(&mut *transaction)
        .await?;
    }
    pass(Point::JobMoving);
    transaction.commit().await?;
    pass(Point::JobMoved);
    Ok(())
}

/// Notes the head at which a job was seen delivered, before it becomes so.
pub async fn delivered_by(pool: &PgPool, lease: &Lease, block: u64) -> Result<(), FencedError> {
    let changed = sqlx::query!(
        "update oracle.jobs set delivered_block = $3 where request_id = $1 and epoch = $2",
        lease.request_id.as_slice(),
        lease.epoch,
        i64::try_from(block).unwrap_or(i64::MAX),
    )
    .execute(pool)
    .await?;
    fenced(changed.rows_affected())
}

/// Makes all delivered jobs due whose delivery may be safe now, also those that a worker is looking at, which may have seen
/// the chain as it was before; except those whose delivery is ours: these end when the transaction manager settles it.
/// Returns how many there are.
pub async fn wake_delivered(pool: &PgPool, safe_block: u64) -> anyhow::Result<u64> {
    let woken = sqlx::query!(
        "update oracle.jobs set wakes = wakes + 1, due_at = now()
         where state = 'delivered' and delivered_block <= $1
            and (now() < due_at or leased_until is not null) and not exists (
            select from oracle.intents
            where intents.request_id = jobs.request_id and intents.state = 'included'
         )",
        i64::try_from(safe_block).unwrap_or(i64::MAX),
    )
    .execute(pool)
    .await
    .context("wake delivered jobs")?;
    Ok(woken.rows_affected())
}

/// Locks the job's row for the rest of the transaction, if the lease still holds.
pub async fn hold(connection: &mut PgConnection, lease: &Lease) -> Result<(), FencedError> {
    let held = sqlx::query_scalar!(
        r#"select epoch from oracle.jobs where request_id = $1 and epoch = $2 for no key update"#,
        lease.request_id.as_slice(),
        lease.epoch,
    )
    .fetch_optional(connection)
    .await?;
    fenced(held.map_or(0, |_| 1))
}

/// The state change inside a transaction, which holds the job's row from here on. The job is given back, to be looked at
/// again after `wait`, or at once when a bell has rung since it was claimed.
async fn move_on(
    connection: &mut PgConnection,
    lease: &Lease,
    state: State,
    reason: &str,
    wait: Duration,
) -> Result<(), FencedError> {
    let moved = sqlx::query!(
        "update oracle.jobs set
            state = $3, reason = $4, failures = 0,
            due_at = case when wakes = $6 then now() + make_interval(secs => $5) else now() end,
            leased_by = null, leased_until = null, updated_at = now()
         where request_id = $1 and epoch = $2",
        lease.request_id.as_slice(),
        lease.epoch,
        state.name(),
        reason,
        wait.as_secs_f64(),
        lease.wakes,
    )
    .execute(connection)
    .await?;
    fenced(moved.rows_affected())
}

/// Remembers that the indexer keeps the answer.
pub async fn answer_stored(pool: &PgPool, lease: &Lease) -> Result<(), FencedError> {
    let changed = sqlx::query!(
        "update oracle.jobs set answer_stored = true where request_id = $1 and epoch = $2",
        lease.request_id.as_slice(),
        lease.epoch,
    )
    .execute(pool)
    .await?;
    pass(Point::AnswerStored);
    fenced(changed.rows_affected())
}

/// Rings a job's bell: it is looked at as soon as a worker is free. Needs no lease, because it decides nothing.
pub async fn wake(connection: &mut PgConnection, request_id: B256) -> sqlx::Result<()> {
    sqlx::query!(
        "update oracle.jobs set wakes = wakes + 1, due_at = least(due_at, now()) where request_id = $1",
        request_id.as_slice()
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) fn fenced(changed: u64) -> Result<(), FencedError> {
    match changed {
        0 => Err(FencedError::Lost),
        _ => Ok(()),
    }
}
