//! What a query reads, named by entries of the entity tables.

use async_graphql::{Pos, Value};

use super::argument::{Order, View};
use super::filter::Filter;
use crate::entity::{Entity, Field, Relation};

/// One root field.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) key: String,
    pub(super) position: Pos,
    pub(super) read: Read,
}

/// What a root field reads.
#[derive(Debug)]
pub(super) enum Read {
    /// `__typename`.
    Typename,
    /// `__schema` or `__type`, which async-graphql has answered.
    Introspection,
    Meta {
        view: View,
        fields: Vec<MetaField>,
    },
    One {
        view: View,
        entity: &'static Entity,
        id: Value,
        items: Vec<Item>,
    },
    Many {
        view: View,
        collection: Collection,
    },
    Connection {
        view: View,
        connection: Connection,
    },
}

/// A list of rows.
#[derive(Debug)]
pub(super) struct Collection {
    pub(super) entity: &'static Entity,
    pub(super) filter: Filter,
    pub(super) order: Order,
    pub(super) first: i64,
    pub(super) skip: i64,
    pub(super) items: Vec<Item>,
}

/// A list with its total and with cursors. `edges` and `nodes` may select different fields.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) collection: Collection,
    pub(super) after: Option<String>,
    pub(super) fields: Vec<ConnectionField>,
}

#[derive(Debug)]
pub(super) enum ConnectionField {
    Typename(String),
    TotalCount(String),
    PageInfo(String, Vec<(String, PageField)>),
    Edges(String, Vec<EdgeField>),
    Nodes(String, Vec<Item>),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum PageField {
    Typename,
    HasNextPage,
    StartCursor,
    EndCursor,
}

#[derive(Debug)]
pub(super) enum EdgeField {
    Typename(String),
    Cursor(String),
    Node(String, Vec<Item>),
}

/// A field of `_Meta_`.
#[derive(Debug)]
pub(super) enum MetaField {
    Typename(String),
    Deployment(String),
    HasIndexingErrors(String),
    Block(String, Vec<(String, BlockField)>),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum BlockField {
    Typename,
    Hash,
    Number,
    Timestamp,
    ParentHash,
    Finality,
}

/// One field of a row, under the name that the answer gives it.
#[derive(Debug)]
pub(super) enum Item {
    Typename {
        key: String,
        name: &'static str,
    },
    Column {
        key: String,
        field: &'static Field,
    },
    Finality {
        key: String,
    },
    ChangedAtBlock {
        key: String,
    },
    One {
        key: String,
        field: &'static Field,
        relation: Relation,
        target: &'static Entity,
        items: Vec<Item>,
    },
    Many {
        key: String,
        field: &'static Field,
        relation: Relation,
        collection: Collection,
    },
}
