//! The quorum over one result: signing it, checking signatures, and putting them in the order that the escrow wants.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes, Signature, keccak256};
use alloy::sol;
use alloy::sol_types::{Eip712Domain, SolStruct};

use crate::bindings::IRequestEscrow::{Attestation, OperatorSet, Result as SignedResult};

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttestationError {
    #[error("signature: {0} bytes long, but an ECDSA signature has 65")]
    Length(usize),
    #[error("signature: not a valid low-s secp256k1 signature")]
    Malformed,
    #[error("signature: made by {recovered}, not by {claimed}")]
    WrongSigner { claimed: Address, recovered: Address },
    #[error("signer: {0} is not in the operator set that the request pinned")]
    NotInSet(Address),
}

sol! {
    // The type that operators sign. The enum of the interface is `uint8` in EIP-712, which knows no enums.
    #[derive(Debug)]
    struct Result {
        bytes32 requestId;
        uint8 outcome;
        bytes32 outputHash;
        bytes32 traceRoot;
        bytes32 retrievalRoot;
        bytes32 modelHash;
        uint128 amount;
        uint64 validUntil;
    }
}

/// The EIP-712 digest that operators sign, equal to the escrow's `resultDigest`.
pub fn result_digest(domain: &Eip712Domain, result: &SignedResult) -> B256 {
    Result {
        requestId: result.requestId,
        outcome: result.outcome as u8,
        outputHash: result.outputHash,
        traceRoot: result.traceRoot,
        retrievalRoot: result.retrievalRoot,
        modelHash: result.modelHash,
        amount: result.amount,
        validUntil: result.validUntil,
    }
    .eip712_signing_hash(domain)
}

/// Checks an operator's ECDSA signature over `digest` the way the escrow does: 65 bytes, low s, v of 27 or 28.
pub fn verify_ecdsa(
    digest: B256,
    claimed: Address,
    signature: &[u8],
) -> std::result::Result<(), AttestationError> {
    if signature.len() != 65 {
        return Err(AttestationError::Length(signature.len()));
    }
    if !matches!(signature[64], 27 | 28) {
        return Err(AttestationError::Malformed);
    }
    let parsed = Signature::from_raw(signature).map_err(|_| AttestationError::Malformed)?;
    if parsed.normalize_s().is_some() {
        return Err(AttestationError::Malformed);
    }
    let recovered =
        parsed.recover_address_from_prehash(&digest).map_err(|_| AttestationError::Malformed)?;
    if recovered != claimed {
        return Err(AttestationError::WrongSigner { claimed, recovered });
    }
    Ok(())
}

/// Collects one signature per member over one digest. Keyed by signer, so the order that the escrow demands and the
/// absence of duplicates follow from the type.
#[derive(Debug, Clone)]
pub struct Quorum {
    digest: B256,
    set: OperatorSet,
    signatures: BTreeMap<Address, Bytes>,
}

impl Quorum {
    pub fn new(digest: B256, set: OperatorSet) -> Self {
        Self { digest, set, signatures: BTreeMap::new() }
    }

    /// Counts a member's signature; repeating one changes nothing.
    pub fn add(
        &mut self,
        signer: Address,
        signature: Bytes,
    ) -> std::result::Result<(), AttestationError> {
        self.check_member(signer)?;
        verify_ecdsa(self.digest, signer, &signature)?;
        self.signatures.entry(signer).or_insert(signature);
        Ok(())
    }

    /// Adds a signature that the caller has made itself and need not verify.
    ///
    /// # Errors
    /// The signer is not in the set.
    pub fn add_own(
        &mut self,
        signer: Address,
        signature: Bytes,
    ) -> std::result::Result<(), AttestationError> {
        self.check_member(signer)?;
        self.signatures.entry(signer).or_insert(signature);
        Ok(())
    }

    fn check_member(&self, signer: Address) -> std::result::Result<(), AttestationError> {
        match self.set.signers.contains(&signer) {
            true => Ok(()),
            false => Err(AttestationError::NotInSet(signer)),
        }
    }

    pub fn signers(&self) -> impl Iterator<Item = Address> + '_ {
        self.signatures.keys().copied()
    }

    /// Exactly as many signatures as the threshold asks for, strictly ascending by signer; `None` below the threshold.
    pub fn attestations(&self) -> Option<Vec<Attestation>> {
        let threshold = usize::from(self.set.threshold);
        if self.signatures.len() < threshold {
            return None;
        }
        let attestations = self
            .signatures
            .iter()
            .take(threshold)
            .map(|(signer, signature)| Attestation {
                signer: *signer,
                signature: signature.clone(),
            })
            .collect();
        Some(attestations)
    }
}

/// The member at `rank` in the order in which the members of a set may deliver a request: a rotation of the set that
/// starts at a place derived from the request's id, so that the work of leading spreads evenly and nobody chooses it.
pub fn leader(request_id: B256, set: &OperatorSet, rank: usize) -> Option<Address> {
    let members = set.signers.len();
    if members == 0 {
        return None;
    }
    let seed = keccak256([request_id.as_slice(), b"auspex leader"].concat());
    let start = u64::from_be_bytes([
        seed[0], seed[1], seed[2], seed[3], seed[4], seed[5], seed[6], seed[7],
    ]) % members as u64;
    set.signers.get((start as usize + rank) % members).copied()
}

