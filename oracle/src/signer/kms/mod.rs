//! A key in AWS KMS: an asymmetric key of spec `ECC_SECG_P256K1` for signing, which never leaves it. KMS signs digests and
//! has no policy of its own, so the signer's policy and log stay in front of it.
//!
//! Needs the permissions `kms:GetPublicKey` and `kms:Sign` on the key, and nothing else.
//!
//! Source: AWS KMS API reference, "GetPublicKey" and "Sign"; RFC 5480 for the form of public keys.

pub mod credentials;
pub mod options;
pub mod sigv4;

use std::collections::BTreeMap;
use std::fmt;

use alloy::primitives::{Address, B256, Signature, U256, keccak256};
use alloy::signers::k256::PublicKey;
use alloy::signers::k256::ecdsa::Signature as PairOfScalars;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::credentials::Credentials;
use self::options::{KmsKeyId, KmsService};
use self::sigv4::{Scope, authorize};
use crate::keys::SignerError;
use crate::limits::{
    KMS_PAUSE, KMS_TIMEOUT, KMS_TRIES, REMOTE_COMPLAINT_CHARACTERS, REMOTE_SIGNER_REPLY_BYTES_MAX,
};

/// What precedes the point in the DER form of an uncompressed secp256k1 public key.
const PUBLIC_KEY_PREFIX: [u8; 23] = [
    0x30, 0x56, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x0a, 0x03, 0x42, 0x00,
];

/// What AWS calls credentials that it knows no more.
const ENDED: [&str; 3] =
    ["ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId"];

/// One key of a KMS.
#[derive(Clone)]
pub struct Kms {
    client: reqwest::Client,
    service: KmsService,
    key: KmsKeyId,
    address: Address,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PublicKeyReply {
    public_key: String,
    key_spec: String,
    key_usage: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SignReply {
    signature: String,
}

/// What one try brought.
enum Try {
    Reply(Vec<u8>),
    /// It may pass.
    Later(String),
    Refused(String),
}

impl Kms {
    /// Reads a key's public half, which is where its address is from.
    pub async fn find(service: &KmsService, key: &KmsKeyId) -> Result<Self, SignerError> {
        let client = reqwest::Client::builder()
            // A redirect would carry what is to be signed to a stranger.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| SignerError::Remote(error.without_url().to_string()))?;
        let (service, key) = (service.clone(), key.clone());
        let mut kms = Self { client, service, key, address: Address::ZERO };
        let reply: PublicKeyReply =
            kms.ask("GetPublicKey", &json!({ "KeyId": kms.key.as_str() })).await?;
        if reply.key_spec != "ECC_SECG_P256K1" || reply.key_usage != "SIGN_VERIFY" {
            return Err(kms.trouble(&format!(
                "the key has spec {} and usage {}, but ECC_SECG_P256K1 and SIGN_VERIFY are needed: make another one",
                reply.key_spec, reply.key_usage
            )));
        }
        let address = STANDARD.decode(&reply.public_key).ok().and_then(|der| address_of(&der));
        kms.address = address.ok_or_else(|| {
            kms.trouble("the public key is not the DER form of a point of secp256k1")
        })?;
        Ok(kms)
    }

    pub fn address(&self) -> Address {
        self.address
    }

    /// Has a digest signed. Whether the signature is this key's is found out while its recovery id is.
    pub async fn sign(&self, digest: B256) -> Result<Signature, SignerError> {
        let order = json!({
            "KeyId": self.key.as_str(),
            "Message": STANDARD.encode(digest),
            "MessageType": "DIGEST",
            "SigningAlgorithm": "ECDSA_SHA_256",
        });
        let reply: SignReply = self.ask("Sign", &order).await?;
        let pair = STANDARD
            .decode(&reply.signature)
            .ok()
            .and_then(|der| PairOfScalars::from_der(&der).ok())
            .ok_or_else(|| self.trouble("the signature is not the DER form of two scalars"))?;
        let (r, s) = pair.split_bytes();
        let scalar = |bytes: &[u8]| U256::from_be_slice(bytes);
        let signature = Signature::new(scalar(&r), scalar(&s), false).normalized_s();
        let both = [false, true].map(|parity| signature.with_parity(parity));
        let made_by = both.map(|one| one.recover_address_from_prehash(&digest).unwrap_or_default());
        match made_by.iter().position(|address| *address == self.address) {
            Some(index) => Ok(both[index]),
            None => Err(SignerError::OtherKey { expected: self.address, made_by: made_by[0] }),
        }
    }

    /// Asks until there is an answer, a refusal, or no more tries. Asking twice is harmless: it is the same digest.
    async fn ask<T: DeserializeOwned>(&self, action: &str, body: &Value) -> Result<T, SignerError> {
        let body = body.to_string();
        let mut pause = KMS_PAUSE;
        let mut tries = 1;
        loop {
            let reason = match self.attempt(action, &body).await {
                Try::Reply(reply) => {
                    return serde_json::from_slice(&reply)
                        .map_err(|_| self.trouble(&format!("{action}: the reply is not one")));
                }
                Try::Refused(reason) => return Err(self.trouble(&format!("{action}: {reason}"))),
                Try::Later(reason) => reason,
            };
            if tries == KMS_TRIES {
                return Err(
                    self.trouble(&format!("{action}: no answer after {KMS_TRIES} tries: {reason}"))
                );
            }
            tracing::debug!(kms = %self.service.endpoint, action, reason, tries, "asking KMS again");
            tokio::time::sleep(pause).await;
            tries += 1;
            pause *= 2;
        }
    }

    async fn attempt(&self, action: &str, body: &str) -> Try {
        let url = self.service.endpoint.reveal();
        let host = url.host_str().unwrap_or_default();
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let mut headers = BTreeMap::from([
            ("host", host),
            ("content-type", "application/x-amz-json-1.1".to_owned()),
            ("x-amz-target", format!("TrentService.{action}")),
        ]);
        let started = Instant::now();
        let credentials = match self.service.wallet.credentials().await {
            Ok(credentials) => credentials,
            Err(error) => return Try::Later(error.to_string()),
        };
        let clean = |text: &str| self.clean(text, &credentials);
        let scope = Scope { region: &self.service.region, service: "kms", at: Utc::now() };
        authorize(&credentials, &scope, "POST", &mut headers, body.as_bytes());
        let left = KMS_TIMEOUT.saturating_sub(started.elapsed());
        let mut request = self.client.post(url.clone()).timeout(left).body(body.to_owned());
        for (name, value) in headers {
            // The client writes this one from the URL.
            if name != "host" {
                request = request.header(name, value);
            }
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Try::Later(clean(&error.without_url().to_string())),
        };
        let status = response.status();
        let mut reply = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => break,
                Ok(Some(part)) if reply.len() + part.len() <= REMOTE_SIGNER_REPLY_BYTES_MAX => {
                    reply.extend_from_slice(&part);
                }
                Ok(Some(_)) => return Try::Refused("the reply is too long".to_owned()),
                Err(error) => return Try::Later(clean(&error.without_url().to_string())),
            }
        }
        if status.is_success() {
            return Try::Reply(reply);
        }
        let complaint = serde_json::from_slice(&reply).unwrap_or(Value::Null);
        let text = |name: &str| complaint[name].as_str().unwrap_or_default();
        let message = [text("message"), text("Message")].concat();
        let kind = text("__type").rsplit('#').next().unwrap_or_default();
        let reason = clean(&format!("HTTP {}: {kind} {message}", status.as_u16()));
        // Throttling is told with status 400.
        let throttled = ["Throttl", "TooManyRequests", "RequestLimitExceeded"];
        let passes = status.is_server_error()
            || status.as_u16() == 429
            || throttled.iter().any(|name| kind.contains(name))
            || (ENDED.contains(&kind) && self.service.wallet.forget(&credentials).await);
        if passes { Try::Later(reason) } else { Try::Refused(reason) }
    }

