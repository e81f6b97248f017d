//! The signer over its real socket and its real log: what it signs, what it refuses, and that it stays so after a restart.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy::consensus::transaction::SignerRecoverable;
use alloy::eips::Decodable2718;
use alloy::primitives::{Address, B256, Bytes, aliases::U40, keccak256};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{Eip712Domain, SolCall};
use auspex_devnet::postgres::TestDatabase;
use auspex_oracle::keys::keystore::{Strength, import};
use auspex_oracle::keys::{ResultSigner, SignerError, Transmitter};
use auspex_oracle::limits::{SIGNER_LINE_BYTES_MAX, SIGNER_START_WAIT};
use auspex_oracle::signer::client::SignerClient;
use auspex_oracle::signer::config::SignerConfig;
use auspex_oracle::signer::key::Key;
use auspex_oracle::signer::ledger::Ledger;
use auspex_oracle::signer::policy::{Limits, Policy};
use auspex_oracle::signer::process;
use auspex_oracle::signer::server::Server;
use auspex_oracle::signer::vault::{End, Keys, Vault};
use auspex_oracle::signer::wire::{Answer, Introduction, VERSION};
use auspex_oracle::transaction::fee::Fees;
use auspex_oracle::transaction::intent::Call;
use auspex_oracle::transaction::sign::{self, Terms};
use auspex_protocol::bindings::IRequestEscrow::{
    Outcome, Request, Result as SignedResult, deliverCall,
};
use auspex_protocol::message::{QuorumMessage, open};
use auspex_protocol::quorum::{result_digest, verify_ecdsa};
use auspex_protocol::terms::{escrow_domain, request_id};
use clap::Parser;
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::scene::chain::key;
use crate::scene::node::{World, echo};

const SIGNER: B256 = B256::repeat_byte(0x21);
const TRANSMITTER: B256 = B256::repeat_byte(0x41);
const ESCROW: Address = Address::repeat_byte(3);
/// Searched for in everything that the signer and its node say.
const CANARY_PASSWORD: &str = "correct-CANARY-battery";

struct Running {
    folder: TempDir,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
    /// When the thread that holds the log has ended.
    end: End,
}

impl Running {
    fn start() -> Self {
        Self::start_in(TempDir::new().expect("a folder"), own_user())
    }

    fn start_in(folder: TempDir, user: u32) -> Self {
        let (ledger, memory) = Ledger::open(&folder.path().join("log"), ESCROW).expect("a log");
        let policy = Policy {
            chain_id: 31337,
            escrow: ESCROW,
            transmitter: key(TRANSMITTER).address(),
            limits: limits(),
        };
        let keys =
            Keys { signer: Key::Local(key(SIGNER)), transmitter: Key::Local(key(TRANSMITTER)) };
        let server = Server::bind(&folder.path().join("socket")).expect("a socket");
        let (vault, end) = Vault::start(keys, policy, ledger, memory).expect("a vault");
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.run(user, vault, shutdown.clone()));
        Self { folder, shutdown, task, end }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    async fn client(&self) -> SignerClient {
        SignerClient::connect(&self.socket(), SIGNER_START_WAIT).await.expect("a signer")
    }

    async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("a clean stop");
        assert!(self.end.await.expect("the log's thread tells its end").is_none());
        self.folder
    }
}

fn own_user() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").expect("a process").uid()
}

fn limits() -> Limits {
    Limits {
        results_per_minute: 1_000,
        results_per_day: 1_000,
        messages_per_minute: 1_000,
        partials_per_minute: 1_000,
        transactions_per_minute: 1_000,
        fee_cap: 100,
        gas_per_day: u128::MAX,
        value_per_day: Vec::new(),
    }
}

fn domain() -> Eip712Domain {
    escrow_domain(31337, ESCROW)
}

fn asked(output: u8) -> (Request, SignedResult) {
    let request = Request {
        maxAmount: 10,
        deadline: U40::from(2_000_000_000u64),
        salt: B256::repeat_byte(1),
        ..Request::default()
    };
    let result = SignedResult {
        requestId: request_id(&domain(), &request),
        outcome: Outcome::Answered,
        outputHash: B256::repeat_byte(output),
        traceRoot: B256::ZERO,
        retrievalRoot: B256::ZERO,
        modelHash: B256::ZERO,
        amount: 10,
        validUntil: 2_000_000_000,
    };
    (request, result)
}

