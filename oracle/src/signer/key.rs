//! A key that the signer may use: decrypted in its own memory, or behind a remote signer or a KMS. Each signs the Keccak-256 hash
//! of bytes that it is shown, never a hash that somebody else computed.

use std::fmt;

use alloy::primitives::{Address, Signature, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;

use crate::keys::SignerError;
use crate::signer::kms::Kms;
use crate::signer::web3signer::Web3Signer;

/// One of an operator's two hot keys.
#[derive(Clone)]
pub enum Key {
    Local(PrivateKeySigner),
    Web3Signer(Web3Signer),
    Kms(Kms),
}

impl Key {
    pub fn address(&self) -> Address {
        match self {
            Self::Local(key) => key.address(),
            Self::Web3Signer(remote) => remote.address(),
            Self::Kms(kms) => kms.address(),
        }
    }

    /// Signs the hash of `preimage`, and checks that the signature is this key's.
    pub async fn sign(&self, preimage: &[u8]) -> Result<Signature, SignerError> {
        let digest = keccak256(preimage);
        let signature = match self {
            Self::Local(key) => {
                key.sign_hash_sync(&digest).map_err(|error| SignerError::Key(error.to_string()))?
            }
            Self::Web3Signer(remote) => remote.sign(preimage).await?,
            Self::Kms(kms) => kms.sign(digest).await?,
        };
        // The escrow refuses a high s, which remote signers are free to produce.
        let signature = signature.normalized_s();
        checked(&signature, digest, self.address())?;
        Ok(signature)
    }
}

/// A signature by another key would be a promise of somebody else.
pub(crate) fn checked(
    signature: &Signature,
    digest: alloy::primitives::B256,
    expected: Address,
) -> Result<(), SignerError> {
    match signature.recover_address_from_prehash(&digest) {
        Ok(made_by) if made_by == expected => Ok(()),
        Ok(made_by) => Err(SignerError::OtherKey { expected, made_by }),
        Err(error) => Err(SignerError::Key(error.to_string())),
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Local(_) => "Local",
            Self::Web3Signer(_) => "Web3Signer",
            Self::Kms(_) => "Kms",
        };
        formatter.debug_tuple(name).field(&self.address()).finish()
    }
}
