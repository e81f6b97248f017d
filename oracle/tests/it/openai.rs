//! OpenAI's interface on the wire: our models behind it. `oracle/scripts/check_openai_client.py` does the same with the official client.

use std::path::{Path, PathBuf};

use auspex_inference::Reranker;
use auspex_inference::decoder::{Generator, Options, Storage};
use auspex_oracle::openai::serve::{self, Models};
use axum::Router;
use axum::http::StatusCode;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Public, for these tests only.
pub(crate) const KEY: &str = "test-key-CANARY";

#[tokio::test]
async fn a_chat_is_answered_whole_and_in_pieces_with_the_same_text() {
    let server = Server::start(None).await;
    let request = chat(&json!({"max_tokens": 24, "temperature": 1.2, "seed": 5}));
    let (status, whole) = server.post("/v1/chat/completions", &request).await;
    assert_eq!(status, StatusCode::OK, "{whole}");
    assert_eq!(whole["object"], "chat.completion");
    let choice = &whole["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert!(["stop", "length"].contains(&choice["finish_reason"].as_str().unwrap()));
    let usage = &whole["usage"];
    let sum =
        usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
    assert_eq!(whole["transcript"]["profile"], "cpu-f32-1");

    let mut request = request;
    request["stream"] = true.into();
    request["stream_options"] = json!({"include_usage": true});
    let response = server.send("/v1/chat/completions", &request).await;
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    let body = response.text().await.unwrap();
    let mut events: Vec<&str> =
        body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(events.pop(), Some("[DONE]"));
    let events: Vec<Value> =
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk"));
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, choice["message"]["content"].as_str().unwrap());
    let last = &events[events.len() - 2];
    assert_eq!(last["choices"][0]["finish_reason"], choice["finish_reason"]);
    assert_eq!(last["transcript"], whole["transcript"]);
    assert_eq!(events[events.len() - 1]["usage"], *usage);
}

#[tokio::test]
async fn a_schema_shapes_the_answer() {
    let server = Server::start(None).await;
    let schema =
        json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let (_, answer) =
        server.post("/v1/chat/completions", &chat(&json!({"response_format": format}))).await;
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap()["ok"].is_boolean(), "{text}");
}

#[tokio::test]
async fn a_wrong_request_names_its_field() {
    let server = Server::start(None).await;
    for (change, status, parameter) in [
        (json!({"model": "gpt"}), 404, "model"),
        (json!({"messages": []}), 400, "messages"),
        (json!({"n": 2}), 400, "n"),
        (json!({"top_p": 0}), 400, "messages"),
        (json!({"logprobs": true}), 400, "logprobs"),
        (json!({"max_tokens": 1_000_000}), 400, "messages"),
        (json!({"response_format": {"type": "json_object"}}), 400, "response_format"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            400,
            "messages",
        ),
        (json!({"messages": "x"}), 422, "body"),
    ] {
        let (found, body) = server.post("/v1/chat/completions", &chat(&change)).await;
        assert_eq!(found.as_u16(), status, "{change}: {body}");
        let error = &body["error"];
        assert_eq!(error["param"], parameter, "{change}: {body}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
    let (status, body) = server.post("/v1/nothing", &json!({})).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (404, &json!("unknown_url")));
    let (status, body) = server.post("/v1/embeddings", &json!({"model": "x", "input": "a"})).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn a_key_is_asked_for() {
    let server = Server::start(Some(KEY)).await;
    let url = format!("{}/v1/models", server.url);
    let client = reqwest::Client::new();
    for key in [None, Some("wrong"), Some(KEY)] {
        let mut request = client.get(&url);
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status() == StatusCode::OK, key == Some(KEY));
        let body: Value = response.json().await.unwrap();
        if key == Some(KEY) {
            assert_eq!(body["data"][0]["id"], "tiny");
            assert_eq!(body["data"][0]["task"], "chat");
        } else {
            assert_eq!(body["error"]["code"], "invalid_api_key");
        }
    }
}

#[tokio::test]
async fn a_cross_encoder_ranks_documents() {
    let server = Server::start(None).await;
    let file = std::fs::read_to_string(cross().join("reference.json")).unwrap();
    let reference: Value = serde_json::from_str(&file).unwrap();
    let (query, documents) =
        (&reference["pairs"][0][0], [0, 1, 2].map(|i| &reference["pairs"][i][1]));
    let request = json!({
        "model": "cross", "query": query, "documents": documents, "top_n": 2, "return_documents": true,
    });
    let (status, body) = server.post("/v1/rerank", &request).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    // PyTorch's logits of the three pairs with this query.
    let logit = |index: usize| reference["logits"][index].as_f64().unwrap();
    let mut order = [0, 1, 2];
    order.sort_by(|left, right| logit(*right).total_cmp(&logit(*left)));
    let results = body["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for (result, index) in results.iter().zip(order) {
        assert_eq!(result["index"], index);
        assert_eq!(result["document"]["text"], *documents[index]);
        let expected = 1.0 / (1.0 + (-logit(index)).exp());
        assert!((result["relevance_score"].as_f64().unwrap() - expected).abs() < 1e-6, "{body}");
    }
    let (status, body) =
        server.post("/v1/rerank", &json!({"model": "cross", "query": "", "documents": []})).await;
    assert_eq!((status.as_u16(), &body["error"]["param"]), (400, &json!("documents")));
    let (status, body) =
        server.post("/v1/rerank", &json!({"model": "x", "query": "", "documents": [""]})).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (404, &json!("model_not_found")));
    assert!(body["error"]["message"].as_str().unwrap().contains("cross"), "{body}");
}

