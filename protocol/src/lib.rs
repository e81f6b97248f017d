//! What both sides of the chain agree on: the contracts' bindings, the EIP-712 hashes, the split arithmetic,
//! the answer document, and the messages that operators exchange. Pure values; no I/O.

pub mod answer;
pub mod bindings;
pub mod deployment;
pub mod document;
pub mod limits;
pub mod merkle;
pub mod message;
pub mod network;
pub mod quorum;
pub mod split;
pub mod terms;
pub mod topic;
