//! The SQL behind requests.

use alloy::primitives::B256;
use sqlx::PgConnection;

/// What a list of requests is narrowed to. Numbers are decimal text.
#[derive(Debug)]
pub(super) struct RequestQuery {
    pub(super) chain_id: i64,
    pub(super) status: Option<String>,
    pub(super) agent_id: Option<String>,
    pub(super) payer: Option<Vec<u8>>,
    pub(super) after: i64,
    pub(super) limit: i64,
}

/// Where a version of a request lies in its table. It lies there for as long as a snapshot sees it, and is found at once:
/// to be used within the transaction that read it.
pub(super) type Place = String;

/// The versions of a page of requests, newest state.
pub(super) async fn page_now(
    connection: &mut PgConnection,
    query: &RequestQuery,
) -> Result<Vec<Place>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select ctid::text as "place!"
        from indexer.requests
        where upper_inf(block_range)
            and chain_id = $1
            and sequence > $2
            and ($3::text is null or status = $3)
            and ($4::text is null or agent_id = $4::numeric)
            and ($5::bytea is null or payer = $5)
        order by sequence
        limit $6
        "#,
        query.chain_id,
        query.after,
        query.status,
        query.agent_id,
        query.payer,
        query.limit,
    )
    .fetch_all(&mut *connection)
    .await
}

/// The versions of a page of requests as of a block. The current ones are found by their indexes, and those that ended since
/// by when they ended: near the head, where most questions are about, these are few.
pub(super) async fn page_at(
    connection: &mut PgConnection,
    query: &RequestQuery,
    block: i64,
) -> Result<Vec<Place>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select place as "place!"
        from (
            (
                select ctid::text as place, sequence
                from indexer.requests
                where upper_inf(block_range)
                    and lower(block_range) <= $7::bigint
                    and chain_id = $1
                    and sequence > $2
                    and ($3::text is null or status = $3)
                    and ($4::text is null or agent_id = $4::numeric)
                    and ($5::bytea is null or payer = $5)
                order by sequence
                limit $6
            )
            union all
            (
                select ctid::text as place, sequence
                from indexer.requests
                where not upper_inf(block_range)
                    and upper(block_range) > $7::bigint
                    and lower(block_range) <= $7::bigint
                    and chain_id = $1
                    and sequence > $2
                    and ($3::text is null or status = $3)
                    and ($4::text is null or agent_id = $4::numeric)
                    and ($5::bytea is null or payer = $5)
                order by sequence
                limit $6
            )
        ) as versions
        order by sequence
        limit $6
        "#,
        query.chain_id,
        query.after,
        query.status,
        query.agent_id,
        query.payer,
        query.limit,
        block,
    )
    .fetch_all(&mut *connection)
    .await
}

/// The newest version of one request, whichever chain it is on: its id is bound to chain and escrow.
pub(super) async fn current(
    connection: &mut PgConnection,
    request_id: B256,
) -> Result<Vec<Place>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select ctid::text as "place!" from indexer.requests where upper_inf(block_range) and id = $1 and chain_id in (select chain_id from indexer.cursors)"#,
        format!("{request_id:#x}"),
    )
    .fetch_all(&mut *connection)
    .await
}

