//! What an endpoint's error means. Providers say the same things in many wordings; these are theirs.

use super::Fault;
use crate::limits::ERROR_TEXT_MAX;

/// JSON-RPC: the method does not exist.
const METHOD_NOT_FOUND: i64 = -32_601;

/// The wordings of "too much at once", in lower case.
const TOO_LARGE: &[&str] = &[
    "query returned more than",
    "log response size exceeded",
    "response size exceeded",
    "response size should not",
    "response too large",
    "response is too big",
    "limited to a",
    "limited to 0",
    "block range",
    "blocks range",
    "range is too",
    "range too",
    "range limit",
    "ranges over",
    "range allowed",
    "max range",
    "maximum range",
    "too many blocks",
    "too many logs",
    "too many results",
    "please limit the query",
    "exceeds limit of",
    "exceeds the limit",
    "exceeds defined limit",
    "number of requested blocks",
    "query timeout exceeded",
    "query timed out",
    "batch",
    "narrow your filter",
    "consider reducing",
    "returned more than",
    "exceeds max results",
];

/// Those that could be taken for "too often", in lower case.
const BATCH_TOO_LARGE: &[&str] = &["requests in batch", "requests in a batch", "batch size"];

/// The wordings of "too often", in lower case.
const RATE_LIMITED: &[&str] = &[
    "rate limit",
    "too many requests",
    "request limit",
    "requests per second",
    "compute units",
    "capacity exceeded",
    "daily request count",
    "throttl",
    "quota",
    "exceeded the rps",
    "slow down",
];

/// The wordings of "no such block here", in lower case.
const ABSENT: &[&str] = &[
    "unknown block",
    "block not found",
    "header not found",
    "could not find block",
    "block does not exist",
    "blockoutofrange",
    "beyond current head",
    "block number out of range",
    "after last accepted block",
    "hash is not currently canonical",
    "resource not found",
    // A node that has pruned it.
    "state is not available",
    "state not available",
    "state unavailable",
    "missing trie node",
    "pruned",
];

/// The wordings of "no such method here", in lower case.
const UNSUPPORTED: &[&str] = &[
    "method not found",
    "method is not available",
    "does not exist/is not available",
    "not supported",
    "unsupported method",
    "method not allowed",
];

/// Reads a JSON-RPC error.
pub fn classify(code: i64, message: &str) -> Fault {
    let text: String = message.chars().take(ERROR_TEXT_MAX).collect();
    let lower = text.to_lowercase();
    let says = |wordings: &[&str]| wordings.iter().any(|wording| lower.contains(wording));
    if code != 429 && says(BATCH_TOO_LARGE) {
        return Fault::TooLarge(text);
    }
    // "Rate limit" first: some providers name the range that a paid plan would allow in the same text.
    if code == 429 || says(RATE_LIMITED) {
        return Fault::RateLimited(text);
    }
    if says(ABSENT) {
        return Fault::Absent(text);
    }
    if says(TOO_LARGE) {
        return Fault::TooLarge(text);
    }
    if code == METHOD_NOT_FOUND || says(UNSUPPORTED) {
        return Fault::Unsupported(text);
    }
    if code == -32_005 {
        // "Limit exceeded" without a word on which limit: asking for less helps against either.
        return Fault::TooLarge(text);
    }
    Fault::Unavailable(format!("error {code}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_providers_wording_is_understood() {
        let cases: &[(i64, &str, &str)] = &[
            (
                -32005,
                "query returned more than 10000 results. Try with this block range [0x1, 0x2].",
                "too_large",
            ),
            (
                -32602,
                "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit on the response size, or you can request any block range with a cap of 10K logs in the response.",
                "too_large",
            ),
            (-32614, "eth_getLogs is limited to a 10,000 range", "too_large"),
            (
                -32602,
                "eth_getLogs and eth_newFilter are limited to a 10,000 blocks range",
                "too_large",
            ),
            (-32600, "exceed maximum block range: 5000", "too_large"),
            (-32000, "block range is too wide", "too_large"),
            (
                -32012,
                "requested too many blocks from 1 to 100000, maximum is set to 2048",
                "too_large",
            ),
            (-32000, "query timeout exceeded", "too_large"),
            (-32000, "logs matched by query exceeds limit of 10000", "too_large"),
            (-32000, "eth_getLogs is limited to 0 - 50 blocks range", "too_large"),
            (-32600, "exceeds the range allowed for your plan (5000 > 3000)", "too_large"),
            (-32600, "Request exceeds defined limit.", "too_large"),
            (-32600, "Maximum allowed number of requested blocks is 1000", "too_large"),
            (-32000, "log query timed out", "too_large"),
            (35, "ranges over 10000 blocks are not supported on free plan", "too_large"),
            (-32600, "Too many requests in batch: 100, maximum is 20", "too_large"),
            (31, "Batch of more than 3 requests are not allowed on free tier", "too_large"),
            (-32000, "batch requests are not supported", "too_large"),
            (-32005, "limit exceeded", "too_large"),
            (-32008, "backend response too large", "too_large"),
            (-32003, "query exceeds max results 20000, retry with the range 100-200", "too_large"),
            (429, "Your app has exceeded its compute units per second capacity.", "rate_limited"),
            (-32005, "daily request count exceeded, request rate limited", "rate_limited"),
            (-32007, "15/second request limit reached - reduce calls per second", "rate_limited"),
            (-32016, "over rate limit", "rate_limited"),
            (-32000, "unknown block", "absent"),
            (-32000, "header not found", "absent"),
            (-32001, "resource not found", "absent"),
            (-32000, "historical state is not available", "absent"),
            (-32000, "missing trie node 0xabc (path )", "absent"),
            (4444, "pruned history unavailable", "absent"),
            (-32602, "BlockOutOfRangeError: block height is 10 but requested was 12", "absent"),
            (
                -32601,
                "the method eth_getBlockReceipts does not exist/is not available",
                "unsupported",
            ),
            (-32601, "eth_getBlockReceipts is not available", "unsupported"),
            (-32000, "the archive is not available", "unavailable"),
            (-32000, "internal error", "unavailable"),
        ];
        for (code, message, expected) in cases {
            assert_eq!(classify(*code, message).name(), *expected, "{message}");
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let Fault::Unavailable(text) = classify(1, &"x".repeat(10_000)) else {
            panic!("unavailable")
        };
        assert!(text.len() < ERROR_TEXT_MAX + 50);
    }
}
