//! Unfinished answers on their way to whoever waits for them: signed parts, published by the request's leader while a
//! model writes.
//!
//! Nothing here is kept, retried or waited for. A part says where in the text it begins, so that losing one costs a reader
//! a gap until the answer itself is there; and no part promises anything, because only a settled result counts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::primitives::B256;
use alloy::sol_types::Eip712Domain;
use auspex_protocol::limits::{ANSWER_BYTES_MAX, PARTIAL_TEXT_BYTES_MAX};
use auspex_protocol::message::QuorumMessage;
use auspex_protocol::topic::Topics;
use tokio::sync::{Notify, watch};

use crate::keys::ResultSigner;
use crate::limits::PARTIALS_WAITING_MAX;
use crate::meter::Meters;

/// Where an answerer shows what it has written so far. Showing never waits; the default shows it to nobody.
#[derive(Debug, Clone, Default)]
pub struct Unfinished {
    text: Option<watch::Sender<String>>,
}

impl Unfinished {
    /// Shows the whole text as it stands, of which the first 64 KiB are published. A text that does not begin with the one
    /// shown before replaces it.
    pub fn show(&self, text: &str) {
        if let Some(shown) = &self.text {
            let text = &text[..text.floor_char_boundary(ANSWER_BYTES_MAX)];
            shown.send_replace(text.to_owned());
        }
    }
}

/// Signs what answerers show and hands it to the broker's client.
#[derive(Debug, Clone)]
pub struct Publisher {
    pub signer: ResultSigner,
    pub domain: Eip712Domain,
    pub topics: Topics,
    pub queue: Arc<Queue>,
    pub meters: Arc<Meters>,
    /// Least time between two parts of one answer.
    pub interval: Duration,
}

impl Publisher {
    /// Publishes what is shown of one request's answer, until the handle and its clones are dropped.
    pub fn begin(&self, request_id: B256) -> Unfinished {
        let (text, shown) = watch::channel(String::new());
        tokio::spawn(self.clone().publish(request_id, shown));
        Unfinished { text: Some(text) }
    }

    async fn publish(self, request_id: B256, mut shown: watch::Receiver<String>) {
        let mut published = String::new();
        // What was shown last is seen here even when the handle is gone by then.
        while shown.changed().await.is_ok() {
            let text = shown.borrow_and_update().clone();
            for (offset, part) in parts(&published, &text) {
                if let Err(error) = self.send(request_id, offset, part).await {
                    self.meters.partials_dropped.add(1);
                    tracing::debug!(%request_id, %error, "the rest of an unfinished answer is not shown");
                    return;
                }
            }
            published = text;
            tokio::time::sleep(self.interval).await;
        }
    }

    async fn send(&self, request_id: B256, offset: usize, text: &str) -> anyhow::Result<()> {
        let message =
            QuorumMessage::Partial { request_id, offset: offset as u64, text: text.to_owned() };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let envelope = self.signer.seal(&self.domain, &message, now).await?;
        let payload = serde_json::to_vec(&envelope)?;
        if !self.queue.push(Part { topic: self.topics.partial(request_id), payload }) {
            self.meters.partials_dropped.add(1);
        }
        Ok(())
    }
}

/// What of `text` is new after `published`, in pieces that a message holds, each with its place. No character is split.
fn parts<'a>(published: &str, text: &'a str) -> Vec<(usize, &'a str)> {
    let mut start = if text.starts_with(published) { published.len() } else { 0 };
    let mut parts = Vec::new();
    while start < text.len() {
        let end = text.floor_char_boundary(start.saturating_add(PARTIAL_TEXT_BYTES_MAX));
        parts.push((start, &text[start..end]));
        start = end;
    }
    parts
}

/// A signed part and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub topic: String,
    pub payload: Vec<u8>,
}

/// Parts that wait for the broker's client.
#[derive(Debug, Default)]
pub struct Queue {
    parts: Mutex<VecDeque<Part>>,
    bell: Notify,
}

impl Queue {
    /// Puts a part behind the others and rings. False when there is no room: the part is lost.
    pub fn push(&self, part: Part) -> bool {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if PARTIALS_WAITING_MAX <= parts.len() {
            return false;
        }
        parts.push_back(part);
        drop(parts);
        self.bell.notify_one();
        true
    }

    /// The next part.
    pub fn pop(&self) -> Option<Part> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Forgets what waits; says how much it was.
    pub fn clear(&self) -> usize {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *parts).len()
    }

    /// Waits until there may be a part.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_that_goes_on_is_continued_and_another_one_begins_anew() {
        assert_eq!(parts("", "So"), [(0, "So")]);
        assert_eq!(parts("So", "So é"), [(2, " é")]);
        assert_eq!(parts("So é", "So é"), []);
        assert_eq!(parts("So é", "No"), [(0, "No")]);
    }

    proptest! {
        #[test]
        fn parts_are_whole_characters_that_make_up_the_text(text in "[aé🦀]{0,6000}", cut in 0usize..6000) {
            let published = &text[..text.floor_char_boundary(cut)];
            let mut whole = published.to_owned();
            for (offset, part) in parts(published, &text) {
                prop_assert_eq!(offset, whole.len());
                prop_assert!(!part.is_empty() && part.len() <= PARTIAL_TEXT_BYTES_MAX);
                whole.push_str(part);
            }
            prop_assert_eq!(whole, text);
        }
    }

    #[test]
    fn a_full_queue_loses_the_newest() {
        let queue = Queue::default();
        let part = |n: usize| Part { topic: n.to_string(), payload: Vec::new() };
        for n in 0..PARTIALS_WAITING_MAX {
            assert!(queue.push(part(n)));
        }
        assert!(!queue.push(part(PARTIALS_WAITING_MAX)));
        assert_eq!(queue.pop(), Some(part(0)));
        assert_eq!(queue.clear(), PARTIALS_WAITING_MAX - 1);
        assert_eq!(queue.pop(), None);
    }
}
