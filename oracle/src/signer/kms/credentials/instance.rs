//! Credentials of an EC2 instance's role, from its metadata service in version 2, which wants a token first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, bail};
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{Fetched, document, guarded, near_client};

const SERVICE: &str = "http://169.254.169.254/";
const SERVICE_V6: &str = "http://[fd00:ec2::254]/";

const ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Seconds that a token counts. It is used for one fetch.
const TOKEN_SECONDS: &str = "60";

/// The metadata service.
#[derive(Debug)]
pub(super) struct Instance {
    client: Client,
    service: Url,
}

impl Instance {
    pub(super) fn find(variable: &impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Self>> {
        const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
        let is = |name: &str, value: &str| {
            variable(name).is_some_and(|given| given.eq_ignore_ascii_case(value))
        };
        if is("AWS_EC2_METADATA_DISABLED", "true") {
            return Ok(None);
        }
        let fixed = match is("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ipv6") {
            true => SERVICE_V6,
            false => SERVICE,
        };
        let given = variable(ENDPOINT);
        let service = guarded(ENDPOINT, given.as_deref().unwrap_or(fixed), &ADDRESSES)?;
        Ok(Some(Self { client: near_client()?, service }))
    }

    pub(super) async fn fetch(&self) -> anyhow::Result<Fetched> {
        let request = self
            .client
            .put(self.path(&["latest", "api", "token"])?)
            .header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
        let token = document::ask("the metadata service's token", request, &[]).await?;
        let token = String::from_utf8(token).ok().context("the metadata token is not text")?;
        let token = SecretString::from(token.trim());
        let roles = ["latest", "meta-data", "iam", "security-credentials", ""];
        let (status, reply) = document::exchange(self.get(&roles, &token)?).await?;
        if status == StatusCode::NOT_FOUND {
            bail!("the instance has no role; attach an instance profile");
        }
        if !status.is_success() {
            bail!("the metadata service's list of roles: HTTP {}", status.as_u16());
        }
        let reply = String::from_utf8(reply).ok().context("the role's name is not text")?;
        let role = reply.lines().next().map(str::trim).filter(|role| !role.is_empty());
        let role = role.context("the instance has no role; attach an instance profile")?;
        let path = ["latest", "meta-data", "iam", "security-credentials", role];
        let what = "the metadata service's credentials";
        let secrets = [Some(token.expose_secret())];
        document::read(&document::ask(what, self.get(&path, &token)?, &secrets).await?)
    }

    fn get(&self, path: &[&str], token: &SecretString) -> anyhow::Result<reqwest::RequestBuilder> {
        let request = self.client.get(self.path(path)?);
        Ok(request.header("x-aws-ec2-metadata-token", token.expose_secret()))
    }

    fn path(&self, parts: &[&str]) -> anyhow::Result<Url> {
        let mut url = self.service.clone();
        let Ok(mut path) = url.path_segments_mut() else {
            bail!("the metadata service's URL has no path");
        };
        path.clear().extend(parts);
        drop(path);
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(set: &[(&str, &str)]) -> Option<String> {
        let read = |name: &str| {
            set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
        };
        Instance::find(&read).unwrap().map(|instance| instance.service.to_string())
    }

    #[test]
    fn the_service_is_at_its_fixed_address_unless_the_environment_says_otherwise() {
        let mode = ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6");
        let endpoint = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1338");
        assert_eq!(service(&[]).unwrap(), SERVICE);
        assert_eq!(service(&[mode]).unwrap(), SERVICE_V6);
        assert_eq!(service(&[mode, endpoint]).unwrap(), "http://127.0.0.1:1338/");
        assert_eq!(service(&[("AWS_EC2_METADATA_DISABLED", "true")]), None);
    }
}
