//! Why a query is refused, in the words of graph-node where it has the same reason.

use async_graphql::Pos;
use serde::Serialize;

use crate::serve::limits;
use crate::serve::trouble::Trouble;

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    // OF THE DIALECT
    #[error("The `{argument}` argument must be between {min} and {max}, but is {actual}")]
    Range { argument: &'static str, min: i64, max: i64, actual: String },
    #[error(
        "Cannot mix column filters with 'or' operator at the same level. Found column filter(s) {columns} alongside 'or' operator.\n\nRepeat the column filters inside every branch: where: {{ or: [{{ a: 1, b: 2 }}, {{ a: 1, c: 3 }}] }}"
    )]
    MixedOr { columns: String },
    #[error("Child filter nesting not supported by value `{value}`: `{filter}`")]
    ChildNesting { value: String, filter: String },
    #[error(
        "Failed to decode `block.number` value: `subgraph {deployment} has only indexed up to block number {head} and data for block number {asked} is therefore not yet available`"
    )]
    BlockTooNew { deployment: String, head: i64, asked: i64 },
    #[error(
        "Failed to decode `block.number` value: `subgraph {deployment} only has data starting at block number {start} and data for block number {asked} is therefore not available`"
    )]
    BlockTooOld { deployment: String, start: i64, asked: i64 },
    #[error("Failed to decode `block.hash` value: `no block with that hash found`")]
    BlockUnknown,
    #[error("Invalid value provided for argument `block`: {0}")]
    BlockArgument(&'static str),
    #[error("Invalid value provided for argument `where`: `{filter}`: {reason}")]
    FilterValue { filter: String, reason: String },
    #[error("indexing_error")]
    IndexingError,

    // LIMITS
    #[error("The query is {0} levels deep, over the limit of {limit}; ask for less at once", limit = limits::QUERY_DEPTH_MAX)]
    Depth(usize),
    #[error("The introspection is {0} levels deep, over the limit of {limit}", limit = limits::INTROSPECTION_DEPTH_MAX)]
    IntrospectionDepth(usize),
    #[error("The query may read about {0} rows, over the limit of {limit}; set a smaller `first`, here or in nested collections", limit = limits::QUERY_COST_MAX)]
    Cost(u64),
    #[error("The query has {0} root fields, over the limit of {limit}; send them in several requests", limit = limits::QUERY_ROOT_FIELDS_MAX)]
    RootFields(usize),
    #[error("The query has {0} aliases, over the limit of {limit}", limit = limits::QUERY_ALIASES_MAX)]
    Aliases(usize),
    #[error("The query has more than {limit} fields, the limit, after its fragments are written out", limit = limits::QUERY_FIELDS_MAX)]
    Fields,
    #[error("The query has {0} directives, over the limit of {limit}", limit = limits::QUERY_DIRECTIVES_MAX)]
    Directives(usize),
    #[error("The WebSocket has {limit} operations under way, its limit; end one of them first", limit = limits::SOCKET_OPERATIONS_MAX)]
    Operations,
    #[error("A request holds one query; a list of queries is not taken (limit {limit})", limit = limits::QUERY_BATCH_MAX)]
    Batch,
    #[error("The filters of the query have more than {limit} conditions, the limit", limit = limits::FILTER_CONDITIONS_MAX)]
    FilterConditions,
    #[error("`and` and `or` are nested more than {limit} levels deep, the limit", limit = limits::FILTER_DEPTH_MAX)]
    FilterDepth,
    #[error("`{filter}` has {count} values, over the limit of {limit}", limit = limits::FILTER_VALUES_MAX)]
    FilterValues { filter: String, count: usize },
    #[error("The answer is larger than {limit} bytes, the limit; set a smaller `first`", limit = limits::ANSWER_BYTES_MAX)]
    AnswerBytes,
    #[error("The query took longer than {limit} s, the limit; ask for less, or filter by an indexed field", limit = limits::STATEMENT_TIME_MAX.as_secs())]
    Time,

    // OF THE DOCUMENT
    #[error("{message}")]
    Document { message: String, position: Option<(usize, usize)> },
    #[error(
        "Fields `{0}` conflict: they have the same name in the answer, but differ; give one of them an alias"
    )]
    Conflict(String),
    #[error("Variable `${name}`: {reason}")]
    Variable { name: String, reason: String },
    #[error(
        "`after` is not a cursor of this query: {0}; use the one of a page with the same ordering"
    )]
    Cursor(&'static str),

    // OURS
    #[error("Nothing has been indexed on chain {0} yet")]
    NotStarted(i64),
    #[error("The database cannot be reached; try again in a moment")]
    Unavailable,
    #[error("Internal error")]
    Internal,
}

/// An error as GraphQL writes it.
#[derive(Debug, Serialize)]
pub(super) struct ErrorView {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    locations: Option<[Location; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<[String; 1]>,
}

#[derive(Debug, Serialize)]
struct Location {
    line: usize,
    column: usize,
}

/// A refusal and the root field that it is about.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) refusal: Refusal,
    pub(super) position: Option<Pos>,
    pub(super) key: Option<String>,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let position = match &refusal {
            Refusal::Document { position: Some((line, column)), .. } => {
                Some(Pos { line: *line, column: *column })
            }
            _ => None,
        };
        Self { refusal, position, key: None }
    }
}

impl Failure {
    pub(super) fn view(&self) -> ErrorView {
        ErrorView {
            message: self.refusal.to_string(),
            locations: self.position.map(|p| [Location { line: p.line, column: p.column }]),
            path: self.key.clone().map(|key| [key]),
        }
    }
}

/// The cause is logged here, because a client is not shown it.
impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        match Trouble::of(&error) {
            Trouble::TookTooLong => Self::Time,
            Trouble::Away => {
                tracing::warn!(%error, "the database cannot be reached");
                Self::Unavailable
            }
            Trouble::ReadOnly | Trouble::Ours => {
                tracing::error!(%error, "a GraphQL statement failed");
                Self::Internal
            }
        }
    }
}
