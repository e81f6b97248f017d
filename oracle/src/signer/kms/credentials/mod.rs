//! Who asks AWS, and where that is found: in the environment, behind an identity token, with the container or with the
//! instance, in the order of AWS's own tools. Credentials that end are fetched again before they do.
//!
//! Written here because the crate that AWS publishes for it brings AWS's own HTTP stack along.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Standardized credential providers".

mod container;
mod document;
mod instance;
mod web_identity;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use reqwest::{Client, redirect};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use url::{Host, Url};

use self::container::Container;
use self::instance::Instance;
use self::web_identity::WebIdentity;
use crate::limits::{CREDENTIALS_MARGIN, CREDENTIALS_PAUSE, CREDENTIALS_TIMEOUT};

/// Who asks. Only the access key's id shows in `Debug`; AWS treats it as a name.
#[derive(Clone)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    /// With credentials that end.
    pub session_token: Option<SecretString>,
}

/// Why there are no credentials. The text names the source, and those that were not configured, and nothing secret.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no AWS credentials from {origin}: {reason}{others}")]
pub struct CredentialsError {
    origin: &'static str,
    reason: String,
    others: String,
}

/// Credentials that are there when they are needed.
#[derive(Clone)]
pub struct Wallet {
    source: Arc<Source>,
    held: Arc<Mutex<Option<Held>>>,
    /// Why the sources before this one were passed over.
    passed_over: Vec<&'static str>,
    /// Least time between two fetches; tests shorten it.
    pub pause: Duration,
}

/// Where credentials come from. One is chosen, by what the environment names; the instance is asked when it names none.
#[derive(Debug)]
enum Source {
    Environment(Credentials),
    WebIdentity(WebIdentity),
    Container(Container),
    Instance(Instance),
    /// The environment names no source and forbids the last.
    Nothing,
}

/// Credentials and when they are to be fetched again.
struct Held {
    credentials: Credentials,
    ends: DateTime<Utc>,
    look_again: Instant,
}

/// What a source gives.
struct Fetched {
    credentials: Credentials,
    /// Never, when it is missing.
    ends: Option<DateTime<Utc>>,
}

