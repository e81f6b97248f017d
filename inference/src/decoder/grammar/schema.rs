//! From a JSON schema to an automaton.
//!
//! Properties come in the schema's order; behind a comma and a colon there may be one space.
//! What would narrow the output and is not kept is refused, because a caller relies on it.

use serde_json::{Map, Value};

use super::automaton::Automaton;
use crate::decoder::limits::{SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX};

/// Longest `maxLength` and `maxItems`.
const COUNT_MAX: u64 = 4096;

/// Digits of an integer, and of either part of a fraction: what every reader keeps exactly.
const DIGITS_MAX: usize = 15;

/// Keywords that say nothing about the form of a value.
const SILENT: [&str; 8] = [
    "title",
    "description",
    "default",
    "examples",
    "$schema",
    "$id",
    "$comment",
    "additionalProperties",
];

pub(super) fn compile(schema: &Value) -> Result<Automaton, String> {
    if SCHEMA_BYTES_MAX < schema.to_string().len() {
        return Err(format!("it has more than {SCHEMA_BYTES_MAX} bytes"));
    }
    let mut automaton = Automaton::default();
    let start = automaton.state()?;
    automaton.end = value(&mut automaton, start, schema, 0)?;
    Ok(automaton)
}

/// Every function takes the state that it begins in and gives the one that it ends in.
fn value(
    automaton: &mut Automaton,
    from: u32,
    schema: &Value,
    depth: usize,
) -> Result<u32, String> {
    if SCHEMA_DEPTH_MAX < depth {
        return Err(format!("it is deeper than {SCHEMA_DEPTH_MAX}"));
    }
    let Some(schema) = schema.as_object() else {
        return Err(format!("{schema} is not an object"));
    };
    if let Some(choice) = schema.get("const") {
        known(schema, &["const", "type"])?;
        return literal(automaton, from, choice);
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
        known(schema, &["enum", "type"])?;
        return any(automaton, from, choices, literal);
    }
    for word in ["anyOf", "oneOf"] {
        if let Some(choices) = schema.get(word).and_then(Value::as_array) {
            known(schema, &[word])?;
            return any(automaton, from, choices, |automaton, from, choice| {
                value(automaton, from, choice, depth + 1)
            });
        }
    }
    match schema.get("type") {
        Some(Value::Array(types)) => any(automaton, from, types, |automaton, from, kind| {
            let mut one = schema.clone();
            one.insert("type".to_owned(), kind.clone());
            typed(automaton, from, &one, kind, depth)
        }),
        Some(kind) => typed(automaton, from, schema, kind, depth),
        None => Err(format!(
            "{} has no type, and none of const, enum, anyOf and oneOf",
            Value::Object(schema.clone())
        )),
    }
}

fn typed(
    automaton: &mut Automaton,
    from: u32,
    schema: &Map<String, Value>,
    kind: &Value,
    depth: usize,
) -> Result<u32, String> {
    match kind.as_str() {
        Some("null") => literal(automaton, from, &Value::Null),
        Some("boolean") => any(automaton, from, &[Value::Bool(true), Value::Bool(false)], literal),
        Some("integer") => {
            known(schema, &["type"])?;
            integer(automaton, from)
        }
        Some("number") => {
            known(schema, &["type"])?;
            number(automaton, from)
        }
        Some("string") => {
            known(schema, &["type", "minLength", "maxLength"])?;
            let (least, most) = counts(schema, "minLength", "maxLength")?;
            let begin = automaton.word(from, b"\"")?;
            let end = repeat(automaton, begin, least, most, |automaton, from, _| {
                character(automaton, from)
            })?;
            automaton.word(end, b"\"")
        }
        Some("array") => {
            known(schema, &["type", "items", "minItems", "maxItems"])?;
            let Some(items) = schema.get("items") else {
                return Err("an array has no items, which say what it is made of".to_owned());
            };
            let (least, most) = counts(schema, "minItems", "maxItems")?;
            let begin = automaton.word(from, b"[")?;
            let end = repeat(automaton, begin, least, most, |automaton, from, first| {
                let from = if first { from } else { spaced(automaton, from, b",")? };
                value(automaton, from, items, depth + 1)
            })?;
            automaton.word(end, b"]")
        }
        Some("object") => object(automaton, from, schema, depth),
        _ => Err(format!(
            "type {kind} is none of null, boolean, integer, number, string, array, object"
        )),
    }
}

fn object(
    automaton: &mut Automaton,
    from: u32,
    schema: &Map<String, Value>,
    depth: usize,
) -> Result<u32, String> {
    known(schema, &["type", "properties", "required"])?;
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Err("an object has no properties, which say what it is made of".to_owned());
    };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    if let Some(name) = required.iter().find(|name| !properties.contains_key(**name)) {
        return Err(format!("{name:?} is required and not among the properties"));
    }
    // Before the first property no comma is due; behind it, one is.
    let mut bare = automaton.word(from, b"{")?;
    let mut filled = automaton.state()?;
    for (name, property) in properties {
        let key = automaton.state()?;
        automaton.link(bare, key);
        let comma = spaced(automaton, filled, b",")?;
        automaton.link(comma, key);
        let name_text = Value::String(name.clone()).to_string();
        let colon = automaton.word(key, name_text.as_bytes())?;
        let colon = spaced(automaton, colon, b":")?;
        let end = value(automaton, colon, property, depth + 1)?;
        let (next_bare, next_filled) = (automaton.state()?, automaton.state()?);
        automaton.link(end, next_filled);
        if !required.contains(&name.as_str()) {
            automaton.link(bare, next_bare);
            automaton.link(filled, next_filled);
        }
        (bare, filled) = (next_bare, next_filled);
    }
    let last = automaton.state()?;
    automaton.link(bare, last);
    automaton.link(filled, last);
    automaton.word(last, b"}")
}

