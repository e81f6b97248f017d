//! How the message broker is reached.

use anyhow::{Context, bail};
use rumqttc::tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use rumqttc::{MqttOptions, Transport};

use crate::config::RpcUrl;
use crate::limits::PUBLISH_ACK_TIMEOUT;

/// Options of one client, with a name that no other client has.
pub(crate) fn options(broker: &RpcUrl) -> anyhow::Result<MqttOptions> {
    let url = broker.expose();
    let host = url.host_str().context("read the broker's host")?;
    let (transport, default_port) = match url.scheme() {
        "mqtt" => (Transport::tcp(), 1883),
        "mqtts" => {
            choose_cryptography();
            (Transport::tls_with_default_config(), 8883)
        }
        other => bail!("broker {broker}: scheme `{other}` is neither mqtt nor mqtts"),
    };
    let id = format!("auspex-indexer-{:016x}", rand::random::<u64>());
    let mut options = MqttOptions::new(id, host, url.port().unwrap_or(default_port));
    options.set_transport(transport);
    options.set_clean_session(true);
    options.set_keep_alive(PUBLISH_ACK_TIMEOUT / 2);
    if !url.username().is_empty() {
        options.set_credentials(url.username(), url.password().unwrap_or_default());
    }
    Ok(options)
}

/// Our dependencies build rustls with two cryptographic libraries. It refuses to choose between them, and rumqttc panics
/// over that, so one of them is made the process's own unless somebody has done it before.
fn choose_cryptography() {
    if CryptoProvider::get_default().is_none() {
        // An error means that another thread was faster, with the same choice.
        let _ = aws_lc_rs::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_named_by_its_scheme_and_reached_in_the_clear_or_encrypted() {
        let reached = |url: &str| options(&url.parse().expect("URL"));
        let plain = reached("mqtt://user:word@broker.example").expect("mqtt");
        assert_eq!(plain.broker_address(), ("broker.example".to_owned(), 1883));
        assert!(matches!(plain.transport(), Transport::Tcp));
        let encrypted = reached("mqtts://broker.example:9883").expect("mqtts");
        assert_eq!(encrypted.broker_address(), ("broker.example".to_owned(), 9883));
        assert!(matches!(encrypted.transport(), Transport::Tls(_)));
        let error = reached("http://broker.example").expect_err("no broker").to_string();
        assert!(error.contains("scheme `http`"), "{error}");
    }
}
