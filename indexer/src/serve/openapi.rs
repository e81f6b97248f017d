//! The OpenAPI document. Documents of the protocol are described here by their fields, because `auspex-protocol` knows
//! nothing of HTTP; a test compares the field names with what serialisation writes.

use utoipa::OpenApi;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};

use super::{health, rest, stream};

/// Everything under `/v1`, and the three questions about health.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Auspex indexer",
        description = "Agents, offers, requests, answers and payments, as the chain says them. Integers wider than 53 bits are decimal strings; addresses, hashes and bytes are 0x-hex in lower case; times are unix seconds. Every row says how final it is. GraphQL in The Graph's dialect is at /graphql.",
    ),
    paths(
        rest::request::list,
        rest::request::show,
        rest::board::list,
        rest::board::post,
        rest::answer::put,
        rest::answer::get,
        rest::agent::list,
        rest::agent::show,
        rest::offer::list,
        rest::offer::show,
        rest::operator::list,
        rest::operator::show,
        rest::operator::set,
        rest::account::credits,
        rest::status::status,
        rest::digest::range,
        stream::stream,
        health::health,
        health::ready,
        health::metrics,
    )
)]
pub(super) struct ApiDocument;

/// What a field of a protocol document holds.
#[derive(Debug, Clone, Copy)]
enum Form {
    Hex,
    Hexes,
    Decimal,
    Decimals,
    Number,
    Text,
}

const REQUEST: &[(&str, Form)] = &[
    ("payer", Form::Hex),
    ("agentId", Form::Decimal),
    ("offerHash", Form::Hex),
    ("operatorSetHash", Form::Hex),
    ("splitHash", Form::Hex),
    ("token", Form::Hex),
    ("maxAmount", Form::Decimal),
    ("feeBps", Form::Number),
    ("feeRecipient", Form::Hex),
    ("deadline", Form::Number),
    ("challengeWindow", Form::Number),
    ("referee", Form::Hex),
    ("callback", Form::Hex),
    ("callbackGas", Form::Number),
    ("inputHash", Form::Hex),
    ("salt", Form::Hex),
];

const OFFER: &[(&str, Form)] = &[
    ("agentId", Form::Decimal),
    ("token", Form::Hex),
    ("price", Form::Decimal),
    ("operatorSetId", Form::Decimal),
    ("splitHash", Form::Hex),
    ("corpusRoot", Form::Hex),
    ("modelHash", Form::Hex),
    ("durationMin", Form::Number),
    ("durationMax", Form::Number),
    ("challengeWindow", Form::Number),
    ("referee", Form::Hex),
];

const SPLIT: &[(&str, Form)] = &[
    ("recipients", Form::Hexes),
    ("allocations", Form::Decimals),
    ("totalAllocation", Form::Decimal),
    ("distributionIncentive", Form::Number),
];

const OPERATOR_SET: &[(&str, Form)] = &[
    ("setId", Form::Decimal),
    ("epoch", Form::Decimal),
    ("threshold", Form::Number),
    ("signers", Form::Hexes),
];

const RESULT: &[(&str, Form)] = &[
    ("requestId", Form::Hex),
    ("outcome", Form::Text),
    ("outputHash", Form::Hex),
    ("traceRoot", Form::Hex),
    ("retrievalRoot", Form::Hex),
    ("modelHash", Form::Hex),
    ("amount", Form::Decimal),
    ("validUntil", Form::Number),
];

const ENVELOPE: &[(&str, Form)] = &[
    ("body", Form::Text),
    ("signer", Form::Hex),
    ("sentAt", Form::Number),
    ("signature", Form::Hex),
];

pub(super) fn request_document() -> RefOr<Schema> {
    object(REQUEST)
}

pub(super) fn offer_document() -> RefOr<Schema> {
    object(OFFER)
}

pub(super) fn split_document() -> RefOr<Schema> {
    object(SPLIT)
}

