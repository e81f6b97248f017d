//! Every door of the policy, from outside.

use alloy::primitives::{Bytes, U256, aliases::U40};
use auspex_protocol::document::OutcomeDocument;
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_000_000;
const ESCROW: Address = Address::repeat_byte(3);
const TRANSMITTER: Address = Address::repeat_byte(4);
const TOKEN: Address = Address::repeat_byte(5);

fn policy() -> Policy {
    Policy {
        chain_id: 31337,
        escrow: ESCROW,
        transmitter: TRANSMITTER,
        limits: Limits {
            results_per_minute: 3,
            results_per_day: 5,
            messages_per_minute: 2,
            partials_per_minute: 2,
            transactions_per_minute: 100,
            fee_cap: 10,
            gas_per_day: 1_000_000,
            value_per_day: vec![TokenAmount { token: TOKEN, amount: 250 }],
        },
    }
}

fn request(salt: u8) -> Request {
    Request {
        token: TOKEN,
        maxAmount: 100,
        deadline: U40::from(NOW + 600),
        salt: B256::repeat_byte(salt),
        agentId: U256::from(1),
        ..Request::default()
    }
}

fn asked(salt: u8) -> (RequestDocument, ResultDocument) {
    let request = request(salt);
    let result = ResultDocument {
        request_id: request_id(&policy().domain(), &request),
        outcome: OutcomeDocument::Answered,
        output_hash: B256::repeat_byte(9),
        trace_root: B256::ZERO,
        retrieval_root: B256::ZERO,
        model_hash: B256::ZERO,
        amount: 100,
        valid_until: NOW + 600,
    };
    (RequestDocument::from(&request), result)
}

fn transaction(nonce: u64) -> TransactionDocument {
    TransactionDocument {
        chain_id: 31337,
        nonce,
        gas_limit: 50_000,
        max_fee: 10,
        priority_fee: 1,
        target: ESCROW,
        calldata: Bytes::copy_from_slice(&deliverCall::SELECTOR),
    }
}

#[test]
fn one_result_per_request_for_ever() {
    let (policy, mut memory) = (policy(), Memory::default());
    let (request, result) = asked(1);
    let first = policy.result(&mut memory, &request, &result, NOW).unwrap();
    assert!(first.promise.is_some());
    let again = policy.result(&mut memory, &request, &result, NOW + DAY * 9).unwrap();
    assert_eq!(again, Grant { preimage: first.preimage, promise: None });
    let other = ResultDocument { output_hash: B256::repeat_byte(8), ..result };
    let refusal = policy.result(&mut memory, &request, &other, NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::Equivocation { .. }) && refusal.lasting());
}

#[test]
fn a_result_has_to_fit_the_terms_that_it_answers() {
    let (policy, mut memory) = (policy(), Memory::default());
    let (request, result) = asked(1);
    let elsewhere = Policy { chain_id: 1, ..policy.clone() };
    let other_escrow = Policy { escrow: Address::repeat_byte(8), ..policy.clone() };
    for foreign in [elsewhere, other_escrow] {
        let refusal = foreign.result(&mut memory, &request, &result, NOW).unwrap_err();
        assert!(matches!(refusal, Refusal::OtherTerms { .. }), "{refusal}");
    }
    let greedy = ResultDocument { amount: 101, ..result.clone() };
    let declined =
        ResultDocument { outcome: OutcomeDocument::Declined, amount: 1, ..result.clone() };
    for bad in [greedy, declined] {
        let refusal = policy.result(&mut memory, &request, &bad, NOW).unwrap_err();
        assert!(matches!(refusal, Refusal::Amount { .. }), "{refusal}");
    }
    let late = ResultDocument { valid_until: NOW + 601, ..result.clone() };
    let refusal = policy.result(&mut memory, &request, &late, NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::ValidUntil { .. }), "{refusal}");
    let generous = RequestDocument { max_amount: 1_000, ..request };
    let refusal = policy.result(&mut memory, &generous, &result, NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::OtherTerms { .. }), "{refusal}");
}

#[test]
fn counts_and_values_end_at_their_limits_and_begin_again() {
    let (policy, mut memory) = (policy(), Memory::default());
    let ask = |memory: &mut Memory, salt, now| {
        let (request, result) = asked(salt);
        policy.result(memory, &request, &result, now)
    };
    ask(&mut memory, 1, NOW).unwrap();
    ask(&mut memory, 2, NOW).unwrap();
    let refusal = ask(&mut memory, 3, NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::Limit { option: "value-per-day", .. }), "{refusal}");
    assert!(!refusal.lasting());
    ask(&mut memory, 3, NOW + DAY).unwrap();

    let unlimited = Policy {
        limits: Limits { value_per_day: Vec::new(), ..policy.limits.clone() },
        ..policy.clone()
    };
    let mut memory = Memory::default();
    let mut options = Vec::new();
    for salt in 0..8u8 {
        let (request, result) = asked(salt);
        // The fourth comes a minute later, the sixth still on the same day.
        let now = NOW + u64::from(salt / 3) * MINUTE;
        if let Err(Refusal::Limit { option, .. }) =
            unlimited.result(&mut memory, &request, &result, now)
        {
            options.push((salt, option));
        }
    }
    assert_eq!(options, [(5, "results-per-day"), (6, "results-per-day"), (7, "results-per-day")]);
    let (request, result) = asked(20);
    let mut memory = Memory::default();
    for salt in 0..3 {
        ask_unlimited(&unlimited, &mut memory, salt);
    }
    let refusal = unlimited.result(&mut memory, &request, &result, NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::Limit { option: "results-per-minute", .. }), "{refusal}");
}

