//! `where`: from the argument to a condition. Names select entries of the entity tables; values are carried apart.

use async_graphql::indexmap::IndexMap;
use async_graphql::{Name, Value};
use sqlx::types::BigDecimal;

use super::error::Refusal;
use super::literal::word;
use crate::entity::{Element, Entity, Field, Kind, Operation, Relation, Versions, operation};
use crate::serve::limits::{FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, FILTER_VALUES_MAX};

/// A condition on the rows of one entity.
#[derive(Debug, Clone)]
pub(super) enum Filter {
    /// True when empty.
    All(Vec<Filter>),
    /// False when empty.
    Any(Vec<Filter>),
    Compare {
        field: &'static Field,
        operation: Operation,
        operand: Operand,
    },
    /// Some row at the other end of a relation fulfils the filter.
    Child {
        field: &'static Field,
        relation: Relation,
        target: &'static Entity,
        filter: Box<Filter>,
    },
    /// The row changed in this block or a later one.
    ChangedSince(i64),
}

impl Filter {
    /// Whether it asks for so few rows that finding them by what it names is better than looking through all of them.
    pub(super) fn is_narrow(&self) -> bool {
        match self {
            Self::All(parts) => parts.iter().any(Self::is_narrow),
            Self::Compare { field, operation: Operation::Equal | Operation::In, .. } => {
                !matches!(field.kind, Kind::Boolean | Kind::Enum(_))
            }
            Self::Compare { .. } | Self::Any(_) | Self::Child { .. } | Self::ChangedSince(_) => {
                false
            }
        }
    }
}

/// What a column is compared with.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Null,
    One(Scalar),
    Many(Vec<Scalar>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Text(String),
    Bytes(Vec<u8>),
    Integer(i64),
    /// An integer beyond 64 bits.
    Wide(BigDecimal),
    Boolean(bool),
}

/// Counts the conditions of all filters of one query.
#[derive(Debug, Default)]
pub(super) struct Conditions(usize);

/// Reads the argument. `nested` says that it is a child filter already, which may hold no further one.
pub(super) fn parse(
    entity: &'static Entity,
    argument: &IndexMap<Name, Value>,
    nested: bool,
    conditions: &mut Conditions,
) -> Result<Filter, Refusal> {
    level(entity, argument, nested, 0, conditions)
}

fn level(
    entity: &'static Entity,
    argument: &IndexMap<Name, Value>,
    nested: bool,
    depth: usize,
    conditions: &mut Conditions,
) -> Result<Filter, Refusal> {
    if FILTER_DEPTH_MAX < depth {
        return Err(Refusal::FilterDepth);
    }
    let mut all = Vec::with_capacity(argument.len());
    let mut columns = Vec::new();
    let mut has_or = false;
    for (name, value) in argument {
        conditions.0 += 1;
        if FILTER_CONDITIONS_MAX < conditions.0 {
            return Err(Refusal::FilterConditions);
        }
        match (name.as_str(), value) {
            ("and" | "or", Value::Null) => {}
            ("and" | "or", Value::List(branches)) => {
                let mut parts = Vec::with_capacity(branches.len());
                for branch in branches {
                    let Value::Object(branch) = branch else { continue };
                    parts.push(level(entity, branch, nested, depth + 1, conditions)?);
                }
                if name == "or" {
                    has_or = true;
                    all.push(Filter::Any(parts));
                } else {
                    all.push(Filter::All(parts));
                }
            }
            ("_change_block", Value::Null) => {}
            ("_change_block", Value::Object(change)) => {
                let number = change.get("number_gte").and_then(integer);
                let number = number
                    .ok_or_else(|| wrong("_change_block.number_gte", "is not a block number"))?;
                all.push(changed_since(entity, number));
            }
            (name, value) => {
                columns.push(format!("'{name}'"));
                all.push(column(entity, name, value, nested, conditions)?);
            }
        }
    }
    if has_or && !columns.is_empty() {
        return Err(Refusal::MixedOr { columns: columns.join(", ") });
    }
    Ok(Filter::All(all))
}

