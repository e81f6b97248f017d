//! The statements that every projection has, one per table, so that each is checked against the schema when compiled.

use futures::TryStreamExt;
use sqlx::PgConnection;

use super::StoreError;
use super::binary::Type;
use super::row::Column;
use crate::project::row::Kind;

/// An entity's id and one of its rows as JSON.
#[derive(Debug)]
pub(super) struct StoredRow {
    pub(super) id: String,
    pub(super) row: String,
}

macro_rules! projections {
    ($($kind:ident, $table:literal, $columns:literal;)*) => {
        /// The current rows among these ids. Each is looked up by itself: of a table that was not analyzed yet PostgreSQL
        /// thinks that reading all current rows costs less than looking up thousands, however many there are.
        pub(super) async fn current(
            connection: &mut PgConnection,
            kind: Kind,
            chain_id: i64,
            ids: &[String],
        ) -> sqlx::Result<Vec<StoredRow>> {
            match kind {
                $(Kind::$kind => sqlx::query_as!(
                    StoredRow,
                    "select wanted.id as \"id!\", row_to_json(found.t)::text as \"row!\" "
                    + "from unnest($2::text[]) as wanted(id) cross join lateral ("
                    + "select t from indexer." + $table + " t "
                    + "where t.chain_id = $1 and t.id = wanted.id and upper_inf(t.block_range) limit 1"
                    + ") as found",
                    chain_id,
                    ids,
                ).fetch_all(connection).await,)*
            }
        }

        /// Ends the current versions of these ids, each at its block. Each is looked up by itself, for the same reason.
        pub(super) async fn close(
            connection: &mut PgConnection,
            kind: Kind,
            chain_id: i64,
            ids: &[String],
            until: &[i64],
        ) -> sqlx::Result<u64> {
            let done = match kind {
                $(Kind::$kind => sqlx::query!(
                    "update indexer." + $table + " t "
                    + "set block_range = int8range(lower(t.block_range), c.until_block) "
                    + "from unnest($2::text[], $3::bigint[]) as c(id, until_block) cross join lateral ("
                    + "select v.ctid from indexer." + $table + " v "
                    + "where v.chain_id = $1 and v.id = c.id and upper_inf(v.block_range) limit 1"
                    + ") as found "
                    + "where t.ctid = found.ctid",
                    chain_id,
                    ids,
                    until,
                ).execute(connection).await?,)*
            };
            Ok(done.rows_affected())
        }

        /// The columns of a projection beside chain, id and block range, in the order of its rows' type.
        pub(super) fn columns(kind: Kind) -> Result<Vec<Column>, StoreError> {
            let columns = match kind {
                $(Kind::$kind => $columns,)*
            };
            let column = |text: &'static str| {
                let (name, holds) = text.trim().split_once(' ')?;
                Some(Column { name, holds: Type::named(holds)? })
            };
            let defect = |text| StoreError::Defect(format!("the column `{text}` of {}", kind.table()));
            columns.split(',').map(|text| column(text).ok_or_else(|| defect(text))).collect()
        }

        /// Takes back the versions that begin above a block; returns their ids.
        pub(super) async fn take_back(
            connection: &mut PgConnection,
            kind: Kind,
            chain_id: i64,
            ancestor: i64,
        ) -> sqlx::Result<Vec<String>> {
            match kind {
                $(Kind::$kind => sqlx::query_scalar!(
                    "delete from indexer." + $table + " "
                    + "where chain_id = $1 and lower(block_range) > $2 returning id",
                    chain_id,
                    ancestor,
                ).fetch_all(connection).await,)*
            }
        }

        /// Makes the versions current again that ended above a block.
        pub(super) async fn reopen(
            connection: &mut PgConnection,
            kind: Kind,
            chain_id: i64,
            ancestor: i64,
        ) -> sqlx::Result<Vec<StoredRow>> {
            match kind {
                $(Kind::$kind => sqlx::query_as!(
                    StoredRow,
                    "update indexer." + $table + " t "
                    + "set block_range = int8range(lower(t.block_range), null) "
                    + "where t.chain_id = $1 and not upper_inf(t.block_range) and upper(t.block_range) > $2 "
                    + "returning t.id, row_to_json(t)::text as \"row!\"",
                    chain_id,
                    ancestor,
                ).fetch_all(connection).await,)*
            }
        }

        /// Empties a projection of one chain, to be derived again.
        pub(super) async fn clear(
            connection: &mut PgConnection,
            kind: Kind,
            chain_id: i64,
        ) -> sqlx::Result<()> {
            match kind {
                $(Kind::$kind => sqlx::query!(
                    "delete from indexer." + $table + " where chain_id = $1",
                    chain_id,
                ).execute(connection).await?,)*
            };
            Ok(())
        }

        /// Hands out the versions that begin in a block range, as text that depends on nothing but the facts, in a fixed
        /// order.
        pub(super) async fn digest_lines(
            connection: &mut PgConnection,
            kind: Kind,
            chain_id: i64,
            first: i64,
            last: i64,
            mut take: impl FnMut(&str),
        ) -> sqlx::Result<()> {
            match kind {
                $(Kind::$kind => {
                    let mut lines = sqlx::query_scalar!(
                    "select (to_jsonb(t) - 'vid' - 'block_range' || jsonb_build_object('from', lower(t.block_range)))"
                    + "::text as \"line!\" from indexer." + $table + " t "
                    + "where t.chain_id = $1 and lower(t.block_range) between $2 and $3 "
                    + "order by lower(t.block_range), t.id collate \"C\"",
                    chain_id,
                    first,
                    last,
                    ).fetch(connection);
                    while let Some(line) = lines.try_next().await? {
                        take(&line);
                    }
                })*
            }
            Ok(())
        }
    };
}

