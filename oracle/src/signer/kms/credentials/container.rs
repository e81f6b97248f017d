//! Credentials of a container's role: ECS's tasks and EKS's pod identities are told in the environment where to ask.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::{Context, bail};
use reqwest::Client;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{Fetched, document, guarded, near_client};

/// What ECS's relative URIs are relative to.
const AGENT: &str = "http://169.254.170.2";

/// Where ECS's and EKS's agents are, which speak without encryption on the machine's own link.
pub(super) const AGENTS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// Where the role's credentials are. The path is a secret of its own with ECS.
pub(super) struct Container {
    client: Client,
    url: Url,
    token: Token,
}

/// What proves that it is us.
enum Token {
    None,
    Value(SecretString),
    /// Read each time, because it is replaced from time to time.
    File(PathBuf),
}

impl Container {
    pub(super) fn find(variable: &impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Self>> {
        let url = match (variable(RELATIVE), variable(FULL)) {
            (Some(path), _) if path.starts_with('/') => {
                guarded(RELATIVE, &format!("{AGENT}{path}"), &AGENTS)?
            }
            (Some(_), _) => bail!("{RELATIVE}: does not begin with /"),
            (None, Some(url)) => guarded(FULL, &url, &AGENTS)?,
            (None, None) => return Ok(None),
        };
        let token = match (variable(TOKEN_FILE), variable(TOKEN)) {
            (Some(path), _) => Token::File(path.into()),
            (None, Some(token)) => Token::Value(token.into()),
            (None, None) => Token::None,
        };
        Ok(Some(Self { client: near_client()?, url, token }))
    }

    pub(super) async fn fetch(&self) -> anyhow::Result<Fetched> {
        let token = match &self.token {
            Token::None => None,
            Token::Value(token) => Some(token.clone()),
            Token::File(path) => {
                let token = tokio::fs::read_to_string(path).await;
                let token = token.with_context(|| format!("{TOKEN_FILE}: {}", path.display()))?;
                Some(SecretString::from(token.trim_end()))
            }
        };
        let mut request = self.client.get(self.url.clone());
        if let Some(token) = &token {
            let value = HeaderValue::from_str(token.expose_secret());
            let mut value =
                value.ok().context("the authorization token has characters that no header has")?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let token = token.as_ref().map(ExposeSecret::expose_secret);
        let secrets = [token, Some(self.url.path()), self.url.query()];
        document::read(&document::ask(&self.place(), request, &secrets).await?)
    }

    /// The host, which is all that is not secret.
    fn place(&self) -> String {
        self.url.host_str().unwrap_or_default().to_owned()
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Container").field("host", &self.place()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(set: &[(&str, &str)]) -> anyhow::Result<Option<Container>> {
        let read = |name: &str| {
            set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
        };
        Container::find(&read)
    }

    #[test]
    fn a_relative_uri_is_one_of_ecs_and_comes_first() {
        let found = find(&[(RELATIVE, "/v2/x?id=1"), (FULL, "https://example.com/")]).unwrap();
        assert_eq!(found.unwrap().url.as_str(), "http://169.254.170.2/v2/x?id=1");
        assert!(find(&[]).unwrap().is_none());
        for other in ["example.com/", "@example.com/", ".example.com/", ":80/"] {
            assert!(find(&[(RELATIVE, other)]).is_err(), "{other}");
        }
    }
}
