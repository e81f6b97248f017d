//! Transactions that are made true: intents and signed transactions are rows before they are sent, outcomes are read from
//! the chain and never guessed from a time-out.

pub mod batch;
pub mod books;
pub mod branch;
pub mod custody;
pub mod fee;
pub mod intent;
pub mod manager;
pub mod outcome;
pub mod plan;
pub mod reply;
pub mod sign;
pub mod store;
