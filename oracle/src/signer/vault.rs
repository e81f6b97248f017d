//! The signer's heart: one thread that decides and writes down, and the keys, which sign only what it let through. The
//! thread takes all questions that wait, and makes one durable write for all of them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::Bytes;
use anyhow::Context;
use tokio::sync::{mpsc, oneshot};

use crate::failpoint::{Point, pass};
use crate::limits::{SIGNER_BATCH_MAX, SIGNER_QUEUE_MAX};
use crate::signer::key::Key;
use crate::signer::ledger::{Entry, Ledger, LedgerError};
use crate::signer::policy::{Grant, Memory, Policy, Refusal};
use crate::signer::wire::{Answer, Ask, Introduction, VERSION};

/// A running vault.
#[derive(Debug, Clone)]
pub struct Vault {
    keys: Arc<Keys>,
    introduction: Introduction,
    questions: mpsc::Sender<Question>,
}

/// An operator's two keys.
#[derive(Debug)]
pub struct Keys {
    pub signer: Key,
    pub transmitter: Key,
}

#[derive(Debug)]
struct Question {
    ask: Ask,
    reply: oneshot::Sender<Verdict>,
}

type Verdict = Result<Grant, Refusal>;

/// The thread's end: `None` when all handles are gone, or why the log could not be written.
pub type End = oneshot::Receiver<Option<LedgerError>>;

impl Vault {
    /// Writes down that it starts, and starts. The second value tells when and why the thread ended.
    pub fn start(
        keys: Keys,
        policy: Policy,
        mut ledger: Ledger,
        memory: Memory,
    ) -> anyhow::Result<(Self, End)> {
        let introduction = Introduction {
            version: VERSION,
            chain_id: policy.chain_id,
            escrow: policy.escrow,
            signer: keys.signer.address(),
            transmitter: keys.transmitter.address(),
        };
        let started = Entry::Started {
            chain_id: policy.chain_id,
            escrow: policy.escrow,
            signer: introduction.signer,
            transmitter: introduction.transmitter,
        };
        ledger.append(&[started], unix_now())?;
        pass(Point::SignerStarted);
        let (questions, waiting) = mpsc::channel(SIGNER_QUEUE_MAX);
        let (over, end) = oneshot::channel();
        let desk = Desk { policy, ledger, memory };
        std::thread::Builder::new()
            .name("signer-ledger".to_owned())
            .spawn(move || {
                // Nobody may be left to be told.
                let _ = over.send(desk.run(waiting).err());
            })
            .context("start the ledger's thread")?;
        Ok((Self { keys: Arc::new(keys), introduction, questions }, end))
    }

    pub fn introduction(&self) -> &Introduction {
        &self.introduction
    }

    /// Answers one question.
    pub async fn answer(&self, ask: Ask) -> Answer {
        let (key, transmits) = match &ask {
            Ask::Hello => return Answer::Hello { introduction: self.introduction.clone() },
            Ask::Result { .. } | Ask::Message { .. } => (&self.keys.signer, false),
            Ask::Transaction { .. } => (&self.keys.transmitter, true),
        };
        let (reply, verdict) = oneshot::channel();
        let question = Question { ask, reply };
        let stopped = || Answer::Failed { reason: "the signer stops".to_owned() };
        if self.questions.send(question).await.is_err() {
            return stopped();
        }
        let grant = match verdict.await {
            Ok(Ok(grant)) => grant,
            Ok(Err(refusal)) => {
                tracing::warn!(%refusal, transmits, "refused to sign");
                let lasting = refusal.lasting();
                return Answer::Refused { reason: refusal.to_string(), lasting };
            }
            Err(_) => return stopped(),
        };
        match key.sign(&grant.preimage).await {
            Ok(signature) => {
                pass(Point::PromiseSigned);
                Answer::Signature { signature: Bytes::copy_from_slice(&signature.as_bytes()) }
            }
            Err(error) => Answer::Failed { reason: error.to_string() },
        }
    }
}

struct Desk {
    policy: Policy,
    ledger: Ledger,
    memory: Memory,
}

impl Desk {
    /// Decides until all handles are gone. An error of the log ends it: what cannot be written down is not signed.
    fn run(mut self, mut waiting: mpsc::Receiver<Question>) -> Result<(), LedgerError> {
        while let Some(first) = waiting.blocking_recv() {
            let mut questions = vec![first];
            while questions.len() < SIGNER_BATCH_MAX
                && let Ok(next) = waiting.try_recv()
            {
                questions.push(next);
            }
            let now = unix_now();
            let mut entries = Vec::new();
            let mut verdicts = Vec::with_capacity(questions.len());
            for question in questions {
                let verdict = self.decide(&question.ask, now);
                if let Ok(Grant { promise: Some(promise), .. }) = &verdict {
                    entries.push(Entry::from(promise));
                }
                verdicts.push((question.reply, verdict));
            }
            if !entries.is_empty() {
                pass(Point::PromiseDecided);
                self.ledger.append(&entries, now)?;
            }
            for (reply, verdict) in verdicts {
                // A node that is gone will ask again.
                let _ = reply.send(verdict);
            }
        }
        Ok(())
    }

    fn decide(&mut self, ask: &Ask, now: u64) -> Verdict {
        let memory = &mut self.memory;
        match ask {
            Ask::Result { request, result } => self.policy.result(memory, request, result, now),
            Ask::Message { body, sent_at } => self.policy.message(memory, body, *sent_at, now),
            Ask::Transaction { transaction } => self.policy.transaction(memory, transaction, now),
            Ask::Hello => Err(Refusal::Message("a greeting is not signed".to_owned())),
        }
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
