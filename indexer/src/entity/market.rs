//! Offers, splits, requests and the money that they move.

use super::{
    CHAIN_ID, Element, Entity, Enumeration, Field, ID, Key, Kind, Versions, field, many, one,
};

static REQUEST_STATUS: Enumeration = Enumeration {
    name: "RequestStatus",
    values: &["funded", "delivered", "settled", "refunded", "slashed"],
};

static OUTCOME: Enumeration = Enumeration { name: "Outcome", values: &["answered", "declined"] };

static REQUEST_NOTE_KIND: Enumeration =
    Enumeration { name: "RequestNoteKind", values: &["callback_failed", "permit_failed"] };

static SETTLEMENT_CREDIT_KIND: Enumeration = Enumeration {
    name: "SettlementCreditKind",
    values: &["share", "fee", "returned", "refund", "slash"],
};

const AGENT: Field = one("agent", "agent_id", "Agent", "agent_id", Key::ChainDecimal);
const SPLIT_REFERENCE: Field = one("split", "split_hash", "Split", "split_hash", Key::Hex);
const TOKEN: Field = field("token", "token", Kind::Bytes)
    .about("The token's address; the zero address is the chain's native coin.");
const REQUEST_REFERENCE: Field = one("request", "request_id", "Request", "request_id", Key::Hex);

pub(super) static OFFER: Entity = Entity {
    name: "Offer",
    one: "offer",
    many: "offers",
    source: "indexer.offers",
    table: "offers",
    on_chain: true,
    versions: Versions::Many,
    description: "What an agent sells: price, token, operator set, split, corpus and model. Its id is the offer hash.",
    fields: &[
        ID,
        CHAIN_ID,
        field("offerHash", "offer_hash", Kind::Bytes),
        field("sequence", "sequence", Kind::BigInt),
        AGENT,
        TOKEN,
        field("price", "price", Kind::BigInt).about("In the token's smallest unit."),
        one("operatorSet", "operator_set_id", "OperatorSet", "set_id", Key::Decimal),
        SPLIT_REFERENCE,
        field("corpusRoot", "corpus_root", Kind::Bytes),
        field("modelHash", "model_hash", Kind::Bytes),
        field("durationMin", "duration_min", Kind::BigInt).about("Seconds."),
        field("durationMax", "duration_max", Kind::BigInt).about("Seconds."),
        field("challengeWindow", "challenge_window", Kind::BigInt).about("Seconds."),
        field("referee", "referee", Kind::Bytes),
        field("active", "active", Kind::Boolean),
        field("createdAt", "published_at", Kind::BigInt),
        field("createdAtBlock", "published_block", Kind::BigInt),
        field("createdTx", "published_tx", Kind::Bytes),
        field("retiredAt", "retired_at", Kind::BigInt).or_null(),
        field("retiredTx", "retired_tx", Kind::Bytes).or_null(),
        many("requests", "offer_hash", "Request", "offer_hash"),
    ],
};

pub(super) static SPLIT: Entity = Entity {
    name: "Split",
    one: "split",
    many: "splits",
    source: "indexer.splits",
    table: "splits",
    on_chain: true,
    versions: Versions::One,
    description: "Payees and their shares. Its id is the split hash, equal to that of 0xSplits v2.",
    fields: &[
        ID,
        CHAIN_ID,
        field("splitHash", "split_hash", Kind::Bytes),
        field("recipients", "recipients", Kind::List(Element::Bytes)),
        field("allocations", "allocations", Kind::List(Element::BigInt)),
        field("totalAllocation", "total_allocation", Kind::BigInt),
        field("distributionIncentive", "distribution_incentive", Kind::Int),
        many("shares", "split_hash", "SplitShare", "split_hash"),
        many("totals", "split_hash", "SplitTotal", "split_hash"),
        many("offers", "split_hash", "Offer", "split_hash"),
    ],
};

pub(super) static SPLIT_SHARE: Entity = Entity {
    name: "SplitShare",
    one: "splitShare",
    many: "splitShares",
    source: "indexer.split_shares",
    table: "split_shares",
    on_chain: true,
    versions: Versions::One,
    description: "One payee's share of a split. Its id is `<split hash>:<account>`.",
    fields: &[
        ID,
        CHAIN_ID,
        SPLIT_REFERENCE,
        field("account", "account", Kind::Bytes),
        field("position", "position", Kind::Int),
        field("allocation", "allocation", Kind::BigInt),
    ],
};

