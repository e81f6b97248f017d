//! What became of transactions: where a nonce was used, and how it ended. Jobs move on in the transaction that notes it.

use alloy::primitives::B256;
use sqlx::PgPool;

use crate::failpoint::{Point, pass};
use crate::limits::{DELIVERED_RECHECK, DELIVERED_RECHECK_URGENT, URGENT_SECONDS};
use crate::transaction::custody::{Custody, CustodyError, guard};
use crate::transaction::plan::{Inclusion, IntentId, Outcome};
use crate::transaction::store::as_i64;

/// Stores where an intent's nonce was used, or that it is not used any more. `delivered` are those of its requests whose
/// delivery the chain shows: a reverted delivery of such a one was made pointless by somebody else, and a batch that came
/// through has delivered those and left out the others. Jobs whose delivery came through and that no worker holds are
/// delivered from here on. `chain_time` is in Unix seconds.
pub async fn include(
    pool: &PgPool,
    custody: &Custody,
    intent: IntentId,
    inclusion: Option<&Inclusion>,
    delivered: &[B256],
    chain_time: u64,
) -> Result<(), CustodyError> {
    let mut transaction = pool.begin().await?;
    guard(&mut transaction, custody).await?;
    let state = match inclusion {
        None => {
            sqlx::query!(
                "update oracle.transactions set
                    block_number = null, block_hash = null, succeeded = null, cost = null
                 where intent_id = $1 and block_number is not null",
                intent.0
            )
            .execute(&mut *transaction)
            .await?;
            "sent"
        }
        Some(inclusion) => {
            // Another one of the same nonce may have been there before.
            let cancelled = sqlx::query_scalar!(
                r#"with noted as (
                    update oracle.transactions set
                        block_number = case when hash = $2 then $3::bigint end,
                        block_hash = case when hash = $2 then $4::bytea end,
                        succeeded = case when hash = $2 then $5::boolean end,
                        cost = case when hash = $2 then $6::text::numeric end
                    where intent_id = $1 and (hash = $2 or block_number is not null)
                    returning hash, cancels
                 )
                 select cancels as "cancels!" from noted where hash = $2"#,
                intent.0,
                inclusion.hash.as_slice(),
                as_i64(inclusion.block_number),
                inclusion.block_hash.as_slice(),
                inclusion.succeeded,
                inclusion.cost.to_string(),
            )
            .fetch_one(&mut *transaction)
            .await?;
            if inclusion.succeeded && !cancelled { "included" } else { "reverted" }
        }
    };
    // A delivery that came true is wanted, whatever was thought of it before: if a reorg takes it away, it is sent again.
    // One whose revert a reorg took away is wanted only if no other was made in its place, and one that a reorg took out
    // after its job had ended is not wanted any more.
    let delivered: Vec<Vec<u8>> = delivered.iter().map(|id| id.to_vec()).collect();
    sqlx::query!(
        "update oracle.intents as this set
            state = next.state,
            wanted = (this.wanted or next.state = 'included')
                and not (
                    next.state = 'reverted' and ($2 = 'included' or this.request_id = any($3))
                )
                and not exists (
                    select from oracle.intents as other
                    where other.request_id = this.request_id and other.id <> this.id
                        and other.wanted and other.state in ('queued', 'sent', 'included')
                ) and not (next.state = 'sent' and exists (
                    select from oracle.jobs
                    where jobs.request_id = this.request_id
                        and jobs.state in ('done', 'declined', 'dropped', 'closed')
                )),
            updated_at = now()
         from (
            select id, case
                when $2 = 'included' and carrier is not null and request_id <> all($3) then 'reverted'
                else $2
            end as state
            from oracle.intents
            where (id = $1 or carrier = $1) and kind = 'delivery'
                and state in ('sent', 'included', 'reverted')
         ) as next
         where this.id = next.id",
        intent.0,
        state,
        &delivered,
    )
    .execute(&mut *transaction)
    .await?;
    // A batch is wanted while one of its deliveries is, and was not wanted any more if it reverted over nothing.
    sqlx::query!(
        "update oracle.intents as this set
            state = $2,
            wanted = case
                when $2 = 'included' then true
                when kind <> 'batch' then this.wanted
                when $2 = 'reverted' then this.wanted and exists (
                    select from oracle.intents as carried
                    where carried.carrier = this.id and carried.request_id <> all($3)
                )
                else exists (
                    select from oracle.intents as carried where carried.carrier = this.id and carried.wanted
                )
            end,
            updated_at = now()
         where id = $1 and kind <> 'delivery' and state in ('sent', 'included', 'reverted')",
        intent.0,
        state,
        &delivered,
    )
    .execute(&mut *transaction)
    .await?;
    let block = inclusion.map_or(0, |inclusion| inclusion.block_number);
    let moved = sqlx::query_scalar!(
        r#"with family as (
            select request_id, state = 'included' and wanted as came_through from oracle.intents
            where (id = $1 or carrier = $1) and request_id is not null
         ), moved as (
            update oracle.jobs set
                state = 'delivered', reason = 'our delivery is in the latest chain',
                delivered_block = $2, failures = 0, epoch = epoch + 1, updated_at = now(),
                due_at = now() + case
                    when deadline < $3 then make_interval(secs => $4)
                    else make_interval(secs => $5)
                end
            where state in ('signed', 'delivering') and leased_until is null
                and request_id in (select request_id from family where came_through)
            returning request_id
         ), rung as (
            update oracle.jobs set wakes = wakes + 1, due_at = least(due_at, now())
            where request_id in (select request_id from family)
                and request_id not in (select request_id from moved)
         )
         select count(*) as "moved!" from moved"#,
        intent.0,
        as_i64(block),
        as_i64(chain_time.saturating_add(URGENT_SECONDS)),
        DELIVERED_RECHECK_URGENT.as_secs_f64(),
        DELIVERED_RECHECK.as_secs_f64(),
    )
    .fetch_one(&mut *transaction)
    .await?;
    pass(Point::InclusionStoring);
    commit_moves(transaction, moved).await?;
    pass(Point::InclusionStored);
    Ok(())
}

