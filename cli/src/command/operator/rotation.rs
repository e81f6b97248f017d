//! `auspex operator rotate-signer` and `auspex operator revoke`: changing the key that signs results.

use alloy::primitives::{Address, B256};
use anyhow::bail;
use auspex_protocol::bindings::IOperatorRegistry;
use clap::Args;
use serde::Serialize;

use crate::chain;
use crate::connection::ConnectionArguments;
use crate::output::Output;

#[derive(Debug, Clone, Args)]
pub(crate) struct RotateArguments {
    /// Address of the new key, from `auspex operator init`.
    #[arg(long)]
    new_signer: Address,
    /// The sets whose present epoch is to take the new key up.
    #[arg(long = "operator-set")]
    operator_sets: Vec<u64>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RevokeArguments {
    /// Address of the key that shall never count again, also for requests that are open.
    #[arg(long)]
    signer: Address,
    /// Do it without being asked.
    #[arg(long)]
    yes: bool,
}

/// How far a rotation is.
#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Rotation {
    /// The key is announced; the present one counts until then.
    Announced { signer: Address, active_at: u64, seconds_left: u64 },
    /// The key counts, and these sets have an epoch with it.
    Active { signer: Address, refreshed: Vec<u64> },
}

/// Takes the next step of a rotation, whichever it is: running it again goes on where it was.
pub(crate) async fn rotate(
    connection: &ConnectionArguments,
    arguments: &RotateArguments,
    output: Output,
) -> anyhow::Result<()> {
    let (provider, deployment, wallet) = connection.writer().await?;
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    let owner = wallet.address();
    let new = arguments.new_signer;
    let mut operator = registry.operatorOf(owner).call().await.map_err(chain::explain)?;
    if operator.transmitter.is_zero() {
        bail!("{owner} is not registered; `auspex operator register` registers it");
    }
    if operator.signer != new && operator.pendingSigner != new {
        chain::send(registry.proposeSigner(new), &provider, "announce the new signer").await?;
        operator = registry.operatorOf(owner).call().await.map_err(chain::explain)?;
    }
    let (now, _) = chain::head(&provider).await?;
    if operator.signer != new && now < operator.signerActiveAt {
        let active_at = operator.signerActiveAt;
        let rotation =
            Rotation::Announced { signer: new, active_at, seconds_left: active_at - now };
        return output.result(&rotation, show);
    }
    if operator.signer != new {
        chain::send(registry.activateSigner(owner), &provider, "activate the new signer").await?;
    }
    let mut refreshed = Vec::new();
    for &set_id in &arguments.operator_sets {
        let epoch = registry.epochOf(set_id).call().await.map_err(chain::explain)?;
        let place = epoch.operators.iter().position(|member| *member == owner);
        let Some(place) = place else {
            bail!("--operator-set {set_id}: {owner} is not a member of its present epoch");
        };
        if epoch.signers.get(place) != Some(&new) {
            let what = "start an epoch with the new signer";
            chain::send(registry.refreshEpoch(set_id), &provider, what).await?;
        }
        refreshed.push(set_id);
    }
    output.result(&Rotation::Active { signer: new, refreshed }, show)
}

fn show(rotation: &Rotation) -> String {
    match rotation {
        Rotation::Announced { signer, active_at, seconds_left } => format!(
            "{signer} is announced and can be activated at {active_at} (in {seconds_left} s); until then the present key signs\n\
             next: run the same command again then"
        ),
        Rotation::Active { signer, refreshed } if refreshed.is_empty() => format!(
            "{signer} is active\nnext: name your sets with --operator-set, so that new requests pin the new key, and give the key to the signer process"
        ),
        Rotation::Active { signer, refreshed } => format!(
            "{signer} is active, and the sets {refreshed:?} have an epoch with it\n\
             next: give the key to the signer process; keep the old one until the requests that pinned it have ended"
        ),
    }
}

/// Takes a key's power away at once and for ever.
pub(crate) async fn revoke(
    connection: &ConnectionArguments,
    arguments: &RevokeArguments,
    output: Output,
) -> anyhow::Result<()> {
    let (provider, deployment, _) = connection.writer().await?;
    if !arguments.yes && !confirmed(arguments.signer)? {
        bail!("nothing was revoked");
    }
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    let call = registry.revokeSigner(arguments.signer);
    let receipt = chain::send(call, &provider, "revoke the signer").await?;
    let hash: B256 = receipt.transaction_hash;
    let result = serde_json::json!({"signer": arguments.signer, "transactionHash": hash});
    output.result(&result, |_| {
        format!(
            "{} counts no more (transaction {hash})\nnext: auspex operator rotate-signer --new-signer ADDRESS",
            arguments.signer
        )
    })
}

fn confirmed(signer: Address) -> anyhow::Result<bool> {
    use std::io::{IsTerminal, Write};
    if !std::io::stdin().is_terminal() {
        bail!("--yes: is needed, since there is no terminal to ask on");
    }
    let mut error = std::io::stderr();
    write!(error, "Revoke {signer} for ever? Open requests lose its signature. [y/N] ")?;
    error.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
