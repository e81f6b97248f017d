//! What operators and the indexer say to each other. The bus is not trusted: what an operator says is signed, and what
//! the indexer says is only a bell that makes a node look for itself.
//!
//! A part of an unfinished answer is signed like everything else, so that a stranger cannot put words into an operator's
//! mouth. It promises nothing: only a result that a quorum has signed counts.

use alloy::primitives::{Address, B256, Bytes, keccak256};
use alloy::sol;
use alloy::sol_types::{Eip712Domain, SolStruct};
use serde::{Deserialize, Serialize};

use crate::document::ResultDocument;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::quorum::{AttestationError, verify_ecdsa};

/// The indexer's bell: something happened to this request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestNotice {
    pub request_id: B256,
    pub status: String,
    pub block_number: u64,
}

/// What one operator tells the others, or whoever listens, about one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum QuorumMessage {
    /// The leader's result with the answer behind it, so that the others can compare and readers can read.
    Proposal { result: ResultDocument, answer: Option<String>, attestation: Bytes },
    /// A member's signature over the result that it derived itself.
    Cosignature { request_id: B256, result_digest: B256, attestation: Bytes },
    /// A member will not sign, and says why.
    Refusal { request_id: B256, result_digest: B256, reason: String },
    /// An operator is alive; carries how far it has seen the chain.
    Heartbeat { head_block: u64, version: String },
    /// The next part of an answer that is still being written. It is kept nowhere, and losing one is harmless: `offset`
    /// says where in the answer's text it begins, in bytes of UTF-8, and 0 begins anew.
    Partial { request_id: B256, offset: u64, text: String },
}

/// A message with its author's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope {
    /// The JSON text of a [`QuorumMessage`]; the signature covers these bytes as they stand.
    pub body: String,
    pub signer: Address,
    /// Unix time in seconds, to tell an operator's later heartbeat from an earlier one.
    pub sent_at: u64,
    pub signature: Bytes,
}

/// Why a message is dropped.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    #[error("message: {0} bytes, over the limit of {MESSAGE_BYTES_MAX}")]
    TooLarge(usize),
    #[error("message: not an envelope: {0}")]
    Envelope(serde_json::Error),
    #[error("message.body: not a message that this version knows: {0}")]
    Body(serde_json::Error),
    #[error("message.{0}")]
    Signature(#[from] AttestationError),
}

sol! {
    // What an operator signs of a message. A result's signature can never be taken for one, nor the other way round,
    // because the two have different EIP-712 types.
    #[derive(Debug)]
    struct OperatorMessage {
        bytes32 bodyHash;
        uint64 sentAt;
    }
}

/// The digest that an envelope's signature covers.
pub fn envelope_digest(domain: &Eip712Domain, body: &str, sent_at: u64) -> B256 {
    OperatorMessage { bodyHash: keccak256(body.as_bytes()), sentAt: sent_at }
        .eip712_signing_hash(domain)
}

/// The JSON text of a message, ready to be signed.
pub fn body_of(message: &QuorumMessage) -> Result<String, serde_json::Error> {
    serde_json::to_string(message)
}

/// Reads an envelope off the bus and checks its signature. Whether the signer matters is the caller's question.
pub fn open(
    domain: &Eip712Domain,
    payload: &[u8],
) -> Result<(Envelope, QuorumMessage), MessageError> {
    if MESSAGE_BYTES_MAX < payload.len() {
        return Err(MessageError::TooLarge(payload.len()));
    }
    let envelope: Envelope = serde_json::from_slice(payload).map_err(MessageError::Envelope)?;
    let digest = envelope_digest(domain, &envelope.body, envelope.sent_at);
    verify_ecdsa(digest, envelope.signer, &envelope.signature)?;
    let message = serde_json::from_str(&envelope.body).map_err(MessageError::Body)?;
    Ok((envelope, message))
}

#[cfg(test)]
mod tests {
    use alloy::signers::SignerSync;
    use alloy::signers::local::PrivateKeySigner;
    use proptest::prelude::*;

    use super::*;
    use crate::document::OutcomeDocument;
    use crate::terms::escrow_domain;

    fn sealed(message: &QuorumMessage) -> (Eip712Domain, Envelope) {
        let domain = escrow_domain(31337, Address::repeat_byte(3));
        let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(1)).unwrap();
        let body = body_of(message).unwrap();
        let digest = envelope_digest(&domain, &body, 12);
        let signature = key.sign_hash_sync(&digest).unwrap().as_bytes().into();
        (domain, Envelope { body, signer: key.address(), sent_at: 12, signature })
    }

    #[test]
    fn a_message_comes_back_as_it_was_signed() {
        let message = QuorumMessage::Proposal {
            result: ResultDocument {
                request_id: B256::repeat_byte(1),
                outcome: OutcomeDocument::Answered,
                output_hash: B256::repeat_byte(2),
                trace_root: B256::ZERO,
                retrieval_root: B256::ZERO,
                model_hash: B256::ZERO,
                amount: u128::MAX,
                valid_until: u64::MAX,
            },
            answer: Some("{}".into()),
            attestation: Bytes::from(vec![1; 65]),
        };
        let (domain, envelope) = sealed(&message);
        let payload = serde_json::to_vec(&envelope).unwrap();
        let (_, opened) = open(&domain, &payload).unwrap();
        assert_eq!(opened, message);
    }

    #[test]
    fn a_changed_body_time_or_chain_breaks_the_signature() {
        let message = QuorumMessage::Heartbeat { head_block: 1, version: "0.1.0".into() };
        let (domain, envelope) = sealed(&message);
        let changed = [
            Envelope { body: envelope.body.replace('1', "2"), ..envelope.clone() },
            Envelope { sent_at: 13, ..envelope.clone() },
        ];
        for bad in changed {
            let payload = serde_json::to_vec(&bad).unwrap();
            assert!(matches!(open(&domain, &payload), Err(MessageError::Signature(_))));
        }
        let elsewhere = escrow_domain(1, Address::repeat_byte(3));
        let payload = serde_json::to_vec(&envelope).unwrap();
        assert!(matches!(open(&elsewhere, &payload), Err(MessageError::Signature(_))));
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload in prop::collection::vec(any::<u8>(), 0..512)) {
            let domain = escrow_domain(31337, Address::repeat_byte(3));
            prop_assert!(open(&domain, &payload).is_err());
        }
    }
}
