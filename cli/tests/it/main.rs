//! The whole product, driven as people drive it: the `auspex` binary, a real chain, a real PostgreSQL with pgvector, a real
//! MQTT broker, three nodes with real model weights.

mod bad_input;
mod demo;
mod faults;
mod indexer;
mod ledger;
mod live_view;
mod main_job;
mod operator;
mod readme;
mod reorg;
mod resume;
mod world;
mod writing;
