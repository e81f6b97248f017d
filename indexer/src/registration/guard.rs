//! Which addresses a stranger's URI may make us connect to. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::FilePolicy;

/// Fails with the reason when the URL itself is refused, before any name is resolved.
pub fn check_url(url: &Url, policy: &FilePolicy) -> Result<(), String> {
    match url.scheme() {
        "https" => {}
        "http" if policy.allow_private => {}
        other => return Err(format!("scheme `{other}` is not fetched")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL with a user name is not fetched".into());
    }
    if policy.allow_private {
        return Ok(());
    }
    if url.port().is_some_and(|port| port != 443) {
        return Err("only port 443 is fetched from".into());
    }
    match url.host() {
        Some(Host::Domain(_)) => Ok(()),
        Some(Host::Ipv4(address)) => check_address(address.into()),
        Some(Host::Ipv6(address)) => check_address(address.into()),
        None => Err("a URL without a host is not fetched".into()),
    }
}

/// Fails when an address is not one of the public internet.
pub fn check_address(address: IpAddr) -> Result<(), String> {
    let public = match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    };
    if public { Ok(()) } else { Err(format!("address {address} is not public")) }
}

/// Source: IANA IPv4 Special-Purpose Address Registry.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || 240 <= a
        || (a == 100 && (b & 0xc0) == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b & 0xfe) == 18);
    !special
}

/// Only global unicast, and none of the forms that carry an IPv4 address. Source: IANA IPv6 Special-Purpose Address
/// Registry.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let global_unicast = (first & 0xe000) == 0x2000;
    let ietf_protocol = first == 0x2001 && second < 0x0200;
    let documentation =
        (first == 0x2001 && second == 0x0db8) || (first == 0x3fff && second < 0x1000);
    let six_to_four = first == 0x2002;
    global_unicast && !ietf_protocol && !documentation && !six_to_four
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However a URL writes its host, what is accepted names no address that is not public.
        #[test]
        fn no_url_leads_to_a_private_address(
            scheme in "https?|ftp|ws",
            host in "(0x)?[0-9a-f]{1,4}(\\.(0x)?[0-9]{1,3}){0,3}|\\[[0-9a-f:.]{2,16}\\]|[a-z0-9.@%-]{1,12}",
            rest in "(:[0-9]{1,5})?(/\\PC{0,8})?",
        ) {
            let policy = FilePolicy { gateways: Vec::new(), allow_private: false };
            if let Ok(url) = Url::parse(&format!("{scheme}://{host}{rest}"))
                && check_url(&url, &policy).is_ok()
            {
                prop_assert_eq!((url.scheme(), url.port_or_known_default()), ("https", Some(443)));
                match url.host() {
                    Some(Host::Ipv4(address)) => prop_assert!(check_address(address.into()).is_ok()),
                    Some(Host::Ipv6(address)) => prop_assert!(check_address(address.into()).is_ok()),
                    Some(Host::Domain(name)) => prop_assert!(name.parse::<IpAddr>().is_err()),
                    None => prop_assert!(false, "{}", url),
                }
            }
        }
    }

    #[test]
    fn addresses_that_are_not_public_are_refused() {
        let refused = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00::8",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for address in refused {
            assert!(check_address(address.parse().unwrap()).is_err(), "{address}");
        }
        for address in
            ["1.1.1.1", "8.8.8.8", "100.63.0.1", "100.128.0.1", "172.32.0.1", "2606:4700::1111"]
        {
            assert!(check_address(address.parse().unwrap()).is_ok(), "{address}");
        }
    }

    #[test]
    fn urls_that_hide_an_address_are_refused() {
        let policy = FilePolicy { gateways: Vec::new(), allow_private: false };
        let refused = [
            "http://example.com/a.json",
            "ftp://example.com/a.json",
            "file:///etc/passwd",
            "https://example.com:8443/a.json",
            "https://user@example.com/a.json",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://[::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://169.254.169.254/latest/meta-data",
        ];
        for url in refused {
            assert!(check_url(&url.parse().unwrap(), &policy).is_err(), "{url}");
        }
        assert!(check_url(&"https://example.com/a.json".parse().unwrap(), &policy).is_ok());
    }
}
