//! `GET /v1/stream`: the live stream as Server-Sent Events.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{self, KeepAlive, Sse};
use futures::StreamExt;
use serde::Deserialize;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

use super::super::error::ApiError;
use super::super::limits::STREAM_HEARTBEAT;
use super::super::parameter::{self, Params};
use super::super::state::ServeState;
use super::reader::{Filter, Message, follow};
use crate::entity::ENTITIES;

/// What the stream is narrowed to.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct StreamQuery {
    /// Names of tables or of GraphQL types, separated by commas; all when left out.
    #[param(example = "requests,settlement_credits")]
    entities: Option<String>,
    /// Only events about this request. Without `entities`, the parts of its unfinished answer come too.
    request_id: Option<String>,
}

/// Live changes. Every event has an id; a client that reconnects with it in `Last-Event-ID` misses nothing. `retract` says
/// that a reorg took a change back. `reset` says that the id to resume after is no longer kept: read the state again. `partial` carries
/// a part of an answer that is still being written: it has no id, is told once, and is not settled, so it may turn out wrong.
#[utoipa::path(
    get,
    path = "/v1/stream",
    tag = "stream",
    params(
        StreamQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Resume after this event; 0 begins with the oldest one kept."),
    ),
    responses(
        (status = 200, description = "An event stream: id, event (insert, update, retract, reset, partial), data. A `partial` carries a `Partial`.", content_type = "text/event-stream", body = super::event::EventData),
        (status = 400, description = "A parameter is wrong.", body = super::super::error::ErrorBody),
        (status = 503, description = "Too many readers.", body = super::super::error::ErrorBody),
    ),
)]
pub(in super::super) async fn stream(
    State(state): State<ServeState>,
    Params(query): Params<StreamQuery>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let after = match headers.get("last-event-id").map(|value| value.to_str()) {
        None | Some(Ok("")) => None,
        Some(Ok(text)) => Some(parameter::after("Last-Event-ID", Some(text))?),
        Some(Err(_)) => {
            return Err(ApiError::InvalidParameter("Last-Event-ID: not a decimal integer".into()));
        }
    };
    let request = query.request_id.as_deref().map(|text| parameter::hash("requestId", text));
    let request = request.transpose()?;
    let filter = Filter {
        entities: query.entities.as_deref().map(tables).transpose()?.unwrap_or_default(),
        request_id: request.map(|id| format!("{id:#x}")),
        partials_of: request.filter(|_| query.entities.is_none()),
    };
    let messages = ReceiverStream::new(follow(&state, after, filter).await?);
    let events = messages.map(|message| Ok::<_, Infallible>(written(&message)));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(STREAM_HEARTBEAT).text("alive")))
}

fn written(message: &Message) -> sse::Event {
    match message {
        Message::Event(event) => {
            let line = sse::Event::default().id(event.id.to_string()).event(&event.change);
            match serde_json::to_string(&event.data) {
                Ok(data) => line.data(data),
                Err(error) => line.comment(error.to_string()),
            }
        }
        Message::Reset(after) => sse::Event::default()
            .id(after.to_string())
            .event("reset")
            .data(r#"{"reason":"the events after the given id are no longer kept; read the state again"}"#),
        // Without an id: it is kept nowhere, so nobody can resume after it.
        Message::Partial(partial) => {
            let line = sse::Event::default().event("partial");
            match serde_json::to_string(partial) {
                Ok(data) => line.data(data),
                Err(error) => line.comment(error.to_string()),
            }
        }
    }
}

/// The tables that a list of names means.
fn tables(list: &str) -> Result<Vec<String>, ApiError> {
    let named = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let found = named.map(|name| {
        let entity = ENTITIES
            .iter()
            .find(|entity| entity.on_chain && (entity.table == name || entity.name == name));
        match entity {
            Some(entity) => Ok(entity.table.to_owned()),
            None => {
                let known: Vec<_> =
                    ENTITIES.iter().filter(|e| e.on_chain).map(|e| e.table).collect();
                Err(ApiError::InvalidParameter(format!(
                    "entities: unknown name; known are {}",
                    known.join(", ")
                )))
            }
        }
    });
    found.collect()
}
