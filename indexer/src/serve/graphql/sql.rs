//! From a plan to one SQL statement per root field. Identifiers come from the entity tables; everything that a client wrote
//! is a bound parameter, also the names that the answer gives to fields.

use sqlx::{Postgres, QueryBuilder};

use super::cursor::Cursor;
use super::filter::{Filter, Operand, Scalar};
use super::plan::{Collection, Item};
use super::version::Narrowing;
use super::{compare, filter, place};
use crate::entity::{Element, Entity, Field, Key, Kind, Operation, Relation, Versions};

/// Where and as of when a statement reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    pub(super) chain_id: i64,
    /// `None` for the newest versions.
    pub(super) block: Option<i64>,
    pub(super) safe: i64,
    pub(super) finalized: i64,
}

/// Writes one statement.
pub(super) struct Writer {
    pub(super) query: QueryBuilder<Postgres>,
    pub(super) scope: Scope,
    aliases: usize,
}

/// A table's name within a statement: `t0`, `t1`, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alias(usize);

impl std::fmt::Display for Alias {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "t{}", self.0)
    }
}

impl Writer {
    pub(super) fn new(scope: Scope) -> Self {
        Self { query: QueryBuilder::new(""), scope, aliases: 0 }
    }

    /// `select <row as JSON text>` of the entity with this id.
    pub(super) fn one(&mut self, entity: &'static Entity, id: &Scalar, items: &[Item]) {
        let table = self.alias();
        self.push("select ");
        self.row(table, items);
        self.push("::text as row");
        self.from(entity, table);
        self.push(" and ");
        match entity.versions {
            Versions::Log => {
                place::compare(self, table, Operation::Equal, &Operand::One(id.clone()));
            }
            Versions::One | Versions::Many => {
                self.push(format_args!("{table}.id = "));
                self.bind(id);
            }
        }
        self.push(" limit 1");
    }

    /// `select <JSON array as text>` of a collection.
    pub(super) fn many(&mut self, collection: &Collection) {
        self.push("select ");
        self.array(collection, None);
        self.push("::text as rows");
    }

    /// One row per row of a connection: its ordered value and its id, for the cursor, and one column of JSON text per
    /// selection. One row more than `first` is read, to know whether there is a next page.
    pub(super) fn connection(
        &mut self,
        collection: &Collection,
        after: Option<&Cursor>,
        selections: &[&[Item]],
    ) {
        let table = self.alias();
        self.push("select (");
        self.order_text(table, &collection.order.by);
        self.push(format_args!(")::text as ordered, {table}.id as id, array["));
        for (place, items) in selections.iter().enumerate() {
            self.push(if place == 0 { "" } else { ", " });
            self.row(table, items);
            self.push("::text");
        }
        self.push("]::text[] as rows");
        self.page(table, collection, &Narrowing::Behind(after), collection.first + 1);
    }

    /// `select count(*)` of everything that a filter finds.
    pub(super) fn count(&mut self, entity: &'static Entity, filter: &Filter) {
        let table = self.alias();
        self.push("select count(*) as total");
        self.from(entity, table);
        self.push(" and ");
        self.filter(table, filter);
    }

    // ROWS

    /// A JSON array of rows; `joined` binds it to a row of an outer table.
    fn array(&mut self, collection: &Collection, joined: Option<(Alias, &Field, Relation)>) {
        let table = self.alias();
        self.push("(select coalesce(json_agg(r.j), '[]'::json) from (select ");
        self.row(table, &collection.items);
        self.push(" as j");
        self.page(table, collection, &Narrowing::Joined(joined), collection.first);
        if collection.skip != 0 {
            self.push(" offset ");
            self.query.push_bind(collection.skip);
        }
        self.push(") r)");
    }

    /// A row as a JSON object. PostgreSQL functions take 100 arguments, so a wide row is put together from parts.
    fn row(&mut self, table: Alias, items: &[Item]) {
        const PAIRS_MAX: usize = 50;
        if items.len() <= PAIRS_MAX {
            self.object(table, items);
            return;
        }
        self.push("('{'");
        for (place, part) in items.chunks(PAIRS_MAX).enumerate() {
            self.push(if place == 0 { " || " } else { " || ',' || " });
            // Without its braces.
            self.push("substr(left(");
            self.object(table, part);
            self.push("::text, -1), 2)");
        }
        self.push(" || '}')::json");
    }

    fn object(&mut self, table: Alias, items: &[Item]) {
        self.push("json_build_object(");
        for (place, item) in items.iter().enumerate() {
            self.push(if place == 0 { "" } else { ", " });
            let (Item::Typename { key, .. }
            | Item::Column { key, .. }
            | Item::Finality { key }
            | Item::ChangedAtBlock { key }
            | Item::One { key, .. }
            | Item::Many { key, .. }) = item;
            self.query.push_bind(key.clone());
            self.push("::text, ");
            self.value(table, item);
        }
        self.push(")");
    }

