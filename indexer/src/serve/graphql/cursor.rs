//! Cursors: a row's place in an ordering. Opaque to clients, and worth nothing under another ordering.

use async_graphql::Value;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::argument::Order;
use super::error::Refusal;
use super::filter::{Scalar, scalar};
use crate::entity::Kind;

/// The row behind which a page begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cursor {
    /// The ordered value; `None` for null.
    pub(super) value: Option<Scalar>,
    pub(super) id: String,
}

/// Longest cursor that is read.
const CURSOR_BYTES_MAX: usize = 64 * 1024;

/// Writes the cursor of a row. `ordered` is its ordered value as text.
pub(super) fn write(order: &Order, ordered: Option<&str>, id: &str) -> String {
    let parts = serde_json::json!([order.by.name(), order.descending, ordered, id]);
    URL_SAFE_NO_PAD.encode(parts.to_string())
}

/// Reads a cursor that was written under this ordering.
pub(super) fn read(order: &Order, text: &str) -> Result<Cursor, Refusal> {
    if CURSOR_BYTES_MAX < text.len() {
        return Err(Refusal::Cursor("it is too long"));
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::Cursor("it is not base64"))?;
    let parts: (String, bool, Option<String>, String) =
        serde_json::from_slice(&bytes).map_err(|_| Refusal::Cursor("it has another form"))?;
    let (name, descending, ordered, id) = parts;
    if id.contains('\0') {
        return Err(Refusal::Cursor("it has another form"));
    }
    if name != order.by.name() || descending != order.descending {
        return Err(Refusal::Cursor("it belongs to another ordering"));
    }
    let value = match ordered {
        None => None,
        Some(text) => {
            let kind = order.by.kind();
            let value = match kind {
                Kind::Boolean => Value::Boolean(text == "true"),
                Kind::List(_) => return Err(Refusal::Cursor("lists cannot be paged by cursor")),
                _ => Value::String(text),
            };
            let read = scalar(&kind, "after", &value);
            Some(read.map_err(|_| Refusal::Cursor("its value has another type"))?)
        }
    };
    Ok(Cursor { value, id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::by_name;
    use crate::serve::graphql::argument::OrderBy;

    #[test]
    fn a_cursor_is_read_back_under_its_own_ordering_only() {
        let field = by_name("Request").unwrap().field("sequence").unwrap();
        let order = Order { by: OrderBy::Field(field), descending: true };
        let text = write(&order, Some("17"), "0xab");
        let cursor = read(&order, &text).unwrap();
        assert_eq!(cursor, Cursor { value: Some(Scalar::Integer(17)), id: "0xab".into() });
        let other = Order { descending: false, ..order };
        assert!(matches!(read(&other, &text), Err(Refusal::Cursor(_))));
        let forged = write(&order, Some("17; drop table"), "0xab");
        assert!(matches!(read(&order, &forged), Err(Refusal::Cursor(_))));
        for bad in ["", "%%", "e30", "W10"] {
            assert!(read(&order, bad).is_err(), "{bad}");
        }
    }
}
