//! Messages of other operators on their way into the database: opened, checked against the request's operator set, and
//! applied once, whichever way they came and however often.

use alloy::primitives::{Address, B256, keccak256};
use alloy::sol_types::Eip712Domain;
use anyhow::Context;
use auspex_protocol::bindings::IRequestEscrow::OperatorSet;
use auspex_protocol::document::OperatorSetDocument;
use auspex_protocol::message::{Envelope, MessageError, QuorumMessage, open};
use sqlx::{PgConnection, PgPool};

use crate::failpoint::{Point, pass};
use crate::job::store::wake;
use crate::limits::{MESSAGES_PER_SIGNER_MAX, PEERS_MAX};
use crate::quorum::reading::{Ignored, Reading, read, subject};
use crate::quorum::store::apply;

/// What became of a message.
#[derive(Debug)]
pub enum Received {
    Applied {
        request_id: B256,
        reading: Reading,
    },
    /// Applied before.
    Known,
    /// About a request that we do not know yet: the board keeps it until we do.
    UnknownRequest(B256),
    /// The signer has said more about this request than is kept.
    TooMany,
    Heartbeat {
        signer: Address,
        version: String,
        sent_at: u64,
    },
    Refused(MessageError),
    Ignored(Ignored),
}

/// Takes in one payload. What carries our own signature (`ours`) is here already.
pub async fn receive(
    pool: &PgPool,
    domain: &Eip712Domain,
    ours: Address,
    payload: &[u8],
) -> anyhow::Result<Received> {
    let (envelope, message) = match open(domain, payload) {
        Ok(opened) => opened,
        Err(error) => return Ok(Received::Refused(error)),
    };
    if let QuorumMessage::Heartbeat { head_block, version } = &message {
        heard(pool, &envelope, *head_block, version).await?;
        return Ok(Received::Heartbeat {
            signer: envelope.signer,
            version: version.clone(),
            sent_at: envelope.sent_at,
        });
    }
    let Some(request_id) = subject(&message) else {
        return Ok(Received::Ignored(Ignored::NoResult));
    };
    if envelope.signer == ours {
        return Ok(Received::Known);
    }
    let mut transaction = pool.begin().await?;
    let Some(set) = operator_set(&mut transaction, request_id).await? else {
        transaction.rollback().await?;
        return Ok(Received::UnknownRequest(request_id));
    };
    let reading = match read(domain, request_id, &set, &envelope, &message) {
        Ok(reading) => reading,
        Err(ignored) => {
            transaction.rollback().await?;
            return Ok(Received::Ignored(ignored));
        }
    };
    let kept = keep(&mut transaction, request_id, &envelope, &message).await?;
    if kept == Kept::Now {
        apply(&mut transaction, request_id, envelope.signer, &reading).await?;
        wake(&mut transaction, request_id).await?;
    }
    pass(Point::MessageApplying);
    transaction.commit().await?;
    pass(Point::MessageApplied);
    Ok(match kept {
        Kept::Now => Received::Applied { request_id, reading },
        Kept::Before => Received::Known,
        Kept::Not => Received::TooMany,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Now,
    Before,
    Not,
}

async fn operator_set(
    connection: &mut PgConnection,
    request_id: B256,
) -> anyhow::Result<Option<OperatorSet>> {
    let document = sqlx::query_scalar!(
        "select operator_set from oracle.jobs where request_id = $1",
        request_id.as_slice()
    )
    .fetch_optional(connection)
    .await
    .context("read a request's operator set")?;
    document
        .map(|document| {
            let set: OperatorSetDocument = serde_json::from_value(document)?;
            Ok(OperatorSet::from(&set))
        })
        .transpose()
}

async fn keep(
    connection: &mut PgConnection,
    request_id: B256,
    envelope: &Envelope,
    message: &QuorumMessage,
) -> anyhow::Result<Kept> {
    let mut identity = envelope.signer.to_vec();
    identity.extend_from_slice(envelope.body.as_bytes());
    let hash = keccak256(identity);
    let row = sqlx::query!(
        r#"
        select
            exists (select from oracle.inbox where message_hash = $1) as "known!",
            (select count(*) from oracle.inbox where request_id = $2 and signer = $3) as "count!"
        "#,
        hash.as_slice(),
        request_id.as_slice(),
        envelope.signer.as_slice(),
    )
    .fetch_one(&mut *connection)
    .await
    .context("look for a message")?;
    if row.known {
        return Ok(Kept::Before);
    }
    if MESSAGES_PER_SIGNER_MAX <= row.count {
        return Ok(Kept::Not);
    }
    let kind = match message {
        QuorumMessage::Proposal { .. } => "proposal",
        QuorumMessage::Cosignature { .. } => "cosignature",
        QuorumMessage::Refusal { .. } => "refusal",
        QuorumMessage::Heartbeat { .. } => "heartbeat",
        QuorumMessage::Partial { .. } => "partial",
    };
    let stored = sqlx::query!(
        "insert into oracle.inbox (message_hash, request_id, signer, kind) values ($1, $2, $3, $4)
         on conflict (message_hash) do nothing",
        hash.as_slice(),
        request_id.as_slice(),
        envelope.signer.as_slice(),
        kind,
    )
    .execute(connection)
    .await
    .context("store a message")?;
    Ok(if stored.rows_affected() == 1 { Kept::Now } else { Kept::Before })
}

/// Remembers a heartbeat, the latest of each operator. Strangers may send them too, so their number is limited.
async fn heard(
    pool: &PgPool,
    envelope: &Envelope,
    head_block: u64,
    version: &str,
) -> anyhow::Result<()> {
    sqlx::query!(
        "insert into oracle.peers as peer (signer, head_block, version, sent_at)
         select $1, $2, left($3, 128), $4
         where exists (select from oracle.peers where signer = $1)
            or (select count(*) from oracle.peers) < $5
         on conflict (signer) do update set
            head_block = excluded.head_block, version = excluded.version,
            sent_at = excluded.sent_at, seen_at = now()
         where peer.sent_at < excluded.sent_at",
        envelope.signer.as_slice(),
        i64::try_from(head_block).unwrap_or(i64::MAX),
        version,
        i64::try_from(envelope.sent_at).unwrap_or(i64::MAX),
        PEERS_MAX,
    )
    .execute(pool)
    .await
    .context("store a heartbeat")?;
    pass(Point::HeartbeatHeard);
    Ok(())
}
