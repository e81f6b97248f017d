//! Fetching one registration file within limits.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use tokio::time::timeout;
use url::Url;

use super::FilePolicy;
use super::guard::{check_address, check_url};
use crate::limits::{
    FILE_BYTES_MAX, FILE_GATEWAY_TIME_MIN, FILE_GATEWAYS_TIME_MAX, FILE_REDIRECTS_MAX,
    FILE_TIMEOUT, FILE_URI_BYTES_MAX,
};

/// Why there is no file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The URI or what it leads to is not accepted; only another URI changes that.
    #[error("refused: {0}")]
    Refused(String),
    /// It could not be had now.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

impl FetchError {
    /// The outcome's name in metrics and in `agent_files.status`.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "failed",
        }
    }
}

/// The bytes behind a `https:`, `ipfs:` or `data:` URI, at most [`FILE_BYTES_MAX`] of them.
pub async fn fetch(uri: &str, policy: &FilePolicy) -> Result<Vec<u8>, FetchError> {
    if FILE_URI_BYTES_MAX < uri.len() {
        return Err(FetchError::Refused(format!("a URI over {FILE_URI_BYTES_MAX} bytes")));
    }
    if let Some(rest) = uri.strip_prefix("data:") {
        return read_data(rest);
    }
    if let Some(path) = uri.strip_prefix("ipfs://") {
        return within(FILE_GATEWAYS_TIME_MAX, fetch_ipfs(path, policy)).await;
    }
    let url =
        Url::parse(uri).map_err(|error| FetchError::Refused(format!("not a URI: {error}")))?;
    within(FILE_TIMEOUT, fetch_url(url, policy, false)).await
}

async fn within(
    limit: Duration,
    fetched: impl Future<Output = Result<Vec<u8>, FetchError>>,
) -> Result<Vec<u8>, FetchError> {
    timeout(limit, fetched).await.unwrap_or_else(|_| {
        Err(FetchError::Unavailable(format!("no file within {} s", limit.as_secs_f32())))
    })
}

