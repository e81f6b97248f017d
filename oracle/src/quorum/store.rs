//! The rows of results, signatures, refusals and outgoing messages.

use alloy::primitives::{Address, B256, Bytes};
use anyhow::Context;
use auspex_protocol::document::ResultDocument;
use auspex_protocol::message::Envelope;
use sqlx::{PgConnection, PgPool};

use crate::failpoint::{Point, pass};
use crate::job::plan::State;
use crate::job::store::{FencedError, Lease, hold, move_on};
use crate::quorum::reading::Reading;

/// The one result that we stand by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub digest: B256,
    pub result: ResultDocument,
    pub answer: Option<String>,
    pub signature: Option<Bytes>,
}

/// Records the result to stand by, or returns the one that is on record already. What comes back is what may be signed.
pub async fn record(
    pool: &PgPool,
    lease: &Lease,
    digest: B256,
    result: &ResultDocument,
    answer: Option<&str>,
) -> anyhow::Result<Recorded> {
    let document = serde_json::to_value(result)?;
    let mut transaction = pool.begin().await?;
    hold(&mut transaction, lease).await?;
    sqlx::query!(
        "insert into oracle.results (request_id, digest, result, answer) values ($1, $2, $3, $4)
         on conflict (request_id) do nothing",
        lease.request_id.as_slice(),
        digest.as_slice(),
        document,
        answer,
    )
    .execute(&mut *transaction)
    .await
    .context("record a result")?;
    let recorded = recorded(&mut transaction, lease.request_id)
        .await?
        .context("read back a recorded result")?;
    pass(Point::ResultRecording);
    transaction.commit().await?;
    pass(Point::ResultRecorded);
    Ok(recorded)
}

/// The result on record for a request.
pub async fn recorded(
    connection: &mut PgConnection,
    request_id: B256,
) -> anyhow::Result<Option<Recorded>> {
    let row = sqlx::query!(
        "select digest, result, answer, signature from oracle.results where request_id = $1",
        request_id.as_slice()
    )
    .fetch_optional(connection)
    .await
    .context("read a recorded result")?;
    row.map(|row| {
        Ok(Recorded {
            digest: B256::try_from(row.digest.as_slice())?,
            result: serde_json::from_value(row.result)?,
            answer: row.answer,
            signature: row.signature.map(Bytes::from),
        })
    })
    .transpose()
}

/// A message for the other operators.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub topic: String,
    pub envelope: Envelope,
}

/// Stores our signature over the recorded result, counts it, queues the message that carries it, and moves the job on.
pub async fn sign(
    pool: &PgPool,
    lease: &Lease,
    signer: Address,
    digest: B256,
    signature: &Bytes,
    messages: &[Outgoing],
) -> anyhow::Result<()> {
    let mut transaction = pool.begin().await?;
    hold(&mut transaction, lease).await?;
    sqlx::query!(
        "update oracle.results set signature = $3 where request_id = $1 and digest = $2",
        lease.request_id.as_slice(),
        digest.as_slice(),
        signature.as_ref(),
    )
    .execute(&mut *transaction)
    .await
    .context("store our signature")?;
    vote(&mut transaction, lease.request_id, signer, digest, signature).await?;
    for message in messages {
        queue(&mut transaction, lease.request_id, message).await?;
    }
    move_on(&mut transaction, lease, State::Signed, "our result is signed").await?;
    pass(Point::SignatureStoring);
    transaction.commit().await?;
    pass(Point::SignatureStored);
    Ok(())
}

/// Stores that we will not sign what another member signed, and queues the message; once per request.
pub async fn refuse(
    pool: &PgPool,
    lease: &Lease,
    signer: Address,
    digest: B256,
    reason: &str,
    message: &Outgoing,
) -> anyhow::Result<()> {
    let mut transaction = pool.begin().await?;
    hold(&mut transaction, lease).await?;
    if refusal(&mut transaction, lease.request_id, signer, digest, reason).await? {
        queue(&mut transaction, lease.request_id, message).await?;
    }
    pass(Point::RefusalStoring);
    transaction.commit().await?;
    pass(Point::RefusalStored);
    Ok(())
}

