//! Messages into a real database: applied once, from members only, in any order.

use std::time::Duration;

use alloy::primitives::B256;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use auspex_devnet::postgres::TestDatabase;
use auspex_oracle::job::store::claim;
use auspex_oracle::job::terms::Terms;
use auspex_oracle::limits::MESSAGES_PER_SIGNER_MAX;
use auspex_oracle::quorum::inbox::{Received, receive};
use auspex_oracle::quorum::reading::Ignored;
use auspex_oracle::quorum::store::{record, votes};
use auspex_protocol::document::{OutcomeDocument, ResultDocument};
use auspex_protocol::message::{Envelope, QuorumMessage, body_of, envelope_digest};
use auspex_protocol::quorum::result_digest;

use crate::lease::{discover, domain, terms};
use crate::scene::chain::key;

struct Table {
    database: TestDatabase,
    terms: Terms,
    members: Vec<PrivateKeySigner>,
}

impl Table {
    async fn new() -> Self {
        let database = TestDatabase::create().await.expect("a database");
        let mut members: Vec<_> = (1..=3).map(|n| key(B256::repeat_byte(n))).collect();
        members.sort_by_key(PrivateKeySigner::address);
        let signers = members.iter().map(PrivateKeySigner::address).collect();
        let terms = terms(1, 900, signers);
        discover(&database.pool(), &terms, 1, 1).await.expect("new");
        Self { database, terms, members }
    }

    fn result(&self, output: u8) -> ResultDocument {
        ResultDocument {
            request_id: self.terms.request_id,
            outcome: OutcomeDocument::Answered,
            output_hash: B256::repeat_byte(output),
            trace_root: B256::ZERO,
            retrieval_root: B256::ZERO,
            model_hash: B256::ZERO,
            amount: 5,
            valid_until: 900,
        }
    }

    fn digest(&self, output: u8) -> B256 {
        result_digest(&domain(), &(&self.result(output)).into())
    }

    /// A signed vote of a member for an output.
    fn vote(&self, member: &PrivateKeySigner, output: u8, sent_at: u64) -> Vec<u8> {
        let digest = self.digest(output);
        let attestation = member.sign_hash_sync(&digest).expect("signed").as_bytes().into();
        self.seal(
            member,
            &QuorumMessage::Cosignature {
                request_id: self.terms.request_id,
                result_digest: digest,
                attestation,
            },
            sent_at,
        )
    }

    fn seal(&self, member: &PrivateKeySigner, message: &QuorumMessage, sent_at: u64) -> Vec<u8> {
        let body = body_of(message).expect("JSON");
        let digest = envelope_digest(&domain(), &body, sent_at);
        let signature = member.sign_hash_sync(&digest).expect("signed").as_bytes().into();
        let envelope = Envelope { body, signer: member.address(), sent_at, signature };
        serde_json::to_vec(&envelope).expect("JSON")
    }

    async fn receive(&self, payload: &[u8]) -> Received {
        let ours = self.members[0].address();
        receive(&self.database.pool(), &domain(), ours, payload).await.expect("received")
    }

    async fn digests(&self) -> Vec<B256> {
        let votes = votes(&self.database.pool(), self.terms.request_id).await.expect("votes");
        votes.into_iter().map(|(_, digest, _)| digest).collect()
    }
}

#[tokio::test]
async fn a_message_is_applied_once_however_often_it_comes() {
    let table = Table::new().await;
    let vote = table.vote(&table.members[1], 7, 5);
    assert!(matches!(table.receive(&vote).await, Received::Applied { .. }));
    assert!(matches!(table.receive(&vote).await, Received::Known));
    let later = table.vote(&table.members[1], 7, 6);
    assert!(matches!(table.receive(&later).await, Received::Known), "said before");
    assert_eq!(table.digests().await, [table.digest(7)]);
}

#[tokio::test]
async fn a_stranger_and_a_forger_are_ignored() {
    let table = Table::new().await;
    let stranger = key(B256::repeat_byte(9));
    let vote = table.vote(&stranger, 7, 5);
    assert!(matches!(
        table.receive(&vote).await,
        Received::Ignored(Ignored::NotAMember(who)) if who == stranger.address()
    ));
    let mut forged: serde_json::Value =
        serde_json::from_slice(&table.vote(&stranger, 7, 5)).expect("JSON");
    forged["signer"] = serde_json::to_value(table.members[1].address()).expect("JSON");
    let forged = serde_json::to_vec(&forged).expect("JSON");
    assert!(matches!(table.receive(&forged).await, Received::Refused(_)));
    assert!(matches!(table.receive(b"{}").await, Received::Refused(_)));
    assert!(table.digests().await.is_empty());
}

#[tokio::test]
async fn a_member_that_changes_its_mind_counts_once_and_never_away_from_our_result() {
    let table = Table::new().await;
    let member = &table.members[1];
    table.receive(&table.vote(member, 8, 5)).await;
    table.receive(&table.vote(member, 7, 6)).await;
    assert_eq!(table.digests().await, [table.digest(7)], "the newer one counts");

    let pool = &table.database.pool();
    let job = claim(pool, &domain(), "a", Duration::from_secs(30), true)
        .await
        .expect("claim")
        .expect("a job");
    record(pool, &job.lease, table.digest(7), &table.result(7), None).await.expect("recorded");
    table.receive(&table.vote(member, 9, 7)).await;
    assert_eq!(table.digests().await, [table.digest(7)], "not given up for another");
}

#[tokio::test]
async fn a_talkative_member_is_heard_up_to_the_limit() {
    let table = Table::new().await;
    let refusal = |number: i64| {
        let message = QuorumMessage::Refusal {
            request_id: table.terms.request_id,
            result_digest: B256::ZERO,
            reason: format!("reason {number}"),
        };
        table.seal(&table.members[1], &message, 5)
    };
    for number in 0..MESSAGES_PER_SIGNER_MAX {
        assert!(matches!(table.receive(&refusal(number)).await, Received::Applied { .. }));
    }
    let received = table.receive(&refusal(MESSAGES_PER_SIGNER_MAX)).await;
    assert!(matches!(received, Received::TooMany));
}

#[tokio::test]
async fn a_message_about_an_unknown_request_is_left_to_the_board() {
    let table = Table::new().await;
    let message = QuorumMessage::Refusal {
        request_id: B256::repeat_byte(0xee),
        result_digest: B256::ZERO,
        reason: "no".into(),
    };
    let payload = table.seal(&table.members[1], &message, 5);
    assert!(matches!(table.receive(&payload).await, Received::UnknownRequest(_)));
}

#[tokio::test]
async fn of_an_operators_heartbeats_the_latest_counts() {
    let table = Table::new().await;
    for (head_block, sent_at) in [(7, 70), (9, 90), (8, 80)] {
        let message = QuorumMessage::Heartbeat { head_block, version: "1".into() };
        table.receive(&table.seal(&table.members[1], &message, sent_at)).await;
    }
    let head: i64 = sqlx::query_scalar("select head_block from oracle.peers where signer = $1")
        .bind(table.members[1].address().to_vec())
        .fetch_one(&table.database.pool())
        .await
        .expect("a peer");
    assert_eq!(head, 9);
}
