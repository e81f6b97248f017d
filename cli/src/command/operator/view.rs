//! `auspex operator status`: a running node at a glance, once or live.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;
use url::Url;

use crate::command::dev::Interrupt;
use crate::connection::{ConnectionArguments, shown};
use crate::output::{Output, fields, table};

/// Between two looks of the live view.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// The node's own HTTP address; without it, the node of the world's operator that --as names, or of its first.
    #[arg(long, env = "AUSPEX_NODE_URL")]
    node: Option<Url>,
    /// Stay on the screen and look again every second, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

pub(crate) async fn run(
    arguments: &StatusArguments,
    connection: &ConnectionArguments,
    output: Output,
) -> anyhow::Result<()> {
    let node = match &arguments.node {
        Some(node) => node.clone(),
        None => node_of_world(connection)?,
    };
    if arguments.watch {
        return watch(&node).await;
    }
    let status = read(&node).await?;
    output.result(&status, show)
}

fn node_of_world(connection: &ConnectionArguments) -> anyhow::Result<Url> {
    let world = connection.world_file()?.context(
        "no node: give --node or AUSPEX_NODE_URL, or start `auspex dev` on this machine",
    )?;
    Ok(world.node(connection.operator())?.url.clone())
}

async fn read(node: &Url) -> anyhow::Result<Value> {
    let url = node.join("v1/status").context("build the node's status address")?;
    let response = reqwest::get(url).await.map_err(|_| {
        anyhow::anyhow!(
            "the node at {} does not answer; check --node and that `auspex oracle run` runs",
            shown(node)
        )
    })?;
    response.json().await.context("read the node's status")
}

/// The terminal's other screen, given back when this is dropped, also after an error.
struct Screen;

impl Screen {
    fn open() -> anyhow::Result<Self> {
        if !std::io::stdout().is_terminal() {
            bail!("--watch: standard output is not a terminal; leave --watch out");
        }
        write!(std::io::stdout(), "\x1b[?1049h\x1b[?25l")?;
        Ok(Self)
    }

    fn draw(&self, text: &str) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        // Each line is cleared to its end, so that nothing of the picture before shines through, and nothing flickers.
        write!(out, "\x1b[H")?;
        for line in text.lines() {
            write!(out, "{line}\x1b[K\r\n")?;
        }
        write!(out, "\x1b[J")?;
        Ok(out.flush()?)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = write!(std::io::stdout(), "\x1b[?25h\x1b[?1049l");
    }
}

async fn watch(node: &Url) -> anyhow::Result<()> {
    let mut interrupt = Interrupt::listen()?;
    let screen = Screen::open()?;
    loop {
        let picture = match read(node).await {
            Ok(status) => show(&status),
            Err(error) => format!("{error:#}"),
        };
        screen.draw(&format!("auspex operator status (Ctrl-C leaves)\n\n{picture}"))?;
        tokio::select! {
            () = interrupt.wait() => return Ok(()),
            () = tokio::time::sleep(REFRESH_INTERVAL) => {}
        }
    }
}

/// The node's status as tables.
fn show(status: &Value) -> String {
    let text = |path: &str| text_of(status.pointer(path).unwrap_or(&Value::Null));
    let mut parts = Vec::new();
    let obstacles = status["notReadyBecause"].as_array().cloned().unwrap_or_default();
    let health = match (status["draining"] == true, obstacles.is_empty()) {
        (true, _) => "draining: begins nothing new".to_owned(),
        (false, true) => "ready".to_owned(),
        (false, false) => obstacles.iter().map(text_of).collect::<Vec<_>>().join("\n"),
    };
    parts.push(fields([
        ("node", format!("version {}, {health}", text("/version"))),
        ("chain", format!("{} (escrow {})", text("/chainId"), text("/escrow"))),
        (
            "head",
            format!(
                "block {}, safe {}, finalized {}, read {} s ago",
                text("/head/latest"),
                text("/head/safe"),
                text("/head/finalized"),
                text("/head/readSecondsAgo")
            ),
        ),
        ("owner", text("/owner")),
        (
            "signer",
            format!(
                "{} ({})",
                text("/signer"),
                if status["registered"] == true { "registered" } else { "NOT registered" }
            ),
        ),
        ("transmitter", text("/transmitter/address")),
        ("  balance", ether(status.pointer("/transmitter/balance"))),
        ("  spent in 24 h", ether(status.pointer("/transmitter/spentToday"))),
        ("  open transactions", text("/transmitter/openIntents")),
        ("  stopped because", text("/transmitter/stopped")),
        (
            "broker",
            if status["brokerConnected"] == true { "connected" } else { "not connected" }
                .to_owned(),
        ),
    ]));
    let rows = |name: &str| status[name].as_array().cloned().unwrap_or_default();
    let jobs = rows("jobs");
    if !jobs.is_empty() {
        parts.push(table(
            ["jobs", "count"],
            jobs.iter().map(|job| [text_of(&job["state"]), text_of(&job["count"])]),
        ));
    }
    let peers = rows("peers");
    if !peers.is_empty() {
        parts.push(table(
            ["quorum peer", "head", "heard"],
            peers.iter().map(|peer| {
                let heard = format!("{} s ago", text_of(&peer["seenSecondsAgo"]));
                [text_of(&peer["signer"]), text_of(&peer["headBlock"]), heard]
            }),
        ));
    }
    let earned = rows("earned");
    if !earned.is_empty() {
        parts.push(table(
            ["day", "token", "requests", "settled, smallest unit"],
            earned
                .iter()
                .map(|day| ["day", "token", "requests", "amount"].map(|name| text_of(&day[name]))),
        ));
    }
    parts.join("\n")
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Wei as coins, to six decimals.
fn ether(wei: Option<&Value>) -> String {
    let wei = wei.and_then(Value::as_str).and_then(|text| text.parse::<u128>().ok());
    let Some(wei) = wei else { return "unknown".to_owned() };
    let micro = wei / 10u128.pow(12);
    format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_names_what_is_wrong_and_amounts_are_in_coins() {
        let status = serde_json::json!({
            "version": "0.1.0", "chainId": 31337, "registered": false, "draining": false,
            "notReadyBecause": ["the chain has not been read yet"],
            "transmitter": {"balance": "1500000000000000000", "spentToday": "1", "openIntents": 2},
            "jobs": [{"state": "signed", "count": 3}],
        });
        let picture = show(&status);
        for part in ["the chain has not been read yet", "NOT registered", "1.500000", "signed"] {
            assert!(picture.contains(part), "{part} is missing:\n{picture}");
        }
        assert!(show(&Value::Null).contains("unknown"));
    }
}
