//! What anybody may put on chain as an agent's URI, and behind it.

use futures::executor::block_on;
use url::{Host, Url};

use super::fetch::{at_gateway, content_path, fetch, read_data};
use super::guard::{check_address, check_url};
use super::{FilePolicy, parse};
use crate::limits::FILE_BYTES_MAX;

/// Whatever a file holds, it is refused or an object that PostgreSQL can hold.
pub(crate) fn file(bytes: &[u8]) -> bool {
    match parse(bytes) {
        Ok(value) => {
            assert!(value.is_object(), "{value}");
            assert!(!holds_nul(&value), "{value}");
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

fn holds_nul(value: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Bool, Null, Number, Object, String};
    match value {
        String(text) => text.contains('\0'),
        Array(items) => items.iter().any(holds_nul),
        Object(members) => {
            members.iter().any(|(key, value)| key.contains('\0') || holds_nul(value))
        }
        Null | Bool(_) | Number(_) => false,
    }
}

/// The first line is a URI, each further one a redirect's target. No line leads to an address that is not public, to another
/// scheme or port, or out of a gateway's folder.
pub(crate) fn uri(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut lines = text.split('\n');
    let Some(first) = lines.next() else { return false };
    if let Some(rest) = first.strip_prefix("data:") {
        let Ok(bytes) = read_data(rest) else { return false };
        assert!(bytes.len() <= FILE_BYTES_MAX);
        return true;
    }
    if let Some(rest) = first.strip_prefix("ipfs://") {
        return ipfs(first, rest);
    }
    let policy = FilePolicy { gateways: Vec::new(), allow_private: false };
    let Ok(mut url) = Url::parse(first) else { return false };
    if check_url(&url, &policy).is_err() {
        return false;
    }
    public(&url);
    for target in lines {
        let Ok(next) = url.join(target) else { break };
        url = next;
        if check_url(&url, &policy).is_err() {
            break;
        }
        public(&url);
    }
    true
}

fn public(url: &Url) {
    assert_eq!((url.scheme(), url.port_or_known_default()), ("https", Some(443)), "{url}");
    assert!(url.username().is_empty() && url.password().is_none(), "{url}");
    match url.host() {
        Some(Host::Ipv4(address)) => assert_eq!(check_address(address.into()), Ok(())),
        Some(Host::Ipv6(address)) => assert_eq!(check_address(address.into()), Ok(())),
        Some(Host::Domain(name)) => {
            assert!(name.parse::<std::net::IpAddr>().is_err(), "{url} hides an address");
        }
        None => panic!("{url} has no host"),
    }
}

fn ipfs(uri: &str, rest: &str) -> bool {
    let gateway: Url = "https://gateway.example/a/ipfs/".parse().expect("a URL");
    let path = content_path(rest);
    if let Ok(path) = &path {
        let url = at_gateway(&gateway, path).expect("a plain path");
        assert!(url.as_str().starts_with(gateway.as_str()), "{url} is outside of {gateway}");
        assert_eq!((url.query(), url.fragment()), (None, None), "{url}");
    }
    let nowhere = FilePolicy { gateways: Vec::new(), allow_private: false };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    assert!(block_on(fetch(uri, &nowhere)).is_err(), "there is no gateway");
    path.is_ok()
}
