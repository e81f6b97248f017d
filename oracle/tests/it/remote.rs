//! Other people's models: what a server may do with a request, and what of its answer is shown before it is whole.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::primitives::B256;
use auspex_devnet::postgres::TestDatabase;
use auspex_inference::decoder::Message;
use auspex_oracle::answer::Outcome;
use auspex_oracle::answer::written::{self, Writer};
use auspex_oracle::corpus;
use auspex_oracle::keys::ResultSigner;
use auspex_oracle::meter::Meters;
use auspex_oracle::openai::remote::{Remote, RemoteError};
use auspex_oracle::partial::{Publisher, Queue};
use auspex_protocol::message::{QuorumMessage, open};
use auspex_protocol::topic::Topics;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::{StreamExt, stream};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

use crate::corpus::{add, embedder};
use crate::lease::domain;
use crate::openai::{KEY, Server, listen};
use crate::scene::chain::key;

/// What a server does with one request.
enum Turn {
    /// Sends these bytes and ends.
    Stream(Vec<String>),
    /// Sends these bytes, and then nothing, for ever.
    Stall(Vec<String>),
    /// Sends what the test gives it, until that ends; an error breaks the connection.
    Paced(mpsc::UnboundedReceiver<io::Result<String>>),
    Document(Value),
    Refuse(u16, &'static str),
}

#[derive(Default)]
struct Script {
    turns: Mutex<VecDeque<Turn>>,
    asked: Mutex<Vec<Value>>,
}

/// A server that takes these turns, and a remote model there.
async fn scripted(turns: impl IntoIterator<Item = Turn>) -> (Arc<Script>, Remote, DropGuard) {
    let script = Arc::new(Script::default());
    script.turns.lock().unwrap().extend(turns);
    let router = Router::new()
        .route("/v1/chat/completions", post(take_turn))
        .with_state(Arc::clone(&script));
    let (url, guard) = listen(router).await;
    let url = format!("{url}/v1").parse().unwrap();
    let remote = Remote::new(url, None, "m".to_owned(), Duration::from_secs(3)).unwrap();
    (script, remote, guard)
}

async fn take_turn(State(script): State<Arc<Script>>, Json(body): Json<Value>) -> Response {
    script.asked.lock().unwrap().push(body);
    let turn = script.turns.lock().unwrap().pop_front().expect("one more turn");
    let sent = |pieces: Vec<String>| stream::iter(pieces.into_iter().map(io::Result::Ok));
    let events = |body: Body| ([("content-type", "text/event-stream")], body).into_response();
    match turn {
        Turn::Stream(pieces) => events(Body::from_stream(sent(pieces))),
        Turn::Stall(pieces) => events(Body::from_stream(sent(pieces).chain(stream::pending()))),
        Turn::Paced(pieces) => {
            let pieces =
                stream::unfold(pieces, |mut pieces| async { Some((pieces.recv().await?, pieces)) });
            events(Body::from_stream(pieces))
        }
        Turn::Document(document) => Json(document).into_response(),
        Turn::Refuse(status, words) => {
            let status = StatusCode::from_u16(status).unwrap();
            (status, [("retry-after", "0")], words).into_response()
        }
    }
}

/// The event with a piece of text.
fn said(text: &str) -> String {
    let choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": null});
    format!("data: {}\n\n", json!({"object": "chat.completion.chunk", "choices": [choice]}))
}

/// The events behind the last piece of text.
fn end() -> String {
    let choice = json!({"index": 0, "delta": {}, "finish_reason": "stop"});
    format!("data: {}\n\ndata: [DONE]\n\n", json!({ "choices": [choice] }))
}

fn answer(text: &str) -> Value {
    let message = json!({"role": "assistant", "content": text});
    json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
}

/// Asks, and says what was shown.
async fn ask(remote: &Remote) -> (Result<String, RemoteError>, Vec<String>) {
    let mut shown = Vec::new();
    let outcome =
        remote.complete(&[Message::user("Who?")], 8, |text| shown.push(text.to_owned())).await;
    (outcome, shown)
}

#[tokio::test]
async fn the_text_is_shown_while_it_is_said() {
    let (say, pieces) = mpsc::unbounded_channel();
    let (script, remote, _guard) = scripted([Turn::Paced(pieces)]).await;
    let (show, mut shown) = mpsc::unbounded_channel();
    let asking = tokio::spawn(async move {
        let show = |text: &str| show.send(text.to_owned()).unwrap();
        remote.complete(&[Message::user("Who?")], 8, show).await
    });
    say.send(Ok(": keep-alive\r\n\r\n".to_owned())).unwrap();
    let mut whole = String::new();
    for piece in ["Só", " 🦀", " it is."] {
        let event = said(piece).replace('\n', "\r\n");
        let (begin, rest) = event.split_at(event.floor_char_boundary(event.len() / 2));
        say.send(Ok(begin.to_owned())).unwrap();
        say.send(Ok(rest.to_owned())).unwrap();
        whole.push_str(piece);
        assert_eq!(shown.recv().await.unwrap(), whole);
    }
    say.send(Ok(end())).unwrap();
    drop(say);
    assert_eq!(asking.await.unwrap().unwrap(), whole);
    assert_eq!(shown.recv().await, None);
    let asked = &script.asked.lock().unwrap()[0];
    assert_eq!((&asked["stream"], &asked["max_tokens"]), (&json!(true), &json!(8)));
    assert_eq!(asked["stream_options"], json!({"include_usage": true}));
}

#[tokio::test]
async fn a_stream_that_breaks_begins_anew_and_nothing_of_it_stays() {
    let error = format!("data: {}\n\n", json!({"error": {"message": "lost", "code": 503}}));
    let flaws = [
        Turn::Stream(vec![said("No"), said("body")]),
        Turn::Stream(vec![said("No"), said("body"), error]),
        Turn::Stall(vec![said("No"), said("body")]),
    ];
    let asking = flaws.into_iter().map(|flaw| async {
        let good = Turn::Stream(vec![said("Any"), said("one."), end()]);
        let (script, remote, _guard) = scripted([flaw, good]).await;
        let (outcome, shown) = ask(&remote).await;
        assert_eq!(outcome.unwrap(), "Anyone.");
        assert_eq!(shown.last().unwrap(), "Anyone.");
        assert!(shown.iter().any(|text| text == "Nobody"), "{shown:?}");
        assert!(shown.iter().all(|text| "Nobody".starts_with(text) || "Anyone.".starts_with(text)));
        assert_eq!(script.asked.lock().unwrap().len(), 2);
    });
    futures::future::join_all(asking).await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_followed_by_another() {
    let (say, pieces) = mpsc::unbounded_channel();
    let good = Turn::Stream(vec![said("Anyone."), end()]);
    let (_script, remote, _guard) = scripted([Turn::Paced(pieces), good]).await;
    let (show, mut shown) = mpsc::unbounded_channel();
    let asking = tokio::spawn(async move {
        let show = |text: &str| show.send(text.to_owned()).unwrap();
        remote.complete(&[Message::user("Who?")], 8, show).await
    });
    say.send(Ok(said("Nobody"))).unwrap();
    assert_eq!(shown.recv().await.unwrap(), "Nobody");
    say.send(Err(io::Error::other("broken"))).unwrap();
    assert_eq!(shown.recv().await.unwrap(), "Anyone.");
    assert_eq!(asking.await.unwrap().unwrap(), "Anyone.");
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let busy = || Turn::Refuse(503, "busy");
    let last = Turn::Stream(vec![said("Anyone")]);
    let (script, remote, _guard) = scripted([busy(), busy(), busy(), last]).await;
    let error = ask(&remote).await.0.unwrap_err();
    assert!(matches!(error, RemoteError::Unreachable { .. }), "{error}");
    assert_eq!(script.asked.lock().unwrap().len(), 4);

    let error = json!({"error": {"message": "too long", "code": 400}});
    let refused = Turn::Stream(vec![said("Anyone"), format!("data: {error}\n\n")]);
    let (script, remote, _guard) = scripted([refused]).await;
    let error = ask(&remote).await.0.unwrap_err();
    assert!(matches!(error, RemoteError::Refused { status: 400, .. }), "{error}");
    assert_eq!(script.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_whole_does_not_need_what_comes_behind_it() {
    let choice = json!({"index": 0, "delta": {"content": "Anyone."}, "finish_reason": "stop"});
    let last = format!("data: {}\n\n", json!({ "choices": [choice] }));
    let (_script, remote, _guard) = scripted([Turn::Stream(vec![last.clone()])]).await;
    let (outcome, shown) = ask(&remote).await;
    assert_eq!((outcome.unwrap().as_str(), shown), ("Anyone.", vec!["Anyone.".to_owned()]));

    let (say, pieces) = mpsc::unbounded_channel();
    let (_script, remote, _guard) = scripted([Turn::Paced(pieces)]).await;
    let show = |_: &str| say.send(Err(io::Error::other("broken"))).unwrap();
    say.send(Ok(last)).unwrap();
    assert_eq!(remote.complete(&[Message::user("Who?")], 8, show).await.unwrap(), "Anyone.");
}

#[tokio::test]
async fn who_does_not_stream_is_asked_for_less() {
    let (script, remote, _guard) = scripted([Turn::Document(answer("Anyone."))]).await;
    let (outcome, shown) = ask(&remote).await;
    assert_eq!((outcome.unwrap().as_str(), shown), ("Anyone.", vec![]));
    assert_eq!(script.asked.lock().unwrap().len(), 1);

    let turns = [
        Turn::Refuse(400, "unknown field stream_options"),
        Turn::Refuse(422, "stream is not supported"),
        Turn::Document(answer("Anyone.")),
    ];
    let (script, remote, _guard) = scripted(turns).await;
    assert_eq!(ask(&remote).await.0.unwrap(), "Anyone.");
    let asked = std::mem::take(&mut *script.asked.lock().unwrap());
    let wanted: Vec<_> =
        asked.iter().map(|body| (&body["stream"], &body["stream_options"])).collect();
    let counted = json!({"include_usage": true});
    let (yes, no, nothing) = (json!(true), json!(false), Value::Null);
    assert_eq!(wanted, [(&yes, &counted), (&yes, &nothing), (&no, &nothing)]);

    let (script, remote, _guard) = scripted([Turn::Refuse(400, "too many tokens")]).await;
    let error = ask(&remote).await.0.unwrap_err();
    assert!(matches!(error, RemoteError::Refused { status: 400, .. }), "{error}");
    assert_eq!(script.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_remote_model_says_is_published_before_it_is_whole() {
    let (say, pieces) = mpsc::unbounded_channel();
    let (_script, remote, _guard) = scripted([Turn::Paced(pieces)]).await;
    let request_id = B256::repeat_byte(4);
    let queue = Arc::new(Queue::default());
    let publisher = Publisher {
        signer: ResultSigner::new(key(B256::repeat_byte(1))),
        domain: domain(),
        topics: Topics::new(31337, alloy::primitives::Address::repeat_byte(3)),
        queue: Arc::clone(&queue),
        meters: Arc::new(Meters::default()),
        interval: Duration::from_millis(1),
    };
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool();
    let corpus = corpus::create(&pool, "docs", &embedder(1)).await.unwrap();
    add(&pool, &corpus, "escrow.md", "Anyone may refund a request after its deadline.").await;
    let unfinished = publisher.begin(request_id);
    let writing = tokio::spawn(async move {
        let question = "Who may refund a request after the deadline?";
        let writer = Writer::Remote(remote);
        written::answer(&pool, &corpus, &embedder(1), &writer, question, &unfinished).await
    });
    let mut whole = String::new();
    for piece in ["Anyone", " may refund", " [1]."] {
        say.send(Ok(said(piece))).unwrap();
        whole.push_str(piece);
        let mut heard = String::new();
        while heard != whole {
            let Some(part) = queue.pop() else {
                queue.rung().await;
                continue;
            };
            let (_, message) = open(&domain(), &part.payload).unwrap();
            let QuorumMessage::Partial { offset, text, .. } = message else {
                panic!("{message:?} is no part")
            };
            heard = whole[..usize::try_from(offset).unwrap()].to_owned() + &text;
        }
    }
    say.send(Ok(end())).unwrap();
    drop(say);
    let Outcome::Answered(answer) = writing.await.unwrap().unwrap().outcome else {
        panic!("declined")
    };
    assert_eq!(answer.text, whole);
}

#[tokio::test]
async fn a_remote_model_is_our_own_server() {
    let server = Server::start(Some(KEY)).await;
    let remote = remote(&format!("{}/v1", server.url), Some(KEY));
    let text = remote.complete(&[Message::user("Who may refund?")], 8, |_| ()).await.unwrap();
    let again = remote.complete(&[Message::user("Who may refund?")], 8, |_| ()).await.unwrap();
    assert_eq!(text, again);
    let error = remote.complete(&[], 8, |_| ()).await.unwrap_err();
    assert!(matches!(error, RemoteError::Refused { status: 400, .. }), "{error}");
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_nothing_secret_is_told() {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let handler = move |headers: HeaderMap| {
        let seen = Arc::clone(&seen);
        async move {
            let authorization = headers["authorization"].to_str().unwrap().to_owned();
            let body = json!({"error": {"message": format!("busy, {authorization}")}});
            match seen.fetch_add(1, Ordering::SeqCst) {
                0 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")], Json(body)),
                1 => (StatusCode::BAD_GATEWAY, [("retry-after", "0")], Json(body)),
                2 => {
                    let said = json!({"id": "x", "object": "chat.completion", "created": 1, "model": "m",
                        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes [1]."},
                        "finish_reason": "stop"}]});
                    (StatusCode::OK, [("retry-after", "0")], Json(said))
                }
                _ => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")], Json(body)),
            }
        }
    };
    let router = Router::new().route("/secret-path/chat/completions", post(handler));
    let (url, _guard) = listen(router).await;
    let remote = remote(&format!("{url}/secret-path"), Some(KEY));
    let messages = [Message::user("Who?")];
    assert_eq!(remote.complete(&messages, 8, |_| ()).await.unwrap(), "Yes [1].");
    assert_eq!(count.load(Ordering::SeqCst), 3);
    let error = remote.complete(&messages, 8, |_| ()).await.unwrap_err();
    assert_eq!(count.load(Ordering::SeqCst), 7);
    for text in [error.to_string(), format!("{error:?}"), format!("{remote:?}")] {
        assert!(!text.contains("CANARY") && !text.contains("secret-path"), "{text}");
    }
    assert!(error.to_string().contains("after 4 tries"), "{error}");
}

fn remote(url: &str, key: Option<&str>) -> Remote {
    let key = key.map(SecretString::from);
    Remote::new(url.parse().unwrap(), key, "tiny".to_owned(), Duration::from_secs(30)).unwrap()
}
