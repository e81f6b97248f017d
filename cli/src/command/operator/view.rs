//! `auspex operator status`: a running node at a glance, once or live.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::Value;
use url::Url;

use crate::command::dev::Interrupt;
use crate::connection::{ConnectionArguments, shown};
use crate::output::{Output, fields, table};
use crate::screen::{Act, Screen};

/// Between two looks of the live view.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// A look that lasts longer is given up.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// The node's own HTTP address; without it, the node of the world's operator that --as names, or of its first.
    #[arg(long, env = "AUSPEX_NODE_URL")]
    node: Option<Url>,
    /// Stay on the screen and look again every second, until q or Ctrl-C.
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

/// Looks again and again, until q, Ctrl-C or a supervisor ends it. A look that lasts too long is given up, and never keeps
/// anybody from leaving.
async fn watch(node: &Url) -> anyhow::Result<()> {
    let mut interrupt = Interrupt::listen()?;
    let mut screen = Screen::open()?;
    let mut status = Err(format!("asking the node at {}", shown(node)));
    let mut wait = Duration::ZERO;
    loop {
        draw(&screen, &status)?;
        let looking = look(node, wait);
        tokio::pin!(looking);
        status = loop {
            tokio::select! {
                () = interrupt.wait() => return Ok(()),
                act = screen.act() => match act {
                    Act::Leave => return Ok(()),
                    Act::Resize => draw(&screen, &status)?,
                },
                status = &mut looking => break status,
            }
        };
        wait = REFRESH_INTERVAL;
    }
}

/// One look after a while, or why there is nothing to see.
async fn look(node: &Url, wait: Duration) -> Result<Value, String> {
    tokio::time::sleep(wait).await;
    match tokio::time::timeout(ANSWER_WAIT_MAX, read(node)).await {
        Ok(read) => read.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!(
            "the node at {} has not answered for {} s",
            shown(node),
            ANSWER_WAIT_MAX.as_secs()
        )),
    }
}

fn draw(screen: &Screen, status: &Result<Value, String>) -> anyhow::Result<()> {
    let picture = match status {
        Ok(status) => show(status),
        Err(reason) => reason.clone(),
    };
    screen.draw(&format!("auspex operator status (q leaves)\n\n{picture}"))
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

/// A value for people. What a node passes on from elsewhere must not steer the terminal.
fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.replace(char::is_control, " "),
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
            "jobs": [{"state": "signed\u{1b}[2J", "count": 3}],
        });
        let picture = show(&status);
        assert!(!picture.contains('\u{1b}'), "{picture:?}");
        for part in ["the chain has not been read yet", "NOT registered", "1.500000", "signed"] {
            assert!(picture.contains(part), "{part} is missing:\n{picture}");
        }
        assert!(show(&Value::Null).contains("unknown"));
    }
}
