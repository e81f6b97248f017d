//! Whose database this is, and whether the key is ours to use.

use alloy::primitives::Address;
use anyhow::Context;
use auspex_protocol::deployment::Deployment;
use sqlx::PgPool;
use uuid::Uuid;

use crate::failpoint::{Point, pass};

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub owner: Address,
    pub signer: Address,
    /// Equal in all processes that share this operator's database, and in no other.
    pub database_id: Uuid,
}

/// Why a node may not start.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "the database belongs to operator {owner} on escrow {escrow} of chain {chain_id}; \
         give this node a database of its own"
    )]
    OtherOperator { owner: Address, escrow: Address, chain_id: i64 },
    #[error(
        "the signer {signer} belongs to operator {registered}, not to {owner}: two operators cannot share a key. \
         Check --owner, or make a key with `auspex operator init`"
    )]
    KeyOfAnother { signer: Address, registered: Address, owner: Address },
    #[error(
        "the signer {signer} is in use by another node with another database, which was heard {seconds} s ago: stop \
         that node, or let both use one database"
    )]
    KeyInUse { signer: Address, seconds: u64 },
    #[error(
        "the signer {0} has been revoked and can never sign again; make a new one and register it"
    )]
    Revoked(Address),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Claims the database for the operator, or finds that it is the operator's already.
pub async fn claim(
    pool: &PgPool,
    deployment: &Deployment,
    owner: Address,
    signer: Address,
) -> Result<Identity, IdentityError> {
    let chain_id = i64::try_from(deployment.chain_id).context("store the chain id")?;
    let escrow = deployment.request_escrow;
    let row = sqlx::query!(
        "insert into oracle.identity as mine (chain_id, escrow, owner) values ($1, $2, $3)
         on conflict (singleton) do update set singleton = mine.singleton
         returning chain_id, escrow, owner, database_id",
        chain_id,
        escrow.as_slice(),
        owner.as_slice(),
    )
    .fetch_one(pool)
    .await
    .context("read the database's owner")?;
    if row.chain_id != chain_id || row.escrow != escrow.as_slice() || row.owner != owner.as_slice()
    {
        return Err(IdentityError::OtherOperator {
            owner: Address::try_from(row.owner.as_slice()).context("read the owner")?,
            escrow: Address::try_from(row.escrow.as_slice()).context("read the escrow")?,
            chain_id: row.chain_id,
        });
    }
    pass(Point::IdentityClaimed);
    Ok(Identity { owner, signer, database_id: row.database_id })
}

/// Up to which sequence number all requests are finalized and known.
pub async fn seen_sequence(pool: &PgPool) -> anyhow::Result<u64> {
    let seen = sqlx::query_scalar!("select seen_sequence from oracle.identity")
        .fetch_one(pool)
        .await
        .context("read the discovery cursor")?;
    Ok(u64::try_from(seen)?)
}

/// Advances that number; it never goes back.
pub async fn advance_sequence(pool: &PgPool, sequence: u64) -> anyhow::Result<()> {
    sqlx::query!(
        "update oracle.identity set seen_sequence = greatest(seen_sequence, $1)",
        i64::try_from(sequence)?
    )
    .execute(pool)
    .await
    .context("store the discovery cursor")?;
    pass(Point::CursorAdvanced);
    Ok(())
}

impl Identity {
    /// What our heartbeats say about us; the part after `+` names the database.
    pub fn version(&self) -> String {
        format!("{}+{}", env!("CARGO_PKG_VERSION"), self.database_id.simple())
    }

    /// True when a heartbeat with our signer's signature comes from a node with another database.
    pub fn is_stranger(&self, signer: Address, version: &str) -> bool {
        signer == self.signer
            && version.split_once('+').map(|(_, database)| database)
                != Some(self.database_id.simple().to_string().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_key_with_another_database_is_a_stranger() {
        let signer = Address::repeat_byte(1);
        let identity =
            Identity { owner: Address::repeat_byte(2), signer, database_id: Uuid::new_v4() };
        let twin = Identity { database_id: Uuid::new_v4(), ..identity };
        assert!(!identity.is_stranger(signer, &identity.version()));
        assert!(identity.is_stranger(signer, &twin.version()));
        assert!(identity.is_stranger(signer, "0.1.0"));
        assert!(!identity.is_stranger(Address::repeat_byte(3), &twin.version()));
    }
}
