//! One change of one entity.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::entity::{ENTITIES, Element, Entity, Field, Key, Kind};

/// A row of the outbox.
#[derive(Debug, Clone)]
pub(in crate::serve) struct Event {
    pub id: i64,
    /// `insert`, `update` or `retract`.
    pub change: String,
    pub data: EventData,
}

/// What an event carries.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::serve) struct EventData {
    /// The name of the entity's table.
    pub entity: String,
    pub id: String,
    pub chain_id: u64,
    pub block_number: u64,
    #[schema(value_type = String)]
    pub block_hash: String,
    /// How final the block was when the event was read: `latest`, `safe` or `finalized`.
    pub finality: String,
    /// The entity after the change, with the names and forms that GraphQL gives it; references are ids. After a retraction
    /// it is the version that holds again, or null when the entity is gone.
    #[schema(value_type = Object)]
    pub value: Option<Value>,
}

impl Event {
    /// True when the event is about this request: the request itself, or something whose id is made from its id.
    pub(super) fn concerns(&self, request_id: &str) -> bool {
        self.data.id.split(':').any(|part| part == request_id)
    }
}

/// The outbox's form of a row (by column, bytes as `\x..`) in the form in which entities are served. A table that is not
/// served stays as it is.
pub(super) fn shaped(table: &str, chain_id: i64, row: Value) -> Value {
    let Some(entity) = ENTITIES.iter().find(|entity| entity.on_chain && entity.table == table)
    else {
        return row;
    };
    let Value::Object(columns) = row else { return row };
    Value::Object(fields_of(entity, chain_id, &columns))
}

fn fields_of(entity: &Entity, chain_id: i64, columns: &Map<String, Value>) -> Map<String, Value> {
    let shown = entity.fields.iter().filter_map(|field| {
        let column = columns.get(field.column)?;
        Some((field.name.to_owned(), field_value(field, chain_id, column)?))
    });
    shown.collect()
}

/// `None` for what an event does not carry: the rows that point to this one, and what is not on the chain.
fn field_value(field: &Field, chain_id: i64, column: &Value) -> Option<Value> {
    let target = field.kind.relation().and_then(|relation| relation.target());
    if target.is_some_and(|target| !target.on_chain) {
        return None;
    }
    if column.is_null() {
        return (!matches!(field.kind, Kind::Many(_))).then_some(Value::Null);
    }
    match field.kind {
        Kind::Many(_) => None,
        Kind::Id | Kind::LogId | Kind::String | Kind::Int | Kind::Boolean | Kind::Enum(_) => {
            Some(column.clone())
        }
        Kind::Bytes => Some(hex(column)),
        Kind::BigInt => Some(decimal(column)),
        Kind::List(element) => {
            let elements = column.as_array()?.iter().map(|value| match element {
                Element::Bytes => hex(value),
                Element::BigInt => decimal(value),
                Element::String => value.clone(),
            });
            Some(Value::Array(elements.collect()))
        }
        Kind::One(_, key) => Some(match key {
            Key::Text => column.clone(),
            Key::Hex => hex(column),
            Key::Decimal => decimal(column),
            Key::ChainDecimal => match decimal(column) {
                Value::String(number) => Value::String(format!("{chain_id}:{number}")),
                other => other,
            },
        }),
    }
}

/// PostgreSQL writes `bytea` as `\x` and digits.
fn hex(value: &Value) -> Value {
    match value.as_str().and_then(|text| text.strip_prefix("\\x")) {
        Some(digits) => Value::String(format!("0x{digits}")),
        None => value.clone(),
    }
}

fn decimal(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_is_shown_as_graphql_shows_it() {
        let row = json!({
            "vid": 7, "chain_id": 10, "id": "0xaa", "agent_id": "5", "sequence": 3, "status": "settled",
            "payer": "\\x00ff", "signers": ["\\x01", "\\x02"], "outcome": null, "fee_bps": 250,
            "offer_hash": "\\xbb", "block_range": "[1,)",
        });
        let value = shaped("requests", 10, row);
        assert_eq!(value["payer"], "0x00ff");
        assert_eq!(value["sequence"], "3");
        assert_eq!(value["feeBps"], 250);
        assert_eq!(value["agent"], "10:5");
        assert_eq!(value["offer"], "0xbb");
        assert_eq!(value["signers"], json!(["0x01", "0x02"]));
        assert_eq!(value["outcome"], Value::Null);
        assert_eq!(value.get("vid"), None);
        assert_eq!(value.get("credits"), None);
    }

    #[test]
    fn an_event_concerns_the_request_in_its_id_only() {
        let event = |id: &str| Event {
            id: 1,
            change: "insert".into(),
            data: EventData {
                entity: "slashes".into(),
                id: id.into(),
                chain_id: 1,
                block_number: 1,
                block_hash: String::new(),
                finality: "latest".into(),
                value: None,
            },
        };
        assert!(event("0xab").concerns("0xab"));
        assert!(event("1:0x01:0xab").concerns("0xab"));
        assert!(!event("0xabc").concerns("0xab"));
    }
}