/// RFC 2397: `[mediatype][;base64],data`.
pub(super) fn read_data(rest: &str) -> Result<Vec<u8>, FetchError> {
    let refused = |why: &str| FetchError::Refused(format!("data URI: {why}"));
    let (head, body) = rest.split_once(',').ok_or_else(|| refused("no comma"))?;
    let bytes = match head.strip_suffix(";base64") {
        Some(_) => {
            let text = percent_decoded(body);
            let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(&text);
            let padless = STANDARD_NO_PAD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text));
            padless.map_err(|_| refused("not base64"))?
        }
        None => percent_decoded(body),
    };
    if FILE_BYTES_MAX < bytes.len() {
        return Err(refused(&format!("over the limit of {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        let escaped =
            text.get(index + 1..index + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, escaped) {
            (b'%', Some(value)) => {
                decoded.push(value);
                index += 3;
            }
            (byte, _) => {
                decoded.push(*byte);
                index += 1;
            }
        }
    }
    decoded
}

/// A content id is a name, not a place; a gateway is asked for it. The gateways are configured by the operator, and each of
/// them gets its share of the time.
async fn fetch_ipfs(path: &str, policy: &FilePolicy) -> Result<Vec<u8>, FetchError> {
    let path = content_path(path)?;
    let gateways = u32::try_from(policy.gateways.len()).unwrap_or(u32::MAX);
    let share = (FILE_TIMEOUT / gateways.max(1)).max(FILE_GATEWAY_TIME_MIN);
    let mut last = FetchError::Unavailable("no IPFS gateway is configured".into());
    for gateway in &policy.gateways {
        match within(share, fetch_url(at_gateway(gateway, path)?, policy, true)).await {
            Ok(bytes) => return Ok(bytes),
            // What one gateway refuses another may serve.
            Err(FetchError::Refused(why)) => last = FetchError::Unavailable(why),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What stands behind `ipfs://`, when it is a content id with a path that no gateway could read as anything else.
pub(super) fn content_path(path: &str) -> Result<&str, FetchError> {
    let path = path.strip_prefix("ipfs/").unwrap_or(path);
    let cid = path.split('/').next().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_cid =
        (46..=128).contains(&cid.len()) && cid.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_path = path.split('/').all(|part| part != ".." && part.bytes().all(plain));
    if !is_cid || !is_path {
        return Err(FetchError::Refused("ipfs URI: not a content id with a plain path".into()));
    }
    Ok(path)
}

/// Where `gateway` has the content of such a path.
pub(super) fn at_gateway(gateway: &Url, path: &str) -> Result<Url, FetchError> {
    let joined = format!("{}/{path}", gateway.as_str().trim_end_matches('/'));
    Url::parse(&joined).map_err(|error| FetchError::Refused(error.to_string()))
}

/// Follows redirects by hand: each target is checked like the first address. `trusted` is for a gateway's own address.
async fn fetch_url(
    mut url: Url,
    policy: &FilePolicy,
    trusted: bool,
) -> Result<Vec<u8>, FetchError> {
    let mut checked = !trusted;
    for _ in 0..=FILE_REDIRECTS_MAX {
        if checked {
            check_url(&url, policy).map_err(FetchError::Refused)?;
        }
        let addresses = resolve(&url, checked && !policy.allow_private).await?;
        match get(&url, &addresses).await? {
            Got::File(bytes) => return Ok(bytes),
            Got::Redirect(target) => {
                url = url
                    .join(&target)
                    .map_err(|error| FetchError::Refused(format!("redirect: {error}")))?;
                checked = true;
            }
        }
    }
    Err(FetchError::Refused(format!("more than {FILE_REDIRECTS_MAX} redirects")))
}

/// The host's addresses. One that is not public refuses the host, so that a second look-up cannot choose it.
async fn resolve(url: &Url, public_only: bool) -> Result<Vec<SocketAddr>, FetchError> {
    let addresses = match (url.host(), url.port_or_known_default()) {
        (Some(url::Host::Ipv4(address)), Some(port)) => vec![SocketAddr::new(address.into(), port)],
        (Some(url::Host::Ipv6(address)), Some(port)) => vec![SocketAddr::new(address.into(), port)],
        (Some(url::Host::Domain(name)), Some(port)) => tokio::net::lookup_host((name, port))
            .await
            .map_err(|error| FetchError::Unavailable(format!("resolve {name}: {error}")))?
            .collect(),
        (None, _) | (_, None) => Vec::new(),
    };
    if addresses.is_empty() {
        return Err(FetchError::Unavailable("the host has no address".into()));
    }
    if public_only {
        for address in &addresses {
            check_address(address.ip()).map_err(FetchError::Refused)?;
        }
    }
    Ok(addresses)
}

#[derive(Debug)]
enum Got {
    File(Vec<u8>),
    Redirect(String),
}

/// One request to addresses that were checked: the client is given them and resolves nothing itself.
async fn get(url: &Url, addresses: &[SocketAddr]) -> Result<Got, FetchError> {
    let unavailable =
        |error: reqwest::Error| FetchError::Unavailable(error.without_url().to_string());
    let host = url.host_str().unwrap_or_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(2))
        .timeout(FILE_TIMEOUT)
        .resolve_to_addrs(host, addresses)
        .build()
        .map_err(unavailable)?;
    let request = client.get(url.clone()).header("accept", "application/json");
    let mut response = request.send().await.map_err(unavailable)?;
    let status = response.status();
    if status.is_redirection() {
        let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        return target
            .map(|target| Got::Redirect(target.to_owned()))
            .ok_or_else(|| FetchError::Unavailable(format!("HTTP {status} without a location")));
    }
    if !status.is_success() {
        return Err(FetchError::Unavailable(format!("HTTP {status}")));
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if let Some(content_type) = content_type
        && !is_json_type(content_type)
    {
        return Err(FetchError::Refused(format!("content type {content_type:?} is not JSON")));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
        if FILE_BYTES_MAX < bytes.len() + chunk.len() {
            return Err(FetchError::Refused(format!(
                "a file over the limit of {FILE_BYTES_MAX} bytes"
            )));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Got::File(bytes))
}

/// JSON, or what plain file servers and gateways call it.
fn is_json_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json")
        || essence.ends_with("+json")
        || essence == "text/plain"
        || essence == "application/octet-stream"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_data_uri_holds_the_file_itself() {
        let cases = [
            ("application/json,{\"a\":1}", "{\"a\":1}"),
            ("application/json,%7B%22a%22%3A1%7D", "{\"a\":1}"),
            ("application/json;base64,eyJhIjoxfQ==", "{\"a\":1}"),
            (";base64,eyJhIjoxfQ", "{\"a\":1}"),
            ("application/json;charset=utf-8;base64,eyJhIjoxfQ%3D%3D", "{\"a\":1}"),
            (",100%", "100%"),
        ];
        for (uri, expected) in cases {
            assert_eq!(read_data(uri).unwrap(), expected.as_bytes(), "{uri}");
        }
        assert!(read_data("no comma").is_err());
        assert!(read_data(";base64,***").is_err());
        assert!(read_data(&format!(",{}", "x".repeat(FILE_BYTES_MAX + 1))).is_err());
    }

    #[tokio::test]
    async fn an_ipfs_path_cannot_leave_the_gateways_folder() {
        let policy = FilePolicy { gateways: Vec::new(), allow_private: false };
        let cid = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
        for bad in
            ["", "x", &format!("{cid}/../../admin"), &format!("{cid}/a?b"), &format!("{cid}@host")]
        {
            let result = fetch(&format!("ipfs://{bad}"), &policy).await;
            assert!(matches!(result, Err(FetchError::Refused(_))), "{bad}");
        }
        let result = fetch(&format!("ipfs://{cid}/agent.json"), &policy).await;
        assert!(matches!(result, Err(FetchError::Unavailable(_))));
    }

    #[tokio::test]
    async fn a_gateway_that_hangs_leaves_the_next_one_its_time() {
        // Connections are made, and nothing ever answers them.
        let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let serving = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = |listener: &TcpListener| {
            Url::parse(&format!("http://{}/ipfs/", listener.local_addr().unwrap())).unwrap()
        };
        let gateways = vec![url(&hanging), url(&serving)];
        let served = tokio::spawn(async move {
            let (mut socket, _) = serving.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(socket.read_u8().await.unwrap());
            }
            let answer =
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
            socket.write_all(answer).await.unwrap();
            request
        });
        let policy = FilePolicy { gateways, allow_private: false };
        let cid = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
        assert_eq!(fetch(&format!("ipfs://{cid}"), &policy).await, Ok(b"{}".to_vec()));
        assert!(served.await.unwrap().starts_with(format!("GET /ipfs/{cid} ").as_bytes()));
    }

    proptest! {
        #[test]
        fn no_data_uri_panics(text in "\\PC*") {
            let _ = read_data(&text);
        }
    }
}
