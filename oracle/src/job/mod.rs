//! Requests that this node works on: a row each, a lease to work under, and one bounded step at a time.

mod answering;
pub mod check;
pub mod finish;
pub mod found;
pub mod gauge;
pub mod plan;
mod settle;
pub mod store;
pub mod summary;
pub mod terms;
pub mod work;
