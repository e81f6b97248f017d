//! `auspex operator init`: both keys of a new operator.

use std::path::{Path, PathBuf};

use alloy::primitives::Address;
use secrecy::SecretString;

use crate::keys::keystore::{KeystoreError, Strength, create};

/// The files and addresses of a new operator's keys.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewKeys {
    pub signer: Address,
    pub signer_keystore: PathBuf,
    pub transmitter: Address,
    pub transmitter_keystore: PathBuf,
}

/// Makes a signer's and a transmitter's keystore in `folder`, each under its own password. An existing file is never
/// overwritten; when the second cannot be written, the first stays and the error names the second.
pub fn init(
    folder: &Path,
    signer_password: &SecretString,
    transmitter_password: &SecretString,
    strength: Strength,
) -> Result<NewKeys, KeystoreError> {
    let signer_keystore = folder.join("signer.json");
    let transmitter_keystore = folder.join("transmitter.json");
    let signer = create(&signer_keystore, signer_password, strength)?;
    let transmitter = create(&transmitter_keystore, transmitter_password, strength)?;
    Ok(NewKeys { signer, signer_keystore, transmitter, transmitter_keystore })
}
