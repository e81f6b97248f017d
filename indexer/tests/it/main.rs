//! The indexer's integration tests: one binary, because linking is dear.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with the place and the value")]

mod chain;
mod contract;
mod liar;
mod outbox;
mod partition;
mod serve;
mod sim;
mod websocket;
