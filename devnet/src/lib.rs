//! Auspex's embedded world: what is missing on a machine is installed, and private services start on
//! free ports and stop cleanly.
//!
//! Layout, in reading order:
//!
//! - [`provision`] finds or installs PostgreSQL with pgvector, anvil and the embedding model;
//! - [`port`] hands out ports, [`process`] keeps a child process, [`user`] drops root,
//!   [`proxy`] breaks connections for tests;
//! - [`postgres`], [`broker`] and [`anvil`] are the three services;
//! - [`chain`] is an anvil whose chain survives it;
//! - [`replay`] is a node that serves a chain built beforehand, and lies on demand;
//! - [`migrations`] is the one migrator that everybody uses;
//! - [`limits`] names every limit.
//!
//! Invariant: nothing that this crate starts outlives the process that started it, also when that
//! process is killed with SIGKILL (see [`process`]).
//!
//! The services are for development, demonstrations and tests: they listen on 127.0.0.1 only, and every
//! local user of the machine can use them.

pub mod provision;

pub mod port;
pub mod process;
pub mod proxy;
pub mod user;

pub mod anvil;
pub mod broker;
pub mod chain;
pub mod migrations;
pub mod postgres;
pub mod replay;

pub mod limits;
