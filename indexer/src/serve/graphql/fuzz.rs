//! A GraphQL request as bytes: the query, and its variables as JSON behind a line of three dashes.

use std::sync::LazyLock;

use async_graphql::dynamic::Schema;
use futures::executor::block_on;

use super::engine::{Query, planned};
use super::plan::Read;
use super::sql::{Scope, Writer};
use super::{connection, run};

/// Stands in the kept queries wherever a client may write what it likes.
const CLIENTS_WORD: &str = "zqxj";

/// Whatever a client writes is refused with a text, or becomes SQL that holds nothing of it.
pub(crate) fn query(bytes: &[u8]) -> bool {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| super::schema().expect("the schema"));
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let (query, variables) = match text.split_once("\n---\n") {
        Some((query, variables)) => (query, serde_json::from_str(variables).ok()),
        None => (text, None),
    };
    let query = Query { query: query.to_owned(), variables, operation_name: None };
    let planned = match block_on(planned(&SCHEMA, &query)) {
        Ok(planned) => planned,
        Err(errors) => {
            assert!(!errors.is_empty(), "a refusal says why");
            return false;
        }
    };
    let mut written = false;
    for root in &planned.roots {
        for writer in statements(&root.read) {
            let sql = writer.query.sql();
            let sql = sql.as_str();
            assert!(!sql.contains(CLIENTS_WORD), "{sql}");
            assert!(!sql.contains("--") && !sql.contains(';'), "{sql}");
            assert!(sql.matches('\'').count() % 2 == 0, "{sql}");
            assert_eq!(sql.matches('(').count(), sql.matches(')').count(), "{sql}");
            written = true;
        }
    }
    written
}

fn statements(read: &Read) -> Vec<Writer> {
    let scope = Scope { chain_id: 84_532, block: Some(5), safe: 3, finalized: 2 };
    match read {
        Read::Typename | Read::Introspection | Read::Meta { .. } => Vec::new(),
        Read::One { entity, id, items, .. } => {
            run::one(scope, entity, id, items).into_iter().collect()
        }
        Read::Many { collection, .. } => {
            let mut writer = Writer::new(scope);
            writer.many(collection);
            vec![writer]
        }
        Read::Connection { connection, .. } => match connection::statements(scope, connection) {
            Ok((total, page)) => total.into_iter().chain([page]).collect(),
            Err(_) => Vec::new(),
        },
    }
}
