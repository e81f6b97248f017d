//! What an operator's message says about a request, checked against the request's pinned operator set. Pure.

use alloy::primitives::{Address, B256, Bytes};
use alloy::sol_types::Eip712Domain;
use auspex_protocol::bindings::IRequestEscrow::{OperatorSet, Result as SignedResult};
use auspex_protocol::message::{Envelope, QuorumMessage};
use auspex_protocol::quorum::{AttestationError, result_digest, verify_ecdsa};

use crate::limits::REASON_BYTES_MAX;

/// What a member says about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// A verified signature over a result.
    Vote { digest: B256, attestation: Bytes },
    /// The member will not sign.
    Refusal { digest: B256, reason: String },
}

/// Why a message is ignored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    #[error("message.signer: {0} is not in the operator set that the request pinned")]
    NotAMember(Address),
    #[error("message: about request {said}, but it came as one about {expected}")]
    OtherRequest { said: B256, expected: B256 },
    #[error("message.attestation: {0}")]
    Attestation(#[from] AttestationError),
    #[error("message: a heartbeat, or a part of an unfinished answer, says nothing about a result")]
    NoResult,
}

/// The request whose result a message is about; `None` for a heartbeat and for a part of an unfinished answer.
pub fn subject(message: &QuorumMessage) -> Option<B256> {
    match message {
        QuorumMessage::Proposal { result, .. } => Some(result.request_id),
        QuorumMessage::Cosignature { request_id, .. }
        | QuorumMessage::Refusal { request_id, .. } => Some(*request_id),
        QuorumMessage::Heartbeat { .. } | QuorumMessage::Partial { .. } => None,
    }
}

/// Reads a message whose envelope has been opened.
pub fn read(
    domain: &Eip712Domain,
    expected: B256,
    set: &OperatorSet,
    envelope: &Envelope,
    message: &QuorumMessage,
) -> Result<Reading, Ignored> {
    let author = envelope.signer;
    let Some(said) = subject(message) else {
        return Err(Ignored::NoResult);
    };
    if said != expected {
        return Err(Ignored::OtherRequest { said, expected });
    }
    if !set.signers.contains(&author) {
        return Err(Ignored::NotAMember(author));
    }
    match message {
        QuorumMessage::Proposal { result, attestation, .. } => {
            let digest = result_digest(domain, &SignedResult::from(result));
            vote(digest, author, attestation)
        }
        QuorumMessage::Cosignature { result_digest, attestation, .. } => {
            vote(*result_digest, author, attestation)
        }
        QuorumMessage::Refusal { result_digest, reason, .. } => {
            Ok(Reading::Refusal { digest: *result_digest, reason: shortened(reason) })
        }
        QuorumMessage::Heartbeat { .. } | QuorumMessage::Partial { .. } => Err(Ignored::NoResult),
    }
}

fn vote(digest: B256, author: Address, attestation: &Bytes) -> Result<Reading, Ignored> {
    verify_ecdsa(digest, author, attestation)?;
    Ok(Reading::Vote { digest, attestation: attestation.clone() })
}

/// Cuts a text to what is stored and published.
pub fn shortened(text: &str) -> String {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use alloy::signers::SignerSync;
    use alloy::signers::local::PrivateKeySigner;
    use auspex_protocol::bindings::IRequestEscrow::Outcome;
    use auspex_protocol::document::ResultDocument;
    use auspex_protocol::terms::escrow_domain;

    use super::*;

    struct Scene {
        domain: Eip712Domain,
        key: PrivateKeySigner,
        set: OperatorSet,
        result: SignedResult,
    }

    fn scene() -> Scene {
        let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(1)).unwrap();
        let signers = vec![key.address()];
        Scene {
            domain: escrow_domain(31337, Address::repeat_byte(3)),
            set: OperatorSet { setId: 1, epoch: 1, threshold: 1, signers },
            key,
            result: SignedResult {
                requestId: B256::repeat_byte(9),
                outcome: Outcome::Answered,
                outputHash: B256::ZERO,
                traceRoot: B256::ZERO,
                retrievalRoot: B256::ZERO,
                modelHash: B256::ZERO,
                amount: 1,
                validUntil: 9,
            },
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "a literal at each call reads best by value")]
    fn check(
        scene: &Scene,
        author: Address,
        message: &QuorumMessage,
        expected: Result<Reading, Ignored>,
    ) {
        let envelope =
            Envelope { body: String::new(), signer: author, sent_at: 0, signature: Bytes::new() };
        let request_id = scene.result.requestId;
        assert_eq!(read(&scene.domain, request_id, &scene.set, &envelope, message), expected);
    }

    fn proposal(scene: &Scene) -> (QuorumMessage, B256, Bytes) {
        let digest = result_digest(&scene.domain, &scene.result);
        let attestation: Bytes = scene.key.sign_hash_sync(&digest).unwrap().as_bytes().into();
        let result = ResultDocument::try_from(&scene.result).unwrap();
        let message =
            QuorumMessage::Proposal { result, answer: None, attestation: attestation.clone() };
        (message, digest, attestation)
    }

    #[test]
    fn a_proposal_votes_for_the_result_that_it_carries() {
        let scene = scene();
        let (message, digest, attestation) = proposal(&scene);
        let expected = Ok(Reading::Vote { digest, attestation });
        check(&scene, scene.key.address(), &message, expected);
    }

    #[test]
    fn a_member_cannot_vote_with_anothers_signature_nor_a_stranger_with_its_own() {
        let mut scene = scene();
        let (message, _, _) = proposal(&scene);
        let stranger = Address::repeat_byte(7);
        check(&scene, stranger, &message, Err(Ignored::NotAMember(stranger)));
        scene.set.signers.push(stranger);
        let wrong =
            AttestationError::WrongSigner { claimed: stranger, recovered: scene.key.address() };
        check(&scene, stranger, &message, Err(Ignored::Attestation(wrong)));
    }

    #[test]
    fn a_message_about_another_request_or_about_none_is_ignored() {
        let scene = scene();
        let said = B256::repeat_byte(8);
        let message = QuorumMessage::Refusal {
            request_id: said,
            result_digest: B256::ZERO,
            reason: "no".into(),
        };
        let expected = Err(Ignored::OtherRequest { said, expected: scene.result.requestId });
        check(&scene, scene.key.address(), &message, expected);
        let heartbeat = QuorumMessage::Heartbeat { head_block: 1, version: "1".into() };
        check(&scene, scene.key.address(), &heartbeat, Err(Ignored::NoResult));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let text = "é".repeat(REASON_BYTES_MAX);
        let cut = shortened(&text);
        assert!(cut.len() <= REASON_BYTES_MAX && REASON_BYTES_MAX - 1 <= cut.len());
        assert!(cut.chars().all(|letter| letter == 'é'));
    }
}
