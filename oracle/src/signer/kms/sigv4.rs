//! AWS Signature Version 4 for requests to the root of a service, without a query: all that KMS needs. Pure.
//!
//! Written here because the crate that AWS publishes for it brings AWS's own HTTP stack along.
//!
//! Source: AWS, "Signature Version 4 signing process"; the test vectors are from AWS's signing test suite.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::credentials::Credentials;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Where and when a signature counts.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    pub region: &'a str,
    pub service: &'a str,
    pub at: DateTime<Utc>,
}

/// Adds the date, the session's token and the signature to a request's headers, all of which are signed. Names are in
/// lower case, and `host` is among them.
pub fn authorize(
    credentials: &Credentials,
    scope: &Scope<'_>,
    method: &str,
    headers: &mut BTreeMap<&'static str, String>,
    body: &[u8],
) {
    let moment = scope.at.format("%Y%m%dT%H%M%SZ").to_string();
    headers.insert("x-amz-date", moment.clone());
    if let Some(token) = &credentials.session_token {
        headers.insert("x-amz-security-token", token.expose_secret().to_owned());
    }
    let names: Vec<&str> = headers.keys().copied().collect();
    let names = names.join(";");
    let lines: String =
        headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let request = format!("{method}\n/\n\n{lines}\n{names}\n{}", hex::encode(Sha256::digest(body)));
    let day = scope.at.format("%Y%m%d").to_string();
    let place = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let hash = hex::encode(Sha256::digest(request.as_bytes()));
    let text = format!("{ALGORITHM}\n{moment}\n{place}\n{hash}");
    let secret = Zeroizing::new(format!("AWS4{}", credentials.secret_access_key.expose_secret()));
    let mut key = Zeroizing::new(keyed_hash(secret.as_bytes(), day.as_bytes()));
    for part in [scope.region, scope.service, "aws4_request"] {
        key = Zeroizing::new(keyed_hash(&*key, part.as_bytes()));
    }
    let signature = hex::encode(keyed_hash(&*key, text.as_bytes()));
    let id = &credentials.access_key_id;
    headers.insert(
        "authorization",
        format!(
            "{ALGORITHM} Credential={id}/{place}, SignedHeaders={names}, Signature={signature}"
        ),
    );
}

fn keyed_hash(key: &[u8], text: &[u8]) -> [u8; 32] {
    // HMAC takes a key of any length.
    let Ok(mut hash) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    hash.update(text);
    hash.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    const TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

    fn signature(
        method: &str,
        more: &[(&'static str, &str)],
        body: &str,
        token: Option<&str>,
    ) -> String {
        let credentials = Credentials {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: token.map(SecretString::from),
        };
        assert!(!format!("{credentials:?}").contains("wJalr"));
        let at = "2015-08-30T12:36:00Z".parse().unwrap();
        let scope = Scope { region: "us-east-1", service: "service", at };
        let mut headers = BTreeMap::from([("host", "example.amazonaws.com".to_owned())]);
        headers.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        authorize(&credentials, &scope, method, &mut headers, body.as_bytes());
        let line = &headers["authorization"];
        let place =
            "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=";
        assert!(line.starts_with(&format!("AWS4-HMAC-SHA256 {place}")), "{line}");
        line.rsplit('=').next().unwrap().to_owned()
    }

    #[test]
    fn signatures_are_those_of_the_published_test_suite() {
        let cases = [
            // get-vanilla
            (
                signature("GET", &[], "", None),
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            // post-vanilla
            (
                signature("POST", &[], "", None),
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            // post-header-value-case
            (
                signature("POST", &[("my-header1", "VALUE1")], "", None),
                "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
            ),
            // post-sts-header-before
            (
                signature("POST", &[], "", Some(TOKEN)),
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
            // post-x-www-form-urlencoded
            (
                signature(
                    "POST",
                    &[
                        ("content-type", "application/x-www-form-urlencoded"),
                        ("content-length", "13"),
                        (
                            "x-amz-content-sha256",
                            "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
                        ),
                    ],
                    "Param1=value1",
                    None,
                ),
                "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
            ),
        ];
        for (made, published) in cases {
            assert_eq!(made, published);
        }
    }
}
