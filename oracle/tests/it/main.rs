//! Tests against real parts: PostgreSQL, anvil, an MQTT broker, the contracts.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with the place and the value")]

mod answer;
mod bus;
mod corpus;
mod document;
mod keystore;
mod lease;
mod node;
mod openai;
mod quorum;
mod retrieval;
mod scene;
mod simulation;
mod transaction;
