//! From one parameter of an event to a typed column: where its word lies, and how SQL reads it. Pure.

use alloy::json_abi::EventParam;
use anyhow::bail;

use crate::entity::Kind;

/// A parameter as it is queried.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// The name of its field.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// A dynamic value may lie outside the data, or not be text; then it is null.
    pub(super) nullable: bool,
    /// Reads it out of a row `f` of the facts. Made of numbers only: nothing of an ABI's text is in it.
    pub(super) sql: String,
    pub(super) description: String,
}

/// Where a parameter's word lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// One of the topics 1 to 3.
    Topic(usize),
    /// Counted in words from the begin of the data.
    Data(usize),
}

impl Word {
    /// Reads it out of a row of the facts that is called `row`.
    pub(super) fn sql(self, row: &str) -> String {
        match self {
            Self::Topic(index) => format!("{row}.topic{index}"),
            Self::Data(index) => format!("substring({row}.data from {} for 32)", 32 * index + 1),
        }
    }
}

/// Fails for types that are not read into columns: arrays and tuples.
pub(super) fn column(name: String, param: &EventParam, word: Word) -> anyhow::Result<Column> {
    let (place, topic) = (word.sql("f"), matches!(word, Word::Topic(_)));
    let description =
        format!("`{}`, from {}.", param.ty, if topic { "a topic" } else { "the data" });
    let new = |kind, nullable, sql| Column { name, kind, nullable, sql, description };
    let ty = param.ty.as_str();
    let is_composite = ty.ends_with(']') || ty.starts_with("tuple");
    if topic && (is_composite || matches!(ty, "string" | "bytes")) {
        let column = new(Kind::Bytes, false, place);
        // What is longer than a word stands as its hash in a topic.
        let description = format!("The keccak-256 of a `{ty}`, which is all that a topic holds.");
        return Ok(Column { description, ..column });
    }
    if is_composite {
        bail!(
            "parameter {:?} is of type {ty}: arrays and tuples are not read into columns",
            param.name
        );
    }
    let position = match word {
        Word::Data(index) => index,
        Word::Topic(_) => 0,
    };
    let bits = |prefix: &str| ty.strip_prefix(prefix).and_then(|bits| bits.parse::<usize>().ok());
    Ok(match ty {
        "address" => new(Kind::Bytes, false, format!("indexer.abi_address({place})")),
        "bool" => new(Kind::Boolean, false, format!("indexer.abi_bool({place})")),
        "bytes" => new(Kind::Bytes, true, format!("indexer.abi_bytes(f.data, {position})")),
        "string" => new(Kind::String, true, format!("indexer.abi_text(f.data, {position})")),
        _ => {
            if let Some(bits) = bits("uint") {
                let wide = format!("indexer.abi_uint({place})");
                // GraphQL's Int is signed and has 32 bits.
                let (kind, sql) = if bits < 32 {
                    (Kind::Int, format!("{wide}::int"))
                } else {
                    (Kind::BigInt, wide)
                };
                new(kind, false, sql)
            } else if let Some(bits) = bits("int") {
                let wide = format!("indexer.abi_int({place})");
                let (kind, sql) = if bits <= 32 {
                    (Kind::Int, format!("{wide}::int"))
                } else {
                    (Kind::BigInt, wide)
                };
                new(kind, false, sql)
            } else if let Some(length) = bits("bytes") {
                new(Kind::Bytes, false, format!("substring({place} from 1 for {length})"))
            } else {
                bail!("parameter {:?} is of type {ty}, which is not known", param.name)
            }
        }
    })
}
