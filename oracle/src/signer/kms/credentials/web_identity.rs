//! Credentials for an identity token, such as the one that EKS puts into a pod: AWS STS exchanges it for those of a role.
//! The request needs no signature, because the token is the proof.
//!
//! Source: AWS STS API reference, "AssumeRoleWithWebIdentity".

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, redirect};
use secrecy::{ExposeSecret, SecretString};
use url::{Url, form_urlencoded};

use super::{Credentials, Fetched, document, guarded};

const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const ROLE: &str = "AWS_ROLE_ARN";

/// The name of our sessions in AWS's own log, unless the environment gives one.
const SESSION: &str = "auspex-signer";

/// Which role is taken on, and with which token.
pub(super) struct WebIdentity {
    client: Client,
    service: Url,
    role: String,
    session: String,
    /// Read each time, because the token in it is replaced before it ends.
    token_file: PathBuf,
}

impl WebIdentity {
    pub(super) fn find(
        region: &str,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Option<Self>> {
        const ENDPOINT: &str = "AWS_ENDPOINT_URL_STS";
        let Some(token_file) = variable(TOKEN_FILE) else { return Ok(None) };
        let role = variable(ROLE)
            .with_context(|| format!("{ROLE}: is not in the environment, but {TOKEN_FILE} is"))?;
        let session = variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| SESSION.to_owned());
        let china = if region.starts_with("cn-") { ".cn" } else { "" };
        let fixed = format!("https://sts.{region}.amazonaws.com{china}/");
        let given = variable(ENDPOINT);
        let service = guarded(ENDPOINT, given.as_deref().unwrap_or(&fixed), &[])?;
        let client = Client::builder()
            // A redirect would carry the token to a stranger.
            .redirect(redirect::Policy::none())
            .build()
            .context("the HTTP client does not start")?;
        let token_file = token_file.into();
        Ok(Some(Self { client, service, role, session, token_file }))
    }

    pub(super) async fn fetch(&self) -> anyhow::Result<Fetched> {
        let token = tokio::fs::read_to_string(&self.token_file).await;
        let token =
            token.with_context(|| format!("{TOKEN_FILE}: {}", self.token_file.display()))?;
        let token = SecretString::from(token.trim());
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", "AssumeRoleWithWebIdentity")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", &self.role)
            .append_pair("RoleSessionName", &self.session)
            .append_pair("WebIdentityToken", token.expose_secret())
            .finish();
        let request = self
            .client
            .post(self.service.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        let reply = document::ask("AWS STS", request, &[Some(token.expose_secret())]).await?;
        let Some(fetched) = std::str::from_utf8(&reply).ok().and_then(read) else {
            bail!("AWS STS: the reply has no credentials");
        };
        Ok(fetched)
    }
}

/// The credentials in STS's reply, which is XML. Their elements hold plain text and stand in it once.
fn read(reply: &str) -> Option<Fetched> {
    let credentials = element(reply, "Credentials")?;
    let ends: DateTime<Utc> = element(credentials, "Expiration")?.parse().ok()?;
    let credentials = Credentials {
        access_key_id: element(credentials, "AccessKeyId")?.to_owned(),
        secret_access_key: element(credentials, "SecretAccessKey")?.into(),
        session_token: Some(SecretString::from(element(credentials, "SessionToken")?)),
    };
    Some(Fetched { credentials, ends: Some(ends) })
}

fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once(&format!("</{name}>"))?;
    Some(content.trim())
}

impl fmt::Debug for WebIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WebIdentity")
            .field("role", &self.role)
            .field("token_file", &self.token_file)
            .finish_non_exhaustive()
    }
}
