//! Requests that this node works on: a row each, a lease to work under, and one bounded step at a time.

pub mod plan;
pub mod terms;
pub mod store;
pub mod check;
pub mod work;
