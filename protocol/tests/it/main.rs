//! What the contracts' own tests compute as well: the same vectors have to come out the same on both sides of the chain.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with the place and the value")]

mod arithmetic;
mod typed_data;
