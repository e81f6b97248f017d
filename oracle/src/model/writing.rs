//! A model that writes, as the node sees it.

use alloy::primitives::B256;
use anyhow::anyhow;
use auspex_inference::decoder::Message;

use crate::model::keeper::Told;
use crate::model::process::Desk;
use crate::model::wire::{News, Order};

/// A handle to the process; copies share it.
#[derive(Debug, Clone)]
pub struct WritingModel {
    model_hash: B256,
    desk: Desk,
}

/// A text that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenText {
    pub text: String,
    /// It has as many tokens as were allowed and would go on.
    pub is_cut: bool,
    /// The hash of its transcript.
    pub trace: B256,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WritingError {
    /// The conversation is at fault; the same one will be refused again.
    #[error("{0}")]
    Refused(String),
    /// It may pass.
    #[error(transparent)]
    Failed(anyhow::Error),
}

impl WritingModel {
    pub(super) fn new(model_hash: B256, desk: Desk) -> Self {
        Self { model_hash, desk }
    }

    /// The hash of the model's files.
    pub fn model_hash(&self) -> B256 {
        self.model_hash
    }

    /// Writes what follows a conversation with the best token always, at most `max_tokens`. Calls `show` with the whole text
    /// as it stands after each piece; when a process ended in between, the text begins anew.
    ///
    /// # Errors
    ///
    /// [`WritingError`]. Dropping the future withdraws the order.
    pub async fn write(
        &self,
        messages: Vec<Message>,
        max_tokens: usize,
        mut show: impl FnMut(&str),
    ) -> Result<WrittenText, WritingError> {
        let order = Order::Write { messages, max_tokens };
        let mut ticket = self.desk.order(order).await.map_err(WritingError::Failed)?;
        let mut text = String::new();
        loop {
            match ticket.next().await {
                Told::Anew => text.clear(),
                Told::News(News::Read { .. }) => {}
                Told::News(News::Text { piece }) => {
                    text.push_str(&piece);
                    show(&text);
                }
                Told::News(News::Written { cut, trace }) => {
                    return Ok(WrittenText { text, is_cut: cut, trace });
                }
                Told::News(News::Refused { reason }) => return Err(WritingError::Refused(reason)),
                Told::News(News::Failed { reason }) => {
                    return Err(WritingError::Failed(anyhow!(reason)));
                }
                Told::News(News::Vectors { .. }) => {
                    return Err(WritingError::Failed(anyhow!("the model embedded instead")));
                }
                Told::GivenUp(error) => return Err(WritingError::Failed(error)),
            }
        }
    }
}