pub(super) static SPLIT_TOTAL: Entity = Entity {
    name: "SplitTotal",
    one: "splitTotal",
    many: "splitTotals",
    source: "indexer.split_totals",
    table: "split_totals",
    on_chain: true,
    versions: Versions::Many,
    description: "All that was ever settled into a split in one token. Its id is `<split hash>:<token>`.",
    fields: &[
        ID,
        CHAIN_ID,
        SPLIT_REFERENCE,
        TOKEN,
        field("settledTotal", "settled_total", Kind::BigInt),
        field("credited", "credited", Kind::BigInt),
        field("residue", "residue", Kind::BigInt)
            .about("What no payee can claim yet; always less than one unit per payee."),
        field("settlements", "settlements", Kind::BigInt),
    ],
};

pub(super) static REQUEST: Entity = Entity {
    name: "Request",
    one: "request",
    many: "requests",
    source: "indexer.requests",
    table: "requests",
    on_chain: true,
    versions: Versions::Many,
    description: "A paid request, from its terms to its end. Its id is the request id.",
    fields: &[
        ID,
        CHAIN_ID,
        field("requestId", "request_id", Kind::Bytes),
        field("sequence", "sequence", Kind::BigInt).about("The order of requests on this chain."),
        field("status", "status", Kind::Enum(&REQUEST_STATUS)),
        AGENT,
        field("payer", "payer", Kind::Bytes),
        one("offer", "offer_hash", "Offer", "offer_hash", Key::Hex),
        field("operatorSetHash", "operator_set_hash", Kind::Bytes),
        many("epochs", "operator_set_hash", "OperatorSetEpoch", "operator_set_hash")
            .about("The epoch of the operator set that may answer: one row."),
        SPLIT_REFERENCE,
        TOKEN,
        field("maxAmount", "max_amount", Kind::BigInt),
        field("feeBps", "fee_bps", Kind::Int)
            .about("Hundredths of a percent of the settled amount."),
        field("feeRecipient", "fee_recipient", Kind::Bytes),
        field("deadline", "deadline", Kind::BigInt).about("Unix seconds."),
        field("challengeWindow", "challenge_window", Kind::BigInt),
        field("referee", "referee", Kind::Bytes),
        field("callback", "callback", Kind::Bytes),
        field("callbackGas", "callback_gas", Kind::BigInt),
        field("inputHash", "input_hash", Kind::Bytes),
        field("input", "input", Kind::Bytes),
        field("salt", "salt", Kind::Bytes),
        field("createdAt", "requested_at", Kind::BigInt),
        field("createdAtBlock", "requested_block", Kind::BigInt),
        field("createdTx", "requested_tx", Kind::Bytes),
        field("createdGasUsed", "requested_gas_used", Kind::BigInt).or_null(),
        field("outcome", "outcome", Kind::Enum(&OUTCOME)).or_null(),
        field("outputHash", "output_hash", Kind::Bytes).or_null(),
        field("traceRoot", "trace_root", Kind::Bytes).or_null(),
        field("retrievalRoot", "retrieval_root", Kind::Bytes).or_null(),
        field("modelHash", "model_hash", Kind::Bytes).or_null(),
        field("resultAmount", "result_amount", Kind::BigInt).or_null(),
        field("validUntil", "valid_until", Kind::BigInt).or_null(),
        field("signers", "signers", Kind::List(Element::Bytes)).or_null(),
        field("transmitter", "transmitter", Kind::Bytes).or_null(),
        field("deliveredAt", "delivered_at", Kind::BigInt).or_null(),
        field("deliveredAtBlock", "delivered_block", Kind::BigInt).or_null(),
        field("deliveredTx", "delivered_tx", Kind::Bytes).or_null(),
        field("deliveredGasUsed", "delivered_gas_used", Kind::BigInt).or_null(),
        field("settledAmount", "settled_amount", Kind::BigInt).or_null(),
        field("settledFee", "settled_fee", Kind::BigInt).or_null(),
        field("settledReturned", "settled_returned", Kind::BigInt).or_null(),
        field("splitTotalBefore", "split_total_before", Kind::BigInt).or_null(),
        field("splitResidue", "split_residue", Kind::BigInt).or_null(),
        field("settledAt", "settled_at", Kind::BigInt).or_null(),
        field("settledAtBlock", "settled_block", Kind::BigInt).or_null(),
        field("settledTx", "settled_tx", Kind::Bytes).or_null(),
        field("refundedAmount", "refunded_amount", Kind::BigInt).or_null(),
        field("refundedAt", "refunded_at", Kind::BigInt).or_null(),
        field("refundedAtBlock", "refunded_block", Kind::BigInt).or_null(),
        field("refundedTx", "refunded_tx", Kind::Bytes).or_null(),
        field("slashedSigner", "slashed_signer", Kind::Bytes).or_null(),
        field("slashedAmount", "slashed_amount", Kind::BigInt).or_null(),
        field("slashedAt", "slashed_at", Kind::BigInt).or_null(),
        field("slashedAtBlock", "slashed_block", Kind::BigInt).or_null(),
        field("slashedTx", "slashed_tx", Kind::Bytes).or_null(),
        many("credits", "request_id", "SettlementCredit", "request_id"),
        many("notes", "request_id", "RequestNote", "request_id"),
        many("slashes", "request_id", "Slash", "request_id"),
        many("payments", "request_id", "X402Payment", "nonce")
            .about("The EIP-3009 authorization that paid for it, where one did."),
    ],
};

