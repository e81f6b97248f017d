//! From an event of an ABI to something that can be queried. Pure.

use std::fmt::Write;

use alloy::json_abi::Event;
use alloy::primitives::{B256, hex};
use anyhow::{Context, ensure};

use super::Place;
use super::column::{Column, Word, column};
use crate::entity::{Entity, Field, Kind, Versions};

/// One event of a followed contract.
#[derive(Debug, Clone)]
pub struct FollowedEvent {
    /// Its GraphQL type: the contract's name and the event's.
    pub type_name: String,
    pub signature: String,
    pub topic0: B256,
    topics: usize,
    /// Bytes that its data has at least.
    head_bytes: usize,
    columns: Vec<Column>,
}

/// What every event has beside its parameters: field, column, kind.
const PLACE: &[(&str, &str, Kind)] = &[
    ("id", "id", Kind::LogId),
    ("chainId", "chain_id", Kind::BigInt),
    ("address", "address", Kind::Bytes),
    ("createdAtBlock", "block_number", Kind::BigInt),
    ("createdAt", "block_time", Kind::BigInt),
    ("createdTx", "transaction_hash", Kind::Bytes),
    ("logIndex", "log_index", Kind::Int),
];

impl FollowedEvent {
    pub(super) fn new(contract: &str, event: &Event) -> anyhow::Result<Self> {
        ensure!(!event.anonymous, "event {}: is anonymous, so its logs cannot be told", event.name);
        let (mut topic, mut word) = (0, 0);
        let mut columns: Vec<Column> = Vec::with_capacity(event.inputs.len());
        for (index, param) in event.inputs.iter().enumerate() {
            let place = if param.indexed {
                topic += 1;
                Word::Topic(topic)
            } else {
                word += 1;
                Word::Data(word - 1)
            };
            let mut name = field_name(&param.name, index);
            let is_taken = |name: &str| {
                PLACE.iter().any(|(taken, _, _)| *taken == name)
                    || columns.iter().any(|column| column.name == name)
            };
            while is_taken(&name) {
                name.push_str("Arg");
            }
            let column =
                column(name, param, place).with_context(|| format!("event {}", event.name))?;
            columns.push(column);
        }
        ensure!(topic <= 3, "event {}: {topic} indexed parameters, a log has 3", event.name);
        Ok(Self {
            type_name: format!("{contract}{}", capitalized(&event.name)),
            signature: event.signature(),
            topic0: event.selector(),
            topics: topic,
            head_bytes: 32 * word,
            columns,
        })
    }

    /// What is served of it on one chain. A log with this signature but another layout, as when a contract's ABI is not what
    /// its code does, has no row here; its fact stays.
    pub(super) fn entity(&self, chain_id: u64, place: &Place) -> Entity {
        let mut source = String::from(
            "(select f.chain_id, \
             '0x' || lpad(to_hex(f.block_number), 16, '0') || lpad(to_hex(f.log_index), 8, '0') as id, \
             int8range(f.block_number, null) as block_range, f.address, f.block_number, f.block_time, \
             f.transaction_hash, f.log_index",
        );
        let mut fields: Vec<Field> = PLACE
            .iter()
            .map(|(name, column, kind)| Field {
                name,
                column,
                kind: *kind,
                nullable: false,
                description: "",
            })
            .collect();
        for (index, column) in self.columns.iter().enumerate() {
            // Writing to a string does not fail.
            let _ = write!(source, ", {} as p{index}", column.sql);
            fields.push(Field {
                name: leak(column.name.clone()),
                column: leak(format!("p{index}")),
                kind: column.kind,
                nullable: column.nullable,
                description: leak(column.description.clone()),
            });
        }
        let _ = write!(
            source,
            " from indexer.facts f where f.chain_id = {chain_id} and {} \
             and f.topic0 = '\\x{}'::bytea and num_nonnulls(f.topic1, f.topic2, f.topic3) = {} \
             and octet_length(f.data) >= {})",
            place.sql(chain_id),
            hex::encode(self.topic0),
            self.topics,
            self.head_bytes,
        );
        let one = uncapitalized(&self.type_name);
        Entity {
            name: leak(self.type_name.clone()),
            many: leak(format!("{one}s")),
            one: leak(one),
            source: leak(source),
            table: "",
            on_chain: true,
            versions: Versions::Log,
            description: leak(format!(
                "`{}` of {place}, read out of verified logs. Its id is the block's number and the log's index, \
                 in 16 and 8 hex digits: in the order of ids events have happened.",
                self.signature
            )),
            fields: Vec::leak(fields),
        }
    }
}

/// Lives as long as the process, like the schema that is made of it; there are as many as the configuration names.
fn leak(text: String) -> &'static str {
    String::leak(text)
}

/// `_from` is `from`, `token_id` is `tokenId`: an underscore begins a filter's suffix. A parameter without a name has its
/// place for one.
fn field_name(name: &str, index: usize) -> String {
    let mut parts = name.split('_').filter(|part| !part.is_empty());
    let Some(first) = parts.next() else { return format!("arg{index}") };
    let mut field = uncapitalized(first);
    parts.for_each(|part| field.push_str(&capitalized(part)));
    let is_name = field.starts_with(|first: char| first.is_ascii_alphabetic())
        && field.chars().all(|c| c.is_ascii_alphanumeric());
    if is_name { field } else { format!("arg{index}") }
}

fn capitalized(text: &str) -> String {
    changed(text, char::to_ascii_uppercase)
}

fn uncapitalized(text: &str) -> String {
    changed(text, char::to_ascii_lowercase)
}

/// Text with another first letter, and without what no name of a type holds.
fn changed(text: &str, change: impl Fn(&char) -> char) -> String {
    let mut letters = text.chars().filter(char::is_ascii_alphanumeric);
    let first = letters.next().as_ref().map(change);
    first.into_iter().chain(letters).collect()
}
