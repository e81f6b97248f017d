//! Encrypted keystores (Web3 Secret Storage, version 3).

use std::path::{Path, PathBuf};

use aes::Aes128;
use aes::cipher::{KeyIvInit, StreamCipher};
use alloy::primitives::{Address, B256, keccak256};
use alloy::signers::k256::elliptic_curve::rand_core::{OsRng, RngCore};
use alloy::signers::local::PrivateKeySigner;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::keys::file::{FileError, private_directory, read_secret, write_secret};
use crate::keys::password::PasswordError;

type Aes128Ctr = ctr::Ctr128BE<Aes128>;

/// Why a key could not be loaded or made. No variant holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error("{0}: wrong password, or the keystore is damaged")]
    WrongPassword(PathBuf),
    #[error("{path}: not a version 3 keystore: {reason}")]
    Format { path: PathBuf, reason: String },
    #[error("{path}: says that it holds the key of {stated}, but it holds the key of {held}")]
    OtherKey { path: PathBuf, stated: Address, held: Address },
    #[error("--{role}-insecure-key: not a private key: 64 hexadecimal digits are needed")]
    RawKey { role: &'static str },
    #[error(
        "--{role}-insecure-key: a plain key is only taken on chain 31337 with --insecure-dev-keys; \
         this deployment is on chain {chain_id}. Make a keystore with `auspex operator init`"
    )]
    RawKeyRefused { role: &'static str, chain_id: u64 },
    #[error(
        "the signer and the transmitter are the same key, {0}: the one must not be able to do the other's work"
    )]
    SameKey(Address),
    #[error("{path}: the key could not be encrypted: {reason}")]
    Encrypt { path: PathBuf, reason: String },
}

/// Decrypts a keystore.
pub fn load(path: &Path, password: &SecretString) -> Result<PrivateKeySigner, KeystoreError> {
    let content = read_secret(path)?;
    let format = |reason: String| KeystoreError::Format { path: path.to_owned(), reason };
    let document: serde_json::Value =
        serde_json::from_slice(&content).map_err(|error| format(error.to_string()))?;
    if document.get("version").and_then(serde_json::Value::as_u64) != Some(3) {
        return Err(format("its `version` is not 3".into()));
    }
    let key = PrivateKeySigner::decrypt_keystore(path, password.expose_secret().as_bytes())
        .map_err(|error| decryption_error(path, &error.to_string()))?;
    let stated = document.get("address").and_then(serde_json::Value::as_str);
    if let Some(stated) = stated {
        let stated: Address =
            stated.parse().map_err(|_| format("its `address` is not an address".into()))?;
        if stated != key.address() {
            let (path, held) = (path.to_owned(), key.address());
            return Err(KeystoreError::OtherKey { path, stated, held });
        }
    }
    Ok(key)
}

fn decryption_error(path: &Path, reason: &str) -> KeystoreError {
    let lower = reason.to_ascii_lowercase();
    if lower.contains("mac") {
        return KeystoreError::WrongPassword(path.to_owned());
    }
    KeystoreError::Format { path: path.to_owned(), reason: reason.to_owned() }
}

/// How much work it is to try one password on a keystore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    /// scrypt with N = 2^17, r = 8, p = 1, as the OWASP Password Storage Cheat Sheet asks for: 128 MiB and some tenths of
    /// a second per try.
    Standard,
    /// N = 2^12, for development chains and tests: a few milliseconds.
    Light,
}

impl Strength {
    fn log_n(self) -> u8 {
        match self {
            Self::Standard => 17,
            Self::Light => 12,
        }
    }
}

/// scrypt's block size and parallelism, the same for both strengths.
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 1;

/// Makes a new key and writes its keystore with mode 0400.
pub fn create(
    path: &Path,
    password: &SecretString,
    strength: Strength,
) -> Result<Address, KeystoreError> {
    let key = PrivateKeySigner::random();
    let secret = Zeroizing::new(key.to_bytes().0);
    import(path, &secret, password, strength)
}

/// Writes the keystore of an existing key with mode 0400.
pub fn import(
    path: &Path,
    secret: &[u8; 32],
    password: &SecretString,
    strength: Strength,
) -> Result<Address, KeystoreError> {
    if path.exists() {
        return Err(FileError::Exists { path: path.to_owned() }.into());
    }
    let encrypt = |reason: String| KeystoreError::Encrypt { path: path.to_owned(), reason };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    private_directory(folder.unwrap_or_else(|| Path::new(".")))?;
    let address =
        PrivateKeySigner::from_slice(secret).map_err(|error| encrypt(error.to_string()))?.address();
    let document = encrypted(secret, password, strength, address).map_err(encrypt)?;
    let mut text =
        serde_json::to_vec_pretty(&document).map_err(|error| encrypt(error.to_string()))?;
    text.push(b'\n');
    write_secret(path, &text)?;
    Ok(address)
}

/// The Web3 Secret Storage form, version 3: scrypt, AES-128-CTR under the first half of the derived key, and a MAC over the
/// second half and the ciphertext.
fn encrypted(
    secret: &[u8; 32],
    password: &SecretString,
    strength: Strength,
    address: Address,
) -> Result<serde_json::Value, String> {
    let mut salt = [0u8; 32];
    let mut iv = [0u8; 16];
    OsRng.try_fill_bytes(&mut salt).map_err(|error| error.to_string())?;
    OsRng.try_fill_bytes(&mut iv).map_err(|error| error.to_string())?;
    let parameters = scrypt::Params::new(strength.log_n(), SCRYPT_R, SCRYPT_P)
        .map_err(|error| error.to_string())?;
    let mut derived = Zeroizing::new([0u8; 32]);
    let password = password.expose_secret().as_bytes();
    scrypt::scrypt(password, &salt, &parameters, derived.as_mut_slice())
        .map_err(|error| error.to_string())?;
    let mut ciphertext = *secret;
    let mut cipher =
        Aes128Ctr::new_from_slices(&derived[..16], &iv).map_err(|error| error.to_string())?;
    cipher.apply_keystream(&mut ciphertext);
    let mac = keccak256([&derived[16..], &ciphertext[..]].concat());
    Ok(serde_json::json!({
        "version": 3,
        "id": uuid::Uuid::new_v4(),
        "address": hex::encode(address),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": { "iv": hex::encode(iv) },
            "ciphertext": hex::encode(ciphertext),
            "kdf": "scrypt",
            "kdfparams": {
                "dklen": 32,
                "n": 1u32 << strength.log_n(),
                "r": SCRYPT_R,
                "p": SCRYPT_P,
                "salt": hex::encode(salt),
            },
            "mac": hex::encode(mac),
        },
    }))
}

/// Reads a plain key, which only development chains may have.
pub fn raw(
    role: &'static str,
    text: &SecretString,
    chain_id: u64,
    allowed: bool,
) -> Result<PrivateKeySigner, KeystoreError> {
    if !allowed || chain_id != crate::config::DEV_CHAIN_ID {
        return Err(KeystoreError::RawKeyRefused { role, chain_id });
    }
    let text = text.expose_secret();
    let mut bytes = Zeroizing::new([0u8; 32]);
    hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), bytes.as_mut_slice())
        .map_err(|_| KeystoreError::RawKey { role })?;
    PrivateKeySigner::from_bytes(&B256::from(*bytes)).map_err(|_| KeystoreError::RawKey { role })
}
