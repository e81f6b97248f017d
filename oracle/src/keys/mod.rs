//! The operator's two hot keys: one signs results, one signs transactions and holds nothing but gas. Neither can do the
//! other's work: the types have no such method.

pub mod file;
pub mod init;
pub mod keystore;
pub mod memory;
pub mod password;

use std::fmt;
use std::path::PathBuf;

use alloy::consensus::{SignableTransaction, TxEip1559};
use alloy::primitives::{Address, B256, Signature, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::Eip712Domain;
use auspex_protocol::bindings::IRequestEscrow::{Request, Result as SignedResult};
use auspex_protocol::document::{DocumentError, RequestDocument, ResultDocument};
use auspex_protocol::message::{Envelope, QuorumMessage, body_of, envelope_digest};
use auspex_protocol::quorum::result_digest;

use crate::signer::client::SignerClient;
use crate::signer::wire::{Ask, TransactionDocument};

/// Why a signature could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    #[error("sign: the key refused: {0}")]
    Key(String),
    #[error("sign: a message cannot be read or written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("sign: {0}")]
    Document(#[from] DocumentError),
    #[error("sign: the signer refuses: {reason}")]
    Refused {
        reason: String,
        /// Asking again later cannot help.
        lasting: bool,
    },
    #[error(
        "sign: the signer at {path}: {reason}. Check that `auspex operator signer` runs as this user"
    )]
    Unreachable { path: PathBuf, reason: String },
    #[error("sign: the remote signer at {0}")]
    Remote(String),
    #[error("sign: the signature is by {made_by}, not by {expected}")]
    OtherKey { expected: Address, made_by: Address },
}

/// The key that signs results and messages. It signs these two EIP-712 types and nothing else, never a bare hash.
#[derive(Clone)]
pub struct ResultSigner {
    key: Held,
}

/// Where a key is.
#[derive(Clone)]
enum Held {
    /// In this process: tests and development chains.
    Here(PrivateKeySigner),
    /// In the signer's process.
    There(SignerClient),
}

impl ResultSigner {
    pub fn new(key: PrivateKeySigner) -> Self {
        Self { key: Held::Here(key) }
    }

    /// The key of a signer's process.
    pub fn of_process(client: SignerClient) -> Self {
        Self { key: Held::There(client) }
    }

    pub fn address(&self) -> Address {
        match &self.key {
            Held::Here(key) => key.address(),
            Held::There(client) => client.introduction().signer,
        }
    }

    /// Signs the result of a request the way the escrow checks it.
    pub async fn sign_result(
        &self,
        domain: &Eip712Domain,
        request: &Request,
        result: &SignedResult,
    ) -> Result<Signature, SignerError> {
        let digest = result_digest(domain, result);
        match &self.key {
            Held::Here(key) => sign(key, digest),
            Held::There(client) => {
                let request = Box::new(RequestDocument::from(request));
                let ask = Ask::Result { request, result: ResultDocument::try_from(result)? };
                client.sign(&ask, digest).await
            }
        }
    }

    /// Seals a message to the other operators. `sent_at` is in Unix seconds.
    pub async fn seal(
        &self,
        domain: &Eip712Domain,
        message: &QuorumMessage,
        sent_at: u64,
    ) -> Result<Envelope, SignerError> {
        let body = body_of(message)?;
        let digest = envelope_digest(domain, &body, sent_at);
        let signature = match &self.key {
            Held::Here(key) => sign(key, digest)?,
            Held::There(client) => {
                client.sign(&Ask::Message { body: body.clone(), sent_at }, digest).await?
            }
        };
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
    key: Held,
}

impl Transmitter {
    pub fn new(key: PrivateKeySigner) -> Self {
        Self { key: Held::Here(key) }
    }

    /// The key of a signer's process.
    pub fn of_process(client: SignerClient) -> Self {
        Self { key: Held::There(client) }
    }

    pub fn address(&self) -> Address {
        match &self.key {
            Held::Here(key) => key.address(),
            Held::There(client) => client.introduction().transmitter,
        }
    }

    /// Signs a transaction; only [`crate::transaction::sign`] makes them.
    pub(crate) async fn sign_transaction(
        &self,
        document: &TransactionDocument,
    ) -> Result<(TxEip1559, Signature), SignerError> {
        let transaction = document.unsigned();
        let digest = transaction.signature_hash();
        debug_assert_eq!(digest, keccak256(document.preimage()), "both sides hash the same bytes");
        let signature = match &self.key {
            Held::Here(key) => sign(key, digest)?,
            Held::There(client) => {
                let ask = Ask::Transaction { transaction: document.clone() };
                client.sign(&ask, digest).await?
            }
        };
        Ok((transaction, signature))
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
