//! The agreement of a request's operators on one result: what messages mean, and the rows that remember them.

pub mod inbox;
pub mod reading;
pub mod store;