projections! {
    Agent, "agents",
        "agent_id numeric, registry bytea, owner bytea, agent_uri text, wallet bytea, \
         registered_block int8, registered_block_hash bytea, registered_at int8, \
         registered_tx bytea, updated_at int8";
    AgentMetadata, "agent_metadata",
        "agent_id numeric, key text, value bytea, updated_at int8";
    Feedback, "feedback",
        "agent_id numeric, client bytea, feedback_index numeric, value numeric, \
         value_decimals int2, tag1 text, tag2 text, endpoint text, feedback_uri text, \
         feedback_hash bytea, revoked bool, response_count int4, created_block int8, \
         created_at int8, created_tx bytea, revoked_at int8, backed_request bytea, \
         backed_amount numeric";
    FeedbackResponse, "feedback_responses",
        "feedback_id text, agent_id numeric, responder bytea, response_uri text, \
         response_hash bytea, created_block int8, created_at int8, created_tx bytea";
    Validation, "validations",
        "request_hash bytea, agent_id numeric, validator bytea, request_uri text, \
         response int2, response_uri text, response_hash bytea, tag text, \
         requested_block int8, requested_at int8, requested_tx bytea, responded_at int8, \
         responded_tx bytea";
    Offer, "offers",
        "offer_hash bytea, sequence int8, agent_id numeric, token bytea, price numeric, \
         operator_set_id numeric, split_hash bytea, corpus_root bytea, model_hash bytea, \
         duration_min int8, duration_max int8, challenge_window int8, referee bytea, \
         active bool, published_block int8, published_block_hash bytea, published_at int8, \
         published_tx bytea, retired_at int8, retired_tx bytea";
    Split, "splits",
        "split_hash bytea, recipients bytea[], allocations numeric[], \
         total_allocation numeric, distribution_incentive int4";
    SplitShare, "split_shares",
        "split_hash bytea, account bytea, position int4, allocation numeric";
    SplitTotal, "split_totals",
        "split_hash bytea, token bytea, settled_total numeric, credited numeric, \
         residue numeric, settlements int8";
    Request, "requests",
        "request_id bytea, sequence int8, status text, agent_id numeric, payer bytea, \
         offer_hash bytea, operator_set_hash bytea, split_hash bytea, token bytea, \
         max_amount numeric, fee_bps int4, fee_recipient bytea, deadline int8, \
         challenge_window int8, referee bytea, callback bytea, callback_gas int8, \
         input_hash bytea, salt bytea, input bytea, requested_block int8, \
         requested_block_hash bytea, requested_at int8, requested_tx bytea, \
         requested_gas_used int8, outcome text, output_hash bytea, trace_root bytea, \
         retrieval_root bytea, model_hash bytea, result_amount numeric, valid_until numeric, \
         signers bytea[], transmitter bytea, delivered_block int8, \
         delivered_block_hash bytea, delivered_at int8, delivered_tx bytea, \
         delivered_gas_used int8, settled_amount numeric, settled_fee numeric, \
         settled_returned numeric, split_total_before numeric, split_residue numeric, \
         settled_block int8, settled_block_hash bytea, settled_at int8, settled_tx bytea, \
         settled_gas_used int8, refunded_amount numeric, refunded_block int8, \
         refunded_block_hash bytea, refunded_at int8, refunded_tx bytea, \
         refunded_gas_used int8, slashed_signer bytea, slashed_amount numeric, \
         slashed_block int8, slashed_block_hash bytea, slashed_at int8, slashed_tx bytea";
    RequestNote, "request_notes",
        "request_id bytea, kind text, address bytea, created_block int8, created_at int8, \
         created_tx bytea";
    SettlementCredit, "settlement_credits",
        "request_id bytea, kind text, position int4, account bytea, token bytea, \
         amount numeric, created_block int8, created_at int8";
    Credit, "credits",
        "account bytea, token bytea, credited numeric, withdrawn numeric, updated_at int8";
    BondCredit, "bond_credits",
        "account bytea, token bytea, credited numeric, withdrawn numeric, updated_at int8";
    Withdrawal, "withdrawals",
        "contract bytea, sequence int8, account bytea, token bytea, amount numeric, \
         created_block int8, created_at int8, created_tx bytea";
    Operator, "operators",
        "owner bytea, signer bytea, transmitter bytea, withdrawal bytea, \
         pending_signer bytea, pending_signer_active_at numeric, pending_withdrawal bytea, \
         pending_withdrawal_active_at numeric, registered_block int8, registered_at int8, \
         registered_tx bytea, updated_at int8";
    Signer, "signers",
        "signer bytea, owner bytea, status text, updated_at int8";
    OperatorSet, "operator_sets",
        "set_id numeric, admin bytea, pending_admin bytea, bond_token bytea, bond numeric, \
         referee bytea, epoch numeric, threshold int2, operators bytea[], signers bytea[], \
         operator_set_hash bytea, pending_epoch numeric, pending_threshold int2, \
         pending_operators bytea[], pending_active_at numeric, created_block int8, \
         created_at int8, created_tx bytea, updated_at int8";
    Epoch, "epochs",
        "set_id numeric, epoch numeric, threshold int2, operators bytea[], signers bytea[], \
         operator_set_hash bytea, started_block int8, started_at int8, started_tx bytea";
    Bond, "bonds",
        "set_id numeric, owner bytea, amount numeric, slashed numeric, status text, \
         release_at numeric, released_to bytea, updated_at int8";
    Slash, "slashes",
        "set_id numeric, owner bytea, request_id bytea, signer bytea, amount numeric, \
         beneficiary bytea, reward numeric, created_block int8, created_at int8, \
         created_tx bytea";
    Token, "tokens",
        "token bytea, allowed bool, updated_at int8";
    FeePolicy, "fee_policies",
        "policy bytea, fee_bps int4, fee_recipient bytea, updated_at int8";
    X402Settlement, "x402_settlements",
        "token bytea, payer bytea, payee bytea, amount numeric, nonce bytea, \
         created_block int8, created_at int8, created_tx bytea";
    UndecodableLog, "undecodable_logs",
        "address bytea, topic0 bytea, reason text, created_block int8, created_at int8, \
         created_tx bytea";
}