impl Wallet {
    /// The credentials that the environment variables name, as AWS's own tools read them. `variable` reads one. Nothing is
    /// fetched yet. `region` is where an identity token is shown.
    pub fn find(region: &str, variable: &impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut passed_over = Vec::new();
        let source = 'found: {
            if let Some(credentials) = environment(&variable)? {
                break 'found Source::Environment(credentials);
            }
            passed_over.push("AWS_ACCESS_KEY_ID is not set");
            if let Some(identity) = WebIdentity::find(region, &variable)? {
                break 'found Source::WebIdentity(identity);
            }
            passed_over.push("AWS_WEB_IDENTITY_TOKEN_FILE is not set");
            if let Some(container) = Container::find(&variable)? {
                break 'found Source::Container(container);
            }
            passed_over.push("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI are not set");
            if let Some(instance) = Instance::find(&variable)? {
                break 'found Source::Instance(instance);
            }
            passed_over.push("AWS_EC2_METADATA_DISABLED is true");
            Source::Nothing
        };
        Ok(Self {
            source: Arc::new(source),
            held: Arc::default(),
            passed_over,
            pause: CREDENTIALS_PAUSE,
        })
    }

    /// Credentials that have not ended, as far as anybody knows. Those at hand are used on while new ones cannot be had.
    pub async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        if let Source::Environment(credentials) = &*self.source {
            return Ok(credentials.clone());
        }
        let mut held = self.held.lock().await;
        if let Some(held) = &*held
            && Instant::now() < held.look_again
        {
            return Ok(held.credentials.clone());
        }
        let reason = match timeout(CREDENTIALS_TIMEOUT, self.source.fetch()).await {
            Ok(Ok(fetched)) => {
                let ends = fetched.ends.unwrap_or(DateTime::<Utc>::MAX_UTC);
                let left = (ends - Utc::now()).to_std().unwrap_or_default();
                let wait = left.saturating_sub(CREDENTIALS_MARGIN).max(self.pause);
                // A clock may not reach as far as a calendar.
                let look_again = Instant::now() + wait.min(YEAR);
                let credentials = fetched.credentials;
                *held = Some(Held { credentials: credentials.clone(), ends, look_again });
                return Ok(credentials);
            }
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!(
                "no answer within {} s{}",
                CREDENTIALS_TIMEOUT.as_secs(),
                self.source.hint()
            ),
        };
        let error = self.error(reason);
        match &mut *held {
            Some(held) if Utc::now() < held.ends => {
                tracing::warn!(%error, ends = %held.ends, "AWS credentials are not renewed yet");
                held.look_again = Instant::now() + self.pause;
                Ok(held.credentials.clone())
            }
            _ => Err(error),
        }
    }

    /// Drops credentials that AWS does not know any more. True when others can be fetched.
    pub async fn forget(&self, refused: &Credentials) -> bool {
        if matches!(*self.source, Source::Environment(_) | Source::Nothing) {
            return false;
        }
        let mut held = self.held.lock().await;
        // Somebody else may have fetched new ones meanwhile.
        let ours = |held: &Held| held.credentials.access_key_id == refused.access_key_id;
        if held.as_ref().is_some_and(ours) {
            *held = None;
        }
        true
    }

    fn error(&self, reason: String) -> CredentialsError {
        let others = match self.passed_over.as_slice() {
            [] => String::new(),
            reasons => format!(" ({})", reasons.join(", ")),
        };
        CredentialsError { origin: self.source.name(), reason, others }
    }
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Source {
    fn name(&self) -> &'static str {
        match self {
            Self::Environment(_) => "the environment",
            Self::WebIdentity(_) => "the web identity",
            Self::Container(_) => "the container's role",
            Self::Instance(_) => "the instance's role",
            Self::Nothing => "anywhere",
        }
    }

    /// What a silence usually means.
    fn hint(&self) -> &'static str {
        match self {
            Self::Instance(_) => {
                "; outside EC2 name another source, and in a container raise the instance's metadata hop limit to 2"
            }
            Self::Environment(_) | Self::WebIdentity(_) | Self::Container(_) | Self::Nothing => "",
        }
    }

    async fn fetch(&self) -> anyhow::Result<Fetched> {
        match self {
            Self::Environment(credentials) => {
                Ok(Fetched { credentials: credentials.clone(), ends: None })
            }
            Self::WebIdentity(identity) => identity.fetch().await,
            Self::Container(container) => container.fetch().await,
            Self::Instance(instance) => instance.fetch().await,
            Self::Nothing => bail!("no source is named"),
        }
    }
}

