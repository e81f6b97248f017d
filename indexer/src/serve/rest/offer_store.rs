//! The SQL behind offers and splits.

use std::collections::HashMap;

use alloy::primitives::{Address, B256, U256};
use anyhow::Context;
use auspex_protocol::document::{OfferDocument, SplitDocument};
use sqlx::PgConnection;

/// An offer as the database says it.
#[derive(Debug)]
pub(super) struct OfferRow {
    pub(super) sequence: i64,
    pub(super) finality: Option<String>,
    pub(super) offer_hash: Vec<u8>,
    pub(super) agent_id: String,
    pub(super) token: Vec<u8>,
    pub(super) price: String,
    pub(super) operator_set_id: String,
    pub(super) split_hash: Vec<u8>,
    pub(super) corpus_root: Vec<u8>,
    pub(super) model_hash: Vec<u8>,
    pub(super) duration_min: i64,
    pub(super) duration_max: i64,
    pub(super) challenge_window: i64,
    pub(super) referee: Vec<u8>,
    pub(super) active: bool,
    pub(super) published_block: i64,
    pub(super) published_at: i64,
    pub(super) published_tx: Vec<u8>,
    pub(super) retired_at: Option<i64>,
}

/// What a list of offers is narrowed to.
#[derive(Debug, Default)]
pub(super) struct OfferQuery {
    pub(super) chain_id: i64,
    pub(super) agent_id: Option<String>,
    pub(super) active: Option<bool>,
    /// 0x-hex.
    pub(super) hashes: Option<Vec<String>>,
    pub(super) after: i64,
    /// The block as of which; the newest state when null.
    pub(super) at: Option<i64>,
    pub(super) limit: i64,
}

pub(super) async fn offers(
    connection: &mut PgConnection,
    query: &OfferQuery,
) -> Result<Vec<OfferRow>, sqlx::Error> {
    sqlx::query_as!(
        OfferRow,
        r#"
        select
            sequence, indexer.finality(chain_id, lower(block_range)) as finality, offer_hash,
            agent_id::text as "agent_id!", token, price::text as "price!", operator_set_id::text as "operator_set_id!",
            split_hash, corpus_root, model_hash, duration_min, duration_max, challenge_window, referee, active,
            published_block, published_at, published_tx, retired_at
        from indexer.offers
        where (upper_inf(block_range) or $7::bigint is not null) and ($7::bigint is null or block_range @> $7::bigint)
            and chain_id = $1
            and sequence > $2
            and ($3::text is null or agent_id = $3::numeric)
            and ($4::boolean is null or active = $4)
            and ($5::text[] is null or id = any($5))
        order by sequence
        limit $6
        "#,
        query.chain_id,
        query.after,
        query.agent_id,
        query.active,
        query.hashes.as_deref(),
        query.limit,
        query.at,
    )
    .fetch_all(&mut *connection)
    .await
}

/// The splits with these hashes (0x-hex), by hash.
pub(super) async fn splits(
    connection: &mut PgConnection,
    chain_id: i64,
    hashes: &[String],
) -> anyhow::Result<HashMap<B256, SplitDocument>> {
    let rows = sqlx::query!(
        r#"
        select
            split_hash, recipients, allocations::text[] as "allocations!: Vec<String>",
            total_allocation::text as "total_allocation!", distribution_incentive
        from indexer.splits
        where upper_inf(block_range) and chain_id = $1 and id = any($2)
        "#,
        chain_id,
        hashes,
    )
    .fetch_all(&mut *connection)
    .await?;
    let documents = rows.into_iter().map(|row| {
        let allocations = row.allocations.iter().map(|text| integer(text));
        let document = SplitDocument {
            recipients: row.recipients.iter().map(|bytes| Address::from_slice(bytes)).collect(),
            allocations: allocations.collect::<anyhow::Result<_>>()?,
            total_allocation: integer(&row.total_allocation)?,
            distribution_incentive: row.distribution_incentive.try_into()?,
        };
        Ok((B256::from_slice(&row.split_hash), document))
    });
    documents.collect()
}

impl OfferRow {
    pub(super) fn document(&self) -> anyhow::Result<OfferDocument> {
        Ok(OfferDocument {
            agent_id: integer(&self.agent_id)?,
            token: Address::from_slice(&self.token),
            price: self.price.parse().context("read offers.price")?,
            operator_set_id: self.operator_set_id.parse().context("read offers.operator_set_id")?,
            split_hash: B256::from_slice(&self.split_hash),
            corpus_root: B256::from_slice(&self.corpus_root),
            model_hash: B256::from_slice(&self.model_hash),
            duration_min: self.duration_min.try_into()?,
            duration_max: self.duration_max.try_into()?,
            challenge_window: self.challenge_window.try_into()?,
            referee: Address::from_slice(&self.referee),
        })
    }
}

/// A numeric column's text.
pub(super) fn integer(text: &str) -> anyhow::Result<U256> {
    U256::from_str_radix(text, 10).with_context(|| format!("read the integer {text:?}"))
}