/// One version of a request with everything that its view shows, as the database says it.
#[derive(Debug)]
pub(super) struct RequestRow {
    pub(super) request_id: Vec<u8>,
    pub(super) chain_id: i64,
    pub(super) sequence: i64,
    pub(super) status: String,
    pub(super) finality: Option<String>,
    pub(super) agent_id: String,
    pub(super) payer: Vec<u8>,
    pub(super) offer_hash: Vec<u8>,
    pub(super) operator_set_hash: Vec<u8>,
    pub(super) split_hash: Vec<u8>,
    pub(super) token: Vec<u8>,
    pub(super) max_amount: String,
    pub(super) fee_bps: i32,
    pub(super) fee_recipient: Vec<u8>,
    pub(super) deadline: i64,
    pub(super) challenge_window: i64,
    pub(super) referee: Vec<u8>,
    pub(super) callback: Vec<u8>,
    pub(super) callback_gas: i64,
    pub(super) input_hash: Vec<u8>,
    pub(super) salt: Vec<u8>,
    pub(super) input: Vec<u8>,
    pub(super) requested_block: i64,
    pub(super) requested_block_hash: Vec<u8>,
    pub(super) requested_at: i64,
    pub(super) requested_tx: Vec<u8>,
    pub(super) requested_gas_used: Option<i64>,
    pub(super) outcome: Option<String>,
    pub(super) output_hash: Option<Vec<u8>>,
    pub(super) trace_root: Option<Vec<u8>>,
    pub(super) retrieval_root: Option<Vec<u8>>,
    pub(super) model_hash: Option<Vec<u8>>,
    pub(super) result_amount: Option<String>,
    pub(super) valid_until: Option<String>,
    pub(super) signers: Option<Vec<Vec<u8>>>,
    pub(super) transmitter: Option<Vec<u8>>,
    pub(super) delivered_block: Option<i64>,
    pub(super) delivered_at: Option<i64>,
    pub(super) delivered_tx: Option<Vec<u8>>,
    pub(super) delivered_gas_used: Option<i64>,
    pub(super) settled_amount: Option<String>,
    pub(super) settled_fee: Option<String>,
    pub(super) settled_returned: Option<String>,
    pub(super) split_residue: Option<String>,
    pub(super) settled_block: Option<i64>,
    pub(super) settled_at: Option<i64>,
    pub(super) settled_tx: Option<Vec<u8>>,
    pub(super) refunded_amount: Option<String>,
    pub(super) refunded_block: Option<i64>,
    pub(super) refunded_at: Option<i64>,
    pub(super) refunded_tx: Option<Vec<u8>>,
    pub(super) slashed_signer: Option<Vec<u8>>,
    pub(super) slashed_amount: Option<String>,
    pub(super) slashed_block: Option<i64>,
    pub(super) slashed_at: Option<i64>,
    pub(super) slashed_tx: Option<Vec<u8>>,
    pub(super) set_id: Option<String>,
    pub(super) epoch: Option<String>,
    pub(super) threshold: Option<i16>,
    pub(super) set_signers: Option<Vec<Vec<u8>>>,
    pub(super) answer: Option<Vec<u8>>,
}

/// The given versions of requests, in the order of their sequence.
pub(super) async fn rows(
    connection: &mut PgConnection,
    places: &[Place],
) -> Result<Vec<RequestRow>, sqlx::Error> {
    sqlx::query_as!(
        RequestRow,
        r#"
        select
            r.request_id, r.chain_id, r.sequence, r.status,
            indexer.finality(r.chain_id, lower(r.block_range)) as finality,
            r.agent_id::text as "agent_id!", r.payer, r.offer_hash, r.operator_set_hash, r.split_hash, r.token,
            r.max_amount::text as "max_amount!", r.fee_bps, r.fee_recipient, r.deadline, r.challenge_window, r.referee,
            r.callback, r.callback_gas, r.input_hash, r.salt, r.input,
            r.requested_block, r.requested_block_hash, r.requested_at, r.requested_tx, r.requested_gas_used,
            r.outcome, r.output_hash, r.trace_root, r.retrieval_root, r.model_hash,
            r.result_amount::text as result_amount, r.valid_until::text as valid_until, r.signers, r.transmitter,
            r.delivered_block, r.delivered_at, r.delivered_tx, r.delivered_gas_used,
            r.settled_amount::text as settled_amount, r.settled_fee::text as settled_fee,
            r.settled_returned::text as settled_returned, r.split_residue::text as split_residue,
            r.settled_block, r.settled_at, r.settled_tx,
            r.refunded_amount::text as refunded_amount, r.refunded_block, r.refunded_at, r.refunded_tx,
            r.slashed_signer, r.slashed_amount::text as slashed_amount, r.slashed_block, r.slashed_at, r.slashed_tx,
            e.set_id::text as "set_id?", e.epoch::text as "epoch?", e.threshold as "threshold?", e.signers as "set_signers?",
            a.body as "answer?"
        from indexer.requests r
        left join indexer.epochs e
            on e.chain_id = r.chain_id and e.operator_set_hash = r.operator_set_hash and upper_inf(e.block_range)
        left join indexer.answers a on a.output_hash = r.output_hash
        where r.ctid = any($1::text[]::tid[])
        order by r.sequence
        "#,
        places,
    )
    .fetch_all(&mut *connection)
    .await
}

/// What a settlement credited to one payee.
#[derive(Debug)]
pub(super) struct ShareRow {
    pub(super) request_id: Vec<u8>,
    pub(super) account: Vec<u8>,
    pub(super) amount: String,
}

/// The payees' parts of these requests' settlements, in the order of each split.
pub(super) async fn shares(
    connection: &mut PgConnection,
    chain_id: i64,
    request_ids: &[Vec<u8>],
) -> Result<Vec<ShareRow>, sqlx::Error> {
    sqlx::query_as!(
        ShareRow,
        r#"
        select request_id, account, amount::text as "amount!"
        from indexer.settlement_credits
        where upper_inf(block_range) and chain_id = $1 and request_id = any($2::bytea[]) and kind = 'share'
        order by request_id, position
        "#,
        chain_id,
        request_ids,
    )
    .fetch_all(&mut *connection)
    .await
}
