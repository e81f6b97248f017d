//! The live stream: what arrives, resuming, retractions, filters; by SSE, by GraphQL over SSE, and over WebSocket.

use std::time::Duration;

use futures::{Stream, StreamExt};
use serde_json::{Value, json};

use super::server::Server;
use super::{World, hash};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_change_arrives_and_a_reorg_takes_it_back() {
    let world = World::create().await;
    let server = Server::start(&world).await;
    let mut events = Box::pin(server.events("/v1/stream", None).await);
    write(&world, "requests", &hash("b2"), "insert", Some(json!({ "id": hash("b2"), "status": "funded", "sequence": 5, "payer": "\\x99", "agent_id": "2" }))).await;
    write(&world, "requests", &hash("b2"), "retract", None).await;

    let event = next(&mut events).await;
    assert_eq!((event.id.as_str(), event.name.as_str()), ("1", "insert"));
    assert_eq!(
        event.data,
        json!({
            "entity": "requests", "id": hash("b2"), "chainId": 31337, "blockNumber": 100, "blockHash": hash("64"), "finality": "latest",
            "value": { "id": hash("b2"), "sequence": "5", "status": "funded", "agent": "31337:2", "payer": "0x99" },
        })
    );
    let event = next(&mut events).await;
    assert_eq!((event.id.as_str(), event.name.as_str()), ("2", "retract"));
    assert_eq!(event.data["value"], Value::Null);
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice() {
    let world = World::create().await;
    for n in 0..1_200 {
        write(&world, "agents", &format!("31337:{n}"), "insert", Some(json!({}))).await;
    }
    let server = Server::start(&world).await;
    let mut events = Box::pin(server.events("/v1/stream", Some("7")).await);
    for expected in 8..=600 {
        assert_eq!(next(&mut events).await.id, expected.to_string());
    }
    drop(events);
    let mut events = Box::pin(server.events("/v1/stream", Some("600")).await);
    for n in 1_200..1_210 {
        write(&world, "agents", &format!("31337:{n}"), "insert", Some(json!({}))).await;
    }
    for expected in 601..=1_210 {
        assert_eq!(next(&mut events).await.id, expected.to_string());
    }
    server.stop().await;
}

#[tokio::test]
async fn an_id_that_is_not_kept_any_more_is_answered_with_a_reset() {
    let world = World::create().await;
    for n in 0..10 {
        write(&world, "agents", &format!("31337:{n}"), "insert", Some(json!({}))).await;
    }
    sqlx::query("delete from indexer.outbox where id <= 5")
        .execute(&world.database.pool())
        .await
        .unwrap();
    let server = Server::start(&world).await;
    let mut events = Box::pin(server.events("/v1/stream", Some("2")).await);
    let reset = next(&mut events).await;
    assert_eq!((reset.id.as_str(), reset.name.as_str()), ("5", "reset"));
    assert_eq!(next(&mut events).await.id, "6");
    // An id from the future belongs to another database.
    let mut events = Box::pin(server.events("/v1/stream", Some("999")).await);
    assert_eq!(next(&mut events).await.name, "reset");
    server.stop().await;
}

#[tokio::test]
async fn a_reader_sees_only_what_it_asked_for() {
    let world = World::create().await;
    let server = Server::start(&world).await;
    let path = format!("/v1/stream?entities=Request,settlement_credits&requestId={}", hash("b2"));
    let mut events = Box::pin(server.events(&path, None).await);
    write(&world, "agents", "31337:1", "update", Some(json!({}))).await;
    write(&world, "requests", &hash("b1"), "update", Some(json!({}))).await;
    write(&world, "slashes", &format!("1:0x01:{}", hash("b2")), "insert", Some(json!({}))).await;
    write(
        &world,
        "settlement_credits",
        &format!("{}:share:0x01", hash("b2")),
        "insert",
        Some(json!({})),
    )
    .await;
    write(&world, "requests", &hash("b2"), "update", Some(json!({}))).await;
    assert_eq!(next(&mut events).await.data["entity"], "settlement_credits");
    assert_eq!(next(&mut events).await.data["entity"], "requests");
    server.stop().await;
}

#[tokio::test]
async fn graphql_subscriptions_carry_the_same_changes() {
    let world = World::create().await;
    write(&world, "agents", "31337:1", "update", Some(json!({ "id": "31337:1", "agent_id": "1" })))
        .await;
    write(&world, "requests", &hash("b2"), "retract", None).await;
    let server = Server::start(&world).await;
    let query = "subscription { changes(after: 0) { cursor change entity id finality value } }";
    let mut events = Box::pin(server.subscribe(query).await);
    let event = next(&mut events).await;
    assert_eq!(event.name, "next");
    assert_eq!(
        event.data["data"]["changes"],
        json!({ "cursor": "1", "change": "update", "entity": "Agent", "id": "31337:1", "finality": "latest", "value": { "id": "31337:1", "agentId": "1" } })
    );
    let event = next(&mut events).await;
    assert_eq!(event.data["data"]["changes"]["change"], "retract");

    // A query on the same transport is answered once.
    let mut events = Box::pin(server.subscribe("{ agents(first: 1) { id } }").await);
    assert_eq!(next(&mut events).await.data["data"]["agents"][0]["id"], "31337:1");
    assert_eq!(next(&mut events).await.name, "complete");
    server.stop().await;
}

#[tokio::test]
async fn the_stream_ends_when_the_server_stops() {
    let world = World::create().await;
    let server = Server::start(&world).await;
    let mut events = Box::pin(server.events("/v1/stream", None).await);
    let stopped = tokio::time::timeout(PATIENCE, server.stop());
    let ended = tokio::time::timeout(PATIENCE, async { while events.next().await.is_some() {} });
    let (stopped, ended) = tokio::join!(stopped, ended);
    stopped.unwrap();
    ended.unwrap();
}

/// One event as a client reads it.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) data: Value,
}

/// Splits a body into events; comments are left out.
pub(super) fn parse(response: reqwest::Response) -> impl Stream<Item = Event> + use<> {
    async_stream::stream! {
        let mut body = response.bytes_stream();
        let mut text = String::new();
        while let Some(Ok(bytes)) = body.next().await {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
            while let Some(end) = text.find("\n\n") {
                let block: String = text.drain(..end + 2).collect();
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(name)).map(|v| v.trim_start().to_owned())
                };
                let Some(data) = field("data:").or_else(|| field("event:").map(|_| String::new())) else { continue };
                yield Event {
                    id: field("id:").unwrap_or_default(),
                    name: field("event:").unwrap_or_default(),
                    data: serde_json::from_str(&data).unwrap_or_default(),
                };
            }
        }
    }
}

pub(super) async fn next(events: &mut (impl Stream<Item = Event> + Unpin)) -> Event {
    tokio::time::timeout(PATIENCE, events.next())
        .await
        .expect("an event in time")
        .expect("an event")
}

/// Writes to the outbox as the follow loop does.
pub(super) async fn write(
    world: &World,
    entity: &str,
    id: &str,
    change: &str,
    payload: Option<Value>,
) {
    sqlx::query(
        "with written as (
            insert into indexer.outbox (chain_id, block_number, block_hash, entity, entity_id, change, payload)
            values (31337, 100, decode(repeat('64', 32), 'hex'), $1, $2, $3, $4) returning id
         )
         select pg_notify('auspex_outbox', id::text) from written",
    )
    .bind(entity)
    .bind(id)
    .bind(change)
    .bind(payload)
    .execute(&world.database.pool())
    .await
    .unwrap();
}
