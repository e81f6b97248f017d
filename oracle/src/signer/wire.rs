//! What a node and a signer say to each other: one JSON document per line, one answer per question. The signer builds
//! every digest itself from what it is shown, so that it knows what it signs.

use alloy::consensus::{SignableTransaction, TxEip1559};
use alloy::eips::eip2930::AccessList;
use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::sol_types::{Eip712Domain, SolStruct};
use auspex_protocol::bindings::IRequestEscrow::Result as SignedResult;
use auspex_protocol::document::{RequestDocument, ResultDocument, decimal};
use auspex_protocol::{message, quorum};
use serde::{Deserialize, Serialize};

use crate::limits::SIGNER_LINE_BYTES_MAX;

/// The version of this protocol; both sides refuse another one.
pub const VERSION: u32 = 1;

/// What a node asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "camelCase", deny_unknown_fields)]
pub enum Ask {
    /// Who is there?
    Hello,
    /// Sign a result. The request's terms come along, because its id commits to them: the signer recomputes the id and
    /// knows what the payer allowed.
    Result { request: Box<RequestDocument>, result: ResultDocument },
    /// Seal a message to the other operators.
    #[serde(rename_all = "camelCase")]
    Message { body: String, sent_at: u64 },
    /// Sign a transaction of the transmitter.
    Transaction { transaction: TransactionDocument },
}

/// What the signer answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "camelCase", deny_unknown_fields)]
pub enum Answer {
    Hello {
        introduction: Introduction,
    },
    /// 65 bytes, low `s`, `v` of 27 or 28.
    Signature {
        signature: Bytes,
    },
    /// The policy says no. A lasting refusal is the same tomorrow.
    Refused {
        reason: String,
        lasting: bool,
    },
    /// The key could not be used just now.
    Failed {
        reason: String,
    },
}

/// Who a signer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Introduction {
    pub version: u32,
    pub chain_id: u64,
    pub escrow: Address,
    pub signer: Address,
    pub transmitter: Address,
}

/// An EIP-1559 transaction without value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TransactionDocument {
    pub chain_id: u64,
    pub nonce: u64,
    pub gas_limit: u64,
    /// Wei per gas.
    #[serde(with = "decimal")]
    pub max_fee: u128,
    #[serde(with = "decimal")]
    pub priority_fee: u128,
    pub target: Address,
    pub calldata: Bytes,
}

impl TransactionDocument {
    /// The transaction that is meant.
    pub fn unsigned(&self) -> TxEip1559 {
        TxEip1559 {
            chain_id: self.chain_id,
            nonce: self.nonce,
            gas_limit: self.gas_limit,
            max_fee_per_gas: self.max_fee,
            max_priority_fee_per_gas: self.priority_fee,
            to: TxKind::Call(self.target),
            value: U256::ZERO,
            access_list: AccessList::default(),
            input: self.calldata.clone(),
        }
    }

    /// The bytes whose hash is signed.
    pub fn preimage(&self) -> Vec<u8> {
        self.unsigned().encoded_for_signing()
    }
}

/// The bytes whose hash an operator signs for a result (EIP-712).
pub fn result_preimage(domain: &Eip712Domain, result: &SignedResult) -> Vec<u8> {
    let typed = quorum::Result {
        requestId: result.requestId,
        outcome: result.outcome as u8,
        outputHash: result.outputHash,
        traceRoot: result.traceRoot,
        retrievalRoot: result.retrievalRoot,
        modelHash: result.modelHash,
        amount: result.amount,
        validUntil: result.validUntil,
    };
    typed_preimage(domain, &typed)
}

/// The bytes whose hash an operator signs for a message (EIP-712).
pub fn message_preimage(domain: &Eip712Domain, body: &str, sent_at: u64) -> Vec<u8> {
    let body_hash = alloy::primitives::keccak256(body.as_bytes());
    typed_preimage(domain, &message::OperatorMessage { bodyHash: body_hash, sentAt: sent_at })
}

fn typed_preimage<T: SolStruct>(domain: &Eip712Domain, value: &T) -> Vec<u8> {
    [&[0x19, 0x01][..], domain.separator().as_slice(), value.eip712_hash_struct().as_slice()]
        .concat()
}

/// Lines as both sides read and write them.
pub(crate) fn lines() -> tokio_util::codec::LinesCodec {
    tokio_util::codec::LinesCodec::new_with_max_length(SIGNER_LINE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{B256, keccak256};
    use auspex_protocol::bindings::IRequestEscrow::Outcome;
    use auspex_protocol::message::envelope_digest;
    use auspex_protocol::quorum::result_digest;
    use auspex_protocol::terms::escrow_domain;

    use super::*;

    #[test]
    fn the_bytes_hash_to_the_digests_that_the_contracts_check() {
        let domain = escrow_domain(31337, Address::repeat_byte(3));
        let result = SignedResult {
            requestId: B256::repeat_byte(1),
            outcome: Outcome::Answered,
            outputHash: B256::repeat_byte(2),
            traceRoot: B256::ZERO,
            retrievalRoot: B256::repeat_byte(4),
            modelHash: B256::repeat_byte(5),
            amount: u128::MAX,
            validUntil: 7,
        };
        assert_eq!(keccak256(result_preimage(&domain, &result)), result_digest(&domain, &result));
        let sealed = keccak256(message_preimage(&domain, "{}", 9));
        assert_eq!(sealed, envelope_digest(&domain, "{}", 9));
    }

    #[test]
    fn a_bare_hash_and_unknown_fields_are_not_understood() {
        let hash = B256::repeat_byte(1);
        for line in [
            format!(r#"{{"ask":"hash","hash":"{hash}"}}"#),
            format!(r#"{{"ask":"result","hash":"{hash}"}}"#),
            r#"{"ask":"message","body":"{}","sentAt":1,"hash":"0x00"}"#.to_owned(),
            format!(r#""{hash}""#),
        ] {
            assert!(serde_json::from_str::<Ask>(&line).is_err(), "{line}");
        }
    }
}
