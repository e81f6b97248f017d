//! The oracle node of one operator: requests become jobs, jobs become signed results, a quorum of signatures becomes a
//! transaction. PostgreSQL is the only memory, the chain is the only truth, MQTT is a doorbell.
//!
//! Reading order: [`job::plan`] (what happens to a request), [`quorum`] (how operators agree), [`transaction::plan`] (how
//! a delivery is made true), [`signer`] (where the keys are), then [`node`], which puts the tasks together.

pub mod answer;
pub mod answerer;
pub mod board;
pub mod bus;
pub mod chain;
pub mod chunk;
pub mod clock;
pub mod config;
pub mod corpus;
pub mod discover;
pub mod document;
pub mod drain;
pub mod failpoint;
pub mod heads;
pub mod http;
pub mod identity;
pub mod job;
pub mod keys;
pub mod limits;
pub mod meter;
pub mod model;
pub mod node;
pub mod openai;
pub mod outbox;
pub mod partial;
pub mod quorum;
pub mod retrieval;
pub mod signer;
pub mod status;
pub mod transaction;
pub mod withdraw;
