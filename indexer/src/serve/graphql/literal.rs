//! Values of arguments, with variables put in.

use std::collections::HashMap;
use std::convert::Infallible;

use async_graphql::parser::types::OperationDefinition;
use async_graphql::{Name, Value, Variables};
use axum::body::Bytes;

use super::error::Refusal;

/// The variables of one operation. One that has neither a value nor a default is absent, and so is whatever it is the
/// value of.
pub(super) type Bound = HashMap<Name, Value>;

/// Binds the variables that an operation declares.
pub(super) fn bind(operation: &OperationDefinition, given: &Variables) -> Result<Bound, Refusal> {
    let mut bound = Bound::new();
    for definition in &operation.variable_definitions {
        let name = &definition.node.name.node;
        let value = given.get(name).cloned();
        let default = definition.node.default_value.as_ref().map(|value| value.node.clone());
        match value.or(default) {
            Some(Value::Null) | None if !definition.node.var_type.node.nullable => {
                return Err(Refusal::Variable {
                    name: name.to_string(),
                    reason: format!("is missing, but has the type {}", definition.node.var_type),
                });
            }
            Some(value) => drop(bound.insert(name.clone(), value)),
            None => {}
        }
    }
    Ok(bound)
}

/// What stands for a variable: its value, or a mark that [`present`] removes. Queries and JSON cannot hold `Binary`.
pub(super) fn lookup(bound: &Bound, name: &Name) -> Result<Value, Infallible> {
    Ok(bound.get(name).cloned().unwrap_or_else(|| Value::Binary(Bytes::new())))
}

/// The value without absent variables: a field of an object is left out, an element of a list is null, and a value that is
/// one itself is `None`.
pub(super) fn present(value: Value) -> Option<Value> {
    match value {
        Value::Binary(_) => None,
        Value::List(values) => {
            Some(Value::List(values.into_iter().map(|v| present(v).unwrap_or_default()).collect()))
        }
        Value::Object(fields) => Some(Value::Object(
            fields.into_iter().filter_map(|(name, value)| Some((name, present(value)?))).collect(),
        )),
        Value::Null | Value::Number(_) | Value::String(_) | Value::Boolean(_) | Value::Enum(_) => {
            Some(value)
        }
    }
}

/// The text of an enum value, which comes as a name from a query and as a string from a variable.
pub(super) fn word(value: &Value) -> Option<&str> {
    match value {
        Value::Enum(name) => Some(name.as_str()),
        Value::String(text) => Some(text),
        Value::Null
        | Value::Number(_)
        | Value::Boolean(_)
        | Value::Binary(_)
        | Value::List(_)
        | Value::Object(_) => None,
    }
}
