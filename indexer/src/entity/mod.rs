//! The one description of everything that is served.
//!
//! GraphQL types, filter inputs, orderings, introspection and SQL are all generated from these tables, so that they
//! cannot disagree. It is also the only place that SQL identifiers of a query come from: what a user writes selects an
//! entry here, and never becomes part of a statement.
//!
//! Every table has the columns `chain_id`, `id` and `block_range`; see `migrations/0001_indexer.sql`.

mod agents;
mod events;
mod market;
mod operators;

pub mod operation;

use std::sync::{PoisonError, RwLock};

pub use operation::Operation;

/// Everything that is served, in the order in which the schema lists it.
pub static ENTITIES: &[&Entity] = &[
    &agents::AGENT,
    &agents::AGENT_METADATA,
    &agents::AGENT_REGISTRATION_FILE,
    &agents::FEEDBACK,
    &agents::FEEDBACK_RESPONSE,
    &agents::VALIDATION,
    &market::OFFER,
    &market::SPLIT,
    &market::SPLIT_SHARE,
    &market::SPLIT_TOTAL,
    &market::REQUEST,
    &market::REQUEST_NOTE,
    &market::SETTLEMENT_CREDIT,
    &market::CREDIT,
    &market::BOND_CREDIT,
    &market::WITHDRAWAL,
    &operators::OPERATOR,
    &operators::SIGNER,
    &operators::OPERATOR_SET,
    &operators::OPERATOR_SET_EPOCH,
    &operators::BOND,
    &operators::SLASH,
    &events::TOKEN,
    &events::FEE_POLICY,
    &events::X402_PAYMENT,
    &events::UNDECODABLE_LOG,
];

/// Something that can be queried: a type of the schema and the table behind it.
#[derive(Debug)]
pub struct Entity {
    /// The GraphQL type.
    pub name: &'static str,
    /// The root field of one, and of many.
    pub one: &'static str,
    pub many: &'static str,
    /// What stands behind `from` in SQL: a table, or a select in parentheses.
    pub source: &'static str,
    /// The name that the outbox knows it by; empty for what never appears there.
    pub table: &'static str,
    /// False for what is not on the chain and therefore has neither versions nor finality.
    pub on_chain: bool,
    pub versions: Versions,
    pub description: &'static str,
    pub fields: &'static [Field],
}

/// How the rows of an entity follow the chain, hence how its state as of a block is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// One row per version, each with the blocks in which it holds.
    Many,
    /// One row, which holds from its first block on: what it tells of happens once. The columns of such a row never change, and
    /// neither contracts nor projections write it again.
    One,
    /// One row per log, at `block_number` and `log_index`, which hold as long as the log's block.
    Log,
}

/// One field of an entity.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    /// The column behind it; for relations the column of this entity that the join compares.
    pub column: &'static str,
    pub kind: Kind,
    pub nullable: bool,
    pub description: &'static str,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Text that identifies a row.
    Id,
    /// The same of a row per log: it says the log's place.
    LogId,
    String,
    /// `bytea`, 0x-hex outside.
    Bytes,
    /// An integer of 32 bits, a JSON number outside.
    Int,
    /// An integer of any width, a decimal string outside.
    BigInt,
    Boolean,
    Enum(&'static Enumeration),
    /// An array column.
    List(Element),
    /// At most one row of another entity.
    One(Relation, Key),
    /// The rows of another entity that point here.
    Many(Relation),
}

/// What an array column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    Bytes,
    BigInt,
    String,
}

/// Rows of `entity` whose column `remote` equals the field's column.
#[derive(Debug, Clone, Copy)]
pub struct Relation {
    pub entity: &'static str,
    pub remote: &'static str,
}

/// How the id of a referenced row follows from the column that points to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The column is the id.
    Text,
    /// The id is the 0x-hex of a `bytea` column.
    Hex,
    /// The id is the decimal form of a numeric column.
    Decimal,
    /// The id is `<chain id>:<decimal>`.
    ChainDecimal,
}

/// The values of a text column with a check constraint.
#[derive(Debug)]
pub struct Enumeration {
    pub name: &'static str,
    pub values: &'static [&'static str],
}