#[tokio::test]
async fn results_messages_and_transactions_are_signed_as_the_contracts_check_them() {
    let running = Running::start();
    let mode = std::fs::metadata(running.socket()).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = running.client().await;
    let (signer, transmitter) =
        (ResultSigner::of_process(client.clone()), Transmitter::of_process(client));
    assert_eq!(signer.address(), key(SIGNER).address());

    let (request, result) = asked(7);
    let signature = signer.sign_result(&domain(), &request, &result).await.expect("signed");
    let digest = result_digest(&domain(), &result);
    verify_ecdsa(digest, signer.address(), &signature.as_bytes()).expect("counts");

    let message = QuorumMessage::Heartbeat { head_block: 1, version: "x".into() };
    let envelope = signer.seal(&domain(), &message, 5).await.expect("sealed");
    let payload = serde_json::to_vec(&envelope).expect("JSON");
    assert_eq!(open(&domain(), &payload).expect("opens").1, message);

    let call = Call { target: ESCROW, calldata: Bytes::copy_from_slice(&deliverCall::SELECTOR) };
    let signed = sign::call(&transmitter, transaction_terms(), &call).await.expect("signed");
    let sent = alloy::consensus::TxEnvelope::decode_2718(&mut signed.raw.as_ref()).expect("bytes");
    assert_eq!(sent.recover_signer().expect("a sender"), key(TRANSMITTER).address());
    let elsewhere = Call { target: Address::repeat_byte(9), ..call };
    let error = sign::call(&transmitter, transaction_terms(), &elsewhere).await.expect_err("no");
    assert!(matches!(error, SignerError::Refused { lasting: true, .. }), "{error}");
    running.stop().await;
}

fn transaction_terms() -> Terms {
    Terms { chain_id: 31337, nonce: 0, fees: Fees { max_fee: 50, priority: 1 }, gas_limit: 100_000 }
}

#[tokio::test]
async fn a_second_result_for_a_request_is_refused_also_after_a_restart() {
    let running = Running::start();
    let signer = ResultSigner::of_process(running.client().await);
    let (request, first) = asked(7);
    let (_, second) = asked(8);
    let signature = signer.sign_result(&domain(), &request, &first).await.expect("signed");
    for _ in 0..2 {
        let error = signer.sign_result(&domain(), &request, &second).await.expect_err("refused");
        assert!(matches!(error, SignerError::Refused { lasting: true, .. }), "{error}");
    }
    let folder = running.stop().await;

    let running = Running::start_in(folder, own_user());
    // The same client goes on: its connections were to the signer that is gone.
    let error = signer.sign_result(&domain(), &request, &second).await.expect_err("refused");
    assert!(error.to_string().contains("never is"), "{error}");
    let again = signer.sign_result(&domain(), &request, &first).await.expect("signed");
    assert_eq!(again, signature);
    running.stop().await;
}

