//! Credentials that are fetched: a container's agent, an instance's metadata service and STS, each as strict as AWS's own.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use auspex_oracle::signer::kms::credentials::{CredentialsError, Wallet};
use axum::extract::RawForm;
use axum::http::Uri;
use axum::routing::{get, put};
use chrono::{SecondsFormat, TimeDelta, Utc};
use tempfile::TempDir;
use url::form_urlencoded;

use super::*;
use crate::scene::eventually;

const PROOF: &str = "CANARY-of-the-pod";
const ROLE: &str = "arn:aws:iam::111122223333:role/auspex";
const METADATA_TOKEN: &str = "CANARY-of-the-instance==";

/// Gives credentials whose session tokens are numbered.
struct Aws {
    issued: AtomicUsize,
    silent: AtomicBool,
    /// How long credentials count.
    lasts: TimeDelta,
    has_role: bool,
}

impl Aws {
    async fn start(lasts: TimeDelta) -> (Arc<Self>, String) {
        Self::with(lasts, true).await
    }

    async fn with(lasts: TimeDelta, has_role: bool) -> (Arc<Self>, String) {
        let (issued, silent) = (AtomicUsize::new(0), AtomicBool::new(false));
        let aws = Arc::new(Self { issued, silent, lasts, has_role });
        let app = Router::new()
            .route("/role", get(container))
            .route("/latest/api/token", put(metadata_token))
            .route("/latest/meta-data/iam/security-credentials/", get(roles))
            .route("/latest/meta-data/iam/security-credentials/auspex", get(of_role))
            .route("/", post(identity))
            .with_state(Arc::clone(&aws));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (aws, url)
    }

    /// The next session token and when it ends.
    fn issue(&self) -> Option<(String, String)> {
        if self.silent.load(Ordering::SeqCst) {
            return None;
        }
        let number = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        let ends = (Utc::now() + self.lasts).to_rfc3339_opts(SecondsFormat::Millis, true);
        Some((format!("{TOKEN}{number}"), ends))
    }

    fn document(&self) -> Response {
        let Some((token, ends)) = self.issue() else {
            return (StatusCode::INTERNAL_SERVER_ERROR, "not now").into_response();
        };
        let document = json!({
            "Code": "Success", "AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": SECRET, "Token": token,
            "Expiration": ends,
        });
        document.to_string().into_response()
    }
}

async fn container(State(aws): State<Arc<Aws>>, uri: Uri, headers: HeaderMap) -> Response {
    let proof = headers.get("authorization").map(|value| value.to_str().unwrap());
    if proof != Some(PROOF) || uri.query() != Some("id=CANARY-of-the-task") {
        let words = format!("{} does not have the role of {uri}\u{7}", proof.unwrap_or("nobody"));
        return (StatusCode::FORBIDDEN, words).into_response();
    }
    aws.document()
}

async fn metadata_token(headers: HeaderMap) -> &'static str {
    let seconds = headers["x-aws-ec2-metadata-token-ttl-seconds"].to_str().unwrap();
    assert!(seconds.parse::<u32>().unwrap() <= 21_600);
    METADATA_TOKEN
}

