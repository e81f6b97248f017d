//! One GraphQL request from its text to its answer.

use std::fmt::Write;
use std::sync::Arc;

use async_graphql::dynamic::Schema;
use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, OperationType,
};
use async_graphql::{
    Data, Executor, Name, Positioned, Request, Response, ServerError, Value, Variables,
};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use super::error::{ErrorView, Failure, Refusal};
use super::run::{self, Outcome};
use super::{document, literal, plan, planner};
use crate::serve::layer::limited;
use crate::serve::snapshot;
use crate::serve::state::{ServeState, chain_key};

/// Answers requests about one chain.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    pub(super) state: ServeState,
    /// The place of the chain in the configuration.
    pub(super) chain: usize,
    /// The operations that may still be begun, where several share one connection; each of them holds one until it ends.
    pub(super) operations: Option<Arc<Semaphore>>,
}

/// What a client sends.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Query {
    pub(super) query: String,
    #[serde(default)]
    pub(super) variables: Option<Variables>,
    #[serde(default)]
    pub(super) operation_name: Option<String>,
}

impl Engine {
    /// Answers a query as JSON text.
    pub(super) async fn answer(&self, query: &Query) -> String {
        match self.read(query).await {
            Ok(answer) => answer,
            Err(failures) => refused(&failures),
        }
    }

    async fn read(&self, query: &Query) -> Result<String, Vec<ErrorView>> {
        let Planned { roots, introspected } = planned(&self.state.schema, query).await?;
        let only_introspection = roots
            .iter()
            .all(|root| matches!(root.read, plan::Read::Introspection | plan::Read::Typename));
        let outcome = if only_introspection {
            let parts = roots.iter().map(|root| run::Part {
                key: root.key.clone(),
                json: matches!(root.read, plan::Read::Typename).then(|| "\"Query\"".to_owned()),
            });
            Outcome { parts: parts.collect(), withheld: false }
        } else {
            self.run(&roots).await.map_err(|failure| vec![failure.view()])?
        };
        Ok(written(&outcome, &introspected))
    }

    async fn run(&self, roots: &[plan::Root]) -> Result<Outcome, Failure> {
        let deployment = self.state.chains.get(self.chain).ok_or(Refusal::Internal)?;
        let name = super::transport::deployment_name(deployment.chain_id);
        let mut database = snapshot::begin(&self.state.pool).await.map_err(Refusal::from)?;
        let outcome = run::run(&mut database, chain_key(deployment), &name, roots).await;
        // Nothing was written, so it is the same how the transaction ends; but it has to end before the connection goes back.
        database.rollback().await.map_err(Refusal::from)?;
        outcome
    }
}

/// What a request reads, and what the schema alone could answer of it.
pub(super) struct Planned {
    pub(super) roots: Vec<plan::Root>,
    introspected: Value,
}

/// Everything between a request and the database.
pub(super) async fn planned(schema: &Schema, query: &Query) -> Result<Planned, Vec<ErrorView>> {
    let document = document::parse(&query.query).map_err(views)?;
    document::check(&document).map_err(views)?;
    let operation = chosen(&document, query.operation_name.as_deref()).map_err(views)?.clone();
    if operation.node.ty == OperationType::Subscription {
        return Err(views(Refusal::Document {
            message: "A subscription needs a stream: ask with `Accept: text/event-stream`, or on /graphql/ws".into(),
            position: Some((operation.pos.line, operation.pos.column)),
        }));
    }
    let variables = query.variables.clone().unwrap_or_default();
    let fragments = document.fragments.clone();
    let introspected = introspect(schema, query, document, &variables).await?;
    let bound = literal::bind(&operation.node, &variables).map_err(views)?;
    let roots = planner::plan(&operation.node.selection_set.node, &fragments, &bound)
        .map_err(|failure| vec![failure.view()])?;
    Ok(Planned { roots, introspected })
}

/// Validates the document, and answers what it asks about the schema; every other field comes back as null.
async fn introspect(
    schema: &Schema,
    query: &Query,
    document: ExecutableDocument,
    variables: &Variables,
) -> Result<Value, Vec<ErrorView>> {
    let mut request =
        Request::new(query.query.as_str()).variables(variables.clone()).only_introspection();
    if let Some(name) = &query.operation_name {
        request = request.operation_name(name);
    }
    request.set_parsed_query(document);
    let response = schema.execute(request).await;
    if response.errors.is_empty() {
        Ok(response.data)
    } else {
        Err(response.errors.iter().map(view).collect())
    }
}

/// The operation that a request means.
fn chosen<'a>(
    document: &'a ExecutableDocument,
    name: Option<&str>,
) -> Result<&'a Positioned<OperationDefinition>, Refusal> {
    let refuse = |message: String| Refusal::Document { message, position: None };
    match (&document.operations, name) {
        (DocumentOperations::Single(operation), _) => Ok(operation),
        (DocumentOperations::Multiple(operations), Some(name)) => operations
            .get(&Name::new(name))
            .ok_or_else(|| refuse(format!("The query has no operation `{name}`"))),
        (DocumentOperations::Multiple(operations), None) => {
            let mut all = operations.values();
            match (all.next(), all.next()) {
                (Some(only), None) => Ok(only),
                _ => Err(refuse(
                    "The query has several operations; `operationName` says which".into(),
                )),
            }
        }
    }
}

