//! Reads what clients put into paths and query strings. Every refusal names the field and what it should be.

use alloy::primitives::{Address, B256, U256};
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::error::ApiError;
use super::limits::{BODY_BYTES_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};

/// How final a row has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Finality {
    #[default]
    Latest,
    Safe,
    Finalized,
}

/// A query string whose refusal has the form of every other error.
#[derive(Debug)]
pub(super) struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let parsed: Result<Query<T>, QueryRejection> =
            Query::from_request_parts(parts, state).await;
        match parsed {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::InvalidParameter(rejection.body_text())),
        }
    }
}

/// A whole body. One that is over the router's limit is refused in the form of every other error.
#[derive(Debug)]
pub(super) struct Payload(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Payload {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Bytes::from_request(request, state).await {
            Ok(body) => Ok(Self(body)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(ApiError::TooLarge(format!("body: over the limit of {BODY_BYTES_MAX} bytes")))
            }
            Err(rejection) => Err(ApiError::InvalidParameter(rejection.body_text())),
        }
    }
}

pub(super) fn hash(field: &str, text: &str) -> Result<B256, ApiError> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    match B256::try_from(hex::decode(digits).unwrap_or_default().as_slice()) {
        Ok(hash) => Ok(hash),
        Err(_) => Err(wrong(field, text, "0x and 64 hexadecimal digits")),
    }
}

pub(super) fn address(field: &str, text: &str) -> Result<Address, ApiError> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    match Address::try_from(hex::decode(digits).unwrap_or_default().as_slice()) {
        Ok(address) => Ok(address),
        Err(_) => Err(wrong(field, text, "0x and 40 hexadecimal digits")),
    }
}

/// A decimal integer below 2^256, as PostgreSQL's numeric reads it.
pub(super) fn uint256(field: &str, text: &str) -> Result<String, ApiError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match U256::from_str_radix(text, 10) {
        Ok(value) if digits => Ok(value.to_string()),
        Ok(_) | Err(_) => Err(wrong(field, text, "a decimal integer below 2^256")),
    }
}

/// A block number.
pub(super) fn block(field: &str, text: &str) -> Result<u64, ApiError> {
    match text.parse::<u64>() {
        Ok(number) if i64::try_from(number).is_ok() && !text.starts_with('+') => Ok(number),
        Ok(_) | Err(_) => Err(wrong(field, text, "a decimal block number")),
    }
}

/// A row number to go on after.
pub(super) fn after(field: &str, text: Option<&str>) -> Result<i64, ApiError> {
    let Some(text) = text else { return Ok(0) };
    match text.parse::<i64>() {
        Ok(value) if 0 <= value => Ok(value),
        Ok(_) | Err(_) => {
            Err(wrong(field, text, "a decimal integer, the `next` of the page before"))
        }
    }
}

/// The number of rows of a page.
pub(super) fn limit(text: Option<&str>) -> Result<i64, ApiError> {
    let Some(text) = text else { return Ok(PAGE_ROWS_DEFAULT) };
    match text.parse::<i64>() {
        Ok(value) if (1..=PAGE_ROWS_MAX).contains(&value) => Ok(value),
        Ok(_) | Err(_) => Err(wrong("limit", text, &format!("between 1 and {PAGE_ROWS_MAX}"))),
    }
}

fn wrong(field: &str, text: &str, wanted: &str) -> ApiError {
    const SHOWN_CHARS_MAX: usize = 80;
    let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    ApiError::InvalidParameter(format!("{field}: {shown:?} is not {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_hash_an_address_or_an_integer_is_refused_by_name() {
        for bad in
            ["", "0x", "0x12", "12", "0xzz", &"0".repeat(64), "0x1'; drop table requests; --"]
        {
            assert!(hash("requestId", bad).unwrap_err().to_string().starts_with("requestId: "));
            assert!(address("payer", bad).is_err(), "{bad}");
        }
        for bad in ["", "-1", "+1", "1e3", "0x10", " 1", "1_000", &"9".repeat(79)] {
            assert!(uint256("agentId", bad).is_err(), "{bad}");
        }
        assert_eq!(uint256("agentId", &U256::MAX.to_string()).unwrap(), U256::MAX.to_string());
    }

    #[test]
    fn a_page_has_between_one_and_a_thousand_rows() {
        assert_eq!(limit(None).unwrap(), 100);
        assert_eq!(limit(Some("1000")).unwrap(), 1_000);
        for bad in ["0", "1001", "-1", "x"] {
            assert!(limit(Some(bad)).is_err(), "{bad}");
        }
    }
}
