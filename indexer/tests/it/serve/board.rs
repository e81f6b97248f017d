//! The board: who may write, what, and how much.

use alloy::primitives::{B256, Bytes};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use auspex_protocol::message::{Envelope, QuorumMessage, body_of, envelope_digest};
use auspex_protocol::terms::escrow_domain;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{ESCROW, World, hash, key};

pub(super) fn sealed(message: &QuorumMessage, signer: &PrivateKeySigner, sent_at: u64) -> String {
    let body = body_of(message).unwrap();
    let digest = envelope_digest(&escrow_domain(31337, ESCROW), &body, sent_at);
    let signature = signer.sign_hash_sync(&digest).unwrap().as_bytes().into();
    serde_json::to_string(&Envelope { body, signer: signer.address(), sent_at, signature }).unwrap()
}

fn cosignature(request: u8) -> QuorumMessage {
    QuorumMessage::Cosignature {
        request_id: B256::repeat_byte(request),
        result_digest: B256::repeat_byte(7),
        attestation: Bytes::from(vec![1; 65]),
    }
}

fn board(request: &str) -> String {
    format!("/v1/requests/{}/messages", hash(request))
}

#[tokio::test]
async fn a_members_message_is_kept_once_and_read_back_as_it_was_sent() {
    let world = World::create().await;
    let first = sealed(&cosignature(0xb2), &key(1), 5);
    assert_eq!(world.post(&board("b2"), first.clone()).await.0, StatusCode::ACCEPTED);
    assert_eq!(world.post(&board("b2"), first.clone()).await.0, StatusCode::OK);
    let second = sealed(&cosignature(0xb2), &key(2), 6);
    assert_eq!(world.post(&board("b2"), second.clone()).await.0, StatusCode::ACCEPTED);

    let (_, page) = world.get(&format!("{}?limit=1", board("b2"))).await;
    let sent: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(page, json!({ "items": [{ "n": 1, "envelope": sent }], "next": 1 }));
    let (_, page) = world.get(&format!("{}?after=1", board("b2"))).await;
    assert_eq!((&page["items"][0]["n"], &page["next"]), (&json!(2), &json!(2)));
    // The end of the board says where to go on, so that a poller can keep asking.
    let (_, page) = world.get(&format!("{}?after=2", board("b2"))).await;
    assert_eq!(page, json!({ "items": [], "next": 2 }));
}

#[tokio::test]
async fn messages_that_do_not_belong_are_refused() {
    let world = World::create().await;
    let good = sealed(&cosignature(0xb2), &key(1), 5);
    let mut changed: Envelope = serde_json::from_str(&good).unwrap();
    changed.sent_at = 6;
    let heartbeat = QuorumMessage::Heartbeat { head_block: 1, version: "0.1.0".into() };
    for (request, body, status, code) in [
        ("b2", sealed(&cosignature(0xb2), &key(9), 5), 403, "not_a_member"),
        ("b2", serde_json::to_string(&changed).unwrap(), 403, "bad_signature"),
        ("b2", sealed(&cosignature(0xb1), &key(1), 5), 422, "wrong_request"),
        ("b2", sealed(&heartbeat, &key(1), 5), 422, "wrong_request"),
        ("b2", "{}".to_owned(), 422, "bad_message"),
        ("b2", "x".repeat(131_073), 413, "too_large"),
        ("b1", sealed(&cosignature(0xb1), &key(1), 5), 409, "request_closed"),
        ("b9", sealed(&cosignature(0xb9), &key(1), 5), 404, "not_found"),
    ] {
        let (got, answer) = world.post(&board(request), body).await;
        assert_eq!(got.as_u16(), status, "{code}: {answer}");
        assert_eq!(answer["error"]["code"], code);
    }
    let (_, page) = world.get(&board("b2")).await;
    assert_eq!(page["items"], json!([]));
}

#[tokio::test]
async fn a_signer_has_its_share_of_the_board_and_leaves_the_others_theirs() {
    let world = World::create().await;
    for n in 0..32 {
        let message = sealed(&cosignature(0xb2), &key(1), n);
        assert_eq!(world.post(&board("b2"), message).await.0, StatusCode::ACCEPTED);
    }
    let (status, answer) = world.post(&board("b2"), sealed(&cosignature(0xb2), &key(1), 99)).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (StatusCode::TOO_MANY_REQUESTS, &json!("limit_reached"))
    );
    let other = sealed(&cosignature(0xb2), &key(2), 99);
    assert_eq!(world.post(&board("b2"), other).await.0, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn messages_that_come_at_once_are_numbered_without_gaps() {
    let world = World::create().await;
    let posts = (0..20).map(|n| {
        let message = sealed(&cosignature(0xb2), &key(1 + (n % 2) as u8), n);
        let world = &world;
        async move { world.post(&board("b2"), message).await.0 }
    });
    let statuses = futures::future::join_all(posts).await;
    assert!(statuses.iter().all(|status| *status == StatusCode::ACCEPTED), "{statuses:?}");
    let (_, page) = world.get(&board("b2")).await;
    let numbers: Vec<_> =
        page["items"].as_array().unwrap().iter().map(|item| item["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
}
