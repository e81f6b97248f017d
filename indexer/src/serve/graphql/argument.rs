//! Arguments of collections and root fields, within their limits.

use async_graphql::indexmap::IndexMap;
use async_graphql::{Name, Value};

use super::error::Refusal;
use super::filter::{self, Conditions, Filter, integer};
use super::literal::word;
use crate::entity::{Entity, Field, Kind, Relation};
use crate::serve::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use crate::serve::parameter::Finality;

pub(super) type Arguments = IndexMap<Name, Value>;

/// As of when a root field is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) block: Block,
    pub(super) finality: Finality,
    /// Data is wanted although indexing has stopped.
    pub(super) errors_allowed: bool,
}

/// `block: Block_height`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Block {
    Newest,
    Number(i64),
    Hash(Vec<u8>),
    /// The newest block, which has to be at least this one.
    NumberAtLeast(i64),
}

/// `orderBy` and `orderDirection`. Ties are broken by id in the same direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) by: OrderBy,
    pub(super) descending: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum OrderBy {
    Id,
    Field(&'static Field),
    /// A field of the row that a relation leads to.
    Child {
        field: &'static Field,
        relation: Relation,
        target: &'static Entity,
        child: &'static Field,
    },
}

pub(super) fn view(arguments: &Arguments) -> Result<View, Refusal> {
    let finality = match arguments.get("finality").and_then(word) {
        Some("safe") => Finality::Safe,
        Some("finalized") => Finality::Finalized,
        Some(_) | None => Finality::Latest,
    };
    let errors_allowed = arguments.get("subgraphError").and_then(word) == Some("allow");
    Ok(View { block: block(arguments)?, finality, errors_allowed })
}

fn block(arguments: &Arguments) -> Result<Block, Refusal> {
    let given = match arguments.get("block") {
        None | Some(Value::Null) => return Ok(Block::Newest),
        Some(Value::Object(given)) => given,
        Some(_) => return Err(Refusal::BlockArgument("is not an object")),
    };
    let mut named = given.iter().filter(|(_, value)| **value != Value::Null);
    let (Some((name, value)), None) = (named.next(), named.next()) else {
        return Err(Refusal::BlockArgument(
            "give exactly one of `hash`, `number` and `number_gte`",
        ));
    };
    let number = || integer(value).ok_or(Refusal::BlockArgument("a block number is 0 or more"));
    match name.as_str() {
        "number" => number().map(Block::Number),
        "number_gte" => number().map(Block::NumberAtLeast),
        _ => {
            const HASH_BYTES: usize = 32;
            let bytes = word(value)
                .and_then(|text| hex::decode(text.strip_prefix("0x").unwrap_or(text)).ok())
                .filter(|bytes| bytes.len() == HASH_BYTES);
            bytes.map(Block::Hash).ok_or(Refusal::BlockArgument("`hash` is not 32 bytes of 0x-hex"))
        }
    }
}

pub(super) fn first(arguments: &Arguments) -> Result<i64, Refusal> {
    let asked = range(arguments, "first", PAGE_ROWS_MAX)?.unwrap_or(PAGE_ROWS_DEFAULT);
    if asked == 0 {
        // graph-node's words, bound for bound.
        return Err(Refusal::Range {
            argument: "first",
            min: 0,
            max: PAGE_ROWS_MAX,
            actual: "0".to_owned(),
        });
    }
    Ok(asked)
}

pub(super) fn skip(arguments: &Arguments) -> Result<i64, Refusal> {
    Ok(range(arguments, "skip", i64::from(u32::MAX))?.unwrap_or(0))
}

fn range(arguments: &Arguments, argument: &'static str, max: i64) -> Result<Option<i64>, Refusal> {
    match arguments.get(argument) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match integer(value) {
            Some(number) if number <= max => Ok(Some(number)),
            Some(_) | None => {
                Err(Refusal::Range { argument, min: 0, max, actual: value.to_string() })
            }
        },
    }
}