/// What an event says never changes, and the block that it came with has an index.
fn changed_since(entity: &'static Entity, number: i64) -> Filter {
    match (entity.versions, entity.field("createdAtBlock")) {
        (Versions::Log, Some(field)) => Filter::Compare {
            field,
            operation: Operation::GreaterOrEqual,
            operand: Operand::One(Scalar::Integer(number)),
        },
        (Versions::Log | Versions::One | Versions::Many, _) => Filter::ChangedSince(number),
    }
}

fn column(
    entity: &'static Entity,
    name: &str,
    value: &Value,
    nested: bool,
    conditions: &mut Conditions,
) -> Result<Filter, Refusal> {
    let (field, operation) =
        find(entity, name).ok_or_else(|| wrong(name, "there is no such filter"))?;
    if operation == Operation::Child {
        let (Some(relation), Value::Object(argument)) = (field.kind.relation(), value) else {
            return Err(wrong(name, "is not an object"));
        };
        if nested {
            return Err(Refusal::ChildNesting {
                value: value.to_string(),
                filter: name.to_owned(),
            });
        }
        let target = relation.target().ok_or_else(|| wrong(name, "leads nowhere"))?;
        let filter = Box::new(parse(target, argument, true, conditions)?);
        return Ok(Filter::Child { field, relation, target, filter });
    }
    let operand = operand(field, operation, name, value)?;
    Ok(Filter::Compare { field, operation, operand })
}

/// The field and the operation that a filter's name means.
fn find(entity: &'static Entity, name: &str) -> Option<(&'static Field, Operation)> {
    entity.fields.iter().find_map(|field| {
        let suffix = name.strip_prefix(field.name)?;
        let operation =
            operation::of(&field.kind).iter().find(|operation| operation.suffix() == suffix)?;
        Some((field, *operation))
    })
}

fn operand(
    field: &Field,
    operation: Operation,
    name: &str,
    value: &Value,
) -> Result<Operand, Refusal> {
    let takes_list = operation.takes_list() || matches!(field.kind, Kind::List(_));
    match value {
        Value::Null if matches!(operation, Operation::Equal | Operation::Not) => Ok(Operand::Null),
        Value::Null => Err(wrong(name, "cannot be null")),
        Value::List(values) if takes_list => {
            if FILTER_VALUES_MAX < values.len() {
                return Err(Refusal::FilterValues { filter: name.to_owned(), count: values.len() });
            }
            let scalars = values.iter().map(|value| scalar(&field.kind, name, value));
            scalars.collect::<Result<_, _>>().map(Operand::Many)
        }
        // GraphQL takes a single value for a list of one.
        value if takes_list => Ok(Operand::Many(vec![scalar(&field.kind, name, value)?])),
        value => scalar(&field.kind, name, value).map(Operand::One),
    }
}

/// One value in the form in which a field of this kind is compared.
pub(super) fn scalar(kind: &Kind, name: &str, value: &Value) -> Result<Scalar, Refusal> {
    let shown = || shorten(&value.to_string());
    if let Value::String(text) = value
        && text.contains('\0')
    {
        return Err(wrong(name, "holds U+0000, which no text in the database does"));
    }
    match kind {
        Kind::String | Kind::List(Element::String) => match value {
            Value::String(text) => Ok(Scalar::Text(text.clone())),
            _ => Err(wrong(name, &format!("{} is not a string", shown()))),
        },
        Kind::Id | Kind::LogId | Kind::One(..) | Kind::Many(_) => match value {
            Value::String(text) => Ok(Scalar::Text(id(text))),
            Value::Number(number) => Ok(Scalar::Text(number.to_string())),
            _ => Err(wrong(name, &format!("{} is not an id", shown()))),
        },
        Kind::Enum(enumeration) => match word(value) {
            Some(text) if enumeration.values.contains(&text) => Ok(Scalar::Text(text.to_owned())),
            _ => Err(wrong(
                name,
                &format!("{} is not one of {}", shown(), enumeration.values.join(", ")),
            )),
        },
        Kind::Bytes | Kind::List(Element::Bytes) => {
            let bytes = word(value)
                .and_then(|text| hex::decode(text.strip_prefix("0x").unwrap_or(text)).ok());
            bytes
                .map(Scalar::Bytes)
                .ok_or_else(|| wrong(name, &format!("{} is not 0x-hex", shown())))
        }
        Kind::Int | Kind::BigInt | Kind::List(Element::BigInt) => {
            wide(value).ok_or_else(|| wrong(name, &format!("{} is not an integer", shown())))
        }
        Kind::Boolean => match value {
            Value::Boolean(truth) => Ok(Scalar::Boolean(*truth)),
            _ => Err(wrong(name, &format!("{} is not true or false", shown()))),
        },
    }
}

