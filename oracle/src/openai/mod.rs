//! The HTTP interface that OpenAI made and everybody speaks: [`serve`] offers our models through
//! it, [`remote`] asks other people's models through it, [`wire`] is what both say.

mod chat;
mod events;
mod failure;
pub mod remote;
mod reply;
mod rerank;
pub mod serve;
mod vectors;
pub mod wire;
