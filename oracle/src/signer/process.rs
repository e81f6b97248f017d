//! The signer's process: it loads the keys, protects its memory, opens its log, and answers on its socket.

use std::path::PathBuf;

use anyhow::{Context, bail};
use auspex_protocol::deployment::Deployment;
use tokio_util::sync::CancellationToken;

use crate::keys::file::private_directory;
use crate::keys::keystore::{self, KeystoreError};
use crate::keys::memory;
use crate::keys::password;
use crate::signer::config::{KeyOptions, KeyPlace, SignerConfig};
use crate::signer::key::Key;
use crate::signer::kms::Kms;
use crate::signer::ledger::Ledger;
use crate::signer::policy::{Limits, Policy};
use crate::signer::server::Server;
use crate::signer::vault::{Keys, Vault};
use crate::signer::web3signer::Web3Signer;

/// Runs a signer for one deployment until told to stop.
pub async fn run(
    config: SignerConfig,
    deployment: &Deployment,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    memory::protect()?;
    if let Some(folder) = config.log.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        private_directory(folder)?;
    }
    let (ledger, memory) = Ledger::open(&config.log, deployment.request_escrow)?;
    let keys = load(&config.keys).await?;
    let policy = Policy {
        chain_id: deployment.chain_id,
        escrow: deployment.request_escrow,
        transmitter: keys.transmitter.address(),
        limits: Limits::from(&config.limits),
    };
    let server = Server::bind(&config.socket)?;
    tracing::info!(
        signer = %keys.signer.address(), transmitter = %keys.transmitter.address(),
        chain_id = policy.chain_id, escrow = %policy.escrow, socket = %config.socket.display(),
        "signer is ready"
    );
    let (vault, end) = Vault::start(keys, policy, ledger, memory)?;
    tokio::select! {
        outcome = server.run(nix::unistd::geteuid().as_raw(), vault, shutdown) => outcome,
        end = end => match end {
            Ok(Some(error)) => Err(error).context("write the log; nothing is signed without it"),
            Ok(None) | Err(_) => bail!("the ledger's thread ended by itself"),
        },
    }
}

async fn load(options: &KeyOptions) -> anyhow::Result<Keys> {
    let [signer, transmitter] = options.places();
    let signer = find(signer, options).await?;
    let transmitter = find(transmitter, options).await?;
    if signer.address() == transmitter.address() {
        return Err(KeystoreError::SameKey(signer.address()).into());
    }
    Ok(Keys { signer, transmitter })
}

async fn find(place: KeyPlace<'_>, options: &KeyOptions) -> anyhow::Result<Key> {
    let role = place.role;
    if let (Some(address), Some(url)) = (place.web3signer, &options.web3signer_url) {
        return Ok(Key::Web3Signer(Web3Signer::find(url, address).await?));
    }
    if let Some(key) = place.kms {
        return Ok(Key::Kms(Kms::find(&options.kms()?, key).await?));
    }
    let Some(keystore) = place.keystore.map(PathBuf::from) else {
        bail!("--{role}-keystore: is missing. Make the keys with `auspex operator init`");
    };
    let credentials = options.credentials_directory.as_deref();
    let password = password::find(role, &keystore, place.password_file, credentials)?;
    // Deriving the key from the password takes a second of work and 128 MiB.
    let key = tokio::task::spawn_blocking(move || keystore::load(&keystore, &password))
        .await
        .context("open a keystore")??;
    Ok(Key::Local(key))
}
