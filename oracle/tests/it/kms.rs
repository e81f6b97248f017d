//! A key in AWS KMS, over HTTP: a small KMS that checks every request's signature, and everything that can go wrong with it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use alloy::primitives::{Address, B256, U256, address, b256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::k256::ecdsa::Signature as PairOfScalars;
use alloy::signers::local::PrivateKeySigner;
use auspex_oracle::config::SecretUrl;
use auspex_oracle::keys::SignerError;
use auspex_oracle::signer::key::Key;
use auspex_oracle::signer::kms::Kms;
use auspex_oracle::signer::kms::options::KmsService;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

mod credentials;

/// The first key of anvil, which everybody knows.
const KEY: B256 = b256!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
const ADDRESS: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
const KEY_ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
/// Searched for in everything that is said about a KMS.
const SECRET: &str = "CANARY+secret/access/key";
const TOKEN: &str = "CANARY-session-token==";

/// What the KMS does with one request.
#[derive(Clone, Copy)]
enum Turn {
    /// As it should.
    Honest,
    /// Gives the form of the signature that the escrow refuses.
    HighS,
    /// Signs with another key than the one that it showed.
    OtherKey,
    /// Sends bytes that are no signature.
    Garbage,
    Throttle,
    Fail,
    /// Repeats the secret in its complaint.
    Deny,
    /// Knows the credentials no more.
    Expire,
}

#[derive(Default)]
struct Fake {
    turns: Mutex<VecDeque<Turn>>,
    /// The digests that it was asked to sign.
    digests: Mutex<Vec<String>>,
    /// The session tokens that it was shown.
    tokens: Mutex<Vec<String>>,
    spec: Mutex<Option<&'static str>>,
}

/// A KMS that takes these turns and is honest afterwards.
async fn start(turns: &[Turn]) -> (Arc<Fake>, SecretUrl) {
    let fake = Arc::new(Fake::default());
    fake.turns.lock().unwrap().extend(turns);
    let app = Router::new().route("/", post(serve)).with_state(Arc::clone(&fake));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (fake, url.parse().unwrap())
}

fn service(endpoint: &SecretUrl, secret: &str) -> KmsService {
    KmsService::find("eu-central-1", Some(endpoint), |name| {
        let value = match name {
            "AWS_ACCESS_KEY_ID" => "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY" => secret,
            "AWS_SESSION_TOKEN" => TOKEN,
            _ => return None,
        };
        Some(value.to_owned())
    })
    .unwrap()
}

async fn find(endpoint: &SecretUrl) -> Result<Kms, SignerError> {
    Kms::find(&service(endpoint, SECRET), &KEY_ID.parse().unwrap()).await
}

async fn serve(State(fake): State<Arc<Fake>>, headers: HeaderMap, body: Bytes) -> Response {
    if !is_signed(&headers, &body) {
        let complaint = json!({ "__type": "InvalidSignatureException", "message": "mismatch" });
        return (StatusCode::BAD_REQUEST, complaint.to_string()).into_response();
    }
    assert_eq!(headers["content-type"], "application/x-amz-json-1.1");
    let token = headers["x-amz-security-token"].to_str().unwrap().to_owned();
    fake.tokens.lock().unwrap().push(token);
    let order: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(order["KeyId"], KEY_ID);
    let turn = fake.turns.lock().unwrap().pop_front().unwrap_or(Turn::Honest);
    let refusal = match turn {
        Turn::Throttle => Some((400, "com.amazon#ThrottlingException", "Rate exceeded".to_owned())),
        Turn::Fail => Some((500, "KMSInternalException", String::new())),
        Turn::Deny => Some((400, "AccessDeniedException", format!("not with {SECRET} or {TOKEN}"))),
        Turn::Expire => Some((400, "ExpiredTokenException", format!("{TOKEN} has ended"))),
        Turn::Honest | Turn::HighS | Turn::OtherKey | Turn::Garbage => None,
    };
    if headers["x-amz-target"] == "TrentService.Sign" {
        fake.digests.lock().unwrap().push(order["Message"].as_str().unwrap().to_owned());
    }
    if let Some((status, kind, message)) = refusal {
        let body = json!({ "__type": kind, "message": message }).to_string();
        return (StatusCode::from_u16(status).unwrap(), body).into_response();
    }
    let reply = match headers["x-amz-target"].to_str().unwrap() {
        "TrentService.GetPublicKey" => public_key(&fake, turn),
        "TrentService.Sign" => signature(&order, turn),
        other => panic!("{other} is not asked for"),
    };
    reply.to_string().into_response()
}