/// Commits, passing the points of moving jobs where some have moved.
async fn commit_moves(
    transaction: sqlx::Transaction<'_, sqlx::Postgres>,
    moved: i64,
) -> sqlx::Result<()> {
    if 0 < moved {
        pass(Point::JobMoving);
    }
    transaction.commit().await?;
    if 0 < moved {
        pass(Point::JobMoved);
    }
    Ok(())
}

/// Stores a final outcome. Jobs whose delivery the safe chain shows and that no worker holds are done.
pub async fn settle(
    pool: &PgPool,
    custody: &Custody,
    intent: IntentId,
    outcome: Outcome,
) -> Result<(), CustodyError> {
    let state = match outcome {
        Outcome::Confirmed => "confirmed",
        Outcome::Failed => "failed",
        Outcome::Replaced => "replaced",
    };
    let mut transaction = pool.begin().await?;
    guard(&mut transaction, custody).await?;
    sqlx::query!(
        "update oracle.intents set state = $2, updated_at = now()
         where id = $1 and state in ('queued', 'sent', 'included', 'reverted')",
        intent.0,
        state
    )
    .execute(&mut *transaction)
    .await?;
    // What a batch that came through has left out is settled by what somebody else did.
    sqlx::query!(
        "update oracle.intents set
            state = case when $2 = 'confirmed' and state <> 'included' then 'replaced' else $2 end,
            updated_at = now()
         where carrier = $1 and state in ('queued', 'sent', 'included', 'reverted')",
        intent.0,
        state,
    )
    .execute(&mut *transaction)
    .await?;
    let moved = sqlx::query_scalar!(
        r#"with family as (
            select request_id, state = 'confirmed' as came_through from oracle.intents
            where (id = $1 or carrier = $1) and request_id is not null
         ), moved as (
            update oracle.jobs set
                state = 'done', reason = 'the safe chain shows the delivery',
                failures = 0, epoch = epoch + 1, updated_at = now()
            where state = 'delivered' and leased_until is null
                and request_id in (select request_id from family where came_through)
                and not exists (
                    select from oracle.intents as other
                    where other.request_id = jobs.request_id and other.wanted
                        and other.state in ('queued', 'sent')
                )
            returning request_id
         ), rung as (
            update oracle.jobs set wakes = wakes + 1, due_at = least(due_at, now())
            where request_id in (select request_id from family)
                and request_id not in (select request_id from moved)
         )
         select count(*) as "moved!" from moved"#,
        intent.0,
    )
    .fetch_one(&mut *transaction)
    .await?;
    pass(Point::OutcomeStoring);
    commit_moves(transaction, moved).await?;
    pass(Point::OutcomeStored);
    Ok(())
}
