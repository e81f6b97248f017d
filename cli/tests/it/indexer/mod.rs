//! The indexer as the process that people run, against a node that lies, and through its own deaths.

mod chain;
mod crash;
mod history;
mod liar;
mod model;
mod process;
mod replica;
mod standby;
