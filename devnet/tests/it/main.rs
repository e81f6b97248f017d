//! The embedded world against the real programs: PostgreSQL, anvil, rumqttd, `sh`, `pip` and `npm`.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with the place and the value")]

mod anvil;
mod broker;
mod chain;
mod port;
mod postgres;
mod process;
mod provision;
mod proxy;
mod test_database;
mod wait;