pub(super) static REQUEST_NOTE: Entity = Entity {
    name: "RequestNote",
    one: "requestNote",
    many: "requestNotes",
    source: "indexer.request_notes",
    table: "request_notes",
    on_chain: true,
    versions: Versions::Many,
    description: "What went on beside a request. Its id is `<request id>:<kind>:<log index>`.",
    fields: &[
        ID,
        CHAIN_ID,
        REQUEST_REFERENCE,
        field("kind", "kind", Kind::Enum(&REQUEST_NOTE_KIND)),
        field("address", "address", Kind::Bytes),
        field("createdAt", "created_at", Kind::BigInt),
        field("createdAtBlock", "created_block", Kind::BigInt),
        field("createdTx", "created_tx", Kind::Bytes),
    ],
};

pub(super) static SETTLEMENT_CREDIT: Entity = Entity {
    name: "SettlementCredit",
    one: "settlementCredit",
    many: "settlementCredits",
    source: "indexer.settlement_credits",
    table: "settlement_credits",
    on_chain: true,
    versions: Versions::One,
    description: "What a request's end credited to one account. Its id is `<request id>:<kind>:<account>`.",
    fields: &[
        ID,
        CHAIN_ID,
        REQUEST_REFERENCE,
        field("kind", "kind", Kind::Enum(&SETTLEMENT_CREDIT_KIND)),
        field("position", "position", Kind::Int).or_null(),
        field("account", "account", Kind::Bytes),
        TOKEN,
        field("amount", "amount", Kind::BigInt),
        field("createdAt", "created_at", Kind::BigInt),
        field("createdAtBlock", "created_block", Kind::BigInt),
    ],
};

pub(super) static CREDIT: Entity = Entity {
    name: "Credit",
    one: "credit",
    many: "credits",
    source: "indexer.credits",
    table: "credits",
    on_chain: true,
    versions: Versions::Many,
    description: "What an account may withdraw: `credited - withdrawn`. Its id is `<account>:<token>`.",
    fields: &[
        ID,
        CHAIN_ID,
        field("account", "account", Kind::Bytes),
        TOKEN,
        field("credited", "credited", Kind::BigInt),
        field("withdrawn", "withdrawn", Kind::BigInt),
        field("updatedAt", "updated_at", Kind::BigInt),
    ],
};

pub(super) static BOND_CREDIT: Entity = Entity {
    name: "BondCredit",
    one: "bondCredit",
    many: "bondCredits",
    source: "indexer.bond_credits",
    table: "bond_credits",
    on_chain: true,
    versions: Versions::Many,
    description: "What an account may withdraw of slashed bonds. Its id is `<account>:<token>`.",
    fields: &[
        ID,
        CHAIN_ID,
        field("account", "account", Kind::Bytes),
        TOKEN,
        field("credited", "credited", Kind::BigInt),
        field("withdrawn", "withdrawn", Kind::BigInt),
        field("updatedAt", "updated_at", Kind::BigInt),
    ],
};

pub(super) static WITHDRAWAL: Entity = Entity {
    name: "Withdrawal",
    one: "withdrawal",
    many: "withdrawals",
    source: "indexer.withdrawals",
    table: "withdrawals",
    on_chain: true,
    versions: Versions::One,
    description: "Money that the escrow or the operator registry paid out. Its id is `<transaction>:<log index>`.",
    fields: &[
        ID,
        CHAIN_ID,
        field("contract", "contract", Kind::Bytes),
        field("sequence", "sequence", Kind::BigInt),
        field("account", "account", Kind::Bytes),
        TOKEN,
        field("amount", "amount", Kind::BigInt),
        field("createdAt", "created_at", Kind::BigInt),
        field("createdAtBlock", "created_block", Kind::BigInt),
        field("createdTx", "created_tx", Kind::Bytes),
    ],
};
