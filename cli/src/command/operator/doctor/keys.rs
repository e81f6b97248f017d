//! The hot keys: that they can be opened, are private, and are two.

use std::path::Path;
use std::time::Duration;

use alloy::primitives::Address;
use auspex_oracle::keys::{keystore, password};
use auspex_oracle::signer::client::SignerClient;
use auspex_oracle::signer::config::{KeyOptions, KeyPlace};
use auspex_oracle::signer::kms::Kms;
use auspex_oracle::signer::kms::options::KmsKeyId;

use super::{DoctorArguments, Finding, HotKeys};
use crate::connection::ConnectionArguments;

const SUBJECT: &str = "keys";
/// A signer that runs answers at once.
const SIGNER_WAIT_MAX: Duration = Duration::from_secs(2);

pub(super) async fn examine(
    arguments: &DoctorArguments,
    owner: Address,
    connection: &ConnectionArguments,
) -> (Option<HotKeys>, Vec<Finding>) {
    let mut findings = Vec::new();
    let hot = match &arguments.signer_socket {
        Some(socket) => of_signer(socket, connection, &mut findings).await,
        None => of_options(arguments, &mut findings).await,
    };
    if let Some(hot) = hot {
        let roles = [hot.signer, hot.transmitter, owner];
        let twice = roles.iter().enumerate().any(|(n, role)| roles[..n].contains(role));
        findings.push(match twice {
            true => Finding::wrong(
                "roles",
                "two of owner, signer and transmitter are one account",
                "make separate keys with `auspex operator init`; the registry refuses shared ones",
            ),
            false => Finding::good("roles", "owner, signer and transmitter are three accounts"),
        });
    }
    (hot, findings)
}

async fn of_signer(
    socket: &Path,
    connection: &ConnectionArguments,
    findings: &mut Vec<Finding>,
) -> Option<HotKeys> {
    let client = match SignerClient::connect(socket, SIGNER_WAIT_MAX).await {
        Ok(client) => client,
        Err(error) => {
            let fix =
                "start `auspex operator signer` as the user of the node, and name its --socket";
            findings.push(Finding::wrong("signer", error.to_string(), fix));
            return None;
        }
    };
    let who = client.introduction();
    match connection.deployment() {
        Ok(deployment)
            if deployment.chain_id != who.chain_id || deployment.request_escrow != who.escrow =>
        {
            findings.push(Finding::wrong(
                "signer",
                format!("signs for escrow {} of chain {}", who.escrow, who.chain_id),
                "start it with the --deployment of the node",
            ));
        }
        Ok(_) | Err(_) => findings.push(Finding::good(
            "signer",
            format!("answers at {}, with {} and {}", socket.display(), who.signer, who.transmitter),
        )),
    }
    Some(HotKeys { signer: who.signer, transmitter: who.transmitter })
}

async fn of_options(arguments: &DoctorArguments, findings: &mut Vec<Finding>) -> Option<HotKeys> {
    let keys = &arguments.keys;
    if keys.is_empty() {
        findings.push(Finding::wrong(
            SUBJECT,
            "neither a signer's socket nor keys are named",
            "name --signer-socket, or the two keystores, or the keys in AWS KMS; `auspex operator init` makes keystores",
        ));
        return None;
    }
    let credentials = keys.credentials_directory.as_deref();
    let mut addresses = Vec::new();
    for KeyPlace { role, keystore, password_file, web3signer, kms } in keys.places() {
        if let Some(key) = kms {
            match of_kms(keys, key).await {
                Ok(address) => {
                    let found = format!("{role}: {address}, in AWS KMS as {key}");
                    findings.push(Finding::good(SUBJECT, found));
                    addresses.push(address);
                }
                Err(error) => findings.push(Finding::wrong(
                    SUBJECT,
                    format!("{role}: {error:#}"),
                    "correct the key's id, --kms-region or the AWS credentials; they need kms:GetPublicKey and kms:Sign on this key",
                )),
            }
            continue;
        }
        if let Some(address) = web3signer {
            findings.push(Finding::good(SUBJECT, format!("{role}: {address}, at a remote signer")));
            addresses.push(address);
            continue;
        }
        let Some(keystore) = keystore else {
            let fix = format!("name --{role}-keystore");
            findings.push(Finding::wrong(SUBJECT, format!("{role}: no keystore is named"), fix));
            continue;
        };
        let opened = password::find(role, keystore, password_file, credentials)
            .map_err(keystore::KeystoreError::from)
            .and_then(|words| keystore::load(keystore, &words));
        match opened {
            Ok(key) => {
                findings.push(Finding::good(SUBJECT, format!("{role}: {} opens", key.address())));
                addresses.push(key.address());
            }
            Err(error) => findings.push(Finding::wrong(
                SUBJECT,
                format!("{role}: {error}"),
                "correct the file, its mode (0400) or its password; nobody can recover a lost password",
            )),
        }
    }
    match addresses[..] {
        [signer, transmitter] => Some(HotKeys { signer, transmitter }),
        _ => None,
    }
}

/// The address of a key in AWS KMS, which tells that it can be reached and is of the right kind.
async fn of_kms(options: &KeyOptions, key: &KmsKeyId) -> anyhow::Result<Address> {
    Ok(Kms::find(&options.kms()?, key).await?.address())
}
