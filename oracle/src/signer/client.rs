//! The node's side of the socket. A connection carries one question at a time; several are kept for several workers.
//! Asking twice is harmless, because the signer gives the same signature to the same question.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{B256, Signature};
use futures::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::codec::{Framed, LinesCodec};

use crate::keys::SignerError;
use crate::limits::{SIGNER_ANSWER_TIMEOUT, SIGNER_IDLE_CONNECTIONS_MAX};
use crate::signer::key::checked;
use crate::signer::wire::{Answer, Ask, Introduction, VERSION, lines};

/// Between two looks for a signer that is still starting.
const START_POLL: Duration = Duration::from_millis(50);

type Connection = Framed<UnixStream, LinesCodec>;

/// A signer in another process.
#[derive(Debug, Clone)]
pub struct SignerClient {
    path: Arc<PathBuf>,
    introduction: Introduction,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl SignerClient {
    /// Greets the signer at a socket, waiting for one that is just starting, also when it ends amid the greeting and is started
    /// again.
    pub async fn connect(path: &Path, wait: Duration) -> Result<Self, SignerError> {
        let deadline = Instant::now() + wait;
        let (connection, answer) = loop {
            match greet(path).await {
                Ok(greeted) => break greeted,
                Err(SignerError::Unreachable { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(START_POLL).await;
                }
                Err(error) => return Err(error),
            }
        };
        let introduction = match answer {
            Answer::Hello { introduction } => introduction,
            other => return Err(strange(path, &other)),
        };
        if introduction.version != VERSION {
            let reason = format!("speaks version {}, not {VERSION}", introduction.version);
            return Err(SignerError::Unreachable { path: path.to_owned(), reason });
        }
        let idle = Arc::new(Mutex::new(vec![connection]));
        Ok(Self { path: Arc::new(path.to_owned()), introduction, idle })
    }

    pub fn introduction(&self) -> &Introduction {
        &self.introduction
    }

    /// Has something signed whose digest is known, and checks that it was signed by the right key.
    pub(crate) async fn sign(&self, ask: &Ask, digest: B256) -> Result<Signature, SignerError> {
        let expected = match ask {
            Ask::Transaction { .. } => self.introduction.transmitter,
            Ask::Hello | Ask::Result { .. } | Ask::Message { .. } => self.introduction.signer,
        };
        match self.ask(ask).await? {
            Answer::Signature { signature } => {
                let signature = Signature::from_raw(&signature)
                    .map_err(|error| SignerError::Key(error.to_string()))?;
                checked(&signature, digest, expected)?;
                Ok(signature)
            }
            Answer::Refused { reason, lasting } => Err(SignerError::Refused { reason, lasting }),
            Answer::Failed { reason } => Err(SignerError::Key(reason)),
            other @ Answer::Hello { .. } => Err(strange(&self.path, &other)),
        }
    }

    async fn ask(&self, ask: &Ask) -> Result<Answer, SignerError> {
        let kept = self.idle.lock().await.pop();
        if let Some(mut connection) = kept
            && let Ok(answer) = exchange(&self.path, &mut connection, ask).await
        {
            self.put_back(connection).await;
            return Ok(answer);
        }
        // The kept connections may belong to a signer that has restarted.
        self.idle.lock().await.clear();
        let mut connection = open(&self.path).await?;
        let answer = exchange(&self.path, &mut connection, ask).await?;
        self.put_back(connection).await;
        Ok(answer)
    }

    async fn put_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().await;
        if idle.len() < SIGNER_IDLE_CONNECTIONS_MAX {
            idle.push(connection);
        }
    }
}

async fn greet(path: &Path) -> Result<(Connection, Answer), SignerError> {
    let mut connection = open(path).await?;
    let answer = exchange(path, &mut connection, &Ask::Hello).await?;
    Ok((connection, answer))
}

async fn open(path: &Path) -> Result<Connection, SignerError> {
    let trouble = |error: std::io::Error| SignerError::Unreachable {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let stream = UnixStream::connect(path).await.map_err(trouble)?;
    // Somebody else's socket would be shown every request, and could answer with nonsense for ever.
    let owner = std::fs::metadata(path).map_err(trouble)?.uid();
    let answering = stream.peer_cred().map_err(trouble)?.uid();
    let own = nix::unistd::geteuid().as_raw();
    if answering != own || owner != own {
        let reason =
            format!("belongs to user {owner} and user {answering} answers, not user {own}");
        return Err(SignerError::Unreachable { path: path.to_owned(), reason });
    }
    Ok(Framed::new(stream, lines()))
}

async fn exchange(
    path: &Path,
    connection: &mut Connection,
    ask: &Ask,
) -> Result<Answer, SignerError> {
    let trouble = |reason: String| SignerError::Unreachable { path: path.to_owned(), reason };
    let question = serde_json::to_string(ask)?;
    let conversation = async {
        connection.send(question).await.map_err(|error| trouble(error.to_string()))?;
        match connection.next().await {
            Some(Ok(line)) => Ok(serde_json::from_str::<Answer>(&line)?),
            Some(Err(error)) => Err(trouble(error.to_string())),
            None => Err(trouble("closed the connection".to_owned())),
        }
    };
    match tokio::time::timeout(SIGNER_ANSWER_TIMEOUT, conversation).await {
        Ok(answer) => answer,
        Err(_) => Err(trouble(format!("no answer within {} s", SIGNER_ANSWER_TIMEOUT.as_secs()))),
    }
}

fn strange(path: &Path, answer: &Answer) -> SignerError {
    let reason = format!("gave an answer that was not asked for: {answer:?}");
    SignerError::Unreachable { path: path.to_owned(), reason }
}
