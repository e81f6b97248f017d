//! The real endpoint and the real store against a replay node that lies over HTTP in every way of the field's failure
//! table, at both levels of verification: what is stored is right, or the follower has stopped and said why.

mod fault;
pub(crate) mod play;
mod reorg;
