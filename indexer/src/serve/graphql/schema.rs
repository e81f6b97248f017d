//! The schema, generated from the entity tables. async-graphql checks queries against it and answers introspection; data
//! is read by [`super::run`], in one SQL statement per root field, so the resolvers of entities never have anything to do.

use anyhow::Context;
use async_graphql::dynamic::{
    Enum, EnumItem, Field, FieldFuture, InputObject, InputValue, Object, Scalar, Schema, TypeRef,
};

use super::subscription;
use crate::entity::{self, Element, Entity, Kind};
use crate::serve::limits::{INTROSPECTION_DEPTH_MAX, PAGE_ROWS_DEFAULT};

/// Builds the schema. Fails only when the entity tables contradict each other.
pub(in super::super) fn schema() -> anyhow::Result<Schema> {
    let mut query = Object::new("Query");
    let mut builder = Schema::build("Query", None, Some("Subscription"));
    for entity in entity::all() {
        query = query.field(one(entity)).field(many(entity.many, entity)).field(connection(entity));
        builder = builder
            .register(object(entity))
            .register(filter(entity))
            .register(order(entity))
            .register(connection_type(entity))
            .register(edge_type(entity));
    }
    // graph-node's inflector takes "metadata" for a plural already; clients in the field use either name.
    if let Some(metadata) = entity::by_name("AgentMetadata") {
        query = query.field(many("agentMetadata_collection", metadata));
    }
    query = query
        .field(nothing("_meta", TypeRef::named("_Meta_")).argument(input("block", "Block_height")));
    for enumeration in enumerations() {
        builder = builder.register(enumeration);
    }
    for scalar in ["BigInt", "Bytes", "JSON"] {
        builder = builder.register(Scalar::new(scalar));
    }
    builder
        .register(query)
        .register(page_info())
        .register(meta())
        .register(meta_block())
        .register(block_height())
        .register(block_changed_filter())
        .register(subscription::change_type())
        .register(subscription::root())
        .limit_recursive_depth(INTROSPECTION_DEPTH_MAX * 2)
        .finish()
        .context("build the GraphQL schema")
}

fn one(entity: &'static Entity) -> Field {
    at(nothing(entity.one, TypeRef::named(entity.name)))
        .argument(InputValue::new("id", TypeRef::named_nn(TypeRef::ID)))
        .description(entity.description)
}

fn many(name: &'static str, entity: &'static Entity) -> Field {
    at(collection(nothing(name, TypeRef::named_nn_list_nn(entity.name)), entity))
}

fn connection(entity: &'static Entity) -> Field {
    let field = nothing(
        format!("{}Connection", entity.many),
        TypeRef::named_nn(format!("{}Connection", entity.name)),
    );
    at(filtered(field, entity))
        .argument(
            InputValue::new("first", TypeRef::named(TypeRef::INT)).default_value(PAGE_ROWS_DEFAULT),
        )
        .argument(InputValue::new("after", TypeRef::named(TypeRef::STRING)))
}

/// The arguments of every list.
fn collection(field: Field, entity: &Entity) -> Field {
    filtered(field, entity)
        .argument(InputValue::new("skip", TypeRef::named(TypeRef::INT)).default_value(0))
        .argument(
            InputValue::new("first", TypeRef::named(TypeRef::INT)).default_value(PAGE_ROWS_DEFAULT),
        )
}

fn filtered(field: Field, entity: &Entity) -> Field {
    field
        .argument(input("orderBy", format!("{}_orderBy", entity.name)))
        .argument(input("orderDirection", "OrderDirection"))
        .argument(input("where", format!("{}_filter", entity.name)))
}

/// The arguments of every root field.
fn at(field: Field) -> Field {
    field
        .argument(input("block", "Block_height"))
        .argument(
            InputValue::new("subgraphError", TypeRef::named_nn("_SubgraphErrorPolicy_"))
                .default_value(async_graphql::Value::Enum(async_graphql::Name::new("deny"))),
        )
        .argument(
            input("finality", "Finality")
                .description("Reads the state as of the newest block that is this final."),
        )
}

