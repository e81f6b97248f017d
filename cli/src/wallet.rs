//! The key of a person's command: an encrypted keystore, opened with a password from a private file or the terminal.

use std::path::Path;

use alloy::primitives::Address;
use alloy::signers::local::PrivateKeySigner;
use anyhow::Context;
use auspex_oracle::keys::{keystore, password};

/// An opened keystore. Its `Debug` shows the address only.
pub(crate) struct Wallet {
    signer: PrivateKeySigner,
}

impl std::fmt::Debug for Wallet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Wallet").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl Wallet {
    /// Decrypts a keystore.
    pub(crate) fn open(path: &Path, password_file: Option<&Path>) -> anyhow::Result<Self> {
        let password = match password_file {
            Some(file) => password::from_file(file)?,
            None => password::find("keystore", path, None, None)
                .context("give --password-file, or run at a terminal to be asked")?,
        };
        Ok(Self { signer: keystore::load(path, &password)? })
    }

    pub(crate) fn address(&self) -> Address {
        self.signer.address()
    }

    pub(crate) fn signer(&self) -> &PrivateKeySigner {
        &self.signer
    }
}
