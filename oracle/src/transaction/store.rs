//! What the manager writes: signed transactions before they are sent, and what became of them. Every write is fenced by the
//! epoch under which the manager took custody of the key.

use alloy::primitives::{Address, B256, Bytes};
use anyhow::Context;
use sqlx::{Connection, PgConnection, PgPool};

use crate::failpoint::{Point, pass};
use crate::limits::{DELIVERED_RECHECK, DELIVERED_RECHECK_URGENT, URGENT_SECONDS};
use crate::transaction::intent::Call;
use crate::transaction::plan::{Inclusion, IntentId, Outcome};
use crate::transaction::sign::Signed;

/// The right to use a key's nonces: a session that holds the advisory lock, and the epoch that all writes show.
#[derive(Debug)]
pub struct Custody {
    session: PgConnection,
    pub address: Address,
    pub epoch: i64,
}

/// Why a manager's write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    #[error("another process has taken over the transmitter's nonces")]
    Lost,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Custody {
    /// Takes custody of a key, unless another process has it. `first_nonce` counts only for a key never seen before.
    pub async fn take(
        pool: &PgPool,
        address: Address,
        first_nonce: u64,
        holder: &str,
    ) -> anyhow::Result<Option<Self>> {
        let mut session = PgConnection::connect_with(&pool.connect_options())
            .await
            .context("connect to the database for the transmitter's lock")?;
        let locked = sqlx::query_scalar!(
            r#"select pg_try_advisory_lock(hashtextextended('auspex transmitter ' || $1, 0)) as "locked!""#,
            format!("{address:#x}"),
        )
        .fetch_one(&mut session)
        .await
        .context("lock the transmitter")?;
        if !locked {
            return Ok(None);
        }
        pass(Point::CustodyLocked);
        let epoch = sqlx::query_scalar!(
            "insert into oracle.transmitters as known (address, next_nonce, epoch, holder)
             values ($1, $2, 1, $3)
             on conflict (address) do update set epoch = known.epoch + 1, holder = excluded.holder
             returning epoch",
            address.as_slice(),
            i64::try_from(first_nonce)?,
            holder,
        )
        .fetch_one(&mut session)
        .await
        .context("take custody of the transmitter")?;
        pass(Point::CustodyTaken);
        Ok(Some(Self { session, address, epoch }))
    }

    /// Fails when the session that holds the lock is gone.
    pub async fn confirm(&mut self) -> sqlx::Result<()> {
        self.session.ping().await
    }
}

async fn guard(connection: &mut PgConnection, custody: &Custody) -> Result<(), CustodyError> {
    let held = sqlx::query_scalar!(
        "select epoch from oracle.transmitters where address = $1 and epoch = $2 for no key update",
        custody.address.as_slice(),
        custody.epoch,
    )
    .fetch_optional(connection)
    .await?;
    match held {
        Some(_) => Ok(()),
        None => Err(CustodyError::Lost),
    }
}

/// Makes one intent that carries several queued deliveries. `None` when one of them has changed since it was read.
pub async fn form_batch(
    pool: &PgPool,
    custody: &Custody,
    deliveries: &[IntentId],
    call: &Call,
    gas_limit: u64,
) -> Result<Option<IntentId>, CustodyError> {
    let ids: Vec<i64> = deliveries.iter().map(|delivery| delivery.0).collect();
    let row = sqlx::query!(
        r#"with held as (
            select address from oracle.transmitters where address = $1 and epoch = $2
            for no key update
         ), ready as (
            select id from oracle.intents
            where id = any($3) and kind = 'delivery' and state = 'queued' and wanted
                and carrier is null and exists (select from held)
            for no key update
         ), formed as (
            insert into oracle.intents (transmitter, kind, target, calldata, gas_limit)
            select address, 'batch', $4, $5, $6 from held
            where (select count(*) from ready) = cardinality($3)
            returning id
         ), carried as (
            update oracle.intents as delivery set carrier = formed.id, updated_at = now()
            from formed, ready where delivery.id = ready.id
         )
         select exists (select from held) as "held!", (select id from formed) as formed"#,
        custody.address.as_slice(),
        custody.epoch,
        &ids,
        call.target.as_slice(),
        call.calldata.as_ref(),
        as_i64(gas_limit),
    )
    .fetch_one(pool)
    .await?;
    if !row.held {
        return Err(CustodyError::Lost);
    }
    pass(Point::BatchFormed);
    Ok(row.formed.map(IntentId))
}

/// Gives a nonce to an intent together with its first signed transaction.
pub async fn assign(
    pool: &PgPool,
    custody: &Custody,
    intent: IntentId,
    nonce: u64,
    signed: &Signed,
) -> Result<(), CustodyError> {
    // All of it happens or nothing: what follows `given` holds on to the row of the nonces until then.
    let given = sqlx::query_scalar!(
        "with held as (
            select address from oracle.transmitters
            where address = $1 and epoch = $2 and next_nonce = $3
            for no key update
         ), given as (
            update oracle.intents set state = 'sent', nonce = $3, gas_limit = $4, updated_at = now()
            from held where id = $5 and state = 'queued'
            returning id
         ), advanced as (
            update oracle.transmitters set next_nonce = next_nonce + 1
            from given where address = $1
         ), carried as (
            update oracle.intents as delivery set state = 'sent', updated_at = now()
            from given where delivery.carrier = given.id and delivery.state = 'queued'
         ), kept as (
            insert into oracle.transactions
                (hash, intent_id, raw, gas_limit, max_fee, priority_fee, cancels)
            select $6, id, $7, $4, $8, $9, $10 from given
            on conflict (hash) do nothing
         )
         select id from given",
        custody.address.as_slice(),
        custody.epoch,
        as_i64(nonce),
        as_i64(signed.gas_limit),
        intent.0,
        signed.hash.as_slice(),
        signed.raw.as_ref(),
        fee_as_i64(signed.fees.max_fee),
        fee_as_i64(signed.fees.priority),
        signed.cancels,
    )
    .fetch_optional(pool)
    .await?;
    if given.is_none() {
        return Err(CustodyError::Lost);
    }
    pass(Point::NonceAssigned);
    Ok(())
}