pub(super) fn split_documents() -> RefOr<Schema> {
    RefOr::T(Schema::Array(ArrayBuilder::new().items(object(SPLIT)).build()))
}

pub(super) fn operator_set_document() -> RefOr<Schema> {
    object(OPERATOR_SET)
}

pub(super) fn result_document() -> RefOr<Schema> {
    object(RESULT)
}

pub(super) fn envelope() -> RefOr<Schema> {
    object(ENVELOPE)
}

fn object(fields: &[(&str, Form)]) -> RefOr<Schema> {
    let mut object = ObjectBuilder::new();
    for (name, form) in fields {
        object = object.property(*name, form.schema()).required(*name);
    }
    RefOr::T(Schema::Object(object.build()))
}

impl Form {
    fn schema(self) -> RefOr<Schema> {
        let text = |pattern: Option<&str>| {
            ObjectBuilder::new()
                .schema_type(SchemaType::Type(Type::String))
                .pattern(pattern)
                .build()
        };
        const HEX: &str = "^0x[0-9a-f]*$";
        const DECIMAL: &str = "^[0-9]+$";
        let schema = match self {
            Self::Text => Schema::Object(text(None)),
            Self::Hex => Schema::Object(text(Some(HEX))),
            Self::Decimal => Schema::Object(text(Some(DECIMAL))),
            Self::Number => Schema::Object(
                ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).build(),
            ),
            Self::Hexes => Schema::Array(ArrayBuilder::new().items(text(Some(HEX))).build()),
            Self::Decimals => Schema::Array(ArrayBuilder::new().items(text(Some(DECIMAL))).build()),
        };
        RefOr::T(schema)
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256, Bytes};
    use auspex_protocol::bindings::IRequestEscrow;
    use auspex_protocol::document::{
        OfferDocument, OperatorSetDocument, OutcomeDocument, RequestDocument, ResultDocument,
        SplitDocument,
    };
    use auspex_protocol::message::Envelope;
    use serde::Serialize;

    use super::*;

    fn same<T: Serialize>(value: &T, fields: &[(&str, Form)]) {
        let json = serde_json::to_value(value).unwrap();
        let mut written: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        let mut described: Vec<_> = fields.iter().map(|(name, _)| (*name).to_owned()).collect();
        written.sort();
        described.sort();
        assert_eq!(written, described);
        for (name, form) in fields {
            let number = matches!(form, Form::Number);
            let list = matches!(form, Form::Hexes | Form::Decimals);
            assert_eq!(json[name].is_number(), number, "{name}");
            assert_eq!(json[name].is_array(), list, "{name}");
        }
    }

    #[test]
    fn documents_are_described_as_they_are_written() {
        same(&RequestDocument::from(&IRequestEscrow::Request::default()), REQUEST);
        same(&OfferDocument::from(&IRequestEscrow::Offer::default()), OFFER);
        same(&SplitDocument::from(&IRequestEscrow::Split::default()), SPLIT);
        same(&OperatorSetDocument::from(&IRequestEscrow::OperatorSet::default()), OPERATOR_SET);
        let result = ResultDocument {
            request_id: B256::ZERO,
            outcome: OutcomeDocument::Answered,
            output_hash: B256::ZERO,
            trace_root: B256::ZERO,
            retrieval_root: B256::ZERO,
            model_hash: B256::ZERO,
            amount: 0,
            valid_until: 0,
        };
        same(&result, RESULT);
        let envelope = Envelope {
            body: String::new(),
            signer: Address::ZERO,
            sent_at: 0,
            signature: Bytes::new(),
        };
        same(&envelope, ENVELOPE);
    }

    #[test]
    fn every_route_is_described_once() {
        let document = ApiDocument::openapi();
        let paths: Vec<_> = document.paths.paths.keys().cloned().collect();
        for path in ["/v1/requests", "/v1/requests/{requestId}/messages", "/v1/stream", "/ready"] {
            assert!(paths.iter().any(|known| known == path), "{path}");
        }
        assert_eq!(paths.len(), 18);
    }
}