fn object(entity: &'static Entity) -> Object {
    let mut object = Object::new(entity.name).description(entity.description);
    for field in entity.fields {
        let described = match field.kind {
            Kind::Many(relation) => {
                let list = nothing(field.name, TypeRef::named_nn_list_nn(relation.entity));
                match relation.target() {
                    Some(target) => collection(list, target),
                    None => list,
                }
            }
            Kind::List(element) => {
                let name = element_type(element);
                let list = if field.nullable {
                    TypeRef::named_nn_list(name)
                } else {
                    TypeRef::named_nn_list_nn(name)
                };
                nothing(field.name, list)
            }
            kind if field.nullable => nothing(field.name, TypeRef::named(output_type(&kind))),
            kind => nothing(field.name, TypeRef::named_nn(output_type(&kind))),
        };
        object = object.field(described.description(field.description));
    }
    if entity.on_chain {
        object = object
            .field(
                nothing("finality", TypeRef::named_nn("Finality"))
                    .description("How final the block of this row's last change is."),
            )
            .field(
                nothing("changedAtBlock", TypeRef::named_nn("BigInt"))
                    .description("The block of this row's last change."),
            );
    }
    object
}

fn filter(entity: &'static Entity) -> InputObject {
    let name = format!("{}_filter", entity.name);
    let mut filter = InputObject::new(&name);
    for field in entity.fields {
        for operation in entity::operation::of(&field.kind) {
            let argument = format!("{}{}", field.name, operation.suffix());
            let scalar = filter_type(&field.kind);
            let type_ref = match (operation, field.kind) {
                (entity::Operation::Child, Kind::One(relation, _) | Kind::Many(relation)) => {
                    TypeRef::named(format!("{}_filter", relation.entity))
                }
                (_, Kind::List(_)) => TypeRef::named_nn_list(scalar),
                (operation, _) if operation.takes_list() => TypeRef::named_nn_list(scalar),
                _ => TypeRef::named(scalar),
            };
            filter = filter.field(InputValue::new(argument, type_ref));
        }
    }
    if entity.on_chain {
        filter = filter.field(input("_change_block", "BlockChangedFilter"));
    }
    filter
        .field(InputValue::new("and", TypeRef::named_list(name.as_str())))
        .field(InputValue::new("or", TypeRef::named_list(name.as_str())))
}

fn order(entity: &'static Entity) -> Enum {
    let mut order = Enum::new(format!("{}_orderBy", entity.name));
    for field in entity.fields.iter().filter(|field| !matches!(field.kind, Kind::Many(_))) {
        order = order.item(EnumItem::new(field.name));
        let Kind::One(relation, _) = field.kind else { continue };
        let children = relation.target().map(|target| target.fields).unwrap_or_default();
        for child in children.iter().filter(|child| child.kind.relation().is_none()) {
            order = order.item(EnumItem::new(format!("{}__{}", field.name, child.name)));
        }
    }
    order
}

fn connection_type(entity: &'static Entity) -> Object {
    Object::new(format!("{}Connection", entity.name))
        .field(
            nothing("totalCount", TypeRef::named_nn(TypeRef::INT))
                .description("How many rows the filter finds, on all pages."),
        )
        .field(nothing("pageInfo", TypeRef::named_nn("PageInfo")))
        .field(nothing("edges", TypeRef::named_nn_list_nn(format!("{}Edge", entity.name))))
        .field(nothing("nodes", TypeRef::named_nn_list_nn(entity.name)))
}

fn edge_type(entity: &'static Entity) -> Object {
    Object::new(format!("{}Edge", entity.name))
        .field(
            nothing("cursor", TypeRef::named_nn(TypeRef::STRING)).description(
                "Pass it as `after`, with the same ordering, to go on behind this row.",
            ),
        )
        .field(nothing("node", TypeRef::named_nn(entity.name)))
}

