//! The JSON form of what is agreed on chain. Integers wider than 53 bits are decimal strings, because most JSON readers
//! would round them; hashes, addresses and bytes are 0x-prefixed hex.

use alloy::primitives::{Address, B256, U256};
use serde::{Deserialize, Serialize};

use crate::bindings::IRequestEscrow;

/// A request's terms, field by field as the payer agreed to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestDocument {
    pub payer: Address,
    #[serde(with = "decimal")]
    pub agent_id: U256,
    pub offer_hash: B256,
    pub operator_set_hash: B256,
    pub split_hash: B256,
    pub token: Address,
    #[serde(with = "decimal")]
    pub max_amount: u128,
    pub fee_bps: u16,
    pub fee_recipient: Address,
    /// Unix time in seconds, below 2^40.
    pub deadline: u64,
    pub challenge_window: u32,
    pub referee: Address,
    pub callback: Address,
    pub callback_gas: u32,
    pub input_hash: B256,
    pub salt: B256,
}

/// An offer's terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OfferDocument {
    #[serde(with = "decimal")]
    pub agent_id: U256,
    pub token: Address,
    #[serde(with = "decimal")]
    pub price: u128,
    #[serde(with = "decimal")]
    pub operator_set_id: u64,
    pub split_hash: B256,
    pub corpus_root: B256,
    pub model_hash: B256,
    pub duration_min: u32,
    pub duration_max: u32,
    pub challenge_window: u32,
    pub referee: Address,
}

/// A split's payees and shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SplitDocument {
    pub recipients: Vec<Address>,
    #[serde(with = "decimals")]
    pub allocations: Vec<U256>,
    #[serde(with = "decimal")]
    pub total_allocation: U256,
    pub distribution_incentive: u16,
}

/// One epoch of an operator set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorSetDocument {
    #[serde(with = "decimal")]
    pub set_id: u64,
    #[serde(with = "decimal")]
    pub epoch: u64,
    pub threshold: u8,
    pub signers: Vec<Address>,
}

/// What a result says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OutcomeDocument {
    Answered,
    Declined,
}

/// A signed result's fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResultDocument {
    pub request_id: B256,
    pub outcome: OutcomeDocument,
    pub output_hash: B256,
    pub trace_root: B256,
    pub retrieval_root: B256,
    pub model_hash: B256,
    #[serde(with = "decimal")]
    pub amount: u128,
    /// Unix time in seconds.
    pub valid_until: u64,
}

/// A value that the chain's types cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    #[error("request.deadline: {0} is over the limit of 2^40 - 1 seconds")]
    Deadline(u64),
    #[error("result.outcome: the chain's value is neither answered nor declined")]
    Outcome,
}

impl From<&IRequestEscrow::Request> for RequestDocument {
    fn from(request: &IRequestEscrow::Request) -> Self {
        Self {
            payer: request.payer,
            agent_id: request.agentId,
            offer_hash: request.offerHash,
            operator_set_hash: request.operatorSetHash,
            split_hash: request.splitHash,
            token: request.token,
            max_amount: request.maxAmount,
            fee_bps: request.feeBps,
            fee_recipient: request.feeRecipient,
            deadline: request.deadline.to::<u64>(),
            challenge_window: request.challengeWindow,
            referee: request.referee,
            callback: request.callback,
            callback_gas: request.callbackGas,
            input_hash: request.inputHash,
            salt: request.salt,
        }
    }
}

impl TryFrom<&RequestDocument> for IRequestEscrow::Request {
    type Error = DocumentError;

    fn try_from(document: &RequestDocument) -> Result<Self, Self::Error> {
        let deadline =
            document.deadline.try_into().map_err(|_| DocumentError::Deadline(document.deadline))?;
        Ok(Self {
            payer: document.payer,
            agentId: document.agent_id,
            offerHash: document.offer_hash,
            operatorSetHash: document.operator_set_hash,
            splitHash: document.split_hash,
            token: document.token,
            maxAmount: document.max_amount,
            feeBps: document.fee_bps,
            feeRecipient: document.fee_recipient,
            deadline,
            challengeWindow: document.challenge_window,
            referee: document.referee,
            callback: document.callback,
            callbackGas: document.callback_gas,
            inputHash: document.input_hash,
            salt: document.salt,
        })
    }
}

impl From<&IRequestEscrow::Offer> for OfferDocument {
    fn from(offer: &IRequestEscrow::Offer) -> Self {
        Self {
            agent_id: offer.agentId,
            token: offer.token,
            price: offer.price,
            operator_set_id: offer.operatorSetId,
            split_hash: offer.splitHash,
            corpus_root: offer.corpusRoot,
            model_hash: offer.modelHash,
            duration_min: offer.durationMin,
            duration_max: offer.durationMax,
            challenge_window: offer.challengeWindow,
            referee: offer.referee,
        }
    }
}

