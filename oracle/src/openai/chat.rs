//! `POST /v1/chat/completions`.

use std::convert::Infallible;

use auspex_inference::decoder::{
    Completion, Event, Finish, Generator, Message, Output, Parameters, limits,
};
use axum::Json;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use futures::{Stream, stream};
use uuid::Uuid;

use super::failure::Failure;
use super::wire::{
    ChatMessage, ChatRequest, ChatResponse, Choice, Content, ResponseFormat, Said, TranscriptNote,
    Usage,
};

/// Tokens of an answer when the request does not say.
const ANSWER_TOKENS_DEFAULT: usize = 512;

/// Messages of one conversation.
const MESSAGES_MAX: usize = 1024;

/// Answers, in one document or as a stream of pieces.
pub(super) async fn answer(
    generator: &Generator,
    model: String,
    request: ChatRequest,
) -> Result<Response, Failure> {
    let (stream, usage) =
        (request.stream, request.stream_options.unwrap_or_default().include_usage);
    let (prompt, parameters) = read(generator, request)?;
    let output = generator.generate(prompt, parameters)?;
    let frame = Frame { id: format!("chatcmpl-{}", Uuid::new_v4().simple()), model };
    if stream {
        let events = pieces(frame, output, usage);
        return Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response());
    }
    let (text, completion) = output.whole().await?;
    let said = Said { role: Some("assistant".into()), content: Some(text) };
    let choice = Choice {
        index: 0,
        message: Some(said),
        delta: None,
        finish_reason: Some(reason(&completion).into()),
    };
    Ok(Json(ChatResponse {
        usage: Some(usage_of(&completion)),
        transcript: Some(note(&completion)),
        ..frame.response("chat.completion", vec![choice])
    })
    .into_response())
}

/// The prompt and how it is answered. What the request leaves open is as the model's publisher
/// recommends; the seed is 0, so that the same request has the same answer.
fn read(generator: &Generator, request: ChatRequest) -> Result<(Vec<u32>, Parameters), Failure> {
    if request.messages.is_empty() || MESSAGES_MAX < request.messages.len() {
        let count = request.messages.len();
        return Err(Failure::request(
            "messages",
            format!("{count}, allowed are 1 to {MESSAGES_MAX}"),
        ));
    }
    if request.n.is_some_and(|count| count != 1) {
        return Err(Failure::request("n", "only one answer for a request"));
    }
    if request.logprobs == Some(true) {
        return Err(Failure::request("logprobs", "log probabilities are not given"));
    }
    let schema = match request.response_format {
        None | Some(ResponseFormat::Text) => None,
        Some(ResponseFormat::JsonSchema { json_schema }) => Some(json_schema.schema),
        Some(ResponseFormat::JsonObject) => {
            let message = "json_object leaves the form open; send json_schema with a schema";
            return Err(Failure::request("response_format", message));
        }
    };
    let messages =
        request.messages.into_iter().map(message).collect::<Result<Vec<Message>, Failure>>()?;
    let prompt = generator
        .chat_prompt(&messages, request.tools.as_ref())
        .map_err(|error| Failure::request("messages", error.to_string()))?;
    let room = generator.positions().saturating_sub(prompt.len());
    let defaults = generator.defaults();
    let max_tokens = request.max_completion_tokens.or(request.max_tokens);
    let parameters = Parameters {
        max_tokens: max_tokens.unwrap_or(ANSWER_TOKENS_DEFAULT.min(room).max(1)),
        temperature: request.temperature.unwrap_or(defaults.temperature),
        top_k: request.top_k.unwrap_or(defaults.top_k),
        top_p: request.top_p.unwrap_or(defaults.top_p),
        min_p: request.min_p.unwrap_or(defaults.min_p),
        repetition_penalty: request.repetition_penalty.unwrap_or(defaults.repetition_penalty),
        seed: request.seed.unwrap_or(0),
        stop: request.stop.map_or_else(Vec::new, super::wire::OneOrMany::into_vec),
        schema,
    };
    Ok((prompt, parameters))
}

