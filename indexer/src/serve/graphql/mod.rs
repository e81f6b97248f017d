//! GraphQL in The Graph's dialect.
//!
//! A request goes through these steps, one file each: [`document`] parses it and holds the limits on its shape;
//! async-graphql validates it against the [`mod@schema`] and answers introspection; [`planner`] turns it into a [`plan`], with
//! [`argument`], [`filter`] and [`literal`]; [`sql`], [`compare`] and [`ordering`] write one statement per root field; [`run`]
//! reads in one snapshot, with [`head`], [`meta`] and [`connection`]; [`engine`] puts the answer together and [`transport`] sends it.
//!
//! PostgreSQL builds each row's JSON, relations included, so that a query costs one round trip per root field however deep
//! it is, and its bytes go to the client as they came.

mod argument;
mod compare;
mod connection;
mod cursor;
mod document;
mod engine;
mod error;
mod filter;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod head;
mod literal;
mod meta;
mod ordering;
mod place;
mod plan;
mod planner;
mod run;
mod schema;
mod sql;
mod subscription;
mod transport;
mod version;

pub(super) use schema::schema;
pub(super) use transport::{http, named, websocket};
