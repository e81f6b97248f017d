//! `POST /v1/rerank`: documents by how well they answer a query, best first, equal ones in their order.

use auspex_inference::{Engine, Reranker, probability};
use serde_json::{Value, json};

use super::failure::Failure;
use super::vectors::count;
use super::wire::RerankRequest;

/// By a cross-encoder's probability that a document answers the query.
pub(super) async fn by_cross_encoder(
    reranker: &Reranker,
    request: RerankRequest,
) -> Result<Value, Failure> {
    check(&request)?;
    let counted = |text: &String| reranker.count_tokens(text);
    let counts = request.documents.iter().chain([&request.query]).map(counted);
    let tokens: usize = counts
        .sum::<Result<usize, _>>()
        .map_err(|error| Failure::request("documents", error.to_string()))?;
    let scores = reranker.try_score(request.query.clone(), request.documents.clone()).await?;
    let scores: Vec<f32> = scores.into_iter().map(probability).collect();
    Ok(ranked(&request, &scores, tokens))
}

/// By the cosine of an embedding model's vectors.
pub(super) async fn by_vectors(engine: &Engine, request: RerankRequest) -> Result<Value, Failure> {
    check(&request)?;
    let mut texts = request.documents.clone();
    texts.push(request.query.clone());
    let tokens = count(engine, &texts)?;
    let mut vectors = engine.try_embed(texts).await?;
    let query = vectors.pop().unwrap_or_default();
    let cosine = |vector: &Vec<f32>| vector.iter().zip(&query).map(|(a, b)| a * b).sum();
    let scores: Vec<f32> = vectors.iter().map(cosine).collect();
    Ok(ranked(&request, &scores, tokens))
}

fn check(request: &RerankRequest) -> Result<(), Failure> {
    if request.documents.is_empty() {
        return Err(Failure::request("documents", "it is empty"));
    }
    Ok(())
}

fn ranked(request: &RerankRequest, scores: &[f32], tokens: usize) -> Value {
    let mut order: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
    order.sort_by(|left, right| right.1.total_cmp(&left.1));
    order.truncate(request.top_n.unwrap_or(usize::MAX));
    let result = |(index, score): &(usize, f32)| {
        let mut result = json!({"index": index, "relevance_score": score});
        if request.return_documents {
            result["document"] = json!({"text": request.documents[*index]});
        }
        result
    };
    let results: Vec<Value> = order.iter().map(result).collect();
    json!({"model": request.model, "results": results, "usage": {"total_tokens": tokens}})
}
