//! The statements that every projection has, one per table, so that each is checked against the schema when compiled.

use futures::TryStreamExt;
use sqlx::PgConnection;

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

        /// Ends the current versions of these ids, each at its block.
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
                    + "from unnest($2::text[], $3::bigint[]) as c(id, until_block) "
                    + "where t.chain_id = $1 and t.id = c.id and upper_inf(t.block_range)",
                    chain_id,
                    ids,
                    until,
                ).execute(connection).await?,)*
            };
            Ok(done.rows_affected())
        }

        /// The columns of a projection beside chain, id and block range, in the order of its rows' type.
        pub(super) fn columns(kind: Kind) -> Vec<&'static str> {
            let columns = match kind {
                $(Kind::$kind => $columns,)*
            };
            columns.split(',').map(str::trim).collect()
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
        "agent_id, registry, owner, agent_uri, wallet, registered_block, \
         registered_block_hash, registered_at, registered_tx, updated_at";
    AgentMetadata, "agent_metadata",
        "agent_id, key, value, updated_at";
    Feedback, "feedback",
        "agent_id, client, feedback_index, value, value_decimals, tag1, tag2, endpoint, \
         feedback_uri, feedback_hash, revoked, response_count, created_block, created_at, \
         created_tx, revoked_at, backed_request, backed_amount";
    FeedbackResponse, "feedback_responses",
        "feedback_id, agent_id, responder, response_uri, response_hash, created_block, \
         created_at, created_tx";
    Validation, "validations",
        "request_hash, agent_id, validator, request_uri, response, response_uri, \
         response_hash, tag, requested_block, requested_at, requested_tx, responded_at, \
         responded_tx";
    Offer, "offers",
        "offer_hash, sequence, agent_id, token, price, operator_set_id, split_hash, \
         corpus_root, model_hash, duration_min, duration_max, challenge_window, referee, \
         active, published_block, published_block_hash, published_at, published_tx, \
         retired_at, retired_tx";
    Split, "splits",
        "split_hash, recipients, allocations, total_allocation, distribution_incentive";
    SplitShare, "split_shares",
        "split_hash, account, position, allocation";
    SplitTotal, "split_totals",
        "split_hash, token, settled_total, credited, residue, settlements";
    Request, "requests",
        "request_id, sequence, status, agent_id, payer, offer_hash, operator_set_hash, \
         split_hash, token, max_amount, fee_bps, fee_recipient, deadline, challenge_window, \
         referee, callback, callback_gas, input_hash, salt, input, requested_block, \
         requested_block_hash, requested_at, requested_tx, requested_gas_used, outcome, \
         output_hash, trace_root, retrieval_root, model_hash, result_amount, valid_until, \
         signers, transmitter, delivered_block, delivered_block_hash, delivered_at, \
         delivered_tx, delivered_gas_used, settled_amount, settled_fee, settled_returned, \
         split_total_before, split_residue, settled_block, settled_block_hash, settled_at, \
         settled_tx, settled_gas_used, refunded_amount, refunded_block, refunded_block_hash, \
         refunded_at, refunded_tx, refunded_gas_used, slashed_signer, slashed_amount, \
         slashed_block, slashed_block_hash, slashed_at, slashed_tx";
    RequestNote, "request_notes",
        "request_id, kind, address, created_block, created_at, created_tx";
    SettlementCredit, "settlement_credits",
        "request_id, kind, position, account, token, amount, created_block, created_at";
    Credit, "credits",
        "account, token, credited, withdrawn, updated_at";
    BondCredit, "bond_credits",
        "account, token, credited, withdrawn, updated_at";
    Withdrawal, "withdrawals",
        "contract, sequence, account, token, amount, created_block, created_at, created_tx";
    Operator, "operators",
        "owner, signer, transmitter, withdrawal, pending_signer, pending_signer_active_at, \
         pending_withdrawal, pending_withdrawal_active_at, registered_block, registered_at, \
         registered_tx, updated_at";
    Signer, "signers",
        "signer, owner, status, updated_at";
    OperatorSet, "operator_sets",
        "set_id, admin, pending_admin, bond_token, bond, referee, epoch, threshold, operators, signers, \
         operator_set_hash, pending_epoch, pending_threshold, pending_operators, \
         pending_active_at, created_block, created_at, created_tx, updated_at";
    Epoch, "epochs",
        "set_id, epoch, threshold, operators, signers, operator_set_hash, started_block, \
         started_at, started_tx";
    Bond, "bonds",
        "set_id, owner, amount, slashed, status, release_at, released_to, updated_at";
    Slash, "slashes",
        "set_id, owner, request_id, signer, amount, beneficiary, reward, created_block, \
         created_at, created_tx";
    Token, "tokens",
        "token, allowed, updated_at";
    FeePolicy, "fee_policies",
        "policy, fee_bps, fee_recipient, updated_at";
    X402Settlement, "x402_settlements",
        "token, payer, payee, amount, nonce, created_block, created_at, created_tx";
    UndecodableLog, "undecodable_logs",
        "address, topic0, reason, created_block, created_at, created_tx";
}
