//! How a request is shown.

use std::collections::HashMap;

use alloy::primitives::{Address, B256, Bytes};
use anyhow::Context;
use auspex_protocol::document::{
    OfferDocument, OperatorSetDocument, OutcomeDocument, RequestDocument, ResultDocument,
    SplitDocument,
};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::super::error::ApiError;
use super::super::openapi;
use super::offer_store::{self, OfferQuery, integer};
use super::request_store::{self, RequestRow};

/// A request with everything that it pinned and everything that happened to it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct RequestView {
    #[schema(value_type = String)]
    request_id: B256,
    chain_id: u64,
    /// The order of requests on this chain.
    sequence: u64,
    /// `funded`, `delivered`, `settled`, `refunded` or `slashed`.
    status: String,
    /// How final the block of the last change is: `latest`, `safe` or `finalized`.
    finality: String,
    /// Where the request was made.
    block_number: u64,
    #[schema(value_type = String)]
    block_hash: B256,
    block_time: u64,
    #[schema(value_type = String)]
    transaction_hash: B256,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_gas_used: Option<u64>,
    #[schema(schema_with = openapi::request_document)]
    request: RequestDocument,
    #[schema(value_type = String)]
    input: Bytes,
    /// The input, when it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    input_text: Option<String>,
    /// Missing only when the offer was published before the first indexed block; the next two likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = openapi::offer_document)]
    offer: Option<OfferDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = openapi::split_document)]
    split: Option<SplitDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = openapi::operator_set_document)]
    operator_set: Option<OperatorSetDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = openapi::result_document)]
    result: Option<ResultDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    signers: Option<Vec<Address>>,
    /// The answer's canonical JSON, whose keccak-256 is `result.outputHash`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    answer: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered: Option<Delivered>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settled: Option<Settled>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refunded: Option<Refunded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slashed: Option<Slashed>,
}

