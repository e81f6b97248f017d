//! The entry policy, x402 payments, and logs that nobody could read.

use super::{CHAIN_ID, Entity, ID, Kind, Versions, field, many};

pub(super) static TOKEN: Entity = Entity {
    name: "Token",
    one: "token",
    many: "tokens",
    source: "indexer.tokens",
    table: "tokens",
    on_chain: true,
    versions: Versions::Many,
    description: "Whether new requests may use a token; the zero address is the native coin. Its id is the address.",
    fields: &[
        ID,
        CHAIN_ID,
        field("address", "token", Kind::Bytes),
        field("allowed", "allowed", Kind::Boolean),
        field("updatedAt", "updated_at", Kind::BigInt),
        many("offers", "token", "Offer", "token"),
    ],
};

pub(super) static FEE_POLICY: Entity = Entity {
    name: "FeePolicy",
    one: "feePolicy",
    many: "feePolicies",
    source: "indexer.fee_policies",
    table: "fee_policies",
    on_chain: true,
    versions: Versions::Many,
    description: "The protocol's fee of new requests. Its id is the policy contract's address.",
    fields: &[
        ID,
        CHAIN_ID,
        field("policy", "policy", Kind::Bytes),
        field("feeBps", "fee_bps", Kind::Int),
        field("feeRecipient", "fee_recipient", Kind::Bytes),
        field("updatedAt", "updated_at", Kind::BigInt),
    ],
};

pub(super) static X402_PAYMENT: Entity = Entity {
    name: "X402Payment",
    one: "x402Payment",
    many: "x402Payments",
    source: "indexer.x402_settlements",
    table: "x402_settlements",
    on_chain: true,
    versions: Versions::One,
    description: "An EIP-3009 authorization with the transfer that it made. Its id is `<transaction>:<log index>`.",
    fields: &[
        ID,
        CHAIN_ID,
        field("token", "token", Kind::Bytes),
        field("payer", "payer", Kind::Bytes),
        field("payee", "payee", Kind::Bytes),
        field("amount", "amount", Kind::BigInt),
        field("nonce", "nonce", Kind::Bytes).about("The request id, where it paid for a request."),
        field("createdAt", "created_at", Kind::BigInt),
        field("createdAtBlock", "created_block", Kind::BigInt),
        field("createdTx", "created_tx", Kind::Bytes),
    ],
};

pub(super) static UNDECODABLE_LOG: Entity = Entity {
    name: "UndecodableLog",
    one: "undecodableLog",
    many: "undecodableLogs",
    source: "indexer.undecodable_logs",
    table: "undecodable_logs",
    on_chain: true,
    versions: Versions::One,
    description: "A log of a known event whose data did not decode. Its id is `<transaction>:<log index>`.",
    fields: &[
        ID,
        CHAIN_ID,
        field("address", "address", Kind::Bytes),
        field("topic0", "topic0", Kind::Bytes).or_null(),
        field("reason", "reason", Kind::String),
        field("createdAt", "created_at", Kind::BigInt),
        field("createdAtBlock", "created_block", Kind::BigInt),
        field("createdTx", "created_tx", Kind::Bytes),
    ],
};
