//! The rows of results, signatures, refusals and outgoing messages.

use alloy::primitives::{Address, B256, Bytes};
use anyhow::Context;
use auspex_protocol::document::ResultDocument;
use auspex_protocol::message::Envelope;
use sqlx::{PgConnection, PgPool};

use crate::failpoint::{Point, pass};
use crate::job::store::{FencedError, Lease, fenced, hold};
use crate::limits::LEASE;
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
    let row = sqlx::query!(
        r#"with held as (
            select request_id from oracle.jobs
            where request_id = $1 and epoch = $2 for no key update
         ), mine as (
            insert into oracle.results (request_id, digest, result, answer)
            select request_id, $3, $4, $5 from held
            on conflict (request_id) do nothing
            returning digest, result, answer, signature
         )
         select digest as "digest!", result as "result!", answer, signature from mine
         union all
         select digest, result, answer, signature
         from oracle.results join held on held.request_id = results.request_id"#,
        lease.request_id.as_slice(),
        lease.epoch,
        digest.as_slice(),
        document,
        answer,
    )
    .fetch_optional(pool)
    .await
    .context("record a result")?;
    let Some(row) = row else { return Err(FencedError::Lost.into()) };
    let recorded = Recorded::read(&row.digest, row.result, row.answer, row.signature)?;
    pass(Point::ResultRecorded);
    Ok(recorded)
}

impl Recorded {
    /// Reads the columns of a result's row.
    pub(crate) fn read(
        digest: &[u8],
        result: serde_json::Value,
        answer: Option<String>,
        signature: Option<Vec<u8>>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            digest: B256::try_from(digest).context("read a result's digest")?,
            result: serde_json::from_value(result).context("read a recorded result")?,
            answer,
            signature: signature.map(Bytes::from),
        })
    }
}

/// A message for the other operators.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub topic: String,
    pub envelope: Envelope,
}

/// What [`sign`] stores.
#[derive(Debug)]
pub struct Signing<'a> {
    pub signer: Address,
    pub digest: B256,
    pub signature: &'a Bytes,
    /// What carries the signature to the others.
    pub messages: &'a [Outgoing],
    /// The answer document is known to be kept by the indexer.
    pub answer_stored: bool,
}

/// A verified signature of a member, and what it signs.
pub type Vote = (Address, B256, Bytes);

/// Stores our signature over the recorded result, counts it, queues what carries it, and moves the job on. The
/// job stays leased, for as long as a claim leases it: whoever signed looks whether there is a quorum already, among the
/// votes that come back, of which ours is one.
pub async fn sign(
    pool: &PgPool,
    lease: &Lease,
    signing: &Signing<'_>,
) -> anyhow::Result<Vec<Vote>> {
    let topics: Vec<String> =
        signing.messages.iter().map(|message| message.topic.clone()).collect();
    let payloads: Vec<String> = signing
        .messages
        .iter()
        .map(|message| serde_json::to_string(&message.envelope))
        .collect::<Result<_, _>>()?;
    let votes = sqlx::query!(
        r#"with moved as (
            update oracle.jobs set
                state = 'signed', reason = 'our result is signed', failures = 0,
                answer_stored = answer_stored or $8,
                leased_until = now() + make_interval(secs => $9), updated_at = now()
            where request_id = $1 and epoch = $2
            returning request_id
         ), kept as (
            update oracle.results set signature = $4
            from moved where results.request_id = moved.request_id and digest = $3
         ), counted as (
            insert into oracle.attestations as vote (request_id, signer, digest, signature)
            select request_id, $5, $3, $4 from moved
            on conflict (request_id, signer) do update set
                digest = excluded.digest, signature = excluded.signature, received_at = now()
            where vote.digest <> excluded.digest and not exists (
                select from oracle.results
                where results.request_id = vote.request_id and results.digest = vote.digest
            )
         ), queued as (
            insert into oracle.outbox (request_id, topic, payload)
            select request_id, topic, payload
            from moved, unnest($6::text[], $7::text[]) as message (topic, payload)
         )
         select $5::bytea as "signer!", $3::bytea as "digest!", $4::bytea as "signature!" from moved
         union all
         select signer, attestations.digest, attestations.signature
         from oracle.attestations join moved on moved.request_id = attestations.request_id
         where signer <> $5"#,
        lease.request_id.as_slice(),
        lease.epoch,
        signing.digest.as_slice(),
        signing.signature.as_ref(),
        signing.signer.as_slice(),
        &topics,
        &payloads,
        signing.answer_stored,
        LEASE.as_secs_f64(),
    )
    .fetch_all(pool)
    .await
    .context("store our signature")?;
    if votes.is_empty() {
        return Err(FencedError::Lost.into());
    }
    pass(Point::SignatureStored);
    votes.into_iter().map(|row| vote_of(&row.signer, &row.digest, row.signature)).collect()
}

fn vote_of(signer: &[u8], digest: &[u8], signature: Vec<u8>) -> anyhow::Result<Vote> {
    Ok((Address::try_from(signer)?, B256::try_from(digest)?, signature.into()))
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
    let noted = sqlx::query!(
        "update oracle.jobs set quorum_at = coalesce(quorum_at, now())
         where request_id = $1 and epoch = $2",
        lease.request_id.as_slice(),
        lease.epoch,
    )
    .execute(pool)
    .await?;
    pass(Point::QuorumStored);
    fenced(noted.rows_affected())
}

/// The verified signatures of a request, whatever they sign.
pub async fn votes(pool: &PgPool, request_id: B256) -> anyhow::Result<Vec<Vote>> {
    let rows = sqlx::query!(
        "select signer, digest, signature from oracle.attestations where request_id = $1 order by signer",
        request_id.as_slice()
    )
    .fetch_all(pool)
    .await
    .context("read signatures")?;
    rows.into_iter().map(|row| vote_of(&row.signer, &row.digest, row.signature)).collect()
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