#[tokio::test]
async fn hashes_and_garbage_get_no_signature_and_harm_nobody() {
    let running = Running::start();
    let stream = UnixStream::connect(running.socket()).await.expect("connected");
    let mut stream = BufReader::new(stream);
    let hash = B256::repeat_byte(1);
    for line in [
        format!(r#"{{"ask":"hash","hash":"{hash}"}}"#),
        format!(r#"{{"ask":"message","body":"{hash}","sentAt":1}}"#),
        "\"\"".to_owned(),
        "[".repeat(10_000),
    ] {
        stream.write_all(format!("{line}\n").as_bytes()).await.expect("asked");
        let mut answer = String::new();
        stream.read_line(&mut answer).await.expect("answered");
        let answer: Answer = serde_json::from_str(&answer).expect("an answer");
        assert!(matches!(answer, Answer::Refused { .. }), "{line}: {answer:?}");
    }
    let mut endless = UnixStream::connect(running.socket()).await.expect("connected");
    let text = vec![b'x'; SIGNER_LINE_BYTES_MAX + 2];
    // The signer may close the connection before it has read everything.
    let _ = endless.write_all(&text).await;
    running.client().await;
    running.stop().await;
}

#[tokio::test]
async fn another_users_process_gets_no_answer() {
    let folder = TempDir::new().expect("a folder");
    let running = Running::start_in(folder, own_user() + 1);
    let error = SignerClient::connect(&running.socket(), Duration::ZERO).await.expect_err("closed");
    assert!(matches!(error, SignerError::Unreachable { .. }), "{error}");
    running.stop().await;
}

/// One that dies at its start has bound its socket already: somebody greets it, and hears nothing.
#[tokio::test]
async fn a_signer_that_ends_amid_the_greeting_is_greeted_again() {
    let folder = TempDir::new().expect("a folder");
    let socket = folder.path().join("socket");
    let listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
    let introduction = Introduction {
        version: VERSION,
        chain_id: 8_453,
        escrow: ESCROW,
        signer: key(SIGNER).address(),
        transmitter: key(TRANSMITTER).address(),
    };
    let answer = serde_json::to_string(&Answer::Hello { introduction: introduction.clone() });
    let answer = answer.expect("JSON") + "\n";
    let signer = tokio::spawn(async move {
        let (first, _) = listener.accept().await.expect("a connection");
        drop(first);
        let (second, _) = listener.accept().await.expect("a connection");
        let mut second = BufReader::new(second);
        let mut question = String::new();
        second.read_line(&mut question).await.expect("a question");
        second.write_all(answer.as_bytes()).await.expect("answered");
        second
    });
    let client = SignerClient::connect(&socket, SIGNER_START_WAIT).await.expect("a signer");
    assert_eq!(*client.introduction(), introduction);
    signer.await.expect("no panic");
}

#[tokio::test]
async fn a_living_signers_socket_is_not_taken_and_a_dead_ones_is() {
    let running = Running::start();
    let error = Server::bind(&running.socket()).expect_err("taken");
    assert!(error.to_string().contains("another signer"), "{error}");
    running.task.abort();
    let socket = running.socket();
    let _ = running.task.await;
    std::fs::remove_file(&socket).ok();
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a dead socket"));
    Server::bind(&socket).expect("a socket");
    std::fs::set_permissions(running.folder.path(), std::fs::Permissions::from_mode(0o777))
        .expect("chmod");
    let error = Server::bind(&running.folder.path().join("other")).expect_err("open to others");
    assert!(error.to_string().contains("others could replace"), "{error}");
}

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: SignerConfig,
}

/// A whole operator with keystores, a signer process's own code, and a node that has no key. Nothing that any of them
/// says holds the password or a key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_keys_settles_a_request_and_no_secret_is_ever_said() {
    let world = World::new(1, 1, None).await;
    let operator = world.scene.operators[0].clone();
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    auspex_oracle::keys::file::write_secret(&path("password"), CANARY_PASSWORD.as_bytes())
        .expect("a password");
    let words = SecretString::from(CANARY_PASSWORD);
    for (name, secret) in [("signer", operator.signer), ("transmitter", operator.transmitter)] {
        import(&path(name), &secret.0, &words, Strength::Light).expect("a keystore");
    }
    let option = |name: &str, file: &str| format!("--{name}={}", path(file).display());
    let config = Arguments::try_parse_from([
        "signer".to_owned(),
        option("signer-keystore", "signer"),
        option("signer-password-file", "password"),
        option("transmitter-keystore", "transmitter"),
        option("transmitter-password-file", "password"),
        option("socket", "socket"),
        option("log", "log"),
    ])
    .expect("a configuration")
    .config;
    let mut said = format!("{config:?}");
    let shutdown = CancellationToken::new();
    let deployment = world.scene.deployment.clone();
    let stop = shutdown.clone();
    let signer = tokio::spawn(async move { process::run(config, &deployment, stop).await });

    let database = TestDatabase::create().await.expect("a database");
    let socket = option("signer-socket", "socket");
    let config = world.config_without_keys(&operator, database.url(), &[&socket]);
    said.push_str(&format!("{config:?}"));
    let node = world.start_with(config, database, echo()).await;
    let request_id = world.scene.request(b"who signs?", 600).await;
    world.settled(request_id).await;
    for page in ["metrics", "v1/status", "ready"] {
        let reply = reqwest::get(format!("{}/{page}", node.url)).await.expect("a reply");
        said.push_str(&reply.text().await.expect("text"));
    }
    let log = std::fs::read_to_string(path("log")).expect("the log");
    assert!(log.contains(&request_id.to_string()), "{log}");
    said.push_str(&log);
    said.push_str(&wrong_password(&path("signer")));
    node.stop().await;
    shutdown.cancel();
    signer.await.expect("no panic").expect("a clean stop");
    for secret in [operator.signer, operator.transmitter] {
        assert!(!said.to_lowercase().contains(&hex::encode(secret)), "a key was said");
    }
    assert!(!said.contains(CANARY_PASSWORD), "the password was said");
}

