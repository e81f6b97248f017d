//! From a checked document to a plan, with an estimate of the rows that it may read.

use std::collections::HashMap;

use async_graphql::parser::types::{Directive, FragmentDefinition, Selection, SelectionSet};
use async_graphql::{Name, Pos, Positioned, Value};

use super::argument::{self, Arguments};
use super::error::{Failure, Refusal};
use super::filter::Conditions;
use super::literal::{Bound, lookup, present};
use super::plan::{
    BlockField, Collection, Connection, ConnectionField, EdgeField, Item, MetaField, PageField,
    Read, Root,
};
use crate::entity::{self, Entity, Kind};
use crate::serve::limits::{NESTED_ROWS_EXPECTED, QUERY_COST_MAX};

/// Plans an operation.
pub(super) fn plan(
    set: &SelectionSet,
    fragments: &HashMap<Name, Positioned<FragmentDefinition>>,
    bound: &Bound,
) -> Result<Vec<Root>, Failure> {
    let mut planner = Planner { fragments, bound, conditions: Conditions::default() };
    let mut roots = Vec::new();
    let mut cost = 0_u64;
    for selected in planner.selected(&[set])? {
        let (read, rows) = planner.root(&selected).map_err(|refusal| Failure {
            refusal,
            position: Some(selected.position),
            key: Some(selected.key.clone()),
        })?;
        cost = cost.saturating_add(rows);
        roots.push(Root { key: selected.key, position: selected.position, read });
    }
    if QUERY_COST_MAX < cost {
        return Err(Refusal::Cost(cost).into());
    }
    Ok(roots)
}

/// A field of a selection, with everything that was selected under the same key.
struct Selected<'a> {
    key: String,
    name: &'a str,
    arguments: Arguments,
    sets: Vec<&'a SelectionSet>,
    position: Pos,
}

struct Planner<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    bound: &'a Bound,
    conditions: Conditions,
}