pub(super) fn text(arguments: &Arguments, name: &str) -> Option<String> {
    arguments.get(name).and_then(word).map(str::to_owned)
}

pub(super) fn filter(
    entity: &'static Entity,
    arguments: &Arguments,
    conditions: &mut Conditions,
) -> Result<Filter, Refusal> {
    match arguments.get("where") {
        Some(Value::Object(argument)) => filter::parse(entity, argument, false, conditions),
        _ => Ok(Filter::All(Vec::new())),
    }
}

/// Only names that the entity tables hold become an ordering.
pub(super) fn order(entity: &'static Entity, arguments: &Arguments) -> Result<Order, Refusal> {
    let descending = arguments.get("orderDirection").and_then(word) == Some("desc");
    let by = match arguments.get("orderBy").and_then(word) {
        None => OrderBy::Id,
        Some(name) => order_by(entity, name).ok_or_else(|| Refusal::Document {
            message: format!("Ordering by `{name}` is not supported for type `{}`", entity.name),
            position: None,
        })?,
    };
    Ok(Order { by, descending })
}

fn order_by(entity: &'static Entity, name: &str) -> Option<OrderBy> {
    let Some((parent, child)) = name.split_once("__") else {
        let field = entity.field(name)?;
        return match field.kind {
            Kind::Many(_) => None,
            Kind::Id => Some(OrderBy::Id),
            _ => Some(OrderBy::Field(field)),
        };
    };
    let field = entity.field(parent)?;
    let Kind::One(relation, _) = field.kind else { return None };
    let target = relation.target()?;
    let child = target.field(child).filter(|child| child.kind.relation().is_none())?;
    Some(OrderBy::Child { field, relation, target, child })
}

impl OrderBy {
    /// The name that a query uses for it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Id => "id".to_owned(),
            Self::Field(field) => field.name.to_owned(),
            Self::Child { field, child, .. } => format!("{}__{}", field.name, child.name),
        }
    }

    /// What the ordered values are.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Id => Kind::Id,
            Self::Field(field) => field.kind,
            Self::Child { child, .. } => child.kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::value;

    use super::*;
    use crate::entity::by_name;

    fn arguments(value: Value) -> Arguments {
        let Value::Object(arguments) = value else { panic!("arguments are an object") };
        arguments
    }

    #[test]
    fn first_is_held_between_one_and_a_thousand_in_the_words_of_graph_node() {
        let refused = |n: i64| first(&arguments(value!({ "first": n }))).unwrap_err().to_string();
        assert_eq!(refused(0), "The `first` argument must be between 0 and 1000, but is 0");
        assert_eq!(refused(1001), "The `first` argument must be between 0 and 1000, but is 1001");
        assert_eq!(refused(-1), "The `first` argument must be between 0 and 1000, but is -1");
        assert_eq!(first(&arguments(value!({ "first": null }))).unwrap(), 100);
    }

    #[test]
    fn no_text_that_is_not_in_the_tables_becomes_an_ordering() {
        let entity = by_name("Request").unwrap();
        for bad in [
            "sequence; drop table indexer.requests",
            "sequence desc",
            "agent__owner__x",
            "agent__offers",
            "credits",
            "block_range",
            "(select 1)",
            "1",
            "",
            "id--",
            "\"id\"",
        ] {
            let asked = arguments(value!({ "orderBy": bad }));
            assert!(order(entity, &asked).is_err(), "{bad}");
        }
        assert!(order_by(entity, "agent__owner").is_some());
    }

    #[test]
    fn a_block_is_named_in_one_way() {
        let two = arguments(value!({ "block": { "number": 1, "number_gte": 1 } }));
        assert!(matches!(block(&two), Err(Refusal::BlockArgument(_))));
        let none = arguments(value!({ "block": {} }));
        assert!(matches!(block(&none), Err(Refusal::BlockArgument(_))));
        let one = arguments(value!({ "block": { "number": 5, "hash": null } }));
        assert_eq!(block(&one), Ok(Block::Number(5)));
    }
}
