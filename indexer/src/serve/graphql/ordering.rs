//! `order by`, and the rows behind a cursor.

use super::argument::{Order, OrderBy};
use super::cursor::Cursor;
use super::sql::{Alias, Writer, column_json, comparable};

impl Writer {
    /// ` order by`, ties broken by id in the same direction.
    pub(super) fn order(&mut self, table: Alias, order: &Order) {
        let direction = if order.descending { "desc" } else { "asc" };
        self.push(" order by ");
        if !matches!(order.by, OrderBy::Id) {
            self.ordered(table, &order.by);
            self.push(format_args!(" {direction}, "));
        }
        self.push(format_args!("{table}.id {direction}"));
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
    pub(super) fn behind(&mut self, table: Alias, order: &Order, cursor: &Cursor) {
        let word = if order.descending { "<" } else { ">" };
        let Some(value) = &cursor.value else {
            self.behind_null(table, order, &cursor.id);
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
        self.push(format_args!(" and {table}.id {word} "));
        self.query.push_bind(cursor.id.clone());
        self.push(")");
        if !order.descending {
            self.push(" or ");
            self.ordered(table, &order.by);
            self.push(" is null");
        }
        self.push(")");
    }

    fn behind_null(&mut self, table: Alias, order: &Order, id: &str) {
        let word = if order.descending { "<" } else { ">" };
        self.push("((");
        self.ordered(table, &order.by);
        self.push(format_args!(" is null and {table}.id {word} "));
        self.query.push_bind(id.to_owned());
        self.push(")");
        if order.descending {
            self.push(" or ");
            self.ordered(table, &order.by);
            self.push(" is not null");
        }
        self.push(")");
    }
}
