//! One comparison as SQL.

use sqlx::types::BigDecimal;

use super::filter::{Operand, Scalar};
use super::place;
use super::sql::{Alias, Writer, comparable, single};
use crate::entity::operation::{Negated, Nocase};
use crate::entity::{Element, Field, Key, Kind, Operation};

/// Writes `field operation operand`.
pub(super) fn compare(
    writer: &mut Writer,
    table: Alias,
    field: &Field,
    operation: Operation,
    operand: &Operand,
) {
    if matches!(field.kind, Kind::LogId) {
        return place::compare(writer, table, operation, operand);
    }
    let column = comparable(table, field);
    match (operation, operand) {
        (Operation::Equal, Operand::Null) => writer.push(format_args!("{column} is null")),
        (Operation::Not, Operand::Null) => writer.push(format_args!("{column} is not null")),
        (Operation::Equal, Operand::One(scalar)) => equal(writer, table, field, "=", scalar),
        (Operation::Not, Operand::One(scalar)) => equal(writer, table, field, "<>", scalar),
        (Operation::Greater, _) => ordered(writer, &column, ">", operand),
        (Operation::Less, _) => ordered(writer, &column, "<", operand),
        (Operation::GreaterOrEqual, _) => ordered(writer, &column, ">=", operand),
        (Operation::LessOrEqual, _) => ordered(writer, &column, "<=", operand),
        (Operation::In, Operand::Many(scalars)) => {
            member(writer, table, field, "= any(", scalars);
        }
        (Operation::NotIn, Operand::Many(scalars)) => {
            member(writer, table, field, "<> all(", scalars);
        }
        (Operation::Equal, Operand::Many(scalars)) => {
            writer.push(format_args!("{column} = "));
            array(writer, &field.kind, scalars);
        }
        (Operation::Not, Operand::Many(scalars)) => {
            writer.push(format_args!("{column} <> "));
            array(writer, &field.kind, scalars);
        }
        (Operation::Contains(negated, nocase), Operand::Many(scalars)) => {
            contains_all(writer, &column, &field.kind, negated, nocase, scalars);
        }
        (Operation::Contains(negated, _), Operand::One(Scalar::Bytes(bytes))) => {
            let word = match negated {
                Negated::No => ">",
                Negated::Yes => "=",
            };
            writer.push("position(");
            writer.query.push_bind(bytes.clone());
            writer.push(format_args!("::bytea in {column}::bytea) {word} 0"));
        }
        (Operation::Contains(negated, nocase), Operand::One(Scalar::Text(text))) => {
            // Whoever brings a pattern of his own gets it.
            let own = text.starts_with('%') || text.ends_with('%');
            let pattern = if own { text.clone() } else { format!("%{text}%") };
            like(writer, &column, negated, nocase, pattern);
        }
        (Operation::StartsWith(negated, nocase), Operand::One(Scalar::Text(text))) => {
            like(writer, &column, negated, nocase, format!("{text}%"));
        }
        (Operation::EndsWith(negated, nocase), Operand::One(Scalar::Text(text))) => {
            like(writer, &column, negated, nocase, format!("%{text}"));
        }
        // The parser of filters makes none of these.
        (
            Operation::Contains(..)
            | Operation::StartsWith(..)
            | Operation::EndsWith(..)
            | Operation::In
            | Operation::NotIn
            | Operation::Child,
            _,
        ) => writer.push("false"),
    }
}

/// Equality. A reference is compared by its own column where the given id can be read as one, so that its index is used;
/// any other text equals no id.
fn equal(writer: &mut Writer, table: Alias, field: &Field, word: &str, scalar: &Scalar) {
    match native(writer.chain_id(), field, scalar) {
        Some(value) => {
            writer.push(format_args!("{table}.{} {word} ", field.column));
            writer.bind(&value);
        }
        None => {
            writer.push(format_args!("{} {word} ", comparable(table, field)));
            writer.bind(scalar);
        }
    }
}

fn member(writer: &mut Writer, table: Alias, field: &Field, word: &str, scalars: &[Scalar]) {
    let chain_id = writer.chain_id();
    let natives: Option<Vec<_>> =
        scalars.iter().map(|scalar| native(chain_id, field, scalar)).collect();
    match (natives, field.kind) {
        (Some(values), Kind::One(_, key)) if !values.is_empty() => {
            writer.push(format_args!("{table}.{} {word}", field.column));
            let kind = match key {
                Key::Hex => Kind::Bytes,
                Key::Decimal | Key::ChainDecimal => Kind::BigInt,
                Key::Text => Kind::Id,
            };
            array(writer, &kind, &values);
        }
        _ => {
            writer.push(format_args!("{} {word}", comparable(table, field)));
            array(writer, &field.kind, scalars);
        }
    }
    writer.push(")");
}