fn page_info() -> Object {
    Object::new("PageInfo")
        .field(nothing("hasNextPage", TypeRef::named_nn(TypeRef::BOOLEAN)))
        .field(nothing("startCursor", TypeRef::named(TypeRef::STRING)))
        .field(nothing("endCursor", TypeRef::named(TypeRef::STRING)))
}

fn meta() -> Object {
    Object::new("_Meta_")
        .field(nothing("block", TypeRef::named_nn("_Block_")))
        .field(nothing("deployment", TypeRef::named_nn(TypeRef::STRING)))
        .field(nothing("hasIndexingErrors", TypeRef::named_nn(TypeRef::BOOLEAN)))
}

fn meta_block() -> Object {
    Object::new("_Block_")
        .field(
            nothing("hash", TypeRef::named("Bytes"))
                .description("Null when the query names the block by its number."),
        )
        .field(nothing("number", TypeRef::named_nn(TypeRef::INT)))
        .field(nothing("timestamp", TypeRef::named(TypeRef::INT)))
        .field(nothing("parentHash", TypeRef::named("Bytes")))
        .field(nothing("finality", TypeRef::named_nn("Finality")))
}

fn block_height() -> InputObject {
    InputObject::new("Block_height")
        .field(input("hash", "Bytes").description(
            "One of the newest blocks: those above the finalized one, and at least the last 2,048.",
        ))
        .field(input("number", TypeRef::INT))
        .field(input("number_gte", TypeRef::INT))
}

fn block_changed_filter() -> InputObject {
    InputObject::new("BlockChangedFilter")
        .field(InputValue::new("number_gte", TypeRef::named_nn(TypeRef::INT)))
}

fn enumerations() -> Vec<Enum> {
    let mut all = vec![
        Enum::new("OrderDirection").item("asc").item("desc"),
        Enum::new("_SubgraphErrorPolicy_")
            .item(EnumItem::new("allow").description("Data is served although indexing stopped."))
            .item(EnumItem::new("deny").description("Data is withheld when indexing stopped.")),
        Enum::new("Finality").item("latest").item("safe").item("finalized"),
        Enum::new("ChangeKind").item("insert").item("update").item("retract").item("reset"),
    ];
    let mut names = Vec::new();
    for field in entity::all().into_iter().flat_map(|entity| entity.fields) {
        let Kind::Enum(enumeration) = field.kind else { continue };
        if !names.contains(&enumeration.name) {
            names.push(enumeration.name);
            all.push(Enum::new(enumeration.name).items(enumeration.values.iter().copied()));
        }
    }
    all
}

fn output_type(kind: &Kind) -> &'static str {
    match kind {
        Kind::Id | Kind::LogId => TypeRef::ID,
        Kind::One(relation, _) | Kind::Many(relation) => relation.entity,
        Kind::String
        | Kind::Bytes
        | Kind::Int
        | Kind::BigInt
        | Kind::Boolean
        | Kind::Enum(_)
        | Kind::List(_) => filter_type(kind),
    }
}

fn filter_type(kind: &Kind) -> &'static str {
    match kind {
        Kind::Id | Kind::LogId => TypeRef::ID,
        Kind::String | Kind::One(..) | Kind::Many(_) => TypeRef::STRING,
        Kind::Bytes => "Bytes",
        Kind::Int => TypeRef::INT,
        Kind::BigInt => "BigInt",
        Kind::Boolean => TypeRef::BOOLEAN,
        Kind::Enum(enumeration) => enumeration.name,
        Kind::List(element) => element_type(*element),
    }
}

fn element_type(element: Element) -> &'static str {
    match element {
        Element::Bytes => "Bytes",
        Element::BigInt => "BigInt",
        Element::String => TypeRef::STRING,
    }
}

fn input(name: &str, type_name: impl Into<String>) -> InputValue {
    InputValue::new(name, TypeRef::named(type_name))
}

/// A field whose data comes from elsewhere: queries are run in introspection mode, in which no resolver is called.
pub(super) fn nothing(name: impl Into<String>, type_ref: TypeRef) -> Field {
    Field::new(name, type_ref, |_| FieldFuture::from_value(None))
}
