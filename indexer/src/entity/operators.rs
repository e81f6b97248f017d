//! Operators, the sets in which they answer, and what they have at stake.

use super::{
    CHAIN_ID, Element, Entity, Enumeration, Field, ID, Key, Kind, Versions, field, many, one,
};

static SIGNER_STATUS: Enumeration =
    Enumeration { name: "SignerStatus", values: &["pending", "active", "replaced", "revoked"] };

static BOND_STATUS: Enumeration =
    Enumeration { name: "BondStatus", values: &["bonded", "unbonding", "released", "slashed"] };

const OPERATOR_REFERENCE: Field = one("operator", "owner", "Operator", "owner", Key::Hex);
const SET_REFERENCE: Field = one("operatorSet", "set_id", "OperatorSet", "set_id", Key::Decimal);

pub(super) static OPERATOR: Entity = Entity {
    name: "Operator",
    one: "operator",
    many: "operators",
    source: "indexer.operators",
    table: "operators",
    on_chain: true,
    versions: Versions::Many,
    description: "Who answers requests. Its id is the owner's address.",
    fields: &[
        ID,
        CHAIN_ID,
        field("owner", "owner", Kind::Bytes),
        field("signer", "signer", Kind::Bytes).or_null().about("Null after a revocation."),
        field("transmitter", "transmitter", Kind::Bytes),
        field("withdrawal", "withdrawal", Kind::Bytes),
        field("pendingSigner", "pending_signer", Kind::Bytes).or_null(),
        field("pendingSignerActiveAt", "pending_signer_active_at", Kind::BigInt).or_null(),
        field("pendingWithdrawal", "pending_withdrawal", Kind::Bytes).or_null(),
        field("pendingWithdrawalActiveAt", "pending_withdrawal_active_at", Kind::BigInt).or_null(),
        field("createdAt", "registered_at", Kind::BigInt),
        field("createdAtBlock", "registered_block", Kind::BigInt),
        field("createdTx", "registered_tx", Kind::Bytes),
        field("updatedAt", "updated_at", Kind::BigInt),
        many("signers", "owner", "Signer", "owner"),
        many("bonds", "owner", "Bond", "owner"),
        many("slashes", "owner", "Slash", "owner"),
    ],
};

pub(super) static SIGNER: Entity = Entity {
    name: "Signer",
    one: "signer",
    many: "signers",
    source: "indexer.signers",
    table: "signers",
    on_chain: true,
    versions: Versions::Many,
    description: "A signing key that was ever named, and whose it is. Its id is the key's address.",
    fields: &[
        ID,
        CHAIN_ID,
        field("signer", "signer", Kind::Bytes),
        OPERATOR_REFERENCE,
        field("status", "status", Kind::Enum(&SIGNER_STATUS)),
        field("updatedAt", "updated_at", Kind::BigInt),
    ],
};

pub(super) static OPERATOR_SET: Entity = Entity {
    name: "OperatorSet",
    one: "operatorSet",
    many: "operatorSets",
    source: "indexer.operator_sets",
    table: "operator_sets",
    on_chain: true,
    versions: Versions::Many,
    description: "Operators that answer together. Its id is the decimal set id; `epoch` is 0 before the first epoch.",
    fields: &[
        ID,
        CHAIN_ID,
        field("setId", "set_id", Kind::BigInt),
        field("admin", "admin", Kind::Bytes),
        field("pendingAdmin", "pending_admin", Kind::Bytes).or_null(),
        field("bondToken", "bond_token", Kind::Bytes),
        field("bond", "bond", Kind::BigInt),
        field("referee", "referee", Kind::Bytes).about(
            "The contract that may convict this set's results; the zero address means none.",
        ),
        field("epoch", "epoch", Kind::BigInt),
        field("threshold", "threshold", Kind::Int),
        field("operators", "operators", Kind::List(Element::Bytes)),
        field("signers", "signers", Kind::List(Element::Bytes)),
        field("operatorSetHash", "operator_set_hash", Kind::Bytes).or_null(),
        field("pendingEpoch", "pending_epoch", Kind::BigInt).or_null(),
        field("pendingThreshold", "pending_threshold", Kind::Int).or_null(),
        field("pendingOperators", "pending_operators", Kind::List(Element::Bytes)).or_null(),
        field("pendingActiveAt", "pending_active_at", Kind::BigInt).or_null(),
        field("createdAt", "created_at", Kind::BigInt),
        field("createdAtBlock", "created_block", Kind::BigInt),
        field("createdTx", "created_tx", Kind::Bytes),
        field("updatedAt", "updated_at", Kind::BigInt),
        many("epochs", "set_id", "OperatorSetEpoch", "set_id"),
        many("bonds", "set_id", "Bond", "set_id"),
        many("offers", "set_id", "Offer", "operator_set_id"),
    ],
};

pub(super) static OPERATOR_SET_EPOCH: Entity = Entity {
    name: "OperatorSetEpoch",
    one: "operatorSetEpoch",
    many: "operatorSetEpochs",
    source: "indexer.epochs",
    table: "epochs",
    on_chain: true,
    versions: Versions::One,
    description: "One epoch of an operator set; a request pins it by its hash. Its id is `<set id>:<epoch>`.",
    fields: &[
        ID,
        CHAIN_ID,
        SET_REFERENCE,
        field("epoch", "epoch", Kind::BigInt),
        field("threshold", "threshold", Kind::Int),
        field("operators", "operators", Kind::List(Element::Bytes)),
        field("signers", "signers", Kind::List(Element::Bytes)),
        field("operatorSetHash", "operator_set_hash", Kind::Bytes),
        field("startedAt", "started_at", Kind::BigInt),
        field("startedAtBlock", "started_block", Kind::BigInt),
        field("startedTx", "started_tx", Kind::Bytes),
    ],
};

pub(super) static BOND: Entity = Entity {
    name: "Bond",
    one: "bond",
    many: "bonds",
    source: "indexer.bonds",
    table: "bonds",
    on_chain: true,
    versions: Versions::Many,
    description: "What an operator has at stake in a set. Its id is `<set id>:<owner>`.",
    fields: &[
        ID,
        CHAIN_ID,
        SET_REFERENCE,
        OPERATOR_REFERENCE,
        field("amount", "amount", Kind::BigInt),
        field("slashed", "slashed", Kind::BigInt),
        field("status", "status", Kind::Enum(&BOND_STATUS)),
        field("releaseAt", "release_at", Kind::BigInt).or_null(),
        field("releasedTo", "released_to", Kind::Bytes).or_null(),
        field("updatedAt", "updated_at", Kind::BigInt),
    ],
};

pub(super) static SLASH: Entity = Entity {
    name: "Slash",
    one: "slash",
    many: "slashes",
    source: "indexer.slashes",
    table: "slashes",
    on_chain: true,
    versions: Versions::One,
    description: "A bond that was taken: `reward` of it for the beneficiary, the rest for nobody. Its id is `<set id>:<owner>:<request id>`.",
    fields: &[
        ID,
        CHAIN_ID,
        SET_REFERENCE,
        OPERATOR_REFERENCE,
        one("request", "request_id", "Request", "request_id", Key::Hex),
        field("signer", "signer", Kind::Bytes),
        field("amount", "amount", Kind::BigInt),
        field("beneficiary", "beneficiary", Kind::Bytes),
        field("reward", "reward", Kind::BigInt),
        field("createdAt", "created_at", Kind::BigInt),
        field("createdAtBlock", "created_block", Kind::BigInt),
        field("createdTx", "created_tx", Kind::Bytes),
    ],
};
