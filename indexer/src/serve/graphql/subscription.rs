//! GraphQL subscriptions: the live stream with the names of the schema.

use async_graphql::dynamic::{
    Field, FieldFuture, FieldValue, InputValue, Object, ResolverContext, Subscription,
    SubscriptionField, SubscriptionFieldFuture, TypeRef,
};
use async_graphql::{Error, Name, Value};
use futures::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::entity::ENTITIES;
use crate::serve::parameter;
use crate::serve::state::ServeState;
use crate::serve::stream::{Filter, Message, follow};

pub(super) fn root() -> Subscription {
    let changes = SubscriptionField::new("changes", TypeRef::named_nn("Change"), |context| {
        SubscriptionFieldFuture::new(async move {
            let state = context.ctx.data::<ServeState>()?;
            let (after, filter) = arguments(&context)?;
            let messages = follow(state, after, filter)
                .await
                .map_err(|error| Error::new(error.to_string()))?;
            Ok(ReceiverStream::new(messages).map(|message| Ok(FieldValue::owned_any(message))))
        })
    })
    .description(
        "Changes of entities as they happen. After a reorg, what no longer holds is retracted.",
    )
    .argument(
        InputValue::new("entities", TypeRef::named_nn_list(TypeRef::STRING))
            .description("Types of the schema; all when left out."),
    )
    .argument(
        InputValue::new("requestId", TypeRef::named("Bytes"))
            .description("Only changes that concern this request."),
    )
    .argument(
        InputValue::new("after", TypeRef::named("BigInt"))
            .description("Resume after this `cursor`; nothing in between is missed."),
    );
    Subscription::new("Subscription").field(changes)
}

pub(super) fn change_type() -> Object {
    let field = |name: &'static str, type_ref: TypeRef, read: fn(&Message) -> Value| {
        Field::new(name, type_ref, move |context| {
            let value = context.parent_value.downcast_ref::<Message>().map(read);
            FieldFuture::from_value(value)
        })
    };
    Object::new("Change")
        .field(field("cursor", TypeRef::named_nn("BigInt"), cursor))
        .field(
            field("change", TypeRef::named_nn("ChangeKind"), change).description(
                "`reset` says that changes after the given cursor are no longer kept: read the state again.",
            ),
        )
        .field(field("entity", TypeRef::named(TypeRef::STRING), |message| match message {
            Message::Event(event) => entity_name(&event.data.entity),
            Message::Reset(_) | Message::Partial(_) => Value::Null,
        }))
        .field(field("id", TypeRef::named(TypeRef::ID), |message| match message {
            Message::Event(event) => Value::from(event.data.id.as_str()),
            Message::Reset(_) | Message::Partial(_) => Value::Null,
        }))
        .field(field("chainId", TypeRef::named("BigInt"), |message| match message {
            Message::Event(event) => Value::from(event.data.chain_id.to_string()),
            Message::Reset(_) | Message::Partial(_) => Value::Null,
        }))
        .field(field("blockNumber", TypeRef::named("BigInt"), |message| match message {
            Message::Event(event) => Value::from(event.data.block_number.to_string()),
            Message::Reset(_) | Message::Partial(_) => Value::Null,
        }))
        .field(field("blockHash", TypeRef::named("Bytes"), |message| match message {
            Message::Event(event) => Value::from(event.data.block_hash.as_str()),
            Message::Reset(_) | Message::Partial(_) => Value::Null,
        }))
        .field(field("finality", TypeRef::named("Finality"), |message| match message {
            Message::Event(event) => Value::Enum(Name::new(&event.data.finality)),
            Message::Reset(_) | Message::Partial(_) => Value::Null,
        }))
        .field(
            field("value", TypeRef::named("JSON"), |message| match message {
                Message::Event(event) => event
                    .data
                    .value
                    .clone()
                    .and_then(|value| Value::from_json(value).ok())
                    .unwrap_or_default(),
                Message::Reset(_) | Message::Partial(_) => Value::Null,
            })
            .description("The entity after the change; references are ids. Null when it is gone."),
        )
}

fn cursor(message: &Message) -> Value {
    match message {
        Message::Event(event) => Value::from(event.id.to_string()),
        Message::Reset(after) => Value::from(after.to_string()),
        Message::Partial(_) => Value::Null,
    }
}

fn change(message: &Message) -> Value {
    match message {
        Message::Event(event) => Value::Enum(Name::new(&event.change)),
        Message::Reset(_) => Value::Enum(Name::new("reset")),
        Message::Partial(_) => Value::Null,
    }
}

fn entity_name(table: &str) -> Value {
    let entity = ENTITIES.iter().find(|entity| entity.on_chain && entity.table == table);
    Value::from(entity.map_or(table, |entity| entity.name))
}

fn arguments(context: &ResolverContext<'_>) -> Result<(Option<i64>, Filter), Error> {
    let mut filter = Filter::default();
    if let Some(entities) = context.args.get("entities").filter(|value| !value.is_null()) {
        for name in entities.list()?.iter() {
            let name = name.string()?;
            let known = ENTITIES.iter().find(|entity| entity.on_chain && entity.name == name);
            let known = known.ok_or_else(|| {
                Error::new(format!("entities: {name:?} is not a type that changes on the chain"))
            })?;
            filter.entities.push(known.table.to_owned());
        }
    }
    if let Some(id) = context.args.get("requestId").filter(|value| !value.is_null()) {
        let hash = parameter::hash("requestId", id.string()?)
            .map_err(|error| Error::new(error.to_string()))?;
        filter.request_id = Some(format!("{hash:#x}"));
    }
    let after = match context.args.get("after").filter(|value| !value.is_null()) {
        None => None,
        Some(value) => {
            let text = match value.as_value() {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let after = parameter::after("after", Some(&text))
                .map_err(|error| Error::new(error.to_string()))?;
            Some(after)
        }
    };
    Ok((after, filter))
}
