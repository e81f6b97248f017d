//! Agents of ERC-8004 and what is said about them. Field names are those of the Agent0 subgraph where it has the field.

use super::{CHAIN_ID, Element, Entity, Field, ID, Key, Kind, Versions, field, many, one};

const AGENT_REFERENCE: Field = one("agent", "agent_id", "Agent", "agent_id", Key::ChainDecimal);

pub(super) static AGENT: Entity = Entity {
    name: "Agent",
    one: "agent",
    many: "agents",
    source: "indexer.agents",
    table: "agents",
    on_chain: true,
    versions: Versions::Many,
    description: "An agent of the ERC-8004 identity registry. Its id is `<chain id>:<agent id>`.",
    fields: &[
        ID,
        CHAIN_ID,
        field("agentId", "agent_id", Kind::BigInt),
        field("registry", "registry", Kind::Bytes).about("The identity registry's address."),
        field("owner", "owner", Kind::Bytes),
        field("agentURI", "agent_uri", Kind::String).about("Where the registration file lies."),
        field("agentWallet", "wallet", Kind::Bytes).or_null(),
        field("createdAt", "registered_at", Kind::BigInt).about("Unix seconds."),
        field("createdAtBlock", "registered_block", Kind::BigInt),
        field("createdTx", "registered_tx", Kind::Bytes),
        field("updatedAt", "updated_at", Kind::BigInt).about("Unix seconds."),
        one("registrationFile", "agent_id", "AgentRegistrationFile", "agent_id", Key::ChainDecimal),
        many("metadata", "agent_id", "AgentMetadata", "agent_id"),
        many("feedback", "agent_id", "Feedback", "agent_id"),
        many("validations", "agent_id", "Validation", "agent_id"),
        many("offers", "agent_id", "Offer", "agent_id"),
        many("requests", "agent_id", "Request", "agent_id"),
    ],
};

pub(super) static AGENT_METADATA: Entity = Entity {
    name: "AgentMetadata",
    one: "agentMetadata",
    many: "agentMetadatas",
    source: "indexer.agent_metadata",
    table: "agent_metadata",
    on_chain: true,
    versions: Versions::Many,
    description: "One on-chain metadata entry of an agent. Its id is `<agent's id>:<key>`.",
    fields: &[
        ID,
        CHAIN_ID,
        AGENT_REFERENCE,
        field("key", "key", Kind::String),
        field("value", "value", Kind::Bytes),
        field("updatedAt", "updated_at", Kind::BigInt),
    ],
};

/// The resolved files are not versioned: the same URI may say something else tomorrow.
pub(super) static AGENT_REGISTRATION_FILE: Entity = Entity {
    name: "AgentRegistrationFile",
    one: "agentRegistrationFile",
    many: "agentRegistrationFiles",
    source: "(
        select
            chain_id, chain_id::text || ':' || agent_id::text as id, agent_id, uri, content_hash,
            extract(epoch from resolved_at)::bigint as resolved_at,
            file ->> 'name' as name, file ->> 'description' as description, file ->> 'image' as image,
            case when jsonb_typeof(file -> 'active') = 'boolean' then (file ->> 'active')::boolean end as active,
            case when jsonb_typeof(file -> 'x402Support') = 'boolean' then (file ->> 'x402Support')::boolean
                when jsonb_typeof(file -> 'x402support') = 'boolean' then (file ->> 'x402support')::boolean
            end as x402_support,
            case when jsonb_typeof(file -> 'supportedTrust') = 'array'
                then array(select jsonb_array_elements_text(file -> 'supportedTrust')) else '{}'::text[]
            end as supported_trusts,
            file::text as json
        from indexer.agent_files
        where status = 'resolved'
    )",
    table: "",
    on_chain: false,
    versions: Versions::One,
    description: "What an agent's registration file said when it was last fetched. Not on the chain.",
    fields: &[
        ID,
        CHAIN_ID,
        field("agentId", "agent_id", Kind::BigInt),
        AGENT_REFERENCE,
        field("uri", "uri", Kind::String),
        field("contentHash", "content_hash", Kind::Bytes).or_null(),
        field("resolvedAt", "resolved_at", Kind::BigInt).or_null(),
        field("name", "name", Kind::String).or_null(),
        field("description", "description", Kind::String).or_null(),
        field("image", "image", Kind::String).or_null(),
        field("active", "active", Kind::Boolean).or_null(),
        field("x402Support", "x402_support", Kind::Boolean).or_null(),
        field("supportedTrusts", "supported_trusts", Kind::List(Element::String)),
        field("json", "json", Kind::String).about("The whole file as JSON text."),
    ],
};