fn any<'a>(
    automaton: &mut Automaton,
    from: u32,
    choices: &'a [Value],
    mut one: impl FnMut(&mut Automaton, u32, &'a Value) -> Result<u32, String>,
) -> Result<u32, String> {
    if choices.is_empty() {
        return Err("a list of choices is empty".to_owned());
    }
    let end = automaton.state()?;
    for choice in choices {
        let last = one(automaton, from, choice)?;
        automaton.link(last, end);
    }
    Ok(end)
}

fn literal(automaton: &mut Automaton, from: u32, choice: &Value) -> Result<u32, String> {
    automaton.word(from, choice.to_string().as_bytes())
}

fn integer(automaton: &mut Automaton, from: u32) -> Result<u32, String> {
    let positive = automaton.word(from, b"-")?;
    automaton.link(from, positive);
    let end = automaton.word(positive, b"0")?;
    let mut digit = automaton.state()?;
    automaton.range(positive, b'1', b'9', digit);
    automaton.link(digit, end);
    for _ in 1..DIGITS_MAX {
        let next = automaton.state()?;
        automaton.range(digit, b'0', b'9', next);
        automaton.link(next, end);
        digit = next;
    }
    // What follows must not lead back into the digits.
    let last = automaton.state()?;
    automaton.link(end, last);
    Ok(last)
}

fn number(automaton: &mut Automaton, from: u32) -> Result<u32, String> {
    let whole = integer(automaton, from)?;
    let end = automaton.state()?;
    automaton.link(whole, end);
    let mut digit = automaton.word(whole, b".")?;
    for _ in 0..DIGITS_MAX {
        let next = automaton.state()?;
        automaton.range(digit, b'0', b'9', next);
        automaton.link(next, end);
        digit = next;
    }
    Ok(end)
}

/// `least` to `most` times, or without an end.
fn repeat(
    automaton: &mut Automaton,
    from: u32,
    least: u64,
    most: Option<u64>,
    mut one: impl FnMut(&mut Automaton, u32, bool) -> Result<u32, String>,
) -> Result<u32, String> {
    let end = automaton.state()?;
    let mut state = from;
    for count in 0..most.unwrap_or(least.max(1)) {
        if least <= count {
            automaton.link(state, end);
        }
        state = one(automaton, state, count == 0)?;
    }
    automaton.link(state, end);
    if most.is_none() {
        let again = one(automaton, state, false)?;
        automaton.link(again, state);
    }
    Ok(end)
}

/// One character of a string: not a control character, a quote or a backslash, or an escape.
fn character(automaton: &mut Automaton, from: u32) -> Result<u32, String> {
    /// The well-formed byte sequences of UTF-8 (Unicode, table 3-7).
    const FORMS: [&[(u8, u8)]; 12] = [
        &[(0x20, 0x21)],
        &[(0x23, 0x5b)],
        &[(0x5d, 0x7f)],
        &[(0xc2, 0xdf), (0x80, 0xbf)],
        &[(0xe0, 0xe0), (0xa0, 0xbf), (0x80, 0xbf)],
        &[(0xe1, 0xec), (0x80, 0xbf), (0x80, 0xbf)],
        &[(0xed, 0xed), (0x80, 0x9f), (0x80, 0xbf)],
        &[(0xee, 0xef), (0x80, 0xbf), (0x80, 0xbf)],
        &[(0xf0, 0xf0), (0x90, 0xbf), (0x80, 0xbf), (0x80, 0xbf)],
        &[(0xf1, 0xf3), (0x80, 0xbf), (0x80, 0xbf), (0x80, 0xbf)],
        &[(0xf4, 0xf4), (0x80, 0x8f), (0x80, 0xbf), (0x80, 0xbf)],
        &[(b'\\', b'\\')],
    ];
    let end = automaton.state()?;
    for form in FORMS {
        let mut state = from;
        for (index, (low, high)) in form.iter().enumerate() {
            let last = index + 1 == form.len() && *low != b'\\';
            let next = if last { end } else { automaton.state()? };
            automaton.range(state, *low, *high, next);
            state = next;
        }
        if form.first() == Some(&(b'\\', b'\\')) {
            for escaped in b"\"\\/bfnrt" {
                automaton.range(state, *escaped, *escaped, end);
            }
        }
    }
    Ok(end)
}

/// `mark`, and a space if the model likes one.
fn spaced(automaton: &mut Automaton, from: u32, mark: &[u8]) -> Result<u32, String> {
    let behind = automaton.word(from, mark)?;
    let end = automaton.word(behind, b" ")?;
    automaton.link(behind, end);
    Ok(end)
}

fn counts(
    schema: &Map<String, Value>,
    least: &str,
    most: &str,
) -> Result<(u64, Option<u64>), String> {
    let count = |name: &str| match schema.get(name) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(count) if count <= COUNT_MAX => Ok(Some(count)),
            _ => Err(format!("{name} is {value}, allowed are 0 to {COUNT_MAX}")),
        },
    };
    let (least, most) = (count(least)?.unwrap_or(0), count(most)?);
    if most.is_some_and(|most| most < least) {
        return Err(format!("at least {least} and at most {most:?} leaves nothing"));
    }
    Ok((least, most))
}

fn known(schema: &Map<String, Value>, words: &[&str]) -> Result<(), String> {
    let unknown =
        schema.keys().find(|key| !words.contains(&key.as_str()) && !SILENT.contains(&key.as_str()));
    unknown.map_or(Ok(()), |key| {
        Err(format!("{key:?} is not supported here, only {}", words.join(", ")))
    })
}
