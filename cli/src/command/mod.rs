//! The commands, one file each: its arguments, what it does, what it prints.

pub(crate) mod agent;
pub(crate) mod broker;
pub(crate) mod corpus;
pub(crate) mod credit;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod eval;
pub(crate) mod indexer;
pub(crate) mod model;
pub(crate) mod offer;
pub(crate) mod operator;
pub(crate) mod operator_set;
pub(crate) mod oracle;
pub(crate) mod request;
pub(crate) mod setup;
