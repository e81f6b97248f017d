//! The hot keys: that they can be opened, are private, and are two.

use std::path::Path;
use std::time::Duration;

use alloy::primitives::Address;
use auspex_oracle::keys::{keystore, password};
use auspex_oracle::signer::client::SignerClient;

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
        None => of_keystores(arguments, &mut findings),
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

fn of_keystores(arguments: &DoctorArguments, findings: &mut Vec<Finding>) -> Option<HotKeys> {
    let keys = &arguments.keys;
    if keys.is_empty() {
        findings.push(Finding::wrong(
            SUBJECT,
            "neither a signer's socket nor keystores are named",
            "name --signer-socket, or --signer-keystore and --transmitter-keystore; `auspex operator init` makes keys",
        ));
        return None;
    }
    let credentials = keys.credentials_directory.as_deref();
    let mut addresses = Vec::new();
    for (role, keystore, file, remote) in [
        ("signer", &keys.signer_keystore, &keys.signer_password_file, keys.web3signer_signer),
        (
            "transmitter",
            &keys.transmitter_keystore,
            &keys.transmitter_password_file,
            keys.web3signer_transmitter,
        ),
    ] {
        if let Some(address) = remote {
            findings.push(Finding::good(SUBJECT, format!("{role}: {address}, at a remote signer")));
            addresses.push(address);
            continue;
        }
        let Some(keystore) = keystore else {
            let fix = format!("name --{role}-keystore");
            findings.push(Finding::wrong(SUBJECT, format!("{role}: no keystore is named"), fix));
            continue;
        };
        let opened = password::find(role, keystore, file.as_deref(), credentials)
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