fn ask_unlimited(policy: &Policy, memory: &mut Memory, salt: u8) {
    let (request, result) = asked(salt);
    policy.result(memory, &request, &result, NOW).unwrap();
}

#[test]
fn a_message_is_a_message_and_names_only_what_was_signed() {
    let (policy, mut memory) = (policy(), Memory::default());
    let heartbeat = r#"{"kind":"heartbeat","headBlock":1,"version":"x"}"#;
    policy.message(&mut memory, heartbeat, NOW, NOW).unwrap();
    let refusal = policy.message(&mut memory, "\x19\x01 bytes", NOW, NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::Message(_)), "{refusal}");

    let (request, result) = asked(1);
    let digest = result_digest(&policy.domain(), &SignedResult::from(&result));
    let cosignature = serde_json::to_string(&QuorumMessage::Cosignature {
        request_id: result.request_id,
        result_digest: digest,
        attestation: Bytes::from(vec![0; 65]),
    })
    .unwrap();
    let refusal = policy.message(&mut memory, &cosignature, NOW, NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::UnsignedResult { .. }), "{refusal}");
    policy.result(&mut memory, &request, &result, NOW).unwrap();
    policy.message(&mut memory, &cosignature, NOW, NOW).unwrap();
    let refusal = policy.message(&mut memory, heartbeat, NOW, NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::Limit { option: "messages-per-minute", .. }), "{refusal}");
    policy.message(&mut memory, heartbeat, NOW, NOW + MINUTE).unwrap();
}

#[test]
fn parts_of_unfinished_answers_have_a_limit_of_their_own() {
    let (policy, mut memory) = (policy(), Memory::default());
    let part = |text: &str| {
        let text = text.to_owned();
        let request_id = B256::repeat_byte(1);
        serde_json::to_string(&QuorumMessage::Partial { request_id, offset: 0, text }).unwrap()
    };
    let long = part(&"x".repeat(PARTIAL_TEXT_BYTES_MAX + 1));
    let refusal = policy.message(&mut memory, &long, NOW, NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::Message(_)), "{refusal}");
    for _ in 0..2 {
        policy.message(&mut memory, &part("so"), NOW, NOW).unwrap();
    }
    let refusal = policy.message(&mut memory, &part("so"), NOW, NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::Limit { option: "partials-per-minute", .. }), "{refusal}");
    let heartbeat = r#"{"kind":"heartbeat","headBlock":1,"version":"x"}"#;
    policy.message(&mut memory, heartbeat, NOW, NOW).unwrap();
}

#[test]
fn a_transaction_delivers_or_does_nothing() {
    let (policy, mut memory) = (policy(), Memory::default());
    policy.transaction(&mut memory, &transaction(0), NOW).unwrap();
    let cancel = TransactionDocument {
        target: TRANSMITTER,
        calldata: Bytes::new(),
        gas_limit: 21_000,
        ..transaction(0)
    };
    policy.transaction(&mut memory, &cancel, NOW).unwrap();
    let bad = [
        TransactionDocument { chain_id: 1, ..transaction(0) },
        TransactionDocument { target: TOKEN, ..transaction(0) },
        TransactionDocument { calldata: Bytes::from(vec![1, 2, 3, 4]), ..transaction(0) },
        TransactionDocument { calldata: Bytes::new(), ..transaction(0) },
        TransactionDocument { gas_limit: TRANSACTION_GAS_MAX + 1, ..transaction(0) },
        TransactionDocument { gas_limit: 21_001, ..cancel },
    ];
    for transaction in bad {
        let refusal = policy.transaction(&mut memory, &transaction, NOW).unwrap_err();
        assert!(refusal.lasting(), "{refusal}");
    }
    let dear = TransactionDocument { max_fee: 11, ..transaction(0) };
    let refusal = policy.transaction(&mut memory, &dear, NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::Fee { .. }), "{refusal}");
}

#[test]
fn a_days_gas_counts_each_nonce_once() {
    let (policy, mut memory) = (policy(), Memory::default());
    // Each costs half of the day's gas at most.
    for _ in 0..5 {
        policy.transaction(&mut memory, &transaction(0), NOW).unwrap();
    }
    policy.transaction(&mut memory, &transaction(1), NOW).unwrap();
    let refusal = policy.transaction(&mut memory, &transaction(2), NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::Limit { option: "gas-per-day", .. }), "{refusal}");
    policy.transaction(&mut memory, &transaction(2), NOW + DAY).unwrap();
}

proptest! {
    /// Whatever the order of results, restarts and clocks: no request ever has two digests granted.
    #[test]
    fn no_order_of_questions_gives_two_digests(
        steps in prop::collection::vec((0u8..4, 0u8..3, 0u64..3 * DAY, any::<bool>()), 1..60)
    ) {
        let policy = policy();
        let mut memory = Memory::default();
        let mut written = Vec::new();
        let mut granted: BTreeMap<B256, B256> = BTreeMap::new();
        for (salt, output, later, restarts) in steps {
            if restarts {
                memory = Memory::default();
                for (promise, at) in &written {
                    memory.keep(promise, *at);
                }
            }
            let (request, result) = asked(salt);
            let result = ResultDocument { output_hash: B256::repeat_byte(output), ..result };
            let now = NOW + later;
            if let Ok(grant) = policy.result(&mut memory, &request, &result, now) {
                let digest = keccak256(&grant.preimage);
                let known = *granted.entry(result.request_id).or_insert(digest);
                prop_assert_eq!(known, digest);
                if let Some(promise) = grant.promise {
                    written.push((promise, now));
                }
            }
        }
    }
}
