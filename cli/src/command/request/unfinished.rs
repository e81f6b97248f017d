//! What is being written about a watched request, told to people while it is written. It is not settled, and said to be so:
//! only the answer that a quorum has signed is shown as one.

use std::time::Duration;

use alloy::primitives::{Address, B256};
use anyhow::{Context, bail};
use auspex_protocol::answer::sanitize;
use serde::Deserialize;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::output::Output;

/// How long the indexer may take to accept a reader.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest event that is read.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// A part of an unfinished answer, as the indexer's stream has it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    operator: Address,
    offset: u64,
    text: String,
}

/// Tells parts until the handle is dropped. It is a courtesy: whatever goes wrong with it, watching goes on.
pub(super) fn tell(base: &Url, request_id: B256, output: Output) -> AbortOnDropHandle<()> {
    let url = base.join(&format!("v1/stream?requestId={request_id:#x}"));
    AbortOnDropHandle::new(tokio::spawn(async move {
        let Ok(url) = url else { return };
        // Nothing depends on it, so nothing is said when it fails.
        let _ = follow(url, output).await;
    }))
}

async fn follow(url: Url, output: Output) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).build()?;
    let mut response = client.get(url).send().await?.error_for_status()?;
    let mut waiting = Vec::new();
    while let Some(bytes) = response.chunk().await? {
        waiting.extend_from_slice(&bytes);
        while let Some(end) = waiting.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = waiting.drain(..end + 2).collect();
            let event = String::from_utf8(event).context("read an event")?;
            if let Some(part) = part_of(&event) {
                let begins = if part.offset == 0 { "writes" } else { "goes on" };
                output.say(format!(
                    "          {} {begins}, not settled yet: {}",
                    part.operator, part.text
                ));
            }
        }
        if EVENT_BYTES_MAX < waiting.len() {
            bail!("an event has more than {EVENT_BYTES_MAX} bytes");
        }
    }
    Ok(())
}

/// The part that an event carries; `None` for other events.
fn part_of(event: &str) -> Option<Part> {
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("event:")? != "partial" {
        return None;
    }
    let part: Part = serde_json::from_str(field("data:")?).ok()?;
    // The indexer may be anybody's, and a terminal obeys control characters.
    Some(Part { text: sanitize(&part.text), ..part })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parts_are_told() {
        let data = r#"{"requestId":"0x01","operator":"0x0000000000000000000000000000000000000001","offset":3,"text":"é\n","settled":false}"#;
        let part = part_of(&format!("event: partial\ndata: {data}\n\n")).unwrap();
        assert_eq!((part.offset, part.text.as_str()), (3, "é\n"));
        let hostile = data.replace(r"é\n", r"\u001b[2Jé");
        let part = part_of(&format!("event: partial\ndata: {hostile}\n\n")).unwrap();
        assert_eq!(part.text, " [2Jé");
        assert_eq!(part_of(&format!("id: 7\nevent: update\ndata: {data}\n\n")), None);
        assert_eq!(part_of(": alive\n\n"), None);
        assert_eq!(part_of("event: partial\ndata: {}\n\n"), None);
    }
}
