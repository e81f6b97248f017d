//! The demo's last words: one table per request, and the history as the indexer tells it.

use std::path::Path;

use alloy::primitives::Address;

use super::report::{ORDER, Report, RequestReport};
use crate::output::{fields, table};

/// The whole summary, for people.
pub(super) fn render(report: &Report, path: &Path) -> String {
    let mut parts = vec!["\nSummary".to_owned()];
    for request in &report.requests {
        parts.push(format!("\n{}\n{}", request.title, fields(rows(report, request))));
    }
    parts.push(format!("\nThe same history, read back through GraphQL\n{}", history(report)));
    parts.push(format!(
        "\nThree requests, two answered and settled, one refunded, in {:.1} s. Nothing is left running.\nThe same facts are in {}.",
        report.duration_ms as f64 / 1000.0,
        path.display()
    ));
    parts.join("\n")
}

fn rows(report: &Report, request: &RequestReport) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("request", request.request_id.to_string()),
        ("question", request.question.clone()),
        ("status", format!("{} ({})", request.status, finality(&request.finality))),
        ("price", request.price.clone()),
    ];
    if let Some(answer) = &request.answer {
        rows.push(("answer", answer.clone()));
    }
    for (number, citation) in request.citations.iter().enumerate() {
        rows.push(("citation", format!("[{}] {}", number + 1, citation.place)));
    }
    for signer in &request.signers {
        rows.push(("signed by", named(report.operator(*signer), signer)));
    }
    for share in &request.split {
        let payee = named(share.name.as_deref(), &share.account);
        rows.push(("paid", format!("{} to {payee}", share.shown)));
    }
    for (name, amount) in
        [("fee", &request.fee), ("residue", &request.residue), ("refunded", &request.refunded)]
    {
        if let Some(amount) = amount {
            rows.push((name, amount.clone()));
        }
    }
    let gas: Vec<String> = ORDER
        .iter()
        .filter_map(|what| Some(format!("{what} {}", request.gas.get(what)?)))
        .collect();
    rows.push(("gas", gas.join(", ")));
    rows.push(("request to end", format!("{:.2} s", request.latency_ms as f64 / 1000.0)));
    rows
}

/// An account with the name that it has in the demo's world.
fn named(name: Option<&str>, account: &Address) -> String {
    name.map_or_else(|| account.to_string(), |name| format!("{name} ({account})"))
}

fn finality(tag: &str) -> &str {
    match tag {
        "latest" => "in the latest blocks, not final yet",
        "safe" => "in a safe block, not final yet",
        "finalized" => "final",
        other => other,
    }
}

fn history(report: &Report) -> String {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let requests = report.history()["data"]["requests"].as_array().cloned().unwrap_or_default();
    table(
        ["request", "status", "escrowed (units)", "charged (units)", "refunded (units)"],
        requests.iter().map(|request| {
            ["requestId", "status", "maxAmount", "settledAmount", "refundedAmount"]
                .map(|name| text(&request[name]))
        }),
    )
}