/// The entity of a GraphQL type.
pub fn by_name(name: &str) -> Option<&'static Entity> {
    all().into_iter().find(|entity| entity.name == name)
}

/// What the configuration adds, for the whole process: a schema is built once, of everything that is known by then.
static CONFIGURED: RwLock<Vec<&'static Entity>> = RwLock::new(Vec::new());

/// Everything that is served: [`ENTITIES`], and what the configuration adds.
pub fn all() -> Vec<&'static Entity> {
    let configured = CONFIGURED.read().unwrap_or_else(PoisonError::into_inner);
    ENTITIES.iter().chain(configured.iter()).copied().collect()
}

/// Serves one more entity. Adding the same one again changes nothing; fails when another one has its name.
pub fn add(entity: &'static Entity) -> anyhow::Result<()> {
    let mut configured = CONFIGURED.write().unwrap_or_else(PoisonError::into_inner);
    let known = ENTITIES.iter().chain(configured.iter());
    let names = |entity: &Entity| [entity.name, entity.one, entity.many];
    for other in known {
        if (other.name, other.source) == (entity.name, entity.source) {
            return Ok(());
        }
        let same = names(other).into_iter().find(|name| names(entity).contains(name));
        if let Some(name) = same {
            anyhow::bail!("{name} is already the name of something else; choose another one");
        }
    }
    configured.push(entity);
    Ok(())
}

impl Entity {
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Relation {
    /// The entity at the other end. A test proves that every relation has one.
    pub fn target(&self) -> Option<&'static Entity> {
        by_name(self.entity)
    }
}

impl Kind {
    /// The relation that a field stands for.
    pub fn relation(&self) -> Option<Relation> {
        match self {
            Self::One(relation, _) | Self::Many(relation) => Some(*relation),
            Self::Id
            | Self::LogId
            | Self::String
            | Self::Bytes
            | Self::Int
            | Self::BigInt
            | Self::Boolean
            | Self::Enum(_)
            | Self::List(_) => None,
        }
    }
}

const ID: Field = field("id", "id", Kind::Id).about("Unique within the chain.");

const CHAIN_ID: Field = field("chainId", "chain_id", Kind::BigInt);

const fn field(name: &'static str, column: &'static str, kind: Kind) -> Field {
    Field { name, column, kind, nullable: false, description: "" }
}

const fn one(
    name: &'static str,
    column: &'static str,
    entity: &'static str,
    remote: &'static str,
    key: Key,
) -> Field {
    field(name, column, Kind::One(Relation { entity, remote }, key)).or_null()
}

const fn many(
    name: &'static str,
    column: &'static str,
    entity: &'static str,
    remote: &'static str,
) -> Field {
    field(name, column, Kind::Many(Relation { entity, remote }))
}

impl Field {
    const fn or_null(mut self) -> Self {
        self.nullable = true;
        self
    }

    const fn about(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_relation_ends_somewhere() {
        for entity in ENTITIES {
            for field in entity.fields {
                if let Some(relation) = field.kind.relation() {
                    assert!(relation.target().is_some(), "{}.{}", entity.name, field.name);
                }
            }
        }
    }

    #[test]
    fn names_are_unique_and_no_field_hides_a_filter_suffix() {
        let mut roots = HashSet::new();
        for entity in ENTITIES {
            assert!(roots.insert(entity.one), "{}", entity.one);
            assert!(roots.insert(entity.many), "{}", entity.many);
            let mut filters = HashSet::new();
            for field in entity.fields {
                assert!(!field.name.contains('_'), "{}.{}", entity.name, field.name);
                for operation in operation::of(&field.kind) {
                    let filter = format!("{}{}", field.name, operation.suffix());
                    assert!(filters.insert(filter.clone()), "{}: {filter}", entity.name);
                }
            }
        }
    }

    #[test]
    fn everything_has_an_id_and_a_chain() {
        for entity in ENTITIES {
            assert!(entity.field("id").is_some(), "{}", entity.name);
            assert!(entity.field("chainId").is_some(), "{}", entity.name);
        }
    }
}
