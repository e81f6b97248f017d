//! How to reach the broker: address, credentials, TLS.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use auspex_protocol::limits::MESSAGE_BYTES_MAX;
use rumqttc::tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use rumqttc::{LastWill, MqttOptions, QoS, TlsConfiguration, Transport};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::config::{Config, SecretUrl};
use crate::keys::file::read_secret;
use crate::keys::password;
use crate::limits::BUS_IN_FLIGHT_MAX;

/// The broker and what it wants to see.
#[derive(Debug, Clone)]
pub struct BusOptions {
    url: SecretUrl,
    password: Option<SecretString>,
    tls: Option<Tls>,
    /// Several processes of one operator divide the messages among them.
    share: bool,
}

#[derive(Clone)]
struct Tls {
    /// PEM of the broker's authority; the system's without it.
    authority: Option<Vec<u8>>,
    /// Our certificate and its key, both PEM.
    client: Option<(Vec<u8>, SecretString)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tls")
            .field("authority", &self.authority.is_some())
            .field("client", &self.client.is_some())
            .finish()
    }
}

impl BusOptions {
    /// Reads the files that the configuration names; `None` without a broker.
    pub fn read(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(url) = config.broker_url.clone() else { return Ok(None) };
        let password = match &config.broker_password_file {
            Some(path) => Some(password::from_file(path)?),
            None => url.reveal().password().map(SecretString::from),
        };
        let tls = match url.reveal().scheme() {
            "mqtt" | "tcp" => None,
            "mqtts" | "ssl" => {
                choose_cryptography();
                Some(Tls::read(config)?)
            }
            other => bail!("--broker-url: the scheme is {other:?}, but mqtt and mqtts are known"),
        };
        Ok(Some(Self { url, password, tls, share: config.broker_share }))
    }

    /// A broker without credentials or encryption.
    pub fn plain(url: SecretUrl) -> Self {
        Self { url, password: None, tls: None, share: false }
    }

    /// The same broker, whose messages the processes of one operator divide among them.
    pub fn shared(self) -> Self {
        Self { share: true, ..self }
    }

    /// Whether the processes of one operator divide the messages among them.
    pub(super) fn is_shared(&self) -> bool {
        self.share
    }

    /// Options of one client. The name is new each time, so that a session of a client that was given up cannot be
    /// mistaken for ours.
    pub fn client(&self, will_topic: &str, keep_alive: Duration) -> MqttOptions {
        let url = self.url.reveal();
        let default_port = if self.tls.is_some() { 8883 } else { 1883 };
        let name = format!("auspex-{}", Uuid::new_v4().simple());
        let host = url.host_str().unwrap_or("localhost");
        let mut options = MqttOptions::new(name, host, url.port().unwrap_or(default_port));
        options.set_keep_alive(keep_alive);
        options.set_clean_session(true);
        options.set_inflight(BUS_IN_FLIGHT_MAX);
        // Nobody else has a message that came to us out of a shared subscription: the broker keeps it until it is applied.
        options.set_manual_acks(self.share);
        options.set_max_packet_size(2 * MESSAGE_BYTES_MAX, 2 * MESSAGE_BYTES_MAX);
        // An empty retained message takes the heartbeat off the broker when we are gone.
        options.set_last_will(LastWill::new(will_topic, Vec::new(), QoS::AtLeastOnce, true));
        if !url.username().is_empty() {
            let password = self.password.as_ref().map_or("", |secret| secret.expose_secret());
            options.set_credentials(url.username(), password);
        }
        if let Some(tls) = &self.tls {
            options.set_transport(tls.transport());
        }
        options
    }

    /// The words of a connection error without anything secret.
    pub fn redact(&self, text: &str) -> String {
        let text = self.url.redact(text);
        match &self.password {
            Some(password) => text.replace(password.expose_secret(), "***"),
            None => text,
        }
    }
}

impl Tls {
    fn read(config: &Config) -> anyhow::Result<Self> {
        let authority = config.broker_ca_file.as_ref().map(read_public).transpose()?;
        let client = match (&config.broker_certificate_file, &config.broker_key_file) {
            (Some(certificate), Some(key)) => {
                let key = String::from_utf8(read_secret(key)?.to_vec())
                    .context("--broker-key-file: is not PEM")?;
                Some((read_public(certificate)?, SecretString::from(key)))
            }
            _ => None,
        };
        Ok(Self { authority, client })
    }

    fn transport(&self) -> Transport {
        let Some(authority) = &self.authority else {
            return Transport::tls_with_default_config();
        };
        let client_auth = self.client.as_ref().map(|(certificate, key)| {
            (certificate.clone(), key.expose_secret().as_bytes().to_vec())
        });
        Transport::tls_with_config(TlsConfiguration::Simple {
            ca: authority.clone(),
            alpn: None,
            client_auth,
        })
    }
}

/// Our dependencies build rustls with two cryptographic libraries. It refuses to choose between them, and rumqttc panics
/// over that, so one of them is made the process's own unless somebody has done it before.
fn choose_cryptography() {
    if CryptoProvider::get_default().is_none() {
        // An error means that another thread was faster, with the same choice.
        let _ = aws_lc_rs::default_provider().install_default();
    }
}

fn read_public(path: &PathBuf) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read {}", path.display()))
}
