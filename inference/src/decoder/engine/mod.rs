//! One thread that owns a decoder, behind a bounded queue.
//!
//! All outputs in work take part in every pass: those that are being written with one token,
//! prompts with pieces of what is left of the pass. A sequence has the same bits whatever runs
//! beside it, so sharing changes nothing but speed.

mod pool;
mod sequence;
mod worker;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Instant,
};

use serde_json::Value;
use tokio::sync::mpsc;

use self::sequence::Request;
use super::{
    error::{GenerateError, PromptError},
    grammar::{Constraint, Vocabulary},
    limits::{BLOCK_TOKENS, CACHE_TOKENS, REQUESTS_MAX},
    loaded::Facts,
    matrix::Storage,
    sampling::Parameters,
    template::Message,
    transcript::Transcript,
};
use crate::device::DeviceChoice;
pub use crate::engine::StartError;

/// How a decoder is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the model runs. On the CPU, which is the default, its outputs have the same bits on every
    /// machine.
    pub device: DeviceChoice,
    /// How the weights are kept.
    pub storage: Storage,
    /// Tokens whose keys and values are kept; all memory is taken at the start.
    pub cache_tokens: usize,
}

impl Default for Options {
    fn default() -> Self {
        let (device, storage) = (DeviceChoice::Cpu, Storage::default());
        Self { device, storage, cache_tokens: CACHE_TOKENS }
    }
}

/// What comes of a request: how far its prompt is read, pieces of text, then one [`Done`](Self::Done).
#[derive(Clone, Debug)]
pub enum Event {
    /// After each pass over the prompt.
    Read {
        /// Tokens of the prompt that are read.
        tokens: usize,
        /// All tokens of the prompt.
        of: usize,
    },
    /// Whole characters that follow what came before; never empty.
    Text(String),
    /// The end.
    Done(Result<Box<Completion>, GenerateError>),
}

/// An output that is complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt that were known from earlier prompts and not read again.
    pub reused: usize,
    /// What was read and written, and how.
    pub transcript: Transcript,
}

/// Why an output ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    End,
    /// A stop sequence came; it is not part of the text.
    Stop,
    /// It has as many tokens as were allowed.
    Length,
}

/// A handle to a loaded decoder; clones share the model and its thread.
///
/// Dropping the last handle ends the thread when all outputs in work are written.
#[derive(Clone)]
pub struct Generator {
    shared: Arc<Shared>,
}

/// The events of one request. Dropping it withdraws the request.
#[derive(Debug)]
pub struct Output {
    events: mpsc::UnboundedReceiver<Event>,
}

