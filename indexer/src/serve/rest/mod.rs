//! REST: the common questions, in static SQL.

pub(super) mod account;
pub(super) mod agent;
pub(super) mod answer;
pub(super) mod board;
pub(super) mod digest;
pub(super) mod offer;
pub(super) mod operator;
pub(super) mod request;
pub(super) mod status;

mod at;
pub(super) mod board_store;
mod offer_store;
mod request_store;
mod request_view;

use serde::Serialize;
use utoipa::ToSchema;

/// A page of rows.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// What to pass as `after` for the next page; null on the last one.
    pub(super) next: Option<i64>,
}