async fn roles(State(aws): State<Arc<Aws>>, headers: HeaderMap) -> Response {
    assert_eq!(headers["x-aws-ec2-metadata-token"], METADATA_TOKEN);
    match aws.has_role {
        true => "auspex".into_response(),
        false => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn of_role(State(aws): State<Arc<Aws>>, headers: HeaderMap) -> Response {
    assert_eq!(headers["x-aws-ec2-metadata-token"], METADATA_TOKEN);
    aws.document()
}

async fn identity(State(aws): State<Arc<Aws>>, RawForm(form): RawForm) -> Response {
    let form: Vec<(String, String)> = form_urlencoded::parse(&form).into_owned().collect();
    let field = |name: &str| form.iter().find(|(field, _)| field == name).unwrap().1.clone();
    assert_eq!(field("Action"), "AssumeRoleWithWebIdentity");
    assert_eq!(field("Version"), "2011-06-15");
    assert_eq!(field("RoleArn"), ROLE);
    assert_eq!(field("RoleSessionName"), "auspex-signer");
    let given = field("WebIdentityToken");
    if given != PROOF {
        let code = "<Code>InvalidIdentityToken</Code>";
        let words = format!("<Error>{code}<Message>{given} is not ours</Message></Error>");
        return (StatusCode::BAD_REQUEST, words).into_response();
    }
    let Some((token, ends)) = aws.issue() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">
           <AssumeRoleWithWebIdentityResult>
             <Credentials>
               <AccessKeyId>AKIDEXAMPLE</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>
               <SessionToken>{token}</SessionToken><Expiration>{ends}</Expiration>
             </Credentials>
             <Provider>https://example.com</Provider>
           </AssumeRoleWithWebIdentityResult>
         </AssumeRoleWithWebIdentityResponse>"
    )
    .into_response()
}

fn file(folder: &TempDir, content: &str) -> String {
    let path = folder.path().join("token");
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

/// A KMS with the credentials that this environment names.
fn service_in(kms: &SecretUrl, environment: &[(&str, &str)]) -> KmsService {
    let found = KmsService::find("eu-central-1", Some(kms), |name| {
        environment.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
    });
    found.unwrap()
}

fn wallet(environment: &[(&str, &str)]) -> Wallet {
    let nobody = "http://127.0.0.1:1/".parse().unwrap();
    let mut wallet = service_in(&nobody, environment).wallet;
    wallet.pause = Duration::ZERO;
    wallet
}

/// What is said about credentials that cannot be had.
async fn trouble(environment: &[(&str, &str)]) -> String {
    let error: CredentialsError = wallet(environment).credentials().await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains("CANARY") && !text.contains('\u{7}'), "{text}");
    text
}

/// Signs with them, until they are known no more and new ones are fetched.
async fn serves(environment: &[(&str, &str)], aws: &Aws) {
    let (fake, kms) = start(&[Turn::Honest, Turn::Expire]).await;
    let service = service_in(&kms, environment);
    assert_eq!(aws.issued.load(Ordering::SeqCst), 0, "nothing is fetched before it is needed");
    let shown = format!("{service:?}");
    let key = Key::Kms(Kms::find(&service, &KEY_ID.parse().unwrap()).await.unwrap());
    for preimage in [b"one".as_slice(), b"two"] {
        let signature = key.sign(preimage).await.unwrap();
        let signed_by = signature.recover_address_from_prehash(&keccak256(preimage)).unwrap();
        assert_eq!(signed_by, ADDRESS);
    }
    let tokens = [1, 1, 2, 2].map(|number| format!("{TOKEN}{number}"));
    assert_eq!(*fake.tokens.lock().unwrap(), tokens);
    assert!(!shown.contains("CANARY") && !format!("{service:?}").contains("CANARY"), "{shown}");
}

#[tokio::test]
async fn a_container_is_given_its_roles_credentials() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, &format!("{PROOF}\n"));
    let (aws, url) = Aws::start(TimeDelta::hours(1)).await;
    let uri = format!("{url}/role?id=CANARY-of-the-task");
    let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str());
    serves(&[full, ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &path)], &aws).await;

    let (aws, url) = Aws::start(TimeDelta::hours(1)).await;
    let uri = format!("{url}/role?id=CANARY-of-the-task");
    let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str());
    serves(&[full, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", PROOF)], &aws).await;

    let text = trouble(&[full, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "CANARY-wrong")]).await;
    assert!(text.contains("the container's role: 127.0.0.1: HTTP 403: *** does not"), "{text}");
    assert!(text.contains("AWS_ACCESS_KEY_ID is not set"), "{text}");
    assert!(text.contains("AWS_WEB_IDENTITY_TOKEN_FILE is not set"), "{text}");
    let text = trouble(&[full, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "CANARY\nx: y")]).await;
    assert!(text.contains("characters that no header has"), "{text}");
    let gone = Path::new("/nowhere/token").display().to_string();
    let text = trouble(&[full, ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &gone)]).await;
    assert!(text.contains(&gone), "{text}");
}

#[tokio::test]
async fn an_instance_is_given_its_roles_credentials() {
    let (aws, url) = Aws::start(TimeDelta::hours(6)).await;
    serves(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)], &aws).await;

    let (_, url) = Aws::with(TimeDelta::hours(6), false).await;
    let text = trouble(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]).await;
    assert!(text.contains("the instance's role: the instance has no role"), "{text}");
}

#[tokio::test]
async fn an_identity_token_is_exchanged_for_a_roles_credentials() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, PROOF);
    let (aws, url) = Aws::start(TimeDelta::hours(1)).await;
    let environment = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path.as_str()),
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_ENDPOINT_URL_STS", &url),
    ];
    serves(&environment, &aws).await;
    // The token in the file is replaced from time to time.
    std::fs::write(&path, "CANARY-wrong").unwrap();
    let text = trouble(&environment).await;
    assert!(text.contains("InvalidIdentityToken") && text.contains("*** is not ours"), "{text}");
}

#[tokio::test]
async fn credentials_that_cannot_be_renewed_are_used_until_they_end() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, PROOF);
    let (aws, url) = Aws::start(TimeDelta::seconds(2)).await;
    let environment = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path.as_str()),
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_ENDPOINT_URL_STS", &url),
    ];
    let wallet = wallet(&environment);
    let started = Utc::now();
    for number in 1..=2 {
        // They end so soon that each use fetches new ones.
        wallet.credentials().await.unwrap();
        assert_eq!(aws.issued.load(Ordering::SeqCst), number);
    }
    aws.silent.store(true, Ordering::SeqCst);
    let error = eventually("they have ended", || async {
        let credentials = wallet.credentials().await;
        let now = Utc::now();
        assert!(credentials.is_ok() || started + TimeDelta::seconds(2) <= now);
        credentials.err()
    })
    .await;
    assert!(error.to_string().contains("HTTP 503"), "{error}");
    aws.silent.store(false, Ordering::SeqCst);
    wallet.credentials().await.unwrap();
}

#[tokio::test]
async fn who_has_no_credentials_is_told_where_they_were_looked_for() {
    let off = ("AWS_EC2_METADATA_DISABLED", "true");
    let nobody = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1");
    for (environment, more) in [(off, off.0), (nobody, "the metadata service's token")] {
        let text = trouble(&[environment]).await;
        for name in [
            "AWS_ACCESS_KEY_ID",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "_FULL_URI",
            more,
        ] {
            assert!(text.contains(name), "{name}: {text}");
        }
    }
    let (_, kms) = start(&[]).await;
    let error = Kms::find(&service_in(&kms, &[off]), &KEY_ID.parse().unwrap()).await.unwrap_err();
    let text = without_secrets(&error);
    assert!(text.contains("no AWS credentials from anywhere"), "{text}");
}
