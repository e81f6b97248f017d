//! `POST /v1/embeddings`.

use auspex_inference::Engine;
use serde_json::{Value, json};

use super::failure::Failure;
use super::wire::EmbeddingRequest;

/// One unit vector for each text. The official clients ask for base64, which is the vector's
/// little-endian `f32`s.
pub(super) async fn embed(engine: &Engine, request: EmbeddingRequest) -> Result<Value, Failure> {
    let base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message = format!("{other:?} is neither float nor base64");
            return Err(Failure::request("encoding_format", message));
        }
    };
    if request.dimensions.is_some_and(|wanted| wanted != engine.dimensions()) {
        let message = format!("this model's vectors have {}", engine.dimensions());
        return Err(Failure::request("dimensions", message));
    }
    let texts = request.input.into_vec();
    if texts.is_empty() {
        return Err(Failure::request("input", "it is empty"));
    }
    let tokens = count(engine, &texts)?;
    let vectors = engine.try_embed(texts).await?;
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| {
            let embedding = if base64 { encode(vector) } else { json!(vector) };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    Ok(json!({
        "object": "list",
        "data": data,
        "model": request.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }))
}

/// Tokens of texts, as far as the model reads them.
pub(super) fn count(engine: &Engine, texts: &[String]) -> Result<usize, Failure> {
    let mut tokens = 0;
    for text in texts {
        let counted = engine.count_tokens(text);
        let counted = counted.map_err(|error| Failure::request("input", error.to_string()))?;
        tokens += counted.min(engine.content_tokens_max());
    }
    Ok(tokens)
}

fn encode(vector: &[f32]) -> Value {
    use base64::Engine as _;
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    Value::String(base64::engine::general_purpose::STANDARD.encode(bytes))
}
