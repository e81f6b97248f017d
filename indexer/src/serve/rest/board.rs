//! The board: operators' signed messages about one request, for when the message broker is down.

use alloy::primitives::{Address, B256};
use auspex_protocol::limits::MESSAGE_BYTES_MAX;
use auspex_protocol::message::{self, MessageError, QuorumMessage, envelope_digest};
use auspex_protocol::terms::escrow_domain;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::super::error::{ApiError, ErrorBody};
use super::super::limits::BOARD_MESSAGES_PER_SIGNER_MAX;
use super::super::openapi;
use super::super::parameter::{self, Params, Payload};
use super::super::state::ServeState;
use super::Page;
use super::board_store::{self, Stored, Subject};

/// A message on the board.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct MessageView {
    /// Its place, from 1 on, without gaps.
    n: i64,
    #[schema(schema_with = openapi::envelope)]
    envelope: Value,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct ListQuery {
    /// The `next` of the page before.
    after: Option<String>,
    /// 1 to 1000, by default 100.
    limit: Option<String>,
}

/// The messages about a request, in the order in which they came. `next` is where to go on, also when the page is empty.
#[utoipa::path(
    get,
    path = "/v1/requests/{requestId}/messages",
    tag = "board",
    params(("requestId" = String, Path, description = "0x-hex, 32 bytes."), ListQuery),
    responses(
        (status = 200, body = Page<MessageView>),
        (status = 400, description = "A parameter is wrong.", body = ErrorBody),
        (status = 404, description = "No such request is indexed.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn list(
    State(state): State<ServeState>,
    Path(id): Path<String>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Page<MessageView>>, ApiError> {
    let request_id = parameter::hash("requestId", &id)?;
    let after = parameter::after("after", query.after.as_deref())?;
    let limit = parameter::limit(query.limit.as_deref())?;
    let subject = subject(&state, request_id).await?;
    let rows =
        board_store::messages(&state.pool, subject.chain_id, request_id, after, limit).await?;
    let items: Vec<_> =
        rows.into_iter().map(|row| MessageView { n: row.n, envelope: row.envelope.0 }).collect();
    let next = Some(items.last().map_or(after, |message| message.n));
    Ok(Json(Page { items, next }))
}

/// Leaves a message. It has to be signed by a member of the operator set that the request pinned.
#[utoipa::path(
    post,
    path = "/v1/requests/{requestId}/messages",
    tag = "board",
    params(("requestId" = String, Path, description = "0x-hex, 32 bytes.")),
    request_body(content = Object, description = "An `Envelope`: body, signer, sentAt, signature. At most 128 KiB."),
    responses(
        (status = 202, description = "Stored."),
        (status = 200, description = "The same message was there already."),
        (status = 403, description = "The signer is not in the request's operator set, or the signature is not its own.", body = ErrorBody),
        (status = 404, description = "No such request is indexed.", body = ErrorBody),
        (status = 409, description = "The request is neither funded nor delivered.", body = ErrorBody),
        (status = 413, description = "The message is too large.", body = ErrorBody),
        (status = 422, description = "Not an envelope, or about another request.", body = ErrorBody),
        (status = 429, description = "The signer has left its share of messages about this request.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn post(
    State(state): State<ServeState>,
    Path(id): Path<String>,
    Payload(body): Payload,
) -> Result<StatusCode, ApiError> {
    let request_id = parameter::hash("requestId", &id)?;
    if MESSAGE_BYTES_MAX < body.len() {
        return Err(ApiError::TooLarge(MessageError::TooLarge(body.len()).to_string()));
    }
    let subject = subject(&state, request_id).await?;
    if !matches!(subject.status.as_str(), "funded" | "delivered") {
        return Err(ApiError::Conflict {
            code: "request_closed",
            message: format!(
                "requestId: the request is {}; messages are taken while it is funded or delivered",
                subject.status
            ),
        });
    }
    let deployment = state
        .chains
        .iter()
        .find(|chain| i64::try_from(chain.chain_id) == Ok(subject.chain_id))
        .ok_or_else(|| unknown(request_id))?;
    let domain = escrow_domain(deployment.chain_id, deployment.request_escrow);
    let (envelope, said) = message::open(&domain, &body).map_err(|error| refused(&error))?;
    about(&said, request_id)?;
    let members = subject.signers.unwrap_or_default();
    if !members.iter().any(|member| Address::from_slice(member) == envelope.signer) {
        return Err(ApiError::Forbidden {
            code: "not_a_member",
            message: format!(
                "signer: {:#x} is not in the operator set that the request pinned",
                envelope.signer
            ),
        });
    }
    let digest = envelope_digest(&domain, &envelope.body, envelope.sent_at);
    let json = serde_json::to_value(&envelope).map_err(anyhow::Error::new)?;
    let stored = board_store::post(
        &state.pool,
        subject.chain_id,
        request_id,
        envelope.signer,
        digest,
        &json,
    )
    .await?;
    match stored {
        Stored::New(_) => Ok(StatusCode::ACCEPTED),
        Stored::Known => Ok(StatusCode::OK),
        Stored::Full => Err(ApiError::LimitReached(format!(
            "signer: {:#x} has left {BOARD_MESSAGES_PER_SIGNER_MAX} messages about this request, the limit",
            envelope.signer
        ))),
    }
}

async fn subject(state: &ServeState, request_id: B256) -> Result<Subject, ApiError> {
    let found = board_store::subject(&state.pool, request_id).await?;
    found.ok_or_else(|| unknown(request_id))
}

fn unknown(request_id: B256) -> ApiError {
    ApiError::NotFound(format!("requestId: no request {request_id:#x} is indexed"))
}

fn refused(error: &MessageError) -> ApiError {
    let message = error.to_string();
    match error {
        MessageError::TooLarge(_) => ApiError::TooLarge(message),
        MessageError::Signature(_) => ApiError::Forbidden { code: "bad_signature", message },
        MessageError::Envelope(_) | MessageError::Body(_) => {
            ApiError::Unprocessable { code: "bad_message", message }
        }
    }
}

/// A message belongs on the board of the request that it names, and nowhere else.
fn about(message: &QuorumMessage, request_id: B256) -> Result<(), ApiError> {
    let named = match message {
        QuorumMessage::Proposal { result, .. } => result.request_id,
        QuorumMessage::Cosignature { request_id, .. }
        | QuorumMessage::Refusal { request_id, .. } => *request_id,
        QuorumMessage::Heartbeat { .. } => {
            return Err(ApiError::Unprocessable {
                code: "wrong_request",
                message: "body: a heartbeat is about no request; it belongs on the broker".into(),
            });
        }
        QuorumMessage::Partial { .. } => {
            return Err(ApiError::Unprocessable {
                code: "wrong_request",
                message:
                    "body: a part of an unfinished answer is not kept; it belongs on the broker"
                        .into(),
            });
        }
    };
    if named != request_id {
        return Err(ApiError::Unprocessable {
            code: "wrong_request",
            message: format!("body: names the request {named:#x}, but was sent to {request_id:#x}"),
        });
    }
    Ok(())
}
