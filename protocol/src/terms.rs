//! Identities of what is agreed on chain: request ids, offer hashes, operator-set hashes, result digests.

use alloy::primitives::{Address, B256, keccak256};
use alloy::sol_types::{Eip712Domain, SolStruct, SolValue, eip712_domain};

use crate::bindings::IRequestEscrow::{Offer, OperatorSet, Request};

/// The escrow's EIP-712 domain on one chain. Every request id and every operator signature is bound to it.
pub fn escrow_domain(chain_id: u64, escrow: Address) -> Eip712Domain {
    eip712_domain! {
        name: "Auspex RequestEscrow",
        version: "1",
        chain_id: chain_id,
        verifying_contract: escrow,
    }
}

/// A request's id: the EIP-712 digest of everything that the payer agreed to. It is also the nonce of the payer's
/// EIP-3009 authorization.
pub fn request_id(domain: &Eip712Domain, request: &Request) -> B256 {
    request.eip712_signing_hash(domain)
}

/// The hash under which the escrow knows an offer.
pub fn offer_hash(offer: &Offer) -> B256 {
    keccak256(offer.abi_encode())
}

/// The hash of one epoch of an operator set, which a request pins.
pub fn operator_set_hash(set: &OperatorSet) -> B256 {
    keccak256(set.abi_encode())
}

/// What a request commits to instead of its input.
pub fn input_hash(input: &[u8]) -> B256 {
    keccak256(input)
}
