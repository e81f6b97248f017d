//! Delivery intents as jobs make them; the write is fenced by the job's lease.

use std::time::Duration;

use alloy::primitives::{Address, Bytes};
use sqlx::PgPool;

use crate::failpoint::{Point, pass};
use crate::job::store::{FencedError, Lease, fenced};

/// What an intent calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub target: Address,
    pub calldata: Bytes,
}

/// Makes a delivery intent for a job that has its quorum, unless one is under way or an earlier one can be wanted again, and
/// moves the job on, to be looked at again after `wait`. A reorg may have brought a reverted delivery back to life since the
/// job was looked at.
pub async fn intend(
    pool: &PgPool,
    lease: &Lease,
    transmitter: Address,
    call: &Call,
    wait: Duration,
) -> Result<(), FencedError> {
    // A delivery that comes back to life while this statement waits for the job's row is refused by the unique index.
    let moved = sqlx::query!(
        r#"with moved as (
            update oracle.jobs set
                state = 'delivering', reason = 'our delivery is under way', failures = 0,
                quorum_at = coalesce(quorum_at, now()),
                due_at = case when wakes = $3 then now() + make_interval(secs => $4) else now() end,
                leased_by = null, leased_until = null, updated_at = now()
            where request_id = $1 and epoch = $2
            returning request_id
         ), under_way as (
            select from oracle.intents
            where request_id = $1 and wanted and state in ('queued', 'sent', 'included')
         ), revived as (
            update oracle.intents set wanted = true, updated_at = now()
            where exists (select from moved) and not exists (select from under_way) and id = (
                select max(id) from oracle.intents as asleep
                where request_id = $1 and carrier is null and not wanted
                    and state in ('queued', 'sent', 'included')
                    and not exists (
                        select from oracle.transactions where intent_id = asleep.id and cancels
                    )
            )
            returning id
         ), made as (
            insert into oracle.intents (transmitter, kind, request_id, target, calldata)
            select $5, 'delivery', request_id, $6, $7 from moved
            where not exists (select from under_way) and not exists (select from revived)
         )
         select request_id from moved"#,
        lease.request_id.as_slice(),
        lease.epoch,
        lease.wakes,
        wait.as_secs_f64(),
        transmitter.as_slice(),
        call.target.as_slice(),
        call.calldata.as_ref(),
    )
    .fetch_optional(pool)
    .await?;
    fenced(u64::from(moved.is_some()))?;
    pass(Point::DeliveryIntended);
    Ok(())
}
