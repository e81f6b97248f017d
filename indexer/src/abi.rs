//! Events of contracts that are not ours: ERC-8004's reputation and validation registries.
//! Source: <https://eips.ethereum.org/EIPS/eip-8004> and the deployed registries' ABI.

#![allow(clippy::too_many_arguments, reason = "the standard's events have as many fields")]

use alloy::sol;

sol! {
    #[derive(Debug, PartialEq, Eq)]
    interface IReputationRegistry {
        event NewFeedback(
            uint256 indexed agentId,
            address indexed clientAddress,
            uint64 feedbackIndex,
            int128 value,
            uint8 valueDecimals,
            string indexed indexedTag1,
            string tag1,
            string tag2,
            string endpoint,
            string feedbackURI,
            bytes32 feedbackHash
        );
        event FeedbackRevoked(
            uint256 indexed agentId, address indexed clientAddress, uint64 indexed feedbackIndex
        );
        event ResponseAppended(
            uint256 indexed agentId,
            address indexed clientAddress,
            uint64 feedbackIndex,
            address indexed responder,
            string responseURI,
            bytes32 responseHash
        );
        /// Auspex's own registry only: the `NewFeedback` that follows in the same transaction is about this request, for
        /// which its author paid `amount`.
        event FeedbackBacked(
            uint256 indexed agentId,
            address indexed clientAddress,
            uint64 feedbackIndex,
            bytes32 indexed requestId,
            uint128 amount
        );
    }

    #[derive(Debug, PartialEq, Eq)]
    interface IValidationRegistry {
        event ValidationRequest(
            address indexed validatorAddress,
            uint256 indexed agentId,
            string requestURI,
            bytes32 indexed requestHash
        );
        event ValidationResponse(
            address indexed validatorAddress,
            uint256 indexed agentId,
            bytes32 indexed requestHash,
            uint8 response,
            string responseURI,
            bytes32 responseHash,
            string tag
        );
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::b256;
    use alloy::sol_types::SolEvent;

    use super::{IReputationRegistry, IValidationRegistry};

    #[test]
    fn the_signatures_are_those_of_the_deployed_registries() {
        assert_eq!(
            IReputationRegistry::NewFeedback::SIGNATURE_HASH,
            b256!("0x6a4a61743519c9d648a14e6493f47dbe3ff1aa29e7785c96c8326a205e58febc")
        );
        assert_eq!(
            IReputationRegistry::FeedbackRevoked::SIGNATURE_HASH,
            b256!("0x25156fd3288212246d8b008d5921fde376c71ed14ac2e072a506eb06fde6d09d")
        );
        assert_eq!(
            IReputationRegistry::ResponseAppended::SIGNATURE_HASH,
            b256!("0xb1c6be0b5b8aef6539e2fac0fd131a2faa7b49edf8e505b5eb0ad487d56051d4")
        );
        assert_eq!(
            IValidationRegistry::ValidationRequest::SIGNATURE_HASH,
            b256!("0x530436c3634a98e1e626b0898be2f1e9980cc1bd2a78c07a0aba52d0a48a5059")
        );
        assert_eq!(
            IValidationRegistry::ValidationResponse::SIGNATURE_HASH,
            b256!("0xafddf629e874ccc3963b6a888c477bd464a6c8525024fc88759ea3b2326349ae")
        );
    }
}
