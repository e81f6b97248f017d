//! Keys behind a remote signer that speaks web3signer's `eth1` REST API: `GET /api/v1/eth1/publicKeys` lists the keys,
//! `POST /api/v1/eth1/sign/{publicKey}` signs the Keccak-256 hash of the given bytes. EIP-712 data and transactions are
//! both signed through it: their digests are the hashes of bytes that the policy has looked at.
//!
//! Source: the OpenAPI description of Consensys web3signer, "ETH1 signing".

use std::fmt;

use alloy::primitives::{Address, Bytes, Signature, keccak256};
use serde::Serialize;

use crate::config::SecretUrl;
use crate::keys::SignerError;
use crate::limits::{REMOTE_SIGNER_KEYS_MAX, REMOTE_SIGNER_REPLY_BYTES_MAX, REMOTE_SIGNER_TIMEOUT};

/// One key of a remote signer.
#[derive(Clone)]
pub struct Web3Signer {
    client: reqwest::Client,
    url: SecretUrl,
    /// The key's public key as the remote signer names it.
    identifier: String,
    address: Address,
}

#[derive(Serialize)]
struct Order<'a> {
    data: &'a Bytes,
}

impl Web3Signer {
    /// Finds the key of `address` at a remote signer.
    pub async fn find(url: &SecretUrl, address: Address) -> Result<Self, SignerError> {
        let client = reqwest::Client::builder()
            .timeout(REMOTE_SIGNER_TIMEOUT)
            // A redirect would carry what is to be signed to a stranger.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| SignerError::Remote(error.without_url().to_string()))?;
        let listing = endpoint(url, "api/v1/eth1/publicKeys")?;
        let reply = read(url, client.get(listing)).await?;
        let keys: Vec<String> = serde_json::from_str(&reply)
            .map_err(|error| SignerError::Remote(format!("{url}: publicKeys: {error}")))?;
        if REMOTE_SIGNER_KEYS_MAX < keys.len() {
            return Err(SignerError::Remote(format!(
                "{url}: publicKeys: {} keys, over the limit of {REMOTE_SIGNER_KEYS_MAX}",
                keys.len()
            )));
        }
        let held = keys.into_iter().find(|key| address_of(key) == Some(address));
        let Some(identifier) = held else {
            return Err(SignerError::Remote(format!(
                "{url}: does not hold the key of {address}; load it there, or correct the address"
            )));
        };
        Ok(Self { client, url: url.clone(), identifier, address })
    }

    pub fn address(&self) -> Address {
        self.address
    }

    /// Has the hash of `preimage` signed.
    pub async fn sign(&self, preimage: &[u8]) -> Result<Signature, SignerError> {
        let path = format!("api/v1/eth1/sign/{}", self.identifier);
        let data = Bytes::copy_from_slice(preimage);
        let order = self.client.post(endpoint(&self.url, &path)?).json(&Order { data: &data });
        let reply = read(&self.url, order).await?;
        let text = reply.trim().trim_matches('"');
        let bytes: Bytes = text.parse().map_err(|_| self.strange("is not hexadecimal"))?;
        if bytes.len() != 65 {
            return Err(self.strange("has not 65 bytes"));
        }
        Signature::from_raw(&bytes).map_err(|_| self.strange("is not a secp256k1 signature"))
    }

    fn strange(&self, what: &str) -> SignerError {
        SignerError::Remote(format!("{}: the signature {what}", self.url))
    }
}

fn endpoint(url: &SecretUrl, path: &str) -> Result<url::Url, SignerError> {
    let mut base = url.reveal().clone();
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    base.join(path).map_err(|error| SignerError::Remote(format!("{url}: {error}")))
}

async fn read(url: &SecretUrl, order: reqwest::RequestBuilder) -> Result<String, SignerError> {
    let trouble = |error: reqwest::Error| {
        SignerError::Remote(format!("{url}: {}", url.redact(&error.without_url().to_string())))
    };
    let mut response = order.send().await.map_err(trouble)?;
    let status = response.status();
    if !status.is_success() {
        return Err(SignerError::Remote(format!("{url}: answers {status}")));
    }
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(trouble)? {
        if REMOTE_SIGNER_REPLY_BYTES_MAX < body.len() + part.len() {
            return Err(SignerError::Remote(format!(
                "{url}: a reply over the limit of {REMOTE_SIGNER_REPLY_BYTES_MAX} bytes"
            )));
        }
        body.extend_from_slice(&part);
    }
    String::from_utf8(body).map_err(|_| SignerError::Remote(format!("{url}: a reply is not text")))
}

/// The address of an uncompressed public key, with or without the leading 0x04.
fn address_of(public_key: &str) -> Option<Address> {
    let bytes: Bytes = public_key.parse().ok()?;
    let point = match bytes.len() {
        64 => &bytes[..],
        65 if bytes[0] == 4 => &bytes[1..],
        _ => return None,
    };
    Some(Address::from_slice(&keccak256(point)[12..]))
}

impl fmt::Debug for Web3Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Web3Signer")
            .field("url", &self.url)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use alloy::signers::local::PrivateKeySigner;

    use super::*;

    #[test]
    fn a_public_key_gives_its_address_in_both_spellings() {
        let key = PrivateKeySigner::from_bytes(&[7; 32].into()).unwrap();
        let point = key.credential().verifying_key().to_encoded_point(false);
        let long = hex::encode(point.as_bytes());
        assert_eq!(address_of(&format!("0x{long}")), Some(key.address()));
        assert_eq!(address_of(&format!("0x{}", &long[2..])), Some(key.address()));
        assert_eq!(address_of("0x1234"), None);
        assert_eq!(address_of("nothing"), None);
    }
}
