//! Answer documents, kept under their hash: `PUT` and `GET /v1/answers/{outputHash}`.

use alloy::primitives::{B256, keccak256};
use auspex_protocol::answer::Answer;
use auspex_protocol::limits::ANSWER_BYTES_MAX;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sqlx::PgPool;

use super::super::error::{ApiError, ErrorBody};
use super::super::limits::{ANSWERS_UNCLAIMED_AGE_MAX, ANSWERS_UNCLAIMED_MAX};
use super::super::parameter::{self, Payload};
use super::super::state::ServeState;

/// Keeps an answer. The body is the canonical JSON whose keccak-256 is the path's hash, at most 64 KiB. An answer that no
/// delivered result names is dropped after a day.
#[utoipa::path(
    put,
    path = "/v1/answers/{outputHash}",
    tag = "answers",
    params(("outputHash" = String, Path, description = "0x-hex, 32 bytes.")),
    request_body(content = Object, description = "The answer's canonical JSON (RFC 8785)."),
    responses(
        (status = 201, description = "Stored."),
        (status = 200, description = "It was there already."),
        (status = 400, description = "The path is no hash.", body = ErrorBody),
        (status = 413, description = "The answer is too large.", body = ErrorBody),
        (status = 422, description = "The hash is another one, or it is no answer.", body = ErrorBody),
        (status = 429, description = "Too many answers wait for their result.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn put(
    State(state): State<ServeState>,
    Path(hash): Path<String>,
    Payload(body): Payload,
) -> Result<StatusCode, ApiError> {
    let output_hash = parameter::hash("outputHash", &hash)?;
    if ANSWER_BYTES_MAX < body.len() {
        return Err(ApiError::TooLarge(format!(
            "answer: {} bytes, over the limit of {ANSWER_BYTES_MAX}",
            body.len()
        )));
    }
    let actual = keccak256(&body);
    if actual != output_hash {
        return Err(ApiError::Unprocessable {
            code: "wrong_hash",
            message: format!("answer: its keccak-256 is {actual:#x}, not {output_hash:#x}"),
        });
    }
    if let Err(error) = Answer::parse(&body) {
        return Err(ApiError::Unprocessable { code: "bad_answer", message: error.to_string() });
    }
    match store(&state.pool, output_hash, &body).await? {
        Kept::New => Ok(StatusCode::CREATED),
        Kept::Known => Ok(StatusCode::OK),
        Kept::Full => Err(ApiError::LimitReached(format!(
            "answer: {ANSWERS_UNCLAIMED_MAX} answers wait for a result that names them, the limit; deliver first, or try again later"
        ))),
    }
}

/// An answer's bytes, exactly as they were hashed.
#[utoipa::path(
    get,
    path = "/v1/answers/{outputHash}",
    tag = "answers",
    params(("outputHash" = String, Path, description = "0x-hex, 32 bytes.")),
    responses(
        (status = 200, description = "The answer's canonical JSON.", content_type = "application/json", body = Object),
        (status = 400, description = "The path is no hash.", body = ErrorBody),
        (status = 404, description = "No such answer is kept.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn get(
    State(state): State<ServeState>,
    Path(hash): Path<String>,
) -> Result<Response, ApiError> {
    let output_hash = parameter::hash("outputHash", &hash)?;
    let body = sqlx::query_scalar!(
        "select body from indexer.answers where output_hash = $1",
        output_hash.as_slice(),
    )
    .fetch_optional(&state.pool)
    .await?;
    match body {
        // The content of a hash never changes.
        Some(body) => Ok((
            [
                (header::CONTENT_TYPE, "application/json"),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ],
            body,
        )
            .into_response()),
        None => Err(ApiError::NotFound(format!(
            "outputHash: no answer with the hash {output_hash:#x} is kept here"
        ))),
    }
}

/// Drops answers that waited too long for a result, and marks those that a result names. Returns how many were dropped.
pub(in super::super) async fn sweep(pool: &PgPool) -> Result<u64, sqlx::Error> {
    sqlx::query!(
        r#"
        update indexer.answers a
        set claimed = true
        where not claimed
            and exists (select from indexer.requests r where r.output_hash = a.output_hash and upper_inf(r.block_range))
        "#,
    )
    .execute(pool)
    .await?;
    let dropped = sqlx::query!(
        "delete from indexer.answers where not claimed and created_at < now() - make_interval(secs => $1)",
        ANSWERS_UNCLAIMED_AGE_MAX.as_secs_f64(),
    )
    .execute(pool)
    .await?;
    Ok(dropped.rows_affected())
}

enum Kept {
    New,
    Known,
    Full,
}

async fn store(pool: &PgPool, output_hash: B256, body: &[u8]) -> Result<Kept, sqlx::Error> {
    let found = sqlx::query!(
        r#"
        select
            exists (select from indexer.answers where output_hash = $1) as "known!",
            exists (select from indexer.requests where output_hash = $1 and upper_inf(block_range)) as "claimed!",
            (select count(*) from (select from indexer.answers where not claimed limit $2) waiting) as "waiting!"
        "#,
        output_hash.as_slice(),
        ANSWERS_UNCLAIMED_MAX,
    )
    .fetch_one(pool)
    .await?;
    if found.known {
        return Ok(Kept::Known);
    }
    if !found.claimed && ANSWERS_UNCLAIMED_MAX <= found.waiting {
        return Ok(Kept::Full);
    }
    let inserted = sqlx::query!(
        r#"
        insert into indexer.answers (output_hash, body, claimed)
        values ($1::bytea, $2, $3)
        on conflict on constraint answers_pkey do nothing
        "#,
        output_hash.as_slice() as &[u8],
        body,
        found.claimed,
    )
    .execute(pool)
    .await?;
    Ok(if inserted.rows_affected() == 1 { Kept::New } else { Kept::Known })
}
