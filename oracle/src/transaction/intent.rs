//! Delivery intents as jobs make and read them; the writes are fenced by the job's lease.

use alloy::primitives::{Address, B256, Bytes};
use anyhow::Context;
use sqlx::{PgConnection, PgPool};

use crate::job::plan::Delivery;
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
    let under_way = sqlx::query_scalar!(
        r#"select exists (
            select from oracle.intents
            where request_id = $1 and wanted and state in ('queued', 'sent', 'included')
        ) as "under_way!""#,
        lease.request_id.as_slice()
    )
    .fetch_one(&mut *connection)
    .await?;
    if under_way {
        return Ok(());
    }
    let revived = sqlx::query!(
        "update oracle.intents set wanted = true, updated_at = now()
         where id = (
            select max(id) from oracle.intents as asleep
            where request_id = $1 and carrier is null and not wanted
                and state in ('queued', 'sent', 'included')
                and not exists (
                    select from oracle.transactions where intent_id = asleep.id and cancels
                )
         )",
        lease.request_id.as_slice()
    )
    .execute(&mut *connection)
    .await?;
    if 0 < revived.rows_affected() {
        return Ok(());
    }
    sqlx::query!(
        "insert into oracle.intents (transmitter, kind, request_id, target, calldata)
         values ($1, 'delivery', $2, $3, $4)",
        transmitter.as_slice(),
        lease.request_id.as_slice(),
        call.target.as_slice(),
        call.calldata.as_ref(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Our newest delivery of a request, and how many have reverted.
pub async fn deliveries(
    pool: &PgPool,
    request_id: B256,
) -> anyhow::Result<(Option<Delivery>, u32)> {
    let rows = sqlx::query!(
        "select state, wanted from oracle.intents where request_id = $1 order by id desc",
        request_id.as_slice()
    )
    .fetch_all(pool)
    .await
    .context("read deliveries")?;
    let newest = rows.first().map(|row| match (row.state.as_str(), row.wanted) {
        ("queued" | "sent" | "included", true) => Delivery::UnderWay,
        _ => Delivery::Over,
    });
    let reverted =
        rows.iter().filter(|row| matches!(row.state.as_str(), "reverted" | "failed")).count();
    Ok((newest, u32::try_from(reverted)?))
}