/// Puts the parts into one answer, byte for byte as the database wrote them.
fn written(outcome: &Outcome, introspected: &Value) -> String {
    let size: usize = outcome.parts.iter().map(|p| p.json.as_ref().map_or(0, String::len)).sum();
    let mut text = String::with_capacity(size + 64);
    text.push_str("{\"data\":{");
    for (place, part) in outcome.parts.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        // Writing into a string cannot fail.
        let _ = write!(text, "{comma}\"{}\":", part.key);
        match (&part.json, introspected) {
            (Some(json), _) => text.push_str(json),
            (None, Value::Object(fields)) => {
                let value = fields.get(part.key.as_str()).cloned().unwrap_or_default();
                text.push_str(&value.into_json().unwrap_or_default().to_string());
            }
            (None, _) => text.push_str("null"),
        }
    }
    text.push('}');
    if outcome.withheld {
        let errors = serde_json::json!([{ "message": Refusal::IndexingError.to_string() }]);
        let _ = write!(text, ",\"errors\":{errors}");
    }
    text.push('}');
    text
}

/// An answer without data.
pub(super) fn refused(errors: &[ErrorView]) -> String {
    serde_json::json!({ "errors": errors }).to_string()
}

pub(super) fn views(refusal: Refusal) -> Vec<ErrorView> {
    vec![Failure::from(refusal).view()]
}

fn view(error: &ServerError) -> ErrorView {
    let position = error.locations.first().map(|at| (at.line, at.column));
    Failure::from(Refusal::Document { message: error.message.clone(), position }).view()
}

/// For transports that speak async-graphql's own types: WebSocket, and streams of events.
impl Executor for Engine {
    async fn execute(&self, request: Request) -> Response {
        let query = Query {
            query: request.query,
            variables: Some(request.variables),
            operation_name: request.operation_name,
        };
        response(&self.answer(&query).await)
    }

    fn execute_stream(
        &self,
        request: Request,
        session_data: Option<Arc<Data>>,
    ) -> BoxStream<'static, Response> {
        let place = match self.operations.clone().map(Semaphore::try_acquire_owned).transpose() {
            Ok(place) => place,
            Err(_) => {
                let answer = response(&refused(&views(Refusal::Operations)));
                return stream::once(async move { answer }).boxed();
            }
        };
        let subscribes = document::parse(&request.query).and_then(|document| {
            document::check(&document)?;
            let operation = chosen(&document, request.operation_name.as_deref())?;
            Ok(operation.node.ty == OperationType::Subscription)
        });
        let answers = match subscribes {
            Err(refusal) => {
                let answer = response(&refused(&views(refusal)));
                stream::once(async move { answer }).boxed()
            }
            Ok(true) => {
                let request = request.data(self.state.clone());
                self.state
                    .schema
                    .execute_stream_with_session_data(request, session_data.unwrap_or_default())
            }
            Ok(false) => {
                let engine = self.clone();
                stream::once(async move {
                    let state = engine.state.clone();
                    let work = async move { engine.execute(request).await };
                    limited(&state, work).await.unwrap_or_else(|error| {
                        Response::from_errors(vec![ServerError::new(error.to_string(), None)])
                    })
                })
                .boxed()
            }
        };
        let held = answers.map(move |answer| {
            // The place is free again when the answers have ended or are wanted no more.
            let _ = &place;
            answer
        });
        held.boxed()
    }
}

/// The answer's text in async-graphql's type.
fn response(answer: &str) -> Response {
    #[derive(Deserialize)]
    struct Parts<'a> {
        #[serde(borrow)]
        data: Option<&'a RawValue>,
        #[serde(default)]
        errors: Vec<Message>,
    }
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    let Ok(parts) = serde_json::from_str::<Parts<'_>>(answer) else {
        return Response::from_errors(vec![ServerError::new("Internal error", None)]);
    };
    let data = parts.data.and_then(|data| serde_json::from_str(data.get()).ok());
    let mut response = Response::new(data.unwrap_or(Value::Null));
    response.errors =
        parts.errors.into_iter().map(|error| ServerError::new(error.message, None)).collect();
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use auspex_devnet::postgres::TestDatabase;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::health::Health;
    use crate::serve::ReadyLimits;
    use crate::serve::limits::REQUESTS_IN_FLIGHT_MAX;

    #[tokio::test]
    async fn a_query_over_a_socket_or_a_stream_is_one_of_the_requests_in_flight() {
        let database = TestDatabase::create().await.expect("create a database");
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let age = ReadyLimits { head_age_max: Duration::from_secs(60), block_age_max: None };
        let state = ServeState::new(database.pool(), Vec::new(), metrics, age, Health::default())
            .expect("build the state");
        let engine = Engine { state: state.clone(), chain: 0, operations: None };
        let ask = async || {
            let mut answers = engine.execute_stream(Request::new("{ __typename }"), None);
            let answer = answers.next().await.expect("an answer");
            answer.errors.first().map(|error| error.message.clone())
        };
        assert_eq!(ask().await, None);
        let all = u32::try_from(REQUESTS_IN_FLIGHT_MAX).expect("a small number");
        let taken = state.in_flight.acquire_many(all).await.expect("nobody else asks");
        let refused = ask().await.expect("a refusal");
        assert!(refused.contains("512 requests, its limit"), "{refused}");
        drop(taken);
        assert_eq!(ask().await, None);
    }
}
