//! Connections: a list with its total and with cursors.

use std::fmt::Write;

use serde_json::{Map, Value, json};
use sqlx::{PgConnection, Row};

use super::cursor;
use super::error::Refusal;
use super::plan::{Connection, ConnectionField, EdgeField, Item, PageField};
use super::sql::{Scope, Writer};

/// The statement that counts a connection's rows, where the total is asked for, and the one that reads a page of them.
pub(super) fn statements(
    scope: Scope,
    connection: &Connection,
) -> Result<(Option<Writer>, Writer), Refusal> {
    let collection = &connection.collection;
    let counted = connection.fields.iter().any(|f| matches!(f, ConnectionField::TotalCount(_)));
    let total = counted.then(|| {
        let mut writer = Writer::new(scope);
        writer.count(collection.entity, &collection.filter);
        writer
    });
    let after = match &connection.after {
        Some(text) => Some(cursor::read(&collection.order, text)?),
        None => None,
    };
    let mut page = Writer::new(scope);
    page.connection(collection, after.as_ref(), &selections(connection));
    Ok((total, page))
}

/// Answers a connection.
pub(super) async fn read(
    database: &mut PgConnection,
    scope: Scope,
    connection: &Connection,
) -> Result<String, Refusal> {
    let collection = &connection.collection;
    let (total, mut page) = statements(scope, connection)?;
    let total = match total {
        Some(mut writer) => {
            let row = writer.query.build().fetch_one(&mut *database).await?;
            row.try_get::<i64, _>("total")?
        }
        None => 0,
    };
    let found = page.query.build().fetch_all(&mut *database).await?;
    let mut rows = Vec::with_capacity(found.len());
    for row in &found {
        let ordered: Option<String> = row.try_get("ordered")?;
        let id: String = row.try_get("id")?;
        let cursor = cursor::write(&collection.order, ordered.as_deref(), &id);
        rows.push(Place { cursor, selected: row.try_get("rows")? });
    }
    let first = usize::try_from(collection.first).unwrap_or_default();
    let more = first < rows.len();
    rows.truncate(first);
    Ok(answer(connection, total, more, &rows))
}

/// A row: its cursor, and its JSON text once per selection.
struct Place {
    cursor: String,
    selected: Vec<String>,
}

/// The selections of rows, in the order in which the answer meets them.
fn selections(connection: &Connection) -> Vec<&[Item]> {
    let mut all: Vec<&[Item]> = Vec::new();
    for field in &connection.fields {
        match field {
            ConnectionField::Nodes(_, items) => all.push(items),
            ConnectionField::Edges(_, parts) => {
                all.extend(parts.iter().filter_map(|part| match part {
                    EdgeField::Node(_, items) => Some(items.as_slice()),
                    EdgeField::Typename(_) | EdgeField::Cursor(_) => None,
                }))
            }
            ConnectionField::Typename(_)
            | ConnectionField::TotalCount(_)
            | ConnectionField::PageInfo(..) => {}
        }
    }
    all
}

fn answer(connection: &Connection, total: i64, more: bool, rows: &[Place]) -> String {
    let name = connection.collection.entity.name;
    let mut text = String::from("{");
    let mut selection = 0;
    for (place, field) in connection.fields.iter().enumerate() {
        let (key, value) = match field {
            ConnectionField::Typename(key) => (key, json!(format!("{name}Connection")).to_string()),
            ConnectionField::TotalCount(key) => (key, total.to_string()),
            ConnectionField::PageInfo(key, parts) => (key, page_info(parts, more, rows)),
            ConnectionField::Nodes(key, _) => {
                let nodes: Vec<_> = rows.iter().map(|row| selected(row, selection)).collect();
                selection += 1;
                (key, format!("[{}]", nodes.join(",")))
            }
            ConnectionField::Edges(key, parts) => {
                let edges: Vec<_> =
                    rows.iter().map(|row| edge(name, parts, row, selection)).collect();
                selection += parts.iter().filter(|p| matches!(p, EdgeField::Node(..))).count();
                (key, format!("[{}]", edges.join(",")))
            }
        };
        pair(&mut text, place, key, &value);
    }
    text.push('}');
    text
}

fn edge(name: &str, parts: &[EdgeField], row: &Place, mut selection: usize) -> String {
    let mut text = String::from("{");
    for (place, part) in parts.iter().enumerate() {
        match part {
            EdgeField::Typename(key) => {
                pair(&mut text, place, key, &json!(format!("{name}Edge")).to_string());
            }
            EdgeField::Cursor(key) => {
                pair(&mut text, place, key, &json!(row.cursor).to_string());
            }
            EdgeField::Node(key, _) => {
                pair(&mut text, place, key, selected(row, selection));
                selection += 1;
            }
        }
    }
    text.push('}');
    text
}

fn selected(row: &Place, selection: usize) -> &str {
    row.selected.get(selection).map_or("null", String::as_str)
}

fn page_info(parts: &[(String, PageField)], more: bool, rows: &[Place]) -> String {
    let cursor = |row: Option<&Place>| json!(row.map(|row| row.cursor.clone()));
    let parts = parts.iter().map(|(key, part)| {
        let value = match part {
            PageField::Typename => json!("PageInfo"),
            PageField::HasNextPage => json!(more),
            PageField::StartCursor => cursor(rows.first()),
            PageField::EndCursor => cursor(rows.last()),
        };
        (key.clone(), value)
    });
    Value::Object(parts.collect::<Map<_, _>>()).to_string()
}

/// Appends a member of a JSON object. GraphQL names need no escaping in JSON.
fn pair(text: &mut String, place: usize, key: &str, value: &str) {
    let comma = if place == 0 { "" } else { "," };
    // Writing into a string cannot fail.
    let _ = write!(text, "{comma}\"{key}\":{value}");
}
