//! `auspex operator doctor`: everything that an operator gets wrong, looked at before it costs something, with what to do.

mod chain;
mod host;
mod keys;

use std::path::PathBuf;

use alloy::primitives::Address;
use anyhow::{Context, bail};
use auspex_oracle::config::SecretUrl;
use auspex_oracle::signer::config::KeyOptions;
use clap::Args;
use secrecy::SecretString;
use serde::Serialize;
use url::Url;

use crate::command::model::ModelArguments;
use crate::connection::ConnectionArguments;
use crate::output::{Output, table};

/// The options of the node that is to be examined; the environment that starts the node fits.
#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// The account that registered the operator; without it, what is examined is the world's operator that --as names,
    /// or its first.
    #[arg(long, env = "AUSPEX_OPERATOR_OWNER")]
    pub(super) owner: Option<Address>,
    /// The operator's database.
    #[arg(long, env = "AUSPEX_ORACLE_DATABASE_URL", hide_env_values = true)]
    pub(super) database_url: Option<SecretString>,
    /// MQTT broker.
    #[arg(long, env = "AUSPEX_BROKER_URL", hide_env_values = true)]
    pub(super) broker_url: Option<SecretUrl>,
    /// Socket of the signer.
    #[arg(long, env = "AUSPEX_SIGNER_SOCKET")]
    pub(super) signer_socket: Option<PathBuf>,
    /// The corpus for requests whose offer pins none.
    #[arg(long, env = "AUSPEX_ORACLE_CORPUS", default_value = crate::command::corpus::DEFAULT_CORPUS)]
    pub(super) corpus: String,
    /// Sets that the operator answers in.
    #[arg(long = "operator-set")]
    pub(super) operator_sets: Vec<u64>,
    /// The running node's own HTTP address.
    #[arg(long, env = "AUSPEX_NODE_URL")]
    pub(super) node: Option<Url>,
    #[command(flatten)]
    pub(super) keys: KeyOptions,
    #[command(flatten)]
    pub(super) model: ModelArguments,
}

impl DoctorArguments {
    /// Takes what is not given from a world's operator, and returns the account that registered it.
    fn fill_from_world(&mut self, connection: &ConnectionArguments) -> anyhow::Result<Address> {
        let world = connection.world_file()?.context(
            "no operator: give --owner or AUSPEX_OPERATOR_OWNER, or start `auspex dev` on this machine",
        )?;
        let name = connection.operator();
        let node = world.node(name)?;
        self.node.get_or_insert_with(|| node.url.clone());
        if self.database_url.is_none() {
            self.database_url = Some(world.operator_database(name)?);
        }
        if self.broker_url.is_none() {
            self.broker_url = Some(world.broker_url.as_str().parse().map_err(anyhow::Error::msg)?);
        }
        if self.signer_socket.is_none() && self.keys.is_empty() {
            self.signer_socket = Some(node.signer_socket.clone());
        }
        Ok(world.account(name)?.address)
    }
}

/// What one look found.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    subject: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Verdict {
    Good,
    /// It works, and will not for long, or not as well as it could.
    Warning,
    /// The node does not start, or does not earn.
    Wrong,
    /// It could not be looked at.
    Skipped,
}

impl Finding {
    pub(super) fn good(subject: &'static str, found: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Good, found: found.into(), fix: None }
    }

    pub(super) fn warning(
        subject: &'static str,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { subject, verdict: Verdict::Warning, found: found.into(), fix: Some(fix.into()) }
    }

    pub(super) fn wrong(
        subject: &'static str,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { subject, verdict: Verdict::Wrong, found: found.into(), fix: Some(fix.into()) }
    }

    pub(super) fn skipped(subject: &'static str, why: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Skipped, found: why.into(), fix: None }
    }
}

/// The operator's two hot keys, as far as they are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct HotKeys {
    pub(super) signer: Address,
    pub(super) transmitter: Address,
}

pub(crate) async fn run(
    mut arguments: DoctorArguments,
    connection: &ConnectionArguments,
    output: Output,
) -> anyhow::Result<()> {
    let owner = match arguments.owner {
        Some(owner) => owner,
        None => arguments.fill_from_world(connection)?,
    };
    let (hot, mut findings) = keys::examine(&arguments, owner, connection).await;
    findings.extend(chain::examine(&arguments, owner, connection, hot).await);
    findings.extend(host::examine(&arguments, owner, connection).await);
    output.result(&findings, |findings| show(findings))?;
    let wrong = findings.iter().filter(|finding| finding.verdict == Verdict::Wrong).count();
    if 0 < wrong {
        bail!(
            "{wrong} of {} checks found something that keeps the node from earning",
            findings.len()
        );
    }
    Ok(())
}

fn show(findings: &[Finding]) -> String {
    let rows = findings.iter().map(|finding| {
        let verdict = match finding.verdict {
            Verdict::Good => "good",
            Verdict::Warning => "WARNING",
            Verdict::Wrong => "WRONG",
            Verdict::Skipped => "not checked",
        };
        let text = match &finding.fix {
            Some(fix) => format!("{}\n→ {fix}", finding.found),
            None => finding.found.clone(),
        };
        [finding.subject.to_owned(), verdict.to_owned(), text]
    });
    table(["what", "verdict", "found"], rows)
}