    fn value(&mut self, table: Alias, item: &Item) {
        match item {
            Item::Typename { name, .. } => {
                self.query.push_bind(*name);
                self.push("::text");
            }
            Item::Column { field, .. } => self.push(column_json(table, field)),
            Item::ChangedAtBlock { .. } => {
                self.push(format_args!("lower({table}.block_range)::text"));
            }
            Item::Finality { .. } => {
                self.push(format_args!("case when lower({table}.block_range) <= "));
                self.query.push_bind(self.scope.finalized);
                self.push(format_args!(" then 'finalized' when lower({table}.block_range) <= "));
                self.query.push_bind(self.scope.safe);
                self.push(" then 'safe' else 'latest' end");
            }
            Item::One { field, relation, target, items, .. } => {
                let child = self.alias();
                self.push("(select ");
                self.row(child, items);
                self.from(target, child);
                self.push(format_args!(
                    " and {child}.{} = {table}.{} limit 1)",
                    relation.remote, field.column
                ));
            }
            Item::Many { field, relation, collection, .. } => {
                self.array(collection, Some((table, field, *relation)));
            }
        }
    }

    // CONDITIONS

    pub(super) fn filter(&mut self, table: Alias, filter: &Filter) {
        match filter {
            Filter::All(parts) => self.joined(table, parts, " and ", "true"),
            Filter::Any(parts) => self.joined(table, parts, " or ", "false"),
            Filter::Compare { field, operation, operand } => {
                compare::compare(self, table, field, *operation, operand);
            }
            Filter::Child { field, relation, target, filter } => {
                let child = self.alias();
                self.push("exists (select 1");
                self.from(target, child);
                self.push(format_args!(
                    " and {child}.{} = {table}.{} and ",
                    relation.remote, field.column
                ));
                self.filter(child, filter);
                self.push(")");
            }
            Filter::ChangedSince(block) => {
                self.push(format_args!("lower({table}.block_range) >= "));
                self.query.push_bind(*block);
            }
        }
    }

    fn joined(&mut self, table: Alias, parts: &[Filter], word: &str, empty: &str) {
        if parts.is_empty() {
            self.push(empty);
            return;
        }
        self.push("(");
        for (place, part) in parts.iter().enumerate() {
            self.push(if place == 0 { "" } else { word });
            self.filter(table, part);
        }
        self.push(")");
    }

    // PARTS

    pub(super) fn push(&mut self, text: impl std::fmt::Display) {
        self.query.push(text);
    }

    /// Binds a value with its type in the text: prepared statements are kept by their text, and one that was prepared for a
    /// bigint must not meet a numeric.
    pub(super) fn bind(&mut self, scalar: &Scalar) {
        match scalar {
            Scalar::Text(text) => self.query.push_bind(text.clone()).push("::text"),
            Scalar::Bytes(bytes) => self.query.push_bind(bytes.clone()).push("::bytea"),
            Scalar::Integer(number) => self.query.push_bind(*number).push("::bigint"),
            Scalar::Wide(number) => self.query.push_bind(number.clone()).push("::numeric"),
            Scalar::Boolean(truth) => self.query.push_bind(*truth).push("::boolean"),
        };
    }

    pub(super) fn chain_id(&self) -> i64 {
        self.scope.chain_id
    }

    pub(super) fn alias(&mut self) -> Alias {
        self.aliases += 1;
        Alias(self.aliases - 1)
    }
}

/// A column in the form in which it is served.
pub(super) fn column_json(table: Alias, field: &Field) -> String {
    let column = format!("{table}.{}", field.column);
    match field.kind {
        Kind::BigInt => format!("{column}::text"),
        Kind::Bytes => format!("'0x' || encode({column}, 'hex')"),
        Kind::List(element) => {
            let value = match element {
                Element::Bytes => "'0x' || encode(v, 'hex')",
                Element::BigInt => "v::text",
                Element::String => "v",
            };
            format!(
                "case when {column} is not null then coalesce((select json_agg({value} order by n) from unnest({column}) with ordinality as u (v, n)), '[]'::json) end"
            )
        }
        Kind::Id
        | Kind::LogId
        | Kind::String
        | Kind::Int
        | Kind::Boolean
        | Kind::Enum(_)
        | Kind::One(..)
        | Kind::Many(_) => column,
    }
}

/// A column in the form in which it is compared and ordered; for a reference the id of the row that it leads to.
pub(super) fn comparable(table: Alias, field: &Field) -> String {
    let column = format!("{table}.{}", field.column);
    match field.kind {
        Kind::One(_, Key::Hex) => format!("('0x' || encode({column}, 'hex'))"),
        Kind::One(_, Key::Decimal) => format!("{column}::text"),
        Kind::One(_, Key::ChainDecimal) => {
            format!("({table}.chain_id::text || ':' || {column}::text)")
        }
        Kind::One(_, Key::Text)
        | Kind::Id
        | Kind::LogId
        | Kind::String
        | Kind::Bytes
        | Kind::Int
        | Kind::BigInt
        | Kind::Boolean
        | Kind::Enum(_)
        | Kind::List(_)
        | Kind::Many(_) => column,
    }
}

/// The value of an operand that is one.
pub(super) fn single(operand: &Operand) -> Option<&filter::Scalar> {
    match operand {
        Operand::One(scalar) => Some(scalar),
        Operand::Null | Operand::Many(_) => None,
    }
}
