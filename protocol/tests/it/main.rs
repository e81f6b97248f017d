//! What the contracts' own tests compute as well: the same vectors have to come out the same on both sides of the chain.

mod arithmetic;
mod typed_data;
