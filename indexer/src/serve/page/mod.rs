//! Pages for people. Each is one file without anything from elsewhere, so that they work where there is no internet;
//! only `/graphiql` loads its scripts from a CDN.

use axum::http::header;
use axum::response::{Html, IntoResponse};

/// Scripts and styles stand in the page itself, and it talks to nobody but this server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`: how far the chains are indexed, and what happens on them.
pub(super) async fn status() -> impl IntoResponse {
    page(include_str!("status.html"))
}

/// `GET /graphql`: write a query, see its result and the schema.
pub(super) async fn query() -> impl IntoResponse {
    page(include_str!("query.html"))
}

/// `GET /graphiql`: the same with GraphiQL, which a browser fetches from a CDN.
pub(super) async fn graphiql() -> impl IntoResponse {
    Html(
        async_graphql::http::GraphiQLSource::build()
            .endpoint("/graphql")
            .subscription_endpoint("/graphql/ws")
            .title("Auspex GraphiQL")
            .finish(),
    )
}

fn page(html: &'static str) -> impl IntoResponse {
    (
        [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ],
        Html(html),
    )
}
