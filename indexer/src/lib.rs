//! The indexer: chain -> PostgreSQL -> readers.
//!
//! `follow` reads blocks through `source`, checks them with `verify`, and writes them with `store`, which turns facts into
//! rows with `project`. `publish` and `registration` work from what is stored. `fork`, `verify`, `decode`, `project` are
//! pure.

pub mod abi;
pub mod abort;
mod broker;
pub mod chain;
pub mod config;
pub mod contract;
pub mod decode;
pub mod digest;
pub mod entity;
pub mod follow;
pub mod fork;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod health;
pub mod limits;
pub mod project;
pub mod publish;
pub mod rebuild;
pub mod registration;
pub mod run;
pub mod serve;
pub mod source;
pub mod store;
pub mod verify;
pub mod watch;