fn wrong_password(keystore: &Path) -> String {
    let words = SecretString::from(format!("{CANARY_PASSWORD}-mistyped"));
    let error = auspex_oracle::keys::keystore::load(keystore, &words).expect_err("refused");
    format!("{error} {error:?}").replace("-mistyped", "")
}

mod remote {
    //! A remote signer that speaks the `eth1` API with a real key.

    use alloy::signers::SignerSync;
    use auspex_oracle::config::SecretUrl;
    use auspex_oracle::signer::web3signer::Web3Signer;
    use axum::extract::{Path as UrlPath, State};
    use axum::routing::{get, post};
    use axum::{Json, Router};

    use super::*;

    #[derive(Clone)]
    struct Remote {
        key: PrivateKeySigner,
        /// Signs with this one in truth.
        uses: PrivateKeySigner,
        /// Gives the other of the two valid forms of a signature, which the escrow refuses.
        high_s: bool,
    }

    async fn start(uses: B256, high_s: bool) -> SecretUrl {
        let remote = Arc::new(Remote { key: key(SIGNER), uses: key(uses), high_s });
        let app = Router::new()
            .route("/base/api/v1/eth1/publicKeys", get(list))
            .route("/base/api/v1/eth1/sign/{key}", post(sign))
            .with_state(remote);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}/base", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await.expect("serve") });
        url.parse().expect("a URL")
    }

    fn public(key: &PrivateKeySigner) -> String {
        let point = key.credential().verifying_key().to_encoded_point(false);
        format!("0x{}", hex::encode(&point.as_bytes()[1..]))
    }

    async fn list(State(remote): State<Arc<Remote>>) -> Json<Vec<String>> {
        Json(vec![public(&key(TRANSMITTER)), public(&remote.key)])
    }

    async fn sign(
        State(remote): State<Arc<Remote>>,
        UrlPath(name): UrlPath<String>,
        Json(order): Json<serde_json::Value>,
    ) -> String {
        assert_eq!(name, public(&remote.key));
        let data: Bytes = order["data"].as_str().expect("data").parse().expect("hex");
        let signature = remote.uses.sign_hash_sync(&keccak256(&data)).expect("signed");
        if !remote.high_s {
            return signature.to_string();
        }
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        let order = alloy::primitives::U256::from_str_radix(order, 16).expect("a number");
        let other =
            alloy::primitives::Signature::new(signature.r(), order - signature.s(), !signature.v());
        other.to_string()
    }

    #[tokio::test]
    async fn a_remote_key_signs_what_the_contracts_accept() {
        for high_s in [false, true] {
            let url = start(SIGNER, high_s).await;
            let address = key(SIGNER).address();
            let remote = Key::Web3Signer(Web3Signer::find(&url, address).await.expect("found"));
            let (_, result) = asked(7);
            let preimage = auspex_oracle::signer::wire::result_preimage(&domain(), &result);
            let signature = remote.sign(&preimage).await.expect("signed");
            let digest = result_digest(&domain(), &result);
            verify_ecdsa(digest, address, &signature.as_bytes()).expect("counts");
        }
    }

    #[tokio::test]
    async fn a_remote_signer_without_our_key_or_with_another_in_its_place_is_refused() {
        let url = start(SIGNER, false).await;
        let stranger = Web3Signer::find(&url, Address::repeat_byte(9)).await.expect_err("unknown");
        assert!(stranger.to_string().contains("does not hold the key"), "{stranger}");

        let url = start(TRANSMITTER, false).await;
        let swapped = Web3Signer::find(&url, key(SIGNER).address()).await.expect("found");
        let error = Key::Web3Signer(swapped).sign(b"anything").await.expect_err("refused");
        assert!(matches!(error, SignerError::OtherKey { .. }), "{error}");
        let nobody: SecretUrl = "http://127.0.0.1:1/CANARY".parse().expect("a URL");
        let error = Web3Signer::find(&nobody, Address::ZERO).await.expect_err("down");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
    }
}