/// Makes an intent for a nonce that has none.
pub async fn fill(
    pool: &PgPool,
    custody: &Custody,
    nonce: u64,
    signed: &Signed,
) -> Result<(), CustodyError> {
    let mut transaction = pool.begin().await?;
    guard(&mut transaction, custody).await?;
    let id = sqlx::query_scalar!(
        "insert into oracle.intents (transmitter, kind, target, calldata, state, nonce, gas_limit, reason)
         values ($1, 'filler', $1, '', 'sent', $2, $3, 'fills a gap in the nonces') returning id",
        custody.address.as_slice(),
        as_i64(nonce),
        as_i64(signed.gas_limit),
    )
    .fetch_one(&mut *transaction)
    .await?;
    keep(&mut transaction, IntentId(id), signed).await?;
    pass(Point::FillerStoring);
    transaction.commit().await?;
    pass(Point::FillerStored);
    Ok(())
}

/// Stores a replacement for an intent's nonce.
pub async fn replace(
    pool: &PgPool,
    custody: &Custody,
    intent: IntentId,
    signed: &Signed,
) -> Result<(), CustodyError> {
    let mut transaction = pool.begin().await?;
    guard(&mut transaction, custody).await?;
    keep(&mut transaction, intent, signed).await?;
    pass(Point::ReplacementStoring);
    transaction.commit().await?;
    pass(Point::ReplacementStored);
    Ok(())
}

async fn keep(
    connection: &mut PgConnection,
    intent: IntentId,
    signed: &Signed,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into oracle.transactions
            (hash, intent_id, raw, gas_limit, max_fee, priority_fee, cancels)
         values ($1, $2, $3, $4, $5, $6, $7) on conflict (hash) do nothing",
        signed.hash.as_slice(),
        intent.0,
        signed.raw.as_ref(),
        as_i64(signed.gas_limit),
        fee_as_i64(signed.fees.max_fee),
        fee_as_i64(signed.fees.priority),
        signed.cancels,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The bytes of a stored transaction.
pub async fn raw(pool: &PgPool, hash: B256) -> anyhow::Result<Bytes> {
    let raw =
        sqlx::query_scalar!("select raw from oracle.transactions where hash = $1", hash.as_slice())
            .fetch_one(pool)
            .await
            .context("read a signed transaction")?;
    Ok(raw.into())
}

/// Notes that a transaction was handed to an endpoint, and what was answered if not yes.
pub async fn handed_over(pool: &PgPool, hash: B256, error: Option<&str>) -> anyhow::Result<()> {
    sqlx::query!(
        "update oracle.transactions set sent_at = now(), sends = sends + 1, last_error = left($2, 512)
         where hash = $1",
        hash.as_slice(),
        error,
    )
    .execute(pool)
    .await
    .context("note a sent transaction")?;
    pass(Point::SendingNoted);
    Ok(())
}

/// Remembers the gas that a queued intent will be given, or why it has none.
pub async fn weighed(
    pool: &PgPool,
    intent: IntentId,
    gas_limit: Option<u64>,
    reason: Option<&str>,
) -> anyhow::Result<()> {
    sqlx::query!(
        "update oracle.intents set gas_limit = $2, reason = left($3, 512), updated_at = now()
         where id = $1 and state = 'queued'",
        intent.0,
        gas_limit.map(as_i64),
        reason,
    )
    .execute(pool)
    .await
    .context("store a gas limit")?;
    pass(Point::GasWeighed);
    Ok(())
}

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

/// Takes nonces as used that the chain has used and this database never gave out.
pub async fn adopt(pool: &PgPool, custody: &Custody, next_nonce: u64) -> Result<(), CustodyError> {
    let mut transaction = pool.begin().await?;
    guard(&mut transaction, custody).await?;
    sqlx::query!(
        "update oracle.transmitters set next_nonce = $2 where address = $1 and next_nonce < $2",
        custody.address.as_slice(),
        as_i64(next_nonce),
    )
    .execute(&mut *transaction)
    .await?;
    pass(Point::NoncesAdopting);
    transaction.commit().await?;
    pass(Point::NoncesAdopted);
    Ok(())
}

/// Stops the manager of a key, for the operator to look.
pub async fn stop(pool: &PgPool, custody: &Custody, reason: &str) -> Result<(), CustodyError> {
    let mut transaction = pool.begin().await?;
    guard(&mut transaction, custody).await?;
    sqlx::query!(
        "update oracle.transmitters set stopped = $2 where address = $1",
        custody.address.as_slice(),
        reason,
    )
    .execute(&mut *transaction)
    .await?;
    pass(Point::ManagerStopping);
    transaction.commit().await?;
    pass(Point::ManagerStopped);
    Ok(())
}

/// Lets a stopped manager work again. The reverts that stopped it do not count any more.
pub async fn resume(pool: &PgPool, address: Address) -> anyhow::Result<()> {
    sqlx::query!(
        "update oracle.transmitters set stopped = null, resumed_nonce = next_nonce where address = $1",
        address.as_slice()
    )
    .execute(pool)
    .await
    .context("resume the transmitter")?;
    Ok(())
}

fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The configuration keeps fees below 2^63 - 1 wei per gas.
fn fee_as_i64(fee: u128) -> i64 {
    i64::try_from(fee).unwrap_or(i64::MAX)
}
