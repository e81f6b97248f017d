//! Current rows that are kept between two steps, because the next one is likely to change them again.

use crate::limits::CACHED_ROWS_MAX;
use crate::project::request::Status;
use crate::project::row::{Kind, Row};
use crate::project::state::{Changes, CurrentRows};

/// The rows as they are after these changes, without those that are not likely to be asked for again.
pub(super) fn after(mut rows: CurrentRows, changes: &Changes) -> CurrentRows {
    for closing in &changes.closings {
        rows.remove(&closing.key);
    }
    for version in &changes.versions {
        if version.until.is_none() && is_asked_again(&version.row) {
            rows.insert(version.key.clone(), version.row.clone());
        }
    }
    if CACHED_ROWS_MAX < rows.len() {
        rows.clear();
    }
    rows
}

/// Whether a further event is likely to change the row, or to need it.
fn is_asked_again(row: &Row) -> bool {
    if let Row::Request(request) = row {
        return matches!(request.status, Status::Funded | Status::Delivered);
    }
    matches!(
        row.kind(),
        Kind::Split
            | Kind::SplitTotal
            | Kind::Credit
            | Kind::BondCredit
            | Kind::Offer
            | Kind::Operator
            | Kind::OperatorSet
            | Kind::Signer
            | Kind::Bond
            | Kind::Token
            | Kind::FeePolicy
    )
}