fn public_key(fake: &Fake, turn: Turn) -> Value {
    let key = PrivateKeySigner::from_bytes(&KEY).unwrap();
    let point = key.credential().verifying_key().to_encoded_point(false);
    let prefix = hex::decode("3056301006072a8648ce3d020106052b8104000a034200").unwrap();
    let der = match turn {
        Turn::Garbage => b"nothing".to_vec(),
        _ => [&prefix[..], point.as_bytes()].concat(),
    };
    let spec = fake.spec.lock().unwrap().unwrap_or("ECC_SECG_P256K1");
    json!({ "PublicKey": STANDARD.encode(der), "KeySpec": spec, "KeyUsage": "SIGN_VERIFY" })
}

fn signature(order: &Value, turn: Turn) -> Value {
    assert_eq!(order["MessageType"], "DIGEST");
    assert_eq!(order["SigningAlgorithm"], "ECDSA_SHA_256");
    let digest = STANDARD.decode(order["Message"].as_str().unwrap()).unwrap();
    let key = match turn {
        Turn::OtherKey => B256::repeat_byte(7),
        _ => KEY,
    };
    let key = PrivateKeySigner::from_bytes(&key).unwrap();
    let made = key.sign_hash_sync(&B256::from_slice(&digest)).unwrap().normalized_s();
    let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let order = U256::from_str_radix(order, 16).unwrap();
    let s = if matches!(turn, Turn::HighS) { order - made.s() } else { made.s() };
    let (r, s) = (made.r().to_be_bytes::<32>(), s.to_be_bytes::<32>());
    let pair = PairOfScalars::from_scalars(r, s).unwrap();
    let mut der = pair.to_der().as_bytes().to_vec();
    if matches!(turn, Turn::Garbage) {
        der.truncate(der.len() - 1);
    }
    json!({ "KeyId": KEY_ID, "Signature": STANDARD.encode(der) })
}

/// Signature Version 4 as a server checks it: computed again from what arrived.
fn is_signed(headers: &HeaderMap, body: &[u8]) -> bool {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let line = text("authorization");
    let field = |name: &str| {
        let (_, rest) = line.split_once(name).unwrap();
        rest.split(',').next().unwrap().to_owned()
    };
    let (names, claimed) = (field("SignedHeaders="), field("Signature="));
    let credential = field("Credential=AKIDEXAMPLE/");
    let scope: Vec<&str> = credential.split('/').collect();
    assert_eq!(scope[1..], ["eu-central-1", "kms", "aws4_request"]);
    for needed in ["host", "x-amz-date", "x-amz-target", "x-amz-security-token"] {
        assert!(names.split(';').any(|name| name == needed), "{needed} is not signed");
    }
    let lines: String = names.split(';').map(|name| format!("{name}:{}\n", text(name))).collect();
    let request = format!("POST\n/\n\n{lines}\n{names}\n{}", hex::encode(Sha256::digest(body)));
    let hash = hex::encode(Sha256::digest(request));
    let moment = text("x-amz-date");
    assert!(moment.starts_with(scope[0]));
    let to_sign = format!("AWS4-HMAC-SHA256\n{moment}\n{credential}\n{hash}");
    let mut key = format!("AWS4{SECRET}").into_bytes();
    for part in scope {
        key = keyed(&key, part);
    }
    hex::encode(keyed(&key, &to_sign)) == claimed
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    let mut hash = Hmac::<Sha256>::new_from_slice(key).unwrap();
    hash.update(text.as_bytes());
    hash.finalize().into_bytes().to_vec()
}