/// Remembers since when there is a quorum.
pub async fn reached(pool: &PgPool, lease: &Lease) -> Result<(), FencedError> {
    let mut transaction = pool.begin().await?;
    hold(&mut transaction, lease).await?;
    sqlx::query!(
        "update oracle.jobs set quorum_at = now() where request_id = $1 and quorum_at is null",
        lease.request_id.as_slice()
    )
    .execute(&mut *transaction)
    .await?;
    pass(Point::QuorumStoring);
    transaction.commit().await?;
    pass(Point::QuorumStored);
    Ok(())
}

/// The verified signatures of a request, whatever they sign.
pub async fn votes(pool: &PgPool, request_id: B256) -> anyhow::Result<Vec<(Address, B256, Bytes)>> {
    let rows = sqlx::query!(
        "select signer, digest, signature from oracle.attestations where request_id = $1 order by signer",
        request_id.as_slice()
    )
    .fetch_all(pool)
    .await
    .context("read signatures")?;
    rows.into_iter()
        .map(|row| {
            let signer = Address::try_from(row.signer.as_slice())?;
            let digest = B256::try_from(row.digest.as_slice())?;
            Ok((signer, digest, Bytes::from(row.signature)))
        })
        .collect()
}

/// True when we have published a refusal for the request.
pub async fn has_refused(pool: &PgPool, request_id: B256, signer: Address) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (
            select from oracle.refusals where request_id = $1 and signer = $2
        ) as "refused!""#,
        request_id.as_slice(),
        signer.as_slice(),
    )
    .fetch_one(pool)
    .await
}

/// Applies what another member said.
pub async fn apply(
    connection: &mut PgConnection,
    request_id: B256,
    signer: Address,
    reading: &Reading,
) -> anyhow::Result<()> {
    match reading {
        Reading::Vote { digest, attestation } => {
            vote(connection, request_id, signer, *digest, attestation).await
        }
        Reading::Refusal { digest, reason } => {
            refusal(connection, request_id, signer, *digest, reason).await?;
            Ok(())
        }
    }
}

/// A member's newest signature counts, except that one over the digest that we derived is never given up for another.
async fn vote(
    connection: &mut PgConnection,
    request_id: B256,
    signer: Address,
    digest: B256,
    signature: &Bytes,
) -> anyhow::Result<()> {
    sqlx::query!(
        "insert into oracle.attestations as vote (request_id, signer, digest, signature)
         values ($1, $2, $3, $4)
         on conflict (request_id, signer) do update set
            digest = excluded.digest, signature = excluded.signature, received_at = now()
         where vote.digest <> excluded.digest and not exists (
            select from oracle.results
            where results.request_id = vote.request_id and results.digest = vote.digest
         )",
        request_id.as_slice(),
        signer.as_slice(),
        digest.as_slice(),
        signature.as_ref(),
    )
    .execute(connection)
    .await
    .context("store a signature")?;
    Ok(())
}

async fn refusal(
    connection: &mut PgConnection,
    request_id: B256,
    signer: Address,
    digest: B256,
    reason: &str,
) -> anyhow::Result<bool> {
    let stored = sqlx::query!(
        "insert into oracle.refusals (request_id, signer, digest, reason) values ($1, $2, $3, $4)
         on conflict (request_id, signer) do nothing",
        request_id.as_slice(),
        signer.as_slice(),
        digest.as_slice(),
        reason,
    )
    .execute(connection)
    .await
    .context("store a refusal")?;
    Ok(stored.rows_affected() == 1)
}

async fn queue(
    connection: &mut PgConnection,
    request_id: B256,
    message: &Outgoing,
) -> anyhow::Result<()> {
    let payload = serde_json::to_string(&message.envelope)?;
    sqlx::query!(
        "insert into oracle.outbox (request_id, topic, payload) values ($1, $2, $3)",
        request_id.as_slice(),
        message.topic,
        payload,
    )
    .execute(connection)
    .await
    .context("queue a message")?;
    Ok(())
}
