//! The right to use a transmitter's nonces, and what is said about the transmitter as a whole.

use alloy::primitives::Address;
use anyhow::Context;
use sqlx::{Connection, PgConnection, PgPool};

use crate::failpoint::{Point, pass};

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

/// Holds the transmitter's row for the rest of the transaction, if custody was not lost.
pub(super) async fn guard(
    connection: &mut PgConnection,
    custody: &Custody,
) -> Result<(), CustodyError> {
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

/// Takes nonces as used that the chain has used and this database never gave out.
pub async fn adopt(pool: &PgPool, custody: &Custody, next_nonce: u64) -> Result<(), CustodyError> {
    let mut transaction = pool.begin().await?;
    guard(&mut transaction, custody).await?;
    sqlx::query!(
        "update oracle.transmitters set next_nonce = $2 where address = $1 and next_nonce < $2",
        custody.address.as_slice(),
        i64::try_from(next_nonce).unwrap_or(i64::MAX),
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