fn message(message: ChatMessage) -> Result<Message, Failure> {
    let content = match message.content {
        Content::Text(text) => text,
        Content::Parts(parts) => {
            let mut text = String::new();
            for part in parts {
                let Some(more) = part.text.filter(|_| part.kind == "text") else {
                    let message = format!("a part of type {:?}; only text is read", part.kind);
                    return Err(Failure::request("messages", message));
                };
                text.push_str(&more);
            }
            text
        }
    };
    if limits::PROMPT_BYTES_MAX < content.len() {
        let message = format!("{} bytes, the limit is {}", content.len(), limits::PROMPT_BYTES_MAX);
        return Err(Failure::request("messages", message));
    }
    Ok(Message { role: message.role, content })
}

/// What all pieces of one answer have in common.
struct Frame {
    id: String,
    model: String,
}

impl Frame {
    fn response(&self, object: &str, choices: Vec<Choice>) -> ChatResponse {
        ChatResponse {
            id: self.id.clone(),
            object: object.into(),
            created: Utc::now().timestamp(),
            model: self.model.clone(),
            choices,
            usage: None,
            transcript: None,
        }
    }

    fn piece(&self, delta: Said, finish: Option<&str>) -> ChatResponse {
        let choice = Choice {
            index: 0,
            message: None,
            delta: Some(delta),
            finish_reason: finish.map(str::to_owned),
        };
        self.response("chat.completion.chunk", vec![choice])
    }
}

/// Where a stream is.
enum Step {
    Begin,
    Text,
    Usage(Box<Completion>),
    Mark,
    End,
}

/// The role, the text as it comes, why it ended, the usage if it is wanted, and the mark of the
/// end. A client that leaves drops the stream, and with it the output.
fn pieces(
    frame: Frame,
    output: Output,
    usage: bool,
) -> impl Stream<Item = Result<SseEvent, Infallible>> {
    stream::unfold((frame, output, Step::Begin), move |(frame, mut output, step)| async move {
        let (event, next) = match step {
            Step::Begin => {
                let said = Said { role: Some("assistant".into()), content: Some(String::new()) };
                (document(&frame.piece(said, None)), Step::Text)
            }
            Step::Text => match output.next().await {
                // Clients pass over comments, and see that the connection lives.
                Event::Read { tokens, of } => {
                    let comment = format!("{tokens} of {of} tokens are read");
                    (SseEvent::default().comment(comment), Step::Text)
                }
                Event::Text(text) => {
                    let said = Said { role: None, content: Some(text) };
                    (document(&frame.piece(said, None)), Step::Text)
                }
                Event::Done(Ok(completion)) => {
                    let mut last = frame.piece(Said::default(), Some(reason(&completion)));
                    last.transcript = Some(note(&completion));
                    let next = if usage { Step::Usage(completion) } else { Step::Mark };
                    (document(&last), next)
                }
                Event::Done(Err(error)) => (document(&Failure::from(error).body()), Step::Mark),
            },
            Step::Usage(completion) => {
                let mut response = frame.response("chat.completion.chunk", Vec::new());
                response.usage = Some(usage_of(&completion));
                (document(&response), Step::Mark)
            }
            Step::Mark => (SseEvent::default().data("[DONE]"), Step::End),
            Step::End => return None,
        };
        Some((Ok(event), (frame, output, next)))
    })
}

fn document(value: &impl serde::Serialize) -> SseEvent {
    // These documents have text keys only, so they can always be written.
    SseEvent::default().data(serde_json::to_string(value).unwrap_or_default())
}

fn reason(completion: &Completion) -> &'static str {
    match completion.finish {
        Finish::End | Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

fn usage_of(completion: &Completion) -> Usage {
    let prompt_tokens = completion.transcript.prompt.len();
    let completion_tokens = completion.transcript.output.len();
    Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
}

fn note(completion: &Completion) -> TranscriptNote {
    let transcript = &completion.transcript;
    let text = |hash: [u8; 32]| format!("0x{}", hex::encode(hash));
    TranscriptNote {
        hash: text(transcript.hash()),
        model_hash: text(transcript.model_hash),
        tokenizer_hash: text(transcript.tokenizer_hash),
        profile: transcript.profile.clone(),
        seed: transcript.parameters.seed,
    }
}