/// The value of a reference's column for which the referenced id is exactly this text.
fn native(chain_id: i64, field: &Field, scalar: &Scalar) -> Option<Scalar> {
    let (Kind::One(_, key), Scalar::Text(text)) = (field.kind, scalar) else { return None };
    match key {
        Key::Text => Some(scalar.clone()),
        Key::Hex => {
            let bytes = hex::decode(text.strip_prefix("0x")?).ok()?;
            (*text == format!("0x{}", hex::encode(&bytes))).then_some(Scalar::Bytes(bytes))
        }
        Key::Decimal => decimal(text),
        Key::ChainDecimal => decimal(text.strip_prefix(&format!("{chain_id}:"))?),
    }
}

fn decimal(text: &str) -> Option<Scalar> {
    const DIGITS_MAX: usize = 80;
    let plain = !text.is_empty()
        && text.len() <= DIGITS_MAX
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    if !plain {
        return None;
    }
    match text.parse() {
        Ok(number) => Some(Scalar::Integer(number)),
        Err(_) => text.parse().ok().map(Scalar::Wide),
    }
}

fn ordered(writer: &mut Writer, column: &str, word: &str, operand: &Operand) {
    match single(operand) {
        Some(scalar) => {
            writer.push(format_args!("{column} {word} "));
            writer.bind(scalar);
        }
        None => writer.push("false"),
    }
}

fn like(writer: &mut Writer, column: &str, negated: Negated, nocase: Nocase, pattern: String) {
    let word = match (negated, nocase) {
        (Negated::No, Nocase::No) => "like",
        (Negated::No, Nocase::Yes) => "ilike",
        (Negated::Yes, Nocase::No) => "not like",
        (Negated::Yes, Nocase::Yes) => "not ilike",
    };
    writer.push(format_args!("{column} {word} "));
    writer.query.push_bind(pattern).push("::text");
}

/// A list that holds all of the given elements.
fn contains_all(
    writer: &mut Writer,
    column: &str,
    kind: &Kind,
    negated: Negated,
    nocase: Nocase,
    scalars: &[Scalar],
) {
    writer.push(match negated {
        Negated::No => "(",
        Negated::Yes => "not (",
    });
    match nocase {
        Nocase::No => {
            writer.push(format_args!("{column} @> "));
            array(writer, kind, scalars);
        }
        Nocase::Yes => {
            writer.push(format_args!("array(select lower(v) from unnest({column}) u (v)) @> "));
            let lower: Vec<_> = texts(scalars).iter().map(|text| text.to_lowercase()).collect();
            writer.query.push_bind(lower).push("::text[]");
        }
    }
    writer.push(")");
}

/// A list of values, as an array of the type that the column has.
fn array(writer: &mut Writer, kind: &Kind, scalars: &[Scalar]) {
    match kind {
        Kind::Bytes | Kind::List(Element::Bytes) => {
            let bytes: Vec<_> = scalars
                .iter()
                .filter_map(|scalar| match scalar {
                    Scalar::Bytes(bytes) => Some(bytes.clone()),
                    Scalar::Text(_) | Scalar::Integer(_) | Scalar::Wide(_) | Scalar::Boolean(_) => {
                        None
                    }
                })
                .collect();
            writer.query.push_bind(bytes).push("::bytea[]");
        }
        Kind::Int | Kind::BigInt | Kind::List(Element::BigInt) => {
            let narrow: Option<Vec<i64>> = scalars
                .iter()
                .map(|scalar| match scalar {
                    Scalar::Integer(number) => Some(*number),
                    Scalar::Text(_) | Scalar::Bytes(_) | Scalar::Wide(_) | Scalar::Boolean(_) => {
                        None
                    }
                })
                .collect();
            match narrow {
                // An array of numeric equals none of bigint; single values are converted, arrays are not.
                Some(numbers) if !matches!(kind, Kind::List(_)) => {
                    writer.query.push_bind(numbers).push("::bigint[]");
                }
                Some(_) | None => {
                    writer.query.push_bind(wide(scalars)).push("::numeric[]");
                }
            }
        }
        Kind::Boolean => {
            let truths: Vec<_> =
                scalars.iter().map(|scalar| *scalar == Scalar::Boolean(true)).collect();
            writer.query.push_bind(truths).push("::boolean[]");
        }
        Kind::Id
        | Kind::LogId
        | Kind::String
        | Kind::Enum(_)
        | Kind::One(..)
        | Kind::Many(_)
        | Kind::List(Element::String) => {
            writer.query.push_bind(texts(scalars)).push("::text[]");
        }
    }
}

fn wide(scalars: &[Scalar]) -> Vec<BigDecimal> {
    let numbers = scalars.iter().filter_map(|scalar| match scalar {
        Scalar::Integer(number) => Some(BigDecimal::from(*number)),
        Scalar::Wide(number) => Some(number.clone()),
        Scalar::Text(_) | Scalar::Bytes(_) | Scalar::Boolean(_) => None,
    });
    numbers.collect()
}

fn texts(scalars: &[Scalar]) -> Vec<String> {
    let texts = scalars.iter().filter_map(|scalar| match scalar {
        Scalar::Text(text) => Some(text.clone()),
        Scalar::Bytes(_) | Scalar::Integer(_) | Scalar::Wide(_) | Scalar::Boolean(_) => None,
    });
    texts.collect()
}
