//! Which versions of an entity's rows a statement reads, and how it finds the ones of a page.

use super::argument::OrderBy;
use super::cursor::Cursor;
use super::plan::Collection;
use super::sql::{Alias, Writer};
use crate::entity::{Entity, Field, Kind, Relation, Versions};

/// What a page is of, beside its filter.
pub(super) enum Narrowing<'a> {
    /// Of the rows that a row of an outer table leads to.
    Joined(Option<(Alias, &'a Field, Relation)>),
    /// Of the rows behind a cursor.
    Behind(Option<&'a Cursor>),
}

/// The versions that are still current, or those that are past; together all of them.
#[derive(Debug, Clone, Copy)]
enum Part {
    Current,
    Past,
}

impl Writer {
    /// ` from <entity> <alias> where <on this chain, in this version>`.
    pub(super) fn from(&mut self, entity: &Entity, table: Alias) {
        match self.scope.block {
            Some(block) if entity.versions == Versions::Many => {
                self.push(format_args!(" from (select * from {} v where ", entity.source));
                self.held("v", Part::Current, block);
                self.push(format_args!(" union all select * from {} v where ", entity.source));
                self.held("v", Part::Past, block);
                self.push(format_args!(") {table} where {table}.chain_id = "));
                self.query.push_bind(self.scope.chain_id);
            }
            block => {
                self.push(format_args!(
                    " from {} {table} where {table}.chain_id = ",
                    entity.source
                ));
                self.query.push_bind(self.scope.chain_id);
                self.holds(entity, table, block);
            }
        }
    }

    /// That a row holds, where one condition says it.
    fn holds(&mut self, entity: &Entity, table: Alias, block: Option<i64>) {
        match (entity.versions, block) {
            _ if !entity.on_chain => {}
            (Versions::Log, None) => {}
            (Versions::Log, Some(block)) => {
                self.push(format_args!(" and {table}.block_number <= "));
                self.query.push_bind(block);
            }
            (Versions::One | Versions::Many, None) => {
                self.push(format_args!(" and upper_inf({table}.block_range)"));
            }
            (Versions::One | Versions::Many, Some(block)) => {
                self.push(" and ");
                self.held(table, Part::Current, block);
            }
        }
    }

    /// That a version held in a block, for one of the two parts of which all versions are. Each part is written in the words of
    /// its indexes: those of current versions serve the first one, the second one is small unless the block is long past.
    fn held(&mut self, table: impl std::fmt::Display, part: Part, block: i64) {
        match part {
            Part::Current => self.push(format_args!("upper_inf({table}.block_range)")),
            Part::Past => {
                self.push(format_args!(
                    "not upper_inf({table}.block_range) and upper({table}.block_range) > "
                ));
                self.query.push_bind(block).push("::bigint");
            }
        }
        self.push(format_args!(" and lower({table}.block_range) <= "));
        self.query.push_bind(block).push("::bigint");
    }

    /// From ` from` to ` limit`: so many rows of a collection, in its order, after those that are skipped.
    pub(super) fn page(
        &mut self,
        table: Alias,
        collection: &Collection,
        narrowing: &Narrowing<'_>,
        rows: i64,
    ) {
        let Collection { entity, order, .. } = collection;
        let is_many = entity.versions == Versions::Many;
        match self.scope.block {
            Some(block) if is_many && self.is_better_whole(block, collection, narrowing) => {
                self.push(format_args!(
                    " from {} {table} where {table}.chain_id = ",
                    entity.source
                ));
                self.query.push_bind(self.scope.chain_id);
                self.push(format_args!(" and {table}.block_range @> "));
                self.query.push_bind(block).push("::bigint");
                self.narrowed(table, collection, narrowing);
            }
            Some(block) if is_many => {
                // Each part finds the beginning of the page by whatever index suits it, so that no more is sorted than that.
                for (part, word) in [(Part::Current, " from (("), (Part::Past, " union all (")] {
                    self.push(format_args!(
                        "{word}select {table}.* from {} {table} where {table}.chain_id = ",
                        entity.source
                    ));
                    self.query.push_bind(self.scope.chain_id);
                    self.push(" and ");
                    self.held(table, part, block);
                    self.narrowed(table, collection, narrowing);
                    self.order(entity, table, order);
                    self.push(" limit ");
                    self.query.push_bind(rows.saturating_add(collection.skip));
                    self.push(")");
                }
                self.push(format_args!(") {table}"));
            }
            _ => {
                self.from(entity, table);
                self.narrowed(table, collection, narrowing);
            }
        }
        self.order(entity, table, order);
        self.push(" limit ");
        self.query.push_bind(rows);
    }

    /// Whether a page is better found among all versions at once: in the order of ids these have an index. Long ago most versions
    /// were past ones, and what looks through all of them meets the first rows of such a page soon.
    fn is_better_whole(
        &self,
        block: i64,
        collection: &Collection,
        narrowing: &Narrowing<'_>,
    ) -> bool {
        let is_by_id = match collection.order.by {
            OrderBy::Id => true,
            OrderBy::Field(field) => matches!(field.kind, Kind::Id),
            OrderBy::Child { .. } => false,
        };
        let is_narrow =
            matches!(narrowing, Narrowing::Joined(Some(_))) || collection.filter.is_narrow();
        block < self.scope.finalized && is_by_id && !is_narrow
    }

    fn narrowed(&mut self, table: Alias, collection: &Collection, narrowing: &Narrowing<'_>) {
        if let Narrowing::Joined(Some((outer, field, relation))) = narrowing {
            self.push(format_args!(" and {table}.{} = {outer}.{}", relation.remote, field.column));
        }
        self.push(" and ");
        self.filter(table, &collection.filter);
        if let Narrowing::Behind(Some(cursor)) = narrowing {
            self.push(" and ");
            self.behind(collection.entity, table, &collection.order, cursor);
        }
    }
}