pub(super) static FEEDBACK: Entity = Entity {
    name: "Feedback",
    one: "feedback",
    many: "feedbacks",
    source: "indexer.feedback",
    table: "feedback",
    on_chain: true,
    versions: Versions::Many,
    description: "A client's feedback on an agent. Its id is `<agent's id>:<client>:<feedback index>`.",
    fields: &[
        ID,
        CHAIN_ID,
        AGENT_REFERENCE,
        field("clientAddress", "client", Kind::Bytes),
        field("feedbackIndex", "feedback_index", Kind::BigInt),
        field("value", "value", Kind::BigInt).about("With `valueDecimals` decimal places."),
        field("valueDecimals", "value_decimals", Kind::Int),
        field("tag1", "tag1", Kind::String),
        field("tag2", "tag2", Kind::String),
        field("endpoint", "endpoint", Kind::String),
        field("feedbackURI", "feedback_uri", Kind::String),
        field("feedbackHash", "feedback_hash", Kind::Bytes),
        field("isRevoked", "revoked", Kind::Boolean),
        field("responseCount", "response_count", Kind::Int),
        field("createdAt", "created_at", Kind::BigInt),
        field("createdAtBlock", "created_block", Kind::BigInt),
        field("createdTx", "created_tx", Kind::Bytes),
        field("revokedAt", "revoked_at", Kind::BigInt).or_null(),
        one("backedRequest", "backed_request", "Request", "request_id", Key::Hex)
            .about("The settled request that the feedback is about, as the registry checked."),
        field("backedAmount", "backed_amount", Kind::BigInt)
            .or_null()
            .about("What the client paid for that request."),
        many("responses", "id", "FeedbackResponse", "feedback_id"),
    ],
};

pub(super) static FEEDBACK_RESPONSE: Entity = Entity {
    name: "FeedbackResponse",
    one: "feedbackResponse",
    many: "feedbackResponses",
    source: "indexer.feedback_responses",
    table: "feedback_responses",
    on_chain: true,
    versions: Versions::One,
    description: "An answer to feedback. Its id is `<feedback's id>:<responder>:<transaction>:<log index>`.",
    fields: &[
        ID,
        CHAIN_ID,
        one("feedback", "feedback_id", "Feedback", "id", Key::Text),
        AGENT_REFERENCE,
        field("responder", "responder", Kind::Bytes),
        field("responseURI", "response_uri", Kind::String),
        field("responseHash", "response_hash", Kind::Bytes),
        field("createdAt", "created_at", Kind::BigInt),
        field("createdAtBlock", "created_block", Kind::BigInt),
        field("createdTx", "created_tx", Kind::Bytes),
    ],
};

pub(super) static VALIDATION: Entity = Entity {
    name: "Validation",
    one: "validation",
    many: "validations",
    source: "indexer.validations",
    table: "validations",
    on_chain: true,
    versions: Versions::Many,
    description: "A validation request and its validator's response. Its id is the request hash.",
    fields: &[
        ID,
        CHAIN_ID,
        AGENT_REFERENCE,
        field("requestHash", "request_hash", Kind::Bytes),
        field("validatorAddress", "validator", Kind::Bytes),
        field("requestURI", "request_uri", Kind::String),
        field("response", "response", Kind::Int).or_null().about("0 to 100."),
        field("responseURI", "response_uri", Kind::String).or_null(),
        field("responseHash", "response_hash", Kind::Bytes).or_null(),
        field("tag", "tag", Kind::String).or_null(),
        field("createdAt", "requested_at", Kind::BigInt),
        field("createdAtBlock", "requested_block", Kind::BigInt),
        field("createdTx", "requested_tx", Kind::Bytes),
        field("respondedAt", "responded_at", Kind::BigInt).or_null(),
        field("respondedTx", "responded_tx", Kind::Bytes).or_null(),
    ],
};