fn environment(variable: &impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Credentials>> {
    let (id, secret) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"));
    let half = |there: &str, missing: &str| {
        format!("{missing}: is not in the environment, but {there} is; a key in AWS KMS needs both")
    };
    match (id, secret) {
        (None, None) => Ok(None),
        (None, Some(_)) => bail!(half("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID")),
        (Some(_), None) => bail!(half("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
        (Some(access_key_id), Some(secret)) => Ok(Some(Credentials {
            access_key_id,
            secret_access_key: secret.into(),
            session_token: variable("AWS_SESSION_TOKEN").map(SecretString::from),
        })),
    }
}

/// A URL from an environment variable to which something secret is sent, or from which it comes. It is refused when
/// somebody on the way could read that, which means that it is neither encrypted nor on this machine nor one of `near`.
fn guarded(name: &'static str, text: &str, near: &[IpAddr]) -> anyhow::Result<Url> {
    // Neither error repeats the text: a secret may stand in the wrong variable.
    let url = Url::parse(text).ok().filter(Url::has_host);
    let url = url.with_context(|| format!("{name}: is not a URL with a host"))?;
    let is_near = |ip: IpAddr| ip.is_loopback() || near.contains(&ip);
    let is_safe = match (url.scheme(), url.host()) {
        ("https", _) => true,
        ("http", Some(Host::Ipv4(ip))) => is_near(ip.into()),
        ("http", Some(Host::Ipv6(ip))) => is_near(ip.into()),
        ("http", Some(Host::Domain(host))) => host == "localhost",
        _ => false,
    };
    if !is_safe {
        bail!(
            "{name}: has to be an https URL, or http on this machine or at AWS's own fixed address"
        );
    }
    Ok(url)
}

/// A client for what is on this machine or next to it: no proxy could reach that, and a proxy would be shown secrets.
fn near_client() -> anyhow::Result<Client> {
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .build()
        .context("the HTTP client does not start")
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Wallet")
            .field("source", &self.source.name())
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// A text of somebody else's without what is secret in these.
    pub fn redact(&self, text: &str) -> String {
        let secrets = [Some(&self.secret_access_key), self.session_token.as_ref()];
        secrets.into_iter().flatten().fold(text.to_owned(), |text, secret| redact(&text, secret))
    }
}

fn redact(text: &str, secret: &SecretString) -> String {
    match secret.expose_secret() {
        "" => text.to_owned(),
        secret => text.replace(secret, "***"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wallet(set: &[(&str, &str)]) -> anyhow::Result<Wallet> {
        let set: Vec<(String, String)> =
            set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Wallet::find("eu-central-1", &move |name| {
            set.iter().find(|(set, _)| set == name).map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn the_source_is_the_first_that_the_environment_names() {
        let keys = [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "CANARY")];
        let identity =
            [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x")];
        let container = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/CANARY")];
        let off = [("AWS_EC2_METADATA_DISABLED", "TRUE")];
        let name = |set: &[&[(&str, &str)]]| wallet(&set.concat()).unwrap().source.name();
        assert_eq!(name(&[&off, &container, &identity, &keys]), "the environment");
        assert_eq!(name(&[&off, &container, &identity]), "the web identity");
        assert_eq!(name(&[&off, &container]), "the container's role");
        assert_eq!(name(&[]), "the instance's role");
        assert_eq!(name(&[&off]), "anywhere");
        for set in [&keys[..], &identity, &container, &off] {
            let shown = format!("{:?}", wallet(set).unwrap());
            assert!(!shown.contains("CANARY"), "{shown}");
        }
    }

    #[test]
    fn half_of_a_source_is_told_and_not_passed_over() {
        for (there, missing) in [
            ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
            ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
        ] {
            let error = wallet(&[(there, "CANARY")]).unwrap_err().to_string();
            assert!(error.contains(missing) && !error.contains("CANARY"), "{error}");
        }
    }

    #[test]
    fn nothing_secret_travels_unencrypted_beyond_this_machine() {
        for good in [
            "https://example.com/x",
            "http://127.0.0.1:80/x",
            "http://127.9.9.9/",
            "http://[::1]/",
            "http://localhost:4321/",
            "http://169.254.170.2/v2",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
        ] {
            assert!(guarded("X", good, &container::AGENTS).is_ok(), "{good}");
        }
        for bad in [
            "http://example.com/",
            "http://localhost.example.com/",
            "http://169.254.170.3/",
            "http://169.254.169.254/",
            "http://0.0.0.0/",
            "http://192.168.1.1/",
            "http://[fd00:ec2::24]/",
            "http://[::ffff:10.0.0.1]/",
            "http://127.0.0.1@example.com/",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            "/v2/credentials/CANARY",
            "CANARY",
        ] {
            let error = guarded("X", bad, &container::AGENTS).unwrap_err().to_string();
            assert!(error.starts_with("X: ") && !error.contains("CANARY"), "{bad}: {error}");
        }
    }
}