impl RequestView {
    /// Where a page that ends with this request is gone on with.
    pub(super) fn place(&self) -> i64 {
        i64::try_from(self.sequence).unwrap_or(i64::MAX)
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Delivered {
    block_number: u64,
    block_time: u64,
    #[schema(value_type = String)]
    transaction_hash: B256,
    #[schema(value_type = String)]
    transmitter: Address,
    #[serde(skip_serializing_if = "Option::is_none")]
    gas_used: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Settled {
    amount: String,
    fee: String,
    returned: String,
    block_number: u64,
    block_time: u64,
    #[schema(value_type = String)]
    transaction_hash: B256,
    /// What this settlement credited to each payee, to the last unit.
    credits: Vec<ShareView>,
    /// What stays in the split because it cannot be divided: always less than one unit per payee.
    residue: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct ShareView {
    #[schema(value_type = String)]
    account: Address,
    amount: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Refunded {
    amount: String,
    block_number: u64,
    block_time: u64,
    #[schema(value_type = String)]
    transaction_hash: B256,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Slashed {
    amount: String,
    #[schema(value_type = String)]
    signer: Address,
    block_number: u64,
    block_time: u64,
    #[schema(value_type = String)]
    transaction_hash: B256,
}

/// The views of these versions of requests of one chain, in the order of their sequence.
pub(super) async fn load(
    connection: &mut PgConnection,
    places: &[request_store::Place],
) -> Result<Vec<RequestView>, ApiError> {
    let rows = request_store::rows(connection, places).await?;
    let Some(chain_id) = rows.first().map(|row| row.chain_id) else { return Ok(Vec::new()) };
    let offer_hashes = distinct(rows.iter().map(|row| &row.offer_hash));
    let offers = offer_store::offers(
        connection,
        &OfferQuery {
            chain_id,
            limit: offer_hashes.len() as i64,
            hashes: Some(offer_hashes),
            ..OfferQuery::default()
        },
    )
    .await?;
    let mut offer_documents = HashMap::with_capacity(offers.len());
    for offer in &offers {
        offer_documents.insert(B256::from_slice(&offer.offer_hash), offer.document()?);
    }
    let split_hashes = distinct(rows.iter().map(|row| &row.split_hash));
    let splits = offer_store::splits(connection, chain_id, &split_hashes).await?;
    let settled: Vec<_> = rows
        .iter()
        .filter(|row| row.settled_block.is_some())
        .map(|row| row.request_id.clone())
        .collect();
    let mut shares: HashMap<Vec<u8>, Vec<ShareView>> = HashMap::with_capacity(settled.len());
    for share in request_store::shares(connection, chain_id, &settled).await? {
        let view = ShareView { account: Address::from_slice(&share.account), amount: share.amount };
        shares.entry(share.request_id).or_default().push(view);
    }
    let views = rows.into_iter().map(|row| {
        let offer = offer_documents.get(&B256::from_slice(&row.offer_hash)).cloned();
        let split = splits.get(&B256::from_slice(&row.split_hash)).cloned();
        let shares = shares.remove(&row.request_id).unwrap_or_default();
        view(row, offer, split, shares)
    });
    views.collect::<anyhow::Result<_>>().map_err(ApiError::Internal)
}

fn view(
    row: RequestRow,
    offer: Option<OfferDocument>,
    split: Option<SplitDocument>,
    credits: Vec<ShareView>,
) -> anyhow::Result<RequestView> {
    let hash = |bytes: &[u8]| B256::from_slice(bytes);
    Ok(RequestView {
        request_id: hash(&row.request_id),
        chain_id: row.chain_id.unsigned_abs(),
        sequence: row.sequence.unsigned_abs(),
        finality: row.finality.clone().unwrap_or_else(|| "latest".to_owned()),
        block_number: row.requested_block.unsigned_abs(),
        block_hash: hash(&row.requested_block_hash),
        block_time: row.requested_at.unsigned_abs(),
        transaction_hash: hash(&row.requested_tx),
        request_gas_used: row.requested_gas_used.map(i64::unsigned_abs),
        request: terms(&row)?,
        input_text: String::from_utf8(row.input.clone()).ok(),
        offer,
        split,
        operator_set: operator_set(&row)?,
        result: result(&row)?,
        signers: row
            .signers
            .as_ref()
            .map(|signers| signers.iter().map(|bytes| Address::from_slice(bytes)).collect()),
        answer: match &row.answer {
            Some(body) => Some(serde_json::from_slice(body).context("read answers.body")?),
            None => None,
        },
        delivered: row.delivered_block.map(|block| Delivered {
            block_number: block.unsigned_abs(),
            block_time: row.delivered_at.unwrap_or_default().unsigned_abs(),
            transaction_hash: hash_or_zero(row.delivered_tx.as_deref()),
            transmitter: row.transmitter.as_deref().map(Address::from_slice).unwrap_or_default(),
            gas_used: row.delivered_gas_used.map(i64::unsigned_abs),
        }),
        settled: row.settled_block.map(|block| Settled {
            amount: row.settled_amount.clone().unwrap_or_default(),
            fee: row.settled_fee.clone().unwrap_or_default(),
            returned: row.settled_returned.clone().unwrap_or_default(),
            block_number: block.unsigned_abs(),
            block_time: row.settled_at.unwrap_or_default().unsigned_abs(),
            transaction_hash: hash_or_zero(row.settled_tx.as_deref()),
            credits,
            residue: row.split_residue.clone().unwrap_or_else(|| "0".to_owned()),
        }),
        refunded: row.refunded_block.map(|block| Refunded {
            amount: row.refunded_amount.clone().unwrap_or_default(),
            block_number: block.unsigned_abs(),
            block_time: row.refunded_at.unwrap_or_default().unsigned_abs(),
            transaction_hash: hash_or_zero(row.refunded_tx.as_deref()),
        }),
        slashed: row.slashed_block.map(|block| Slashed {
            amount: row.slashed_amount.clone().unwrap_or_default(),
            signer: row.slashed_signer.as_deref().map(Address::from_slice).unwrap_or_default(),
            block_number: block.unsigned_abs(),
            block_time: row.slashed_at.unwrap_or_default().unsigned_abs(),
            transaction_hash: hash_or_zero(row.slashed_tx.as_deref()),
        }),
        status: row.status,
        input: row.input.into(),
    })
}

fn terms(row: &RequestRow) -> anyhow::Result<RequestDocument> {
    Ok(RequestDocument {
        payer: Address::from_slice(&row.payer),
        agent_id: integer(&row.agent_id)?,
        offer_hash: B256::from_slice(&row.offer_hash),
        operator_set_hash: B256::from_slice(&row.operator_set_hash),
        split_hash: B256::from_slice(&row.split_hash),
        token: Address::from_slice(&row.token),
        max_amount: row.max_amount.parse().context("read requests.max_amount")?,
        fee_bps: row.fee_bps.try_into()?,
        fee_recipient: Address::from_slice(&row.fee_recipient),
        deadline: row.deadline.try_into()?,
        challenge_window: row.challenge_window.try_into()?,
        referee: Address::from_slice(&row.referee),
        callback: Address::from_slice(&row.callback),
        callback_gas: row.callback_gas.try_into()?,
        input_hash: B256::from_slice(&row.input_hash),
        salt: B256::from_slice(&row.salt),
    })
}

fn operator_set(row: &RequestRow) -> anyhow::Result<Option<OperatorSetDocument>> {
    let (Some(set_id), Some(epoch), Some(threshold), Some(signers)) =
        (&row.set_id, &row.epoch, row.threshold, &row.set_signers)
    else {
        return Ok(None);
    };
    Ok(Some(OperatorSetDocument {
        set_id: set_id.parse().context("read epochs.set_id")?,
        epoch: epoch.parse().context("read epochs.epoch")?,
        threshold: threshold.try_into()?,
        signers: signers.iter().map(|bytes| Address::from_slice(bytes)).collect(),
    }))
}

fn result(row: &RequestRow) -> anyhow::Result<Option<ResultDocument>> {
    let Some(outcome) = &row.outcome else { return Ok(None) };
    Ok(Some(ResultDocument {
        request_id: B256::from_slice(&row.request_id),
        outcome: if outcome == "declined" {
            OutcomeDocument::Declined
        } else {
            OutcomeDocument::Answered
        },
        output_hash: hash_or_zero(row.output_hash.as_deref()),
        trace_root: hash_or_zero(row.trace_root.as_deref()),
        retrieval_root: hash_or_zero(row.retrieval_root.as_deref()),
        model_hash: hash_or_zero(row.model_hash.as_deref()),
        amount: row
            .result_amount
            .as_deref()
            .unwrap_or("0")
            .parse()
            .context("read requests.result_amount")?,
        valid_until: row
            .valid_until
            .as_deref()
            .unwrap_or("0")
            .parse()
            .context("read requests.valid_until")?,
    }))
}

fn hash_or_zero(bytes: Option<&[u8]>) -> B256 {
    bytes.map(B256::from_slice).unwrap_or_default()
}

fn distinct<'a>(hashes: impl Iterator<Item = &'a Vec<u8>>) -> Vec<String> {
    let mut texts: Vec<_> = hashes.map(|bytes| format!("0x{}", hex::encode(bytes))).collect();
    texts.sort_unstable();
    texts.dedup();
    texts
}
