//! MQTT topics. One prefix per chain and escrow, so that one broker can serve several deployments.

use alloy::primitives::{Address, B256};

/// Builds the topics of one escrow on one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

impl Topics {
    pub fn new(chain_id: u64, escrow: Address) -> Self {
        Self { prefix: format!("auspex/{chain_id}/{escrow:#x}") }
    }

    /// The indexer rings here when a request's history changes; the payload is a [`crate::message::RequestNotice`].
    pub fn request(&self, request_id: B256) -> String {
        format!("{}/requests/{request_id:#x}", self.prefix)
    }

    /// Every request's topic.
    pub fn requests(&self) -> String {
        format!("{}/requests/+", self.prefix)
    }

    /// Operators exchange [`crate::message::Envelope`]s about one request here.
    pub fn quorum(&self, request_id: B256) -> String {
        format!("{}/quorum/{request_id:#x}", self.prefix)
    }

    /// Every request's quorum topic.
    pub fn quorums(&self) -> String {
        format!("{}/quorum/+", self.prefix)
    }

    /// The unfinished text of one request's answer, as [`crate::message::Envelope`]s that nobody keeps.
    pub fn partial(&self, request_id: B256) -> String {
        format!("{}/partials/{request_id:#x}", self.prefix)
    }

    /// Every request's topic of unfinished text.
    pub fn partials(&self) -> String {
        format!("{}/partials/+", self.prefix)
    }

    /// An operator's signed heartbeat.
    pub fn heartbeat(&self, signer: Address) -> String {
        format!("{}/operators/{signer:#x}", self.prefix)
    }

    /// Every operator's heartbeat topic.
    pub fn heartbeats(&self) -> String {
        format!("{}/operators/+", self.prefix)
    }

    /// The stream of everything that the indexer writes, one message per change.
    pub fn changes(&self) -> String {
        format!("{}/changes", self.prefix)
    }
}