/// A block number.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match wide(value)? {
        Scalar::Integer(number) if 0 <= number => Some(number),
        Scalar::Integer(_)
        | Scalar::Wide(_)
        | Scalar::Text(_)
        | Scalar::Bytes(_)
        | Scalar::Boolean(_) => None,
    }
}

/// An integer, as a number or as decimal text.
fn wide(value: &Value) -> Option<Scalar> {
    // The widest column holds 78 digits; longer numbers only cost time.
    const DIGITS_MAX: usize = 80;
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Null
        | Value::Boolean(_)
        | Value::Binary(_)
        | Value::Enum(_)
        | Value::List(_)
        | Value::Object(_) => return None,
    };
    let digits = text.strip_prefix('-').unwrap_or(&text);
    let fits = !digits.is_empty() && digits.len() <= DIGITS_MAX;
    if !fits || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match text.parse() {
        Ok(number) => Some(Scalar::Integer(number)),
        Err(_) => text.parse().ok().map(Scalar::Wide),
    }
}

/// Ids are in lower case; an address with a checksum means the same id.
fn id(text: &str) -> String {
    let hex = text
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if hex { text.to_ascii_lowercase() } else { text.to_owned() }
}

fn wrong(filter: &str, reason: &str) -> Refusal {
    Refusal::FilterValue { filter: filter.to_owned(), reason: reason.to_owned() }
}

fn shorten(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use async_graphql::value;
    use proptest::prelude::*;

    use super::*;
    use crate::entity::by_name;

    fn parsed(entity: &str, argument: Value) -> Result<Filter, Refusal> {
        let Value::Object(argument) = argument else { panic!("a filter is an object") };
        parse(by_name(entity).unwrap(), &argument, false, &mut Conditions::default())
    }

    #[test]
    fn columns_beside_or_are_refused_by_name() {
        let mixed = parsed("Agent", value!({ "owner": "0x01", "or": [{ "agentURI": "x" }] }));
        assert_eq!(mixed.unwrap_err(), Refusal::MixedOr { columns: "'owner'".into() });
        let beside = value!({ "and": [{ "owner": "0x01" }], "or": [{ "agentURI": "x" }], "_change_block": { "number_gte": 1 } });
        assert!(parsed("Agent", beside).is_ok());
    }

    #[test]
    fn a_child_filter_inside_a_child_filter_is_refused() {
        let nested = value!({ "agent_": { "offers_": { "active": true } } });
        assert!(matches!(parsed("Request", nested), Err(Refusal::ChildNesting { .. })));
    }

    #[test]
    fn an_integer_is_decimal_and_has_a_bounded_length() {
        for bad in ["", "-", "1e9", "0x1", "1.5", "1 or 1=1", &"9".repeat(81)] {
            assert_eq!(wide(&Value::from(bad)), None, "{bad}");
        }
        assert_eq!(wide(&Value::from("-5")), Some(Scalar::Integer(-5)));
        assert!(matches!(wide(&Value::from("9223372036854775808")), Some(Scalar::Wide(_))));
    }

    proptest! {
        #[test]
        fn a_filter_is_either_in_the_tables_or_refused(name in "[a-zA-Z_]{1,40}", text in ".{0,40}") {
            let entity = by_name("Request").unwrap();
            let mut argument = IndexMap::new();
            argument.insert(Name::new(&name), Value::from(text));
            let known = find(entity, &name).is_some();
            let parsed = parse(entity, &argument, false, &mut Conditions::default());
            if !known && !["and", "or", "_change_block"].contains(&name.as_str()) {
                prop_assert!(parsed.is_err());
            }
        }
    }
}
