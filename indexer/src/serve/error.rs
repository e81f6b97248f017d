//! The one error of the HTTP surface.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::limits::STATEMENT_TIME_MAX;
use super::trouble::Trouble;

/// Why a request is refused. Messages say what, which field, which limit, and what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("{0}")]
    InvalidParameter(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    WrongMethod(String),
    /// Refused because of who asks.
    #[error("{message}")]
    Forbidden { code: &'static str, message: String },
    /// Refused because of the state of what is asked about.
    #[error("{message}")]
    Conflict { code: &'static str, message: String },
    /// Understood, but wrong.
    #[error("{message}")]
    Unprocessable { code: &'static str, message: String },
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    LimitReached(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    TimedOut(String),
    /// Our own fault. The cause is logged and never shown.
    #[error("internal error")]
    Internal(#[source] anyhow::Error),
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorDetail {
    /// A word for programs, in snake case.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
}

impl ApiError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::InvalidParameter(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::WrongMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Unprocessable { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::LimitReached(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::InvalidParameter(_) => "invalid_parameter",
            Self::NotFound(_) => "not_found",
            Self::WrongMethod(_) => "wrong_method",
            Self::Forbidden { code, .. }
            | Self::Conflict { code, .. }
            | Self::Unprocessable { code, .. } => code,
            Self::TooLarge(_) => "too_large",
            Self::LimitReached(_) => "limit_reached",
            Self::Unavailable(_) => "unavailable",
            Self::TimedOut(_) => "timed_out",
            Self::Internal(_) => "internal",
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Internal(cause) = &self {
            tracing::error!(error = format!("{cause:#}"), "request failed");
        }
        let body =
            ErrorBody { error: ErrorDetail { code: self.code(), message: self.to_string() } };
        (self.status(), Json(body)).into_response()
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        match Trouble::of(&error) {
            Trouble::ReadOnly => Self::Unavailable(
                "this server only reads; ask the indexer that follows the chain".into(),
            ),
            Trouble::TookTooLong => Self::TimedOut(format!(
                "the question took longer than {} s, the limit; ask for less at once",
                STATEMENT_TIME_MAX.as_secs()
            )),
            Trouble::Away => {
                tracing::warn!(%error, "the database cannot be reached");
                Self::Unavailable("the database cannot be reached; try again in a moment".into())
            }
            Trouble::Ours => Self::Internal(error.into()),
        }
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        Self::Internal(error)
    }
}
