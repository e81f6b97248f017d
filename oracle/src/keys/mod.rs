//! The operator's two hot keys: one signs results, one signs transactions and holds nothing but gas. Neither can do the
//! other's work: the types have no such method.

pub mod file;
pub mod init;
pub mod keystore;
pub mod password;

use std::fmt;

use alloy::primitives::{Address, B256, Signature};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::Eip712Domain;
use auspex_protocol::bindings::IRequestEscrow::Result as SignedResult;
use auspex_protocol::message::{Envelope, QuorumMessage, body_of, envelope_digest};
use auspex_protocol::quorum::result_digest;

/// Why a signature could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    #[error("sign: the key refused: {0}")]
    Key(String),
    #[error("sign: the message cannot be written as JSON: {0}")]
    Body(#[from] serde_json::Error),
}

/// The key that signs results and messages. It signs these two EIP-712 types and nothing else, never a bare hash.
#[derive(Clone)]
pub struct ResultSigner {
    key: PrivateKeySigner,
}

impl ResultSigner {
    pub fn new(key: PrivateKeySigner) -> Self {
        Self { key }
    }

    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// Signs a result the way the escrow checks it.
    pub fn sign_result(
        &self,
        domain: &Eip712Domain,
        result: &SignedResult,
    ) -> Result<Signature, SignerError> {
        sign(&self.key, result_digest(domain, result))
    }

    /// Seals a message to the other operators. `sent_at` is in Unix seconds.
    pub fn seal(
        &self,
        domain: &Eip712Domain,
        message: &QuorumMessage,
        sent_at: u64,
    ) -> Result<Envelope, SignerError> {
        let body = body_of(message)?;
        let signature = sign(&self.key, envelope_digest(domain, &body, sent_at))?;
        Ok(Envelope {
            body,
            signer: self.address(),
            sent_at,
            signature: signature.as_bytes().into(),
        })
    }
}

/// The key that signs transactions.
#[derive(Clone)]
pub struct Transmitter {
    key: PrivateKeySigner,
}

impl Transmitter {
    pub fn new(key: PrivateKeySigner) -> Self {
        Self { key }
    }

    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// Signs a transaction's signing hash; only [`crate::transaction::sign`] has one.
    pub(crate) fn sign_transaction(&self, hash: B256) -> Result<Signature, SignerError> {
        sign(&self.key, hash)
    }
}

fn sign(key: &PrivateKeySigner, digest: B256) -> Result<Signature, SignerError> {
    key.sign_hash_sync(&digest).map_err(|error| SignerError::Key(error.to_string()))
}

impl fmt::Debug for ResultSigner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ResultSigner").field(&self.address()).finish()
    }
}

impl fmt::Debug for Transmitter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Transmitter").field(&self.address()).finish()
    }
}
