//! Signed transactions, which are stored before they are sent. Every write that gives out a nonce is fenced by the epoch
//! under which the manager took custody of the key.

use alloy::primitives::{B256, Bytes};
use anyhow::Context;
use sqlx::{PgConnection, PgPool};

use crate::failpoint::{Point, pass};
use crate::transaction::custody::{Custody, CustodyError, guard};
use crate::transaction::intent::Call;
use crate::transaction::plan::IntentId;
use crate::transaction::sign::Signed;

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

/// Makes an intent for a nonce that has none. False when it has one after all: an endpoint may lag behind what is settled.
pub async fn fill(
    pool: &PgPool,
    custody: &Custody,
    nonce: u64,
    signed: &Signed,
) -> Result<bool, CustodyError> {
    let mut transaction = pool.begin().await?;
    guard(&mut transaction, custody).await?;
    let id = sqlx::query_scalar!(
        "insert into oracle.intents (transmitter, kind, target, calldata, state, nonce, gas_limit, reason)
         values ($1, 'filler', $1, '', 'sent', $2, $3, 'fills a gap in the nonces')
         on conflict (transmitter, nonce) where nonce is not null do nothing returning id",
        custody.address.as_slice(),
        as_i64(nonce),
        as_i64(signed.gas_limit),
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(id) = id else { return Ok(false) };
    keep(&mut transaction, IntentId(id), signed).await?;
    pass(Point::FillerStoring);
    transaction.commit().await?;
    pass(Point::FillerStored);
    Ok(true)
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
        "update oracle.intents set
            gas_limit = $2,
            reason = left($3, 512),
            -- Somebody else has made a withdrawal that would revert: nothing is left to withdraw.
            wanted = wanted and (kind <> 'withdrawal' or $2::bigint is not null),
            updated_at = now()
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

pub(super) fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The configuration keeps fees below 2^63 - 1 wei per gas.
fn fee_as_i64(fee: u128) -> i64 {
    i64::try_from(fee).unwrap_or(i64::MAX)
}