impl From<&OfferDocument> for IRequestEscrow::Offer {
    fn from(document: &OfferDocument) -> Self {
        Self {
            agentId: document.agent_id,
            token: document.token,
            price: document.price,
            operatorSetId: document.operator_set_id,
            splitHash: document.split_hash,
            corpusRoot: document.corpus_root,
            modelHash: document.model_hash,
            durationMin: document.duration_min,
            durationMax: document.duration_max,
            challengeWindow: document.challenge_window,
            referee: document.referee,
        }
    }
}

impl From<&IRequestEscrow::Split> for SplitDocument {
    fn from(split: &IRequestEscrow::Split) -> Self {
        Self {
            recipients: split.recipients.clone(),
            allocations: split.allocations.clone(),
            total_allocation: split.totalAllocation,
            distribution_incentive: split.distributionIncentive,
        }
    }
}

impl From<&SplitDocument> for IRequestEscrow::Split {
    fn from(document: &SplitDocument) -> Self {
        Self {
            recipients: document.recipients.clone(),
            allocations: document.allocations.clone(),
            totalAllocation: document.total_allocation,
            distributionIncentive: document.distribution_incentive,
        }
    }
}

impl From<&IRequestEscrow::OperatorSet> for OperatorSetDocument {
    fn from(set: &IRequestEscrow::OperatorSet) -> Self {
        Self {
            set_id: set.setId,
            epoch: set.epoch,
            threshold: set.threshold,
            signers: set.signers.clone(),
        }
    }
}

impl From<&OperatorSetDocument> for IRequestEscrow::OperatorSet {
    fn from(document: &OperatorSetDocument) -> Self {
        Self {
            setId: document.set_id,
            epoch: document.epoch,
            threshold: document.threshold,
            signers: document.signers.clone(),
        }
    }
}

impl TryFrom<&IRequestEscrow::Result> for ResultDocument {
    type Error = DocumentError;

    fn try_from(result: &IRequestEscrow::Result) -> Result<Self, Self::Error> {
        let outcome = match result.outcome {
            IRequestEscrow::Outcome::Answered => OutcomeDocument::Answered,
            IRequestEscrow::Outcome::Declined => OutcomeDocument::Declined,
            IRequestEscrow::Outcome::None | IRequestEscrow::Outcome::__Invalid => {
                return Err(DocumentError::Outcome);
            }
        };
        Ok(Self {
            request_id: result.requestId,
            outcome,
            output_hash: result.outputHash,
            trace_root: result.traceRoot,
            retrieval_root: result.retrievalRoot,
            model_hash: result.modelHash,
            amount: result.amount,
            valid_until: result.validUntil,
        })
    }
}

impl From<&ResultDocument> for IRequestEscrow::Result {
    fn from(document: &ResultDocument) -> Self {
        let outcome = match document.outcome {
            OutcomeDocument::Answered => IRequestEscrow::Outcome::Answered,
            OutcomeDocument::Declined => IRequestEscrow::Outcome::Declined,
        };
        Self {
            requestId: document.request_id,
            outcome,
            outputHash: document.output_hash,
            traceRoot: document.trace_root,
            retrievalRoot: document.retrieval_root,
            modelHash: document.model_hash,
            amount: document.amount,
            validUntil: document.valid_until,
        }
    }
}

/// An integer as a decimal string.
pub mod decimal {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(D::Error::custom(format!("{text:?} is not a decimal integer")));
        }
        text.parse().map_err(D::Error::custom)
    }
}

mod decimals {
    use alloy::primitives::U256;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Decimal(#[serde(with = "super::decimal")] U256);

    pub(super) fn serialize<S: Serializer>(
        values: &[U256],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().copied().map(Decimal))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<U256>, D::Error> {
        let values = Vec::<Decimal>::deserialize(deserializer)?;
        Ok(values.into_iter().map(|value| value.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_values_survive_json() {
        let request = IRequestEscrow::Request {
            agentId: U256::MAX,
            maxAmount: u128::MAX,
            deadline: "1099511627775".parse().unwrap(),
            ..Default::default()
        };
        let json = serde_json::to_string(&RequestDocument::from(&request)).unwrap();
        let document: RequestDocument = serde_json::from_str(&json).unwrap();
        assert_eq!(IRequestEscrow::Request::try_from(&document), Ok(request));
    }

    #[test]
    fn a_number_that_is_not_a_decimal_string_is_refused() {
        for bad in ["-1", "0x10", "", "1e3", " 1"] {
            let json = format!(r#"{{"setId":"{bad}","epoch":"1","threshold":1,"signers":[]}}"#);
            assert!(serde_json::from_str::<OperatorSetDocument>(&json).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_deadline_beyond_forty_bits_is_refused() {
        let mut document = RequestDocument::from(&IRequestEscrow::Request::default());
        document.deadline = 1 << 40;
        assert_eq!(
            IRequestEscrow::Request::try_from(&document),
            Err(DocumentError::Deadline(1 << 40))
        );
    }
}