#[tokio::test]
async fn what_models_do_is_measured() {
    let server = Server::start(None).await;
    let request = json!({"model": "cross", "query": "Who?", "documents": ["the escrow", "nobody"]});
    let (status, body) = server.post("/v1/rerank", &request).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let text = reqwest::get(format!("{}/metrics", server.url)).await.unwrap().text().await.unwrap();
    for name in
        ["queue_seconds", "tokenize_seconds", "batch_seconds", "batch_fill_ratio", "queue_tokens"]
    {
        assert!(text.contains(&format!("auspex_inference_{name}")), "{name}: {text}");
    }
}

/// A server with the tiny chat model and the tiny cross-encoder.
pub(crate) struct Server {
    pub(crate) url: String,
    _guard: DropGuard,
}

impl Server {
    pub(crate) async fn start(key: Option<&str>) -> Self {
        let options = Options { storage: Storage::F32, cache_tokens: 256, ..Options::default() };
        let generator = tokio::task::spawn_blocking(|| Generator::start(&tiny(), options));
        let generator = generator.await.unwrap().unwrap();
        let reranker = tokio::task::spawn_blocking(|| Reranker::start(&cross()));
        let reranker = reranker.await.unwrap().unwrap();
        let models = Models {
            chat: Some(("tiny".to_owned(), generator)),
            embedding: None,
            reranking: Some(("cross".to_owned(), reranker)),
            key: key.map(SecretString::from),
        };
        let (url, guard) = listen(serve::app(models)).await;
        Self { url, _guard: guard }
    }

    async fn send(&self, path: &str, body: &Value) -> reqwest::Response {
        let client = reqwest::Client::new();
        client.post(format!("{}{path}", self.url)).json(body).send().await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let response = self.send(path, body).await;
        let status = response.status();
        (status, response.json().await.unwrap())
    }
}

pub(crate) async fn listen(router: Router) -> (String, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(
        async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await },
    );
    (url, stop.drop_guard())
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../inference/tests/decoder/qwen3")
}

fn cross() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../inference/tests/encoder/cross")
}

fn chat(change: &Value) -> Value {
    let mut request = json!({
        "model": "tiny", "messages": [{"role": "user", "content": "Who may refund?"}],
    });
    for (field, value) in change.as_object().unwrap() {
        request[field] = value.clone();
    }
    request
}