/// The place of `signer` in the order of [`leader`]; `None` when it is not a member.
pub fn rank(request_id: B256, set: &OperatorSet, signer: Address) -> Option<usize> {
    (0..set.signers.len()).find(|rank| leader(request_id, set, *rank) == Some(signer))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{U256, address};
    use alloy::signers::SignerSync;
    use alloy::signers::local::PrivateKeySigner;
    use proptest::prelude::*;

    use super::*;
    use crate::bindings::IRequestEscrow::Outcome;
    use crate::terms::escrow_domain;

    const ESCROW: Address = address!("5FbDB2315678afecb367f032d93F642f64180aa3");

    fn result() -> SignedResult {
        SignedResult {
            requestId: B256::repeat_byte(1),
            outcome: Outcome::Answered,
            outputHash: B256::repeat_byte(2),
            traceRoot: B256::ZERO,
            retrievalRoot: B256::ZERO,
            modelHash: B256::ZERO,
            amount: 5,
            validUntil: 9,
        }
    }

    fn members(count: u8, threshold: u8) -> (Vec<PrivateKeySigner>, OperatorSet) {
        let mut keys: Vec<_> = (1..=count)
            .map(|n| PrivateKeySigner::from_bytes(&B256::repeat_byte(n)).unwrap())
            .collect();
        keys.sort_by_key(PrivateKeySigner::address);
        let signers = keys.iter().map(PrivateKeySigner::address).collect();
        (keys, OperatorSet { setId: 1, epoch: 1, threshold, signers })
    }

    #[test]
    fn a_quorum_counts_each_member_once_and_comes_out_ascending() {
        let digest = result_digest(&escrow_domain(31337, ESCROW), &result());
        let (keys, set) = members(5, 3);
        let mut quorum = Quorum::new(digest, set);
        for key in [&keys[4], &keys[0], &keys[4], &keys[2]] {
            let signature = key.sign_hash_sync(&digest).unwrap();
            quorum.add(key.address(), signature.as_bytes().into()).unwrap();
        }
        let attestations = quorum.attestations().unwrap();
        let signers: Vec<_> = attestations.iter().map(|a| a.signer).collect();
        assert_eq!(signers, [keys[0].address(), keys[2].address(), keys[4].address()]);
    }

    #[test]
    fn two_of_three_is_not_three() {
        let digest = B256::repeat_byte(7);
        let (keys, set) = members(3, 3);
        let mut quorum = Quorum::new(digest, set);
        for key in &keys[..2] {
            let signature = key.sign_hash_sync(&digest).unwrap();
            quorum.add(key.address(), signature.as_bytes().into()).unwrap();
        }
        assert_eq!(quorum.attestations(), None);
    }

    #[test]
    fn signatures_that_the_escrow_would_refuse_are_refused_here() {
        let digest = B256::repeat_byte(7);
        let (keys, set) = members(3, 2);
        let mut quorum = Quorum::new(digest, set);
        let signer = keys[0].address();
        let signature = keys[0].sign_hash_sync(&digest).unwrap();
        let bytes = signature.as_bytes();

        let order = U256::from_str_radix(
            "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
            16,
        )
        .unwrap();
        let mut high_s = bytes;
        high_s[32..64].copy_from_slice(&(order - signature.s()).to_be_bytes::<32>());
        high_s[64] = if bytes[64] == 27 { 28 } else { 27 };
        assert_eq!(quorum.add(signer, high_s.into()), Err(AttestationError::Malformed));

        let mut parity = bytes;
        parity[64] -= 27;
        assert_eq!(quorum.add(signer, parity.into()), Err(AttestationError::Malformed));
        assert_eq!(
            quorum.add(signer, bytes[..64].to_vec().into()),
            Err(AttestationError::Length(64))
        );
        assert_eq!(
            quorum.add(keys[1].address(), bytes.into()),
            Err(AttestationError::WrongSigner { claimed: keys[1].address(), recovered: signer })
        );
        assert_eq!(quorum.add(ESCROW, bytes.into()), Err(AttestationError::NotInSet(ESCROW)));
        assert_eq!(quorum.add_own(ESCROW, bytes.into()), Err(AttestationError::NotInSet(ESCROW)));
        assert_eq!(quorum.attestations(), None);
    }

    proptest! {
        #[test]
        fn every_member_has_exactly_one_rank(id: [u8; 32], count in 1u8..=32) {
            let (_, set) = members(count, 1);
            let mut ranks: Vec<_> =
                set.signers.iter().map(|s| rank(id.into(), &set, *s).unwrap()).collect();
            ranks.sort_unstable();
            prop_assert_eq!(ranks, (0..usize::from(count)).collect::<Vec<_>>());
        }
    }
}
