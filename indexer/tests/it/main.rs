//! The indexer's integration tests: one binary, because linking is dear.

mod chain;
mod serve;
mod sim;