    fn trouble(&self, what: &str) -> SignerError {
        SignerError::Remote(format!("{} (AWS KMS): {what}", self.service.endpoint))
    }

    /// Somebody else's words, short, printable, and without what is secret.
    fn clean(&self, text: &str, credentials: &Credentials) -> String {
        let text = credentials.redact(&self.service.endpoint.redact(text));
        let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        visible.take(REMOTE_COMPLAINT_CHARACTERS).collect::<String>().trim_end().to_owned()
    }
}

/// The address of a public key in DER.
fn address_of(der: &[u8]) -> Option<Address> {
    let point = der.strip_prefix(&PUBLIC_KEY_PREFIX)?;
    if point.len() != 65 || point[0] != 4 || PublicKey::from_sec1_bytes(point).is_err() {
        return None;
    }
    Some(Address::from_slice(&keccak256(&point[1..])[12..]))
}

impl fmt::Debug for Kms {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Kms")
            .field("endpoint", &self.service.endpoint)
            .field("key", &self.key)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_point_of_the_curve_has_an_address() {
        // Anvil's first account.
        let point = hex::decode("048318535b54105d4a7aae60c08fc45f9687181b4fdfc625bd1a753fa7397fed753547f11ca8696646f2f3acb08e31016afac23e630c5d11f59f61fef57b0d2aa5").unwrap();
        let der = [&PUBLIC_KEY_PREFIX[..], &point].concat();
        let expected = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266".parse().unwrap();
        assert_eq!(address_of(&der), Some(expected));
        let mut beside = der.clone();
        beside[40] ^= 1;
        assert_eq!(address_of(&beside), None);
        assert_eq!(address_of(&der[..87]), None);
        assert_eq!(address_of(&[der, vec![0]].concat()), None);
        assert_eq!(address_of(&[]), None);
    }
}