impl<'a> Planner<'a> {
    /// The fields of these selections: fragments written out, skipped ones left out, equal keys merged.
    fn selected(&self, sets: &[&'a SelectionSet]) -> Result<Vec<Selected<'a>>, Refusal> {
        let mut fields: Vec<Selected<'a>> = Vec::new();
        let mut places = HashMap::new();
        for set in sets {
            self.collect(set, &mut fields, &mut places)?;
        }
        Ok(fields)
    }

    fn collect(
        &self,
        set: &'a SelectionSet,
        fields: &mut Vec<Selected<'a>>,
        places: &mut HashMap<&'a str, usize>,
    ) -> Result<(), Refusal> {
        for selection in &set.items {
            if self.skipped(selection.node.directives()) {
                continue;
            }
            match &selection.node {
                Selection::Field(field) => {
                    let node = &field.node;
                    let key = node.response_key().node.as_str();
                    let arguments = node.arguments.iter().filter_map(|(name, value)| {
                        let Ok(value) =
                            value.node.clone().into_const_with(|name| lookup(self.bound, &name));
                        Some((name.node.clone(), present(value)?))
                    });
                    let selected = Selected {
                        key: key.to_owned(),
                        name: node.name.node.as_str(),
                        arguments: arguments.collect(),
                        sets: vec![&node.selection_set.node],
                        position: field.pos,
                    };
                    match places.get(key) {
                        None => {
                            places.insert(key, fields.len());
                            fields.push(selected);
                        }
                        Some(place) => {
                            let known = &mut fields[*place];
                            let same = known.name == selected.name
                                && known.arguments == selected.arguments;
                            if !same {
                                return Err(Refusal::Conflict(selected.key));
                            }
                            known.sets.extend(selected.sets);
                        }
                    }
                }
                Selection::InlineFragment(fragment) => {
                    self.collect(&fragment.node.selection_set.node, fields, places)?;
                }
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = self.fragments.get(&spread.node.fragment_name.node) {
                        self.collect(&fragment.node.selection_set.node, fields, places)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn skipped(&self, directives: &[Positioned<Directive>]) -> bool {
        directives.iter().any(|directive| {
            let condition = directive.node.get_argument("if").and_then(|value| {
                let Ok(value) =
                    value.node.clone().into_const_with(|name| lookup(self.bound, &name));
                present(value)
            });
            match directive.node.name.node.as_str() {
                "skip" => condition == Some(Value::Boolean(true)),
                "include" => condition == Some(Value::Boolean(false)),
                _ => false,
            }
        })
    }

    /// What a root field reads, and how many rows that may be.
    fn root(&mut self, selected: &Selected<'a>) -> Result<(Read, u64), Refusal> {
        match selected.name {
            "__typename" => return Ok((Read::Typename, 0)),
            "__schema" | "__type" => return Ok((Read::Introspection, 0)),
            "_meta" => {
                let view = argument::view(&selected.arguments)?;
                return Ok((Read::Meta { view, fields: self.meta(&selected.sets)? }, 1));
            }
            _ => {}
        }
        let view = argument::view(&selected.arguments)?;
        for entity in entity::all() {
            if entity.one == selected.name {
                let (items, cost) = self.items(entity, &selected.sets)?;
                let id = selected.arguments.get("id").cloned().unwrap_or_default();
                return Ok((Read::One { view, entity, id, items }, cost + 1));
            }
            if entity.many == selected.name
                || (entity.name == "AgentMetadata" && selected.name == "agentMetadata_collection")
            {
                let (collection, cost) = self.collection(entity, selected, None)?;
                return Ok((Read::Many { view, collection }, cost));
            }
            if selected.name.strip_suffix("Connection") == Some(entity.many) {
                let (connection, cost) = self.connection(entity, selected)?;
                return Ok((Read::Connection { view, connection }, cost));
            }
        }
        Err(unknown("Query", selected.name))
    }

    /// A collection; `nested` is given below the root, where an absent `first` is expected to find that many rows.
    fn collection(
        &mut self,
        entity: &'static Entity,
        selected: &Selected<'a>,
        nested: Option<u64>,
    ) -> Result<(Collection, u64), Refusal> {
        let (items, row_cost) = self.items(entity, &selected.sets)?;
        let explicit = selected.arguments.get("first").is_some_and(|value| *value != Value::Null);
        let collection = self.rows(entity, &selected.arguments, items)?;
        let rows = match nested {
            Some(expected) if !explicit => expected,
            _ => collection.first.unsigned_abs(),
        };
        Ok((collection, rows.saturating_mul(row_cost + 1)))
    }

    fn rows(
        &mut self,
        entity: &'static Entity,
        arguments: &Arguments,
        items: Vec<Item>,
    ) -> Result<Collection, Refusal> {
        Ok(Collection {
            entity,
            filter: argument::filter(entity, arguments, &mut self.conditions)?,
            order: argument::order(entity, arguments)?,
            first: argument::first(arguments)?,
            skip: argument::skip(arguments)?,
            items,
        })
    }

    fn connection(
        &mut self,
        entity: &'static Entity,
        selected: &Selected<'a>,
    ) -> Result<(Connection, u64), Refusal> {
        let collection = self.rows(entity, &selected.arguments, Vec::new())?;
        let mut row_cost = 1;
        let mut fields = Vec::new();
        for field in self.selected(&selected.sets)? {
            fields.push(match field.name {
                "__typename" => ConnectionField::Typename(field.key),
                "totalCount" => ConnectionField::TotalCount(field.key),
                "pageInfo" => {
                    ConnectionField::PageInfo(field.key, self.named(&field.sets, page_field)?)
                }
                "edges" => {
                    let mut edge = Vec::new();
                    for part in self.selected(&field.sets)? {
                        edge.push(match part.name {
                            "__typename" => EdgeField::Typename(part.key),
                            "cursor" => EdgeField::Cursor(part.key),
                            "node" => {
                                let (items, cost) = self.items(entity, &part.sets)?;
                                row_cost += cost;
                                EdgeField::Node(part.key, items)
                            }
                            other => return Err(unknown("an edge", other)),
                        });
                    }
                    ConnectionField::Edges(field.key, edge)
                }
                "nodes" => {
                    let (items, cost) = self.items(entity, &field.sets)?;
                    row_cost += cost;
                    ConnectionField::Nodes(field.key, items)
                }
                other => return Err(unknown("a connection", other)),
            });
        }
        let cost = collection.first.unsigned_abs().saturating_mul(row_cost);
        let after = argument::text(&selected.arguments, "after");
        Ok((Connection { collection, after, fields }, cost))
    }

    /// The fields of a row, and how many further rows they may read.
    fn items(
        &mut self,
        entity: &'static Entity,
        sets: &[&'a SelectionSet],
    ) -> Result<(Vec<Item>, u64), Refusal> {
        let mut items = Vec::new();
        let mut cost = 0_u64;
        for selected in self.selected(sets)? {
            let key = selected.key.clone();
            match selected.name {
                "__typename" => items.push(Item::Typename { key, name: entity.name }),
                "finality" if entity.on_chain => items.push(Item::Finality { key }),
                "changedAtBlock" if entity.on_chain => items.push(Item::ChangedAtBlock { key }),
                name => {
                    let field = entity.field(name).ok_or_else(|| unknown(entity.name, name))?;
                    let target = field.kind.relation().and_then(|relation| relation.target());
                    items.push(match (field.kind, target) {
                        (Kind::One(relation, _), Some(target)) => {
                            let (items, inner) = self.items(target, &selected.sets)?;
                            cost = cost.saturating_add(inner + 1);
                            Item::One { key, field, relation, target, items }
                        }
                        (Kind::Many(relation), Some(target)) => {
                            let (collection, inner) =
                                self.collection(target, &selected, Some(NESTED_ROWS_EXPECTED))?;
                            cost = cost.saturating_add(inner);
                            Item::Many { key, field, relation, collection }
                        }
                        _ => Item::Column { key, field },
                    });
                }
            }
        }
        Ok((items, cost))
    }

    fn meta(&self, sets: &[&'a SelectionSet]) -> Result<Vec<MetaField>, Refusal> {
        let mut fields = Vec::new();
        for field in self.selected(sets)? {
            fields.push(match field.name {
                "__typename" => MetaField::Typename(field.key),
                "deployment" => MetaField::Deployment(field.key),
                "hasIndexingErrors" => MetaField::HasIndexingErrors(field.key),
                "block" => MetaField::Block(field.key, self.named(&field.sets, block_field)?),
                other => return Err(unknown("_Meta_", other)),
            });
        }
        Ok(fields)
    }

    /// Fields that have neither arguments nor selections.
    fn named<T>(
        &self,
        sets: &[&'a SelectionSet],
        read: fn(&str) -> Option<T>,
    ) -> Result<Vec<(String, T)>, Refusal> {
        let fields = self.selected(sets)?.into_iter().map(|field| {
            let known = read(field.name).ok_or_else(|| unknown("the type", field.name))?;
            Ok((field.key, known))
        });
        fields.collect()
    }
}

fn page_field(name: &str) -> Option<PageField> {
    match name {
        "__typename" => Some(PageField::Typename),
        "hasNextPage" => Some(PageField::HasNextPage),
        "startCursor" => Some(PageField::StartCursor),
        "endCursor" => Some(PageField::EndCursor),
        _ => None,
    }
}

fn block_field(name: &str) -> Option<BlockField> {
    match name {
        "__typename" => Some(BlockField::Typename),
        "hash" => Some(BlockField::Hash),
        "number" => Some(BlockField::Number),
        "timestamp" => Some(BlockField::Timestamp),
        "parentHash" => Some(BlockField::ParentHash),
        "finality" => Some(BlockField::Finality),
        _ => None,
    }
}

/// Validation has refused unknown fields already; this is what remains if it ever does not.
fn unknown(of: &str, name: &str) -> Refusal {
    Refusal::Document { message: format!("`{of}` has no field `{name}`"), position: None }
}
