//! TLS in both directions and credentials, through a proxy that ends the encryption in front of a real broker.
//!
//! The certificates in `tls/` were made with `openssl`, are valid for a hundred years and are good for nothing else.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use auspex_oracle::config::Config;
use clap::Parser;
use rumqttc::tokio_rustls::TlsAcceptor;
use rumqttc::tokio_rustls::rustls::crypto::aws_lc_rs;
use rumqttc::tokio_rustls::rustls::pki_types::pem::PemObject;
use rumqttc::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rumqttc::tokio_rustls::rustls::server::WebPkiClientVerifier;
use rumqttc::tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::*;

const PASSWORD: &str = "CANARY-of-the-broker";

/// What the clients said first, decrypted.
type Said = Arc<Mutex<Vec<Vec<u8>>>>;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/bus/tls").join(name)
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file(name)).expect("a certificate")
}

/// Ends the encryption, lets in only who shows a certificate of our authority, and passes everything on to the broker.
async fn encrypted(broker: u16) -> (u16, Said) {
    let mut authorities = RootCertStore::empty();
    authorities.add(certificate("ca.pem")).expect("an authority");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider))
            .build()
            .expect("a verifier");
    let key = PrivateKeyDer::from_pem_file(file("broker.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate("broker.pem")], key)
        .expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("an address").port();
    let said = Said::default();
    let heard = Arc::clone(&said);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, heard) = (acceptor.clone(), Arc::clone(&heard));
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(socket).await else { return };
                let mut first = vec![0; 4096];
                let Ok(length) = client.read(&mut first).await else { return };
                heard.lock().expect("a list").push(first[..length].to_vec());
                let mut upstream = TcpStream::connect(("127.0.0.1", broker)).await.expect("broker");
                upstream.write_all(&first[..length]).await.expect("passed on");
                let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
            });
        }
    });
    (port, said)
}

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: Config,
}

/// What a node reads from its configuration.
fn options(port: u16, folder: &TempDir, authority: &str) -> BusOptions {
    let private = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).expect("chmod");
        path.display().to_string()
    };
    let password = private("password", PASSWORD.as_bytes());
    let key = private("node.key", &std::fs::read(file("node.key")).expect("a key"));
    let arguments = [
        "node".to_owned(),
        "--database-url=postgres://localhost/none".into(),
        "--rpc-url=http://127.0.0.1:1".into(),
        "--indexer-url=http://127.0.0.1:1".into(),
        "--deployment=none".into(),
        format!("--owner={}", Address::ZERO),
        format!("--broker-url=mqtts://operator@127.0.0.1:{port}"),
        format!("--broker-password-file={password}"),
        format!("--broker-ca-file={}", file(authority).display()),
        format!("--broker-certificate-file={}", file("node.pem").display()),
        format!("--broker-key-file={key}"),
    ];
    let config = Arguments::try_parse_from(arguments).expect("a configuration").config;
    assert!(!format!("{config:?}").contains(PASSWORD));
    let options = BusOptions::read(&config).expect("read").expect("a broker");
    assert!(!format!("{options:?}").contains(PASSWORD));
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_reached_over_tls_with_a_certificate_and_a_password() {
    let broker = TestBroker::start().await.expect("a broker");
    let (port, said) = encrypted(broker.port()).await;
    let folder = TempDir::new().expect("a folder");
    let station = Station::with(options(port, &folder, "ca.pem"), Duration::from_secs(30)).await;
    station.connected().await;
    station.queue(2).await;
    eventually("everything is acknowledged", || async {
        (station.waiting().await == 0).then_some(())
    })
    .await;
    let first = said.lock().expect("a list")[0].clone();
    let contains = |text: &str| first.windows(text.len()).any(|bytes| bytes == text.as_bytes());
    assert!(contains("operator") && contains(PASSWORD), "the broker is shown who we are");
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_of_another_authority_is_told_nothing() {
    let broker = TestBroker::start().await.expect("a broker");
    let (port, said) = encrypted(broker.port()).await;
    let folder = TempDir::new().expect("a folder");
    let options = options(port, &folder, "other-ca.pem");
    let station = Station::with(options, Duration::from_secs(30)).await;
    eventually("it was tried more than once", || async {
        (2 <= station.meters.bus_rebuilds.get()).then_some(())
    })
    .await;
    assert_eq!(station.meters.bus_connections.get(), 0);
    assert!(said.lock().expect("a list").is_empty());
    station.stop().await;
}