fn without_secrets(error: &SignerError) -> String {
    let text = format!("{error} {error:?}");
    assert!(!text.contains("CANARY"), "{text}");
    text
}

#[tokio::test]
async fn a_key_in_kms_signs_what_the_contracts_accept() {
    let (fake, url) = start(&[Turn::Honest, Turn::Honest, Turn::HighS]).await;
    let kms = find(&url).await.unwrap();
    assert_eq!(kms.address(), ADDRESS);
    let shown = format!("{kms:?}");
    assert!(!shown.contains("CANARY"), "{shown}");
    let key = Key::Kms(kms);
    for preimage in [b"one".as_slice(), b"two", b"three", b"four"] {
        let signature = key.sign(preimage).await.unwrap();
        let digest = keccak256(preimage);
        assert_eq!(signature.recover_address_from_prehash(&digest).unwrap(), ADDRESS);
        assert_eq!(signature.normalized_s(), signature);
    }
    let digests = fake.digests.lock().unwrap();
    assert_eq!(digests[0], STANDARD.encode(keccak256(b"one")));
}

#[tokio::test]
async fn what_passes_is_asked_again_with_the_same_digest_and_what_does_not_is_told() {
    let (fake, url) =
        start(&[Turn::Fail, Turn::Throttle, Turn::Honest, Turn::Throttle, Turn::Fail]).await;
    let key = Key::Kms(find(&url).await.unwrap());
    key.sign(b"again").await.unwrap();
    let expected = STANDARD.encode(keccak256(b"again"));
    assert_eq!(*fake.digests.lock().unwrap(), vec![expected; 3]);

    fake.turns.lock().unwrap().extend([Turn::Throttle; 3]);
    let error = key.sign(b"busy").await.unwrap_err();
    let text = without_secrets(&error);
    assert!(text.contains("ThrottlingException") && text.contains("3 tries"), "{text}");

    fake.turns.lock().unwrap().push_back(Turn::Deny);
    let error = key.sign(b"no").await.unwrap_err();
    let text = without_secrets(&error);
    assert!(text.contains("AccessDeniedException not with *** or ***"), "{text}");
    assert_eq!(fake.digests.lock().unwrap().len(), 7, "a refusal is final");
}

#[tokio::test]
async fn a_kms_that_lies_is_refused() {
    let (_, url) = start(&[Turn::Honest, Turn::OtherKey, Turn::Garbage]).await;
    let key = Key::Kms(find(&url).await.unwrap());
    let error = key.sign(b"anything").await.unwrap_err();
    assert!(matches!(error, SignerError::OtherKey { expected: ADDRESS, .. }), "{error}");
    let text = without_secrets(&key.sign(b"anything").await.unwrap_err());
    assert!(text.contains("not the DER form of two scalars"), "{text}");

    let (_, url) = start(&[Turn::Garbage]).await;
    let text = without_secrets(&find(&url).await.unwrap_err());
    assert!(text.contains("not the DER form of a point"), "{text}");
}

#[tokio::test]
async fn another_kind_of_key_other_credentials_and_no_kms_at_all_are_told_apart() {
    let (fake, url) = start(&[]).await;
    *fake.spec.lock().unwrap() = Some("ECC_NIST_P256");
    let text = without_secrets(&find(&url).await.unwrap_err());
    assert!(text.contains("ECC_NIST_P256") && text.contains("ECC_SECG_P256K1"), "{text}");

    let wrong = service(&url, "CANARY-of-somebody-else");
    let error = Kms::find(&wrong, &KEY_ID.parse().unwrap()).await.unwrap_err();
    let text = without_secrets(&error);
    assert!(text.contains("InvalidSignatureException"), "{text}");

    let nobody: SecretUrl = "http://127.0.0.1:1/".parse().unwrap();
    let text = without_secrets(&find(&nobody).await.unwrap_err());
    assert!(text.contains("3 tries"), "{text}");
}
