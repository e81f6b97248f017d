//! `auspex operator doctor`: everything that an operator gets wrong, looked at before it costs something, with what to do.

mod chain;
mod host;
mod keys;

use std::path::PathBuf;

use alloy::primitives::Address;
use anyhow::bail;
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
    /// The account that registered the operator.
    #[arg(long, env = "AUSPEX_OPERATOR_OWNER")]
    pub(super) owner: Address,
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
    arguments: &DoctorArguments,
    connection: &ConnectionArguments,
    output: Output,
) -> anyhow::Result<()> {
    let (hot, mut findings) = keys::examine(arguments, connection).await;
    findings.extend(chain::examine(arguments, connection, hot).await);
    findings.extend(host::examine(arguments, connection).await);
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
