//! `order by`, and the rows behind a cursor.

use super::argument::{Order, OrderBy};
use super::cursor::Cursor;
use super::place;
use super::sql::{Alias, Writer, column_json, comparable};
use crate::entity::{Entity, Kind, Versions};

impl Writer {
    /// ` order by`, ties broken by id in the same direction.
    pub(super) fn order(&mut self, entity: &Entity, table: Alias, order: &Order) {
        let direction = if order.descending { "desc" } else { "asc" };
        self.push(" order by ");
        if !is_by_place(entity, &order.by) && !matches!(order.by, OrderBy::Id) {
            self.ordered(table, &order.by);
            self.push(format_args!(" {direction}, "));
        }
        match entity.versions {
            Versions::Log => self.push(format_args!(
                "{table}.block_number {direction}, {table}.log_index {direction}"
            )),
            Versions::One | Versions::Many => self.push(format_args!("{table}.id {direction}")),
        }
    }

    /// The expression that rows are ordered by.
    fn ordered(&mut self, table: Alias, by: &OrderBy) {
        match by {
            OrderBy::Id => self.push(format_args!("{table}.id")),
            OrderBy::Field(field) => self.push(comparable(table, field)),
            OrderBy::Child { field, relation, target, child } => {
                let parent = self.alias();
                self.push(format_args!("(select {}", comparable(parent, child)));
                self.from(target, parent);
                self.push(format_args!(
                    " and {parent}.{} = {table}.{} limit 1)",
                    relation.remote, field.column
                ));
            }
        }
    }

    /// The same as text, in the form in which filters read such a value.
    pub(super) fn order_text(&mut self, table: Alias, by: &OrderBy) {
        match by {
            OrderBy::Id => self.push(format_args!("{table}.id")),
            OrderBy::Field(field) if field.kind.relation().is_some() => {
                self.push(comparable(table, field));
            }
            OrderBy::Field(field) => self.push(column_json(table, field)),
            OrderBy::Child { field, relation, target, child } => {
                let parent = self.alias();
                self.push(format_args!("(select {}", column_json(parent, child)));
                self.from(target, parent);
                self.push(format_args!(
                    " and {parent}.{} = {table}.{} limit 1)",
                    relation.remote, field.column
                ));
            }
        }
    }

    /// The rows behind a cursor. PostgreSQL puts nulls last in ascending order and first in descending order.
    pub(super) fn behind(&mut self, entity: &Entity, table: Alias, order: &Order, cursor: &Cursor) {
        if is_by_place(entity, &order.by) {
            self.behind_id(entity, table, order, &cursor.id);
            return;
        }
        let word = if order.descending { "<" } else { ">" };
        let Some(value) = &cursor.value else {
            self.behind_null(entity, table, order, &cursor.id);
            return;
        };
        self.push("(");
        self.ordered(table, &order.by);
        self.push(format_args!(" {word} "));
        self.bind(value);
        self.push(" or (");
        self.ordered(table, &order.by);
        self.push(" = ");
        self.bind(value);
        self.push(" and ");
        self.behind_id(entity, table, order, &cursor.id);
        self.push(")");
        if !order.descending {
            self.push(" or ");
            self.ordered(table, &order.by);
            self.push(" is null");
        }
        self.push(")");
    }

    fn behind_null(&mut self, entity: &Entity, table: Alias, order: &Order, id: &str) {
        self.push("((");
        self.ordered(table, &order.by);
        self.push(" is null and ");
        self.behind_id(entity, table, order, id);
        self.push(")");
        if order.descending {
            self.push(" or ");
            self.ordered(table, &order.by);
            self.push(" is not null");
        }
        self.push(")");
    }

    fn behind_id(&mut self, entity: &Entity, table: Alias, order: &Order, id: &str) {
        let word = if order.descending { "<" } else { ">" };
        match entity.versions {
            Versions::Log => place::ordered(self, table, word, id),
            Versions::One | Versions::Many => {
                self.push(format_args!("{table}.id {word} "));
                self.query.push_bind(id.to_owned());
            }
        }
    }
}

/// Whether an order is that of the logs on the chain, so that one index has all of it.
fn is_by_place(entity: &Entity, by: &OrderBy) -> bool {
    entity.versions == Versions::Log
        && match by {
            OrderBy::Id => true,
            OrderBy::Field(field) => {
                matches!(field.kind, Kind::LogId) || field.column == "block_number"
            }
            OrderBy::Child { .. } => false,
        }
}
