//! Transactions that are made true: intents and signed transactions are rows before they are sent, outcomes are read from
//! the chain and never guessed from a time-out.

pub mod fee;
pub mod plan;
pub mod reply;
pub mod store;
pub mod sign;
pub mod manager;