impl Generator {
    /// Loads the decoder in `dir` on its own thread, checks it there, and returns when it is ready.
    /// `dir` holds `config.json`, `tokenizer.json`, the weights as `model.safetensors` or as the
    /// files that `model.safetensors.index.json` names, and, where the model has them,
    /// `generation_config.json`, `tokenizer_config.json` and `chat_template.jinja`. This takes
    /// seconds, so asynchronous callers put it in `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// Names the file, and in it the field or tensor, that is missing, damaged, over its limit in
    /// [`limits`](super::limits), or of another architecture; or says what the device lacks.
    pub fn start(dir: &Path, options: Options) -> Result<Self, StartError> {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let (ready, readiness) = std::sync::mpsc::sync_channel(1);
        let dir: PathBuf = dir.to_owned();
        let cache_tokens = options.cache_tokens.next_multiple_of(BLOCK_TOKENS);
        let thread = std::thread::Builder::new()
            .name("auspex-decoder".to_owned())
            .spawn(move || worker::run(&dir, &options, &ready, receiver))
            .map_err(|error| StartError::Thread(error.to_string()))?;
        let facts = readiness.recv().map_err(|_| {
            StartError::Thread("it panicked while it loaded the model".to_owned())
        })??;
        let vocabulary = facts.tokens.bytes().map(|bytes| Arc::new(Vocabulary::new(&bytes)));
        let worker = Worker { requests: Some(requests), thread: Some(thread) };
        let shared = Shared { facts, vocabulary, cache_tokens, worker };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Begins to write what follows `prompt`; [`defaults`](Self::defaults) are the parameters that
    /// the model's publisher recommends.
    ///
    /// # Errors
    ///
    /// [`GenerateError::Prompt`] when it cannot be read, [`GenerateError::Overloaded`] when the
    /// queue is full, [`GenerateError::Stopped`].
    pub fn generate(
        &self,
        prompt: Vec<u32>,
        parameters: Parameters,
    ) -> Result<Output, GenerateError> {
        parameters.check()?;
        if prompt.is_empty() {
            return Err(PromptError::Empty.into());
        }
        let vocabulary = self.vocabulary();
        if let Some(id) = prompt.iter().copied().find(|id| vocabulary <= *id as usize) {
            return Err(PromptError::Token { id, vocabulary }.into());
        }
        let limit = self.positions();
        if limit < prompt.len().saturating_add(parameters.max_tokens) {
            let (prompt, output) = (prompt.len(), parameters.max_tokens);
            return Err(PromptError::Positions { prompt, output, limit }.into());
        }
        let constraint = parameters.schema.as_ref().map(|schema| self.constraint(schema));
        let (events, receiver) = mpsc::unbounded_channel();
        let constraint = constraint.transpose()?;
        let request = Request { prompt, parameters, constraint, events, asked: Instant::now() };
        let requests = self.shared.worker.requests.as_ref().ok_or(GenerateError::Stopped)?;
        requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => GenerateError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => GenerateError::Stopped,
        })?;
        Ok(Output { events: receiver })
    }

    /// The tokens of a conversation in the form that the model was trained on, with the
    /// assistant's turn opened.
    ///
    /// # Errors
    ///
    /// When the model has no template, or the template or the tokenizer refuses.
    pub fn chat_prompt(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
    ) -> Result<Vec<u32>, PromptError> {
        let template = self.shared.facts.template.as_ref().ok_or(PromptError::NoTemplate)?;
        // The template writes the special tokens itself.
        self.shared.facts.tokens.encode(&template.render(messages, tools, true)?, false)
    }

    /// The tokens of a plain text, with those that the tokenizer puts around it.
    ///
    /// # Errors
    ///
    /// When it is over [`PROMPT_BYTES_MAX`](super::limits::PROMPT_BYTES_MAX).
    pub fn text_prompt(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        self.shared.facts.tokens.encode(text, true)
    }

    /// The text of tokens, without special ones.
    pub fn text(&self, tokens: &[u32]) -> String {
        self.shared.facts.tokens.decode(tokens, true)
    }

    /// How the model's publisher samples.
    pub fn defaults(&self) -> &Parameters {
        &self.shared.facts.defaults
    }

    /// Most tokens of a prompt and its output together: what the model and the cache allow.
    pub fn positions(&self) -> usize {
        self.shared.facts.positions.min(self.shared.cache_tokens)
    }

    /// SHA-256 over the line `auspex-model-1` and the output of `sha256sum` on `config.json`,
    /// `tokenizer.json` and all weight files in the order of their names.
    pub fn model_hash(&self) -> [u8; 32] {
        self.shared.facts.model_hash
    }

    /// How the weights are kept.
    pub fn storage(&self) -> Storage {
        self.shared.facts.storage
    }

    /// Where the model runs: never [`DeviceChoice::Auto`].
    pub fn device(&self) -> DeviceChoice {
        self.shared.facts.device
    }

    /// The arithmetic, as transcripts name it: of what, beside the model, prompt and parameters, the bits depend.
    pub fn profile(&self) -> &str {
        &self.shared.facts.profile
    }

    /// Number of ids that the model knows.
    pub fn vocabulary(&self) -> usize {
        self.shared.facts.vocabulary
    }

    /// Bytes of weights that writing one token of one output reads.
    pub fn weight_bytes(&self) -> usize {
        self.shared.facts.weight_bytes
    }

    fn constraint(&self, schema: &Value) -> Result<Constraint, PromptError> {
        let vocabulary = self.shared.vocabulary.as_ref().ok_or_else(|| {
            let reason = "this model's tokenizer does not write bytes, so its output cannot be held to a form";
            PromptError::Schema(reason.to_owned())
        })?;
        Constraint::new(schema, Arc::clone(vocabulary)).map_err(PromptError::Schema)
    }
}

impl Output {
    /// The next event; after [`Event::Done`] there is none. A model that failed in between is an
    /// [`Event::Done`] as well.
    pub async fn next(&mut self) -> Event {
        self.events.recv().await.unwrap_or(Event::Done(Err(GenerateError::Stopped)))
    }

    /// Waits for the end; gives the whole text and what it came of.
    ///
    /// # Errors
    ///
    /// [`GenerateError::Device`], [`GenerateError::Stopped`] or [`GenerateError::Numbers`].
    pub async fn whole(mut self) -> Result<(String, Completion), GenerateError> {
        let mut text = String::new();
        loop {
            match self.next().await {
                Event::Read { .. } => {}
                Event::Text(piece) => text.push_str(&piece),
                Event::Done(outcome) => return outcome.map(|completion| (text, *completion)),
            }
        }
    }
}

impl fmt::Debug for Generator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Generator")
            .field("storage", &self.storage())
            .field("positions", &self.positions())
            .finish_non_exhaustive()
    }
}

/// What the clones of a handle have in common.
struct Shared {
    facts: Arc<Facts>,
    vocabulary: Option<Arc<Vocabulary>>,
    cache_tokens: usize,
    worker: Worker,
}

/// The thread and the way to it; both are there until the drop.
struct Worker {
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The closed channel is what ends the thread.
        self.requests = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the decoder's thread panicked");
        }
    }
}
