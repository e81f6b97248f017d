//! Why a request is refused, in the form that OpenAI's clients read.

use auspex_inference::EngineError;
use auspex_inference::decoder::GenerateError;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A refusal.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    parameter: Option<&'static str>,
    message: String,
}

impl Failure {
    /// The request itself is wrong; `parameter` names the field.
    pub(super) fn request(parameter: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "invalid_request_error",
            code: None,
            parameter: Some(parameter),
            message: message.into(),
        }
    }

    pub(super) fn unauthorized() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            kind: "authentication_error",
            code: Some("invalid_api_key"),
            parameter: None,
            message: "the key is missing or wrong; send it as `Authorization: Bearer KEY`".into(),
        }
    }

    pub(super) fn no_model(asked: &str, there: &[String]) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            kind: "invalid_request_error",
            code: Some("model_not_found"),
            parameter: Some("model"),
            message: format!(
                "model {asked:?} does not do this here; there is {}",
                there.join(", ")
            ),
        }
    }

    pub(super) fn no_route() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            kind: "invalid_request_error",
            code: Some("unknown_url"),
            parameter: None,
            message: "there is /v1/models, /v1/chat/completions, /v1/embeddings and /v1/rerank"
                .into(),
        }
    }

    fn overloaded(message: String) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            kind: "rate_limit_error",
            code: Some("overloaded"),
            parameter: None,
            message,
        }
    }

    pub(super) fn server(message: String) -> Self {
        tracing::error!(error = message, "a model failed");
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            kind: "server_error",
            code: None,
            parameter: None,
            message,
        }
    }

    /// The document that a client reads.
    pub(super) fn body(&self) -> Value {
        json!({"error": {
            "message": self.message, "type": self.kind, "param": self.parameter, "code": self.code,
        }})
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.body())).into_response()
    }
}

impl From<GenerateError> for Failure {
    fn from(error: GenerateError) -> Self {
        let message = error.to_string();
        match error {
            GenerateError::Prompt(_) => Self::request("messages", message),
            GenerateError::Overloaded => Self::overloaded(message),
            _ => Self::server(message),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::Encode(_)
            | EngineError::TooManyTexts { .. }
            | EngineError::TooManyTokens { .. } => Self::request("input", message),
            EngineError::Overloaded | EngineError::Late { .. } => Self::overloaded(message),
            _ => Self::server(message),
        }
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        let status = rejection.status();
        Self { status, ..Self::request("body", rejection.body_text()) }
    }
}
