//! Delivery intents as jobs make and read them; the writes are fenced by the job's lease.

use alloy::primitives::{Address, B256, Bytes};
use sqlx::PgConnection;

use crate::job::store::{FencedError, Lease, hold};

/// What an intent calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub target: Address,
    pub calldata: Bytes,
}

/// Makes a delivery intent for a job, unless one is under way or an earlier one can be wanted again. A reorg may have
/// brought a reverted delivery back to life since the job was looked at.
pub async fn intend(
    connection: &mut PgConnection,
    lease: &Lease,
    transmitter: Address,
    call: &Call,
) -> Result<(), FencedError> {
    hold(connection, lease).await?;
    intend_held(connection, lease.request_id, transmitter, call).await?;
    Ok(())
}

/// The same inside a transaction that holds the job's row already.
pub(crate) async fn intend_held(
    connection: &mut PgConnection,
    request_id: B256,
    transmitter: Address,
    call: &Call,
) -> sqlx::Result<()> {
    sqlx::query!(
        "with under_way as (
            select from oracle.intents
            where request_id = $2 and wanted and state in ('queued', 'sent', 'included')
         ), revived as (
            update oracle.intents set wanted = true, updated_at = now()
            where not exists (select from under_way) and id = (
                select max(id) from oracle.intents as asleep
                where request_id = $2 and carrier is null and not wanted
                    and state in ('queued', 'sent', 'included')
                    and not exists (
                        select from oracle.transactions where intent_id = asleep.id and cancels
                    )
            )
            returning id
         )
         insert into oracle.intents (transmitter, kind, request_id, target, calldata)
         select $1, 'delivery', $2, $3, $4
         where not exists (select from under_way) and not exists (select from revived)",
        transmitter.as_slice(),
        request_id.as_slice(),
        call.target.as_slice(),
        call.calldata.as_ref(),
    )
    .execute(connection)
    .await?;
    Ok(())
}
