//! Tests against real parts: PostgreSQL, anvil, an MQTT broker, the contracts.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with the place and the value")]

mod account;
mod answer;
mod bus;
mod chaos;
mod corpus;
mod crash;
mod discovery;
mod document;
mod isolation;
mod keystore;
mod kms;
mod lease;
mod node;
mod openai;
mod operation;
mod partial;
mod quorum;
mod remote;
mod retrieval;
mod scene;
mod signer;
mod simulation;
mod transaction;
