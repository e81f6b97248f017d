-- The indexer's schema.
--
-- Three layers, from the ground up:
--   1. What was read from the chain: cursors, blocks, facts. A fact is one verified raw log. Facts are the event source.
--   2. Projections: what the facts mean. Every projection is versioned by block range, so that the past can be queried,
--      a rollback costs only the rows that changed, and all of it can be derived again from the facts alone.
--   3. The outbox: one row per change of a projection, written in the same transaction, read by the live stream and by the
--      message publisher.
-- Beside them lie things that are not on the chain: answers, operators' messages, and agents' registration files.
--
-- Rules that hold for every projection table:
--   * `id` is the entity's key as text, unique within its chain; its form is given at the table.
--   * `block_range` is [first block in which this version holds, first block in which it no longer does). The upper bound
--     of a current row is open. A batch holds whole blocks, so an entity has at most one version per block.
--   * At most one version of an entity is current: the partial unique index `<table>_current`.
--   * Rolling back to block A deletes the versions whose range starts after A and re-opens those that ended after A:
--     the indexes `<table>_from` and `<table>_until` make that cost what changed.
--   * Projections refer to each other by their typed columns (`agent_id`, `split_hash`, ...) within one chain.
--   * Nothing in a projection comes from outside the facts: no clock, no identity other than `vid`.
-- Addresses and hashes are bytea; 0x-hex is a matter of presentation. Unsigned integers wider than 63 bits are numeric.
-- Times are unix seconds as the chain's headers say them.

create schema if not exists indexer;

create domain indexer.address as bytea
    constraint address_length check (octet_length(value) = 20);

create domain indexer.hash as bytea
    constraint hash_length check (octet_length(value) = 32);

create domain indexer.uint256 as numeric(78, 0)
    constraint uint256_range check (
        value >= 0
        and value <= 115792089237316195423570985008687907853269984665640564039457584007913129639935
    );

create domain indexer.uint64 as numeric(20, 0)
    constraint uint64_range check (value >= 0 and value <= 18446744073709551615);

-- CHAIN

-- How far a chain is indexed. Every write of the follow loop is guarded by compare-and-swap on (number, hash, epoch):
-- `epoch` grows by one per write, so that of two processes that read the same row only one can go on.
-- `safe_number` and `finalized_number` are what the node last said, and never beyond `number`.
create table indexer.cursors (
    chain_id bigint not null,
    number bigint not null,
    hash indexer.hash not null,
    time bigint not null,
    epoch bigint not null default 0,
    start_number bigint not null,
    head_number bigint not null,
    safe_number bigint not null,
    finalized_number bigint not null,
    -- Why following stopped for good and waits for a person; null while all is well. Nothing is deleted then.
    halted text,
    -- Wall-clock times: the last write that moved `number`, and the last time a node answered with its head.
    advanced_at timestamptz not null default now(),
    head_seen_at timestamptz not null default now(),
    constraint cursors_pkey primary key (chain_id),
    constraint cursors_chain_id_positive check (chain_id > 0),
    constraint cursors_finality_order check (finalized_number <= safe_number and safe_number <= number),
    constraint cursors_not_before_start check (number >= start_number - 1)
);

-- The hash chain of what is indexed, from the cursor down to the finalized block and at least 2,048 blocks; older rows are
-- pruned. A reorg is found by comparing it with a node's headers, so it must reach as deep as a reorg can.
create table indexer.blocks (
    chain_id bigint not null,
    number bigint not null,
    hash indexer.hash not null,
    parent_hash indexer.hash not null,
    time bigint not null,
    constraint blocks_pkey primary key (chain_id, number),
    constraint blocks_hash_key unique (chain_id, hash)
);

-- Raw logs whose block's header was verified. `gas_used` is the transaction's, known only where its receipt was read.
-- `sequence` is what our own contracts' events carry: one more per event of one contract, so that an omission shows for
-- ever, at whatever verification level a block was read.
create table indexer.facts (
    chain_id bigint not null,
    block_number bigint not null,
    block_hash bytea not null,
    block_time bigint not null,
    log_index integer not null,
    transaction_hash bytea not null,
    transaction_index integer not null,
    gas_used bigint,
    address bytea not null,
    topic0 bytea,
    topic1 bytea,
    topic2 bytea,
    topic3 bytea,
    data bytea not null,
    sequence bigint,
    constraint facts_log_key unique (chain_id, block_hash, log_index)
);

-- Facts arrive in the order of their blocks, so a block-range index is as good as a tree here and costs nearly nothing.
create index facts_block on indexer.facts using brin (block_number, chain_id) with (pages_per_range = 16);

create unique index facts_sequence on indexer.facts (chain_id, address, sequence) where sequence is not null;

-- OUTBOX

-- `change` is `insert` or `update` with the new version as payload, or `retract` when a rollback took a version back:
-- then the payload is the version that holds again, or null when the entity is gone.
-- Writers take one advisory lock before they draw ids, so ids become visible in order: a reader that has seen id n will
-- never see a smaller one appear. Each writing transaction notifies channel `auspex_outbox`.
create table indexer.outbox (
    id bigint generated always as identity,
    chain_id bigint not null,
    block_number bigint not null,
    block_hash bytea not null,
    entity text not null,
    entity_id text not null,
    change text not null,
    payload jsonb,
    created_at timestamptz not null default now(),
    constraint outbox_pkey primary key (id),
    constraint outbox_change check (change in ('insert', 'update', 'retract')),
    constraint outbox_payload check (change = 'retract' or payload is not null)
);

-- How far each reader of the outbox that must not lose its place has come.
create table indexer.outbox_readers (
    name text not null,
    outbox_id bigint not null,
    constraint outbox_readers_pkey primary key (name)
);

-- AGENTS

-- id: `<chain id>:<agent id>`. `wallet` is the reserved metadata `agentWallet`; null when it was cleared.
create table indexer.agents (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    agent_id indexer.uint256 not null,
    registry indexer.address not null,
    owner indexer.address not null,
    agent_uri text not null,
    wallet indexer.address,
    registered_block bigint not null,
    registered_block_hash indexer.hash not null,
    registered_at bigint not null,
    registered_tx indexer.hash not null,
    updated_at bigint not null
);
create index agents_number on indexer.agents (chain_id, agent_id) where upper_inf(block_range);
create index agents_owner on indexer.agents (chain_id, owner) where upper_inf(block_range);

-- id: `<chain id>:<agent id>:<key>`, where a key over 128 bytes or with a leading `#` stands as `#` and its keccak-256,
-- because a key may be of any length and an index entry may not.
create table indexer.agent_metadata (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    agent_id indexer.uint256 not null,
    key text not null,
    value bytea not null,
    updated_at bigint not null
);
create index agent_metadata_agent on indexer.agent_metadata (chain_id, agent_id) where upper_inf(block_range);

-- ERC-8004 reputation. id: `<chain id>:<agent id>:<client>:<feedback index>`.
create table indexer.feedback (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    agent_id indexer.uint256 not null,
    client indexer.address not null,
    feedback_index indexer.uint64 not null,
    -- int128 with `value_decimals` decimal places.
    value numeric(39, 0) not null,
    value_decimals smallint not null,
    tag1 text not null,
    tag2 text not null,
    endpoint text not null,
    feedback_uri text not null,
    feedback_hash indexer.hash not null,
    revoked boolean not null,
    response_count integer not null,
    created_block bigint not null,
    created_at bigint not null,
    created_tx indexer.hash not null,
    revoked_at bigint
);
create index feedback_agent on indexer.feedback (chain_id, agent_id) where upper_inf(block_range);

-- id: `<feedback id>:<responder>:<transaction hash>:<log index>`.
create table indexer.feedback_responses (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    feedback_id text not null,
    agent_id indexer.uint256 not null,
    responder indexer.address not null,
    response_uri text not null,
    response_hash indexer.hash not null,
    created_block bigint not null,
    created_at bigint not null,
    created_tx indexer.hash not null
);
create index feedback_responses_feedback on indexer.feedback_responses (chain_id, feedback_id)
    where upper_inf(block_range);

-- ERC-8004 validation. id: 0x request hash. `response` is null until the validator responds; it may respond again.
create table indexer.validations (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    request_hash indexer.hash not null,
    agent_id indexer.uint256 not null,
    validator indexer.address not null,
    request_uri text not null,
    response smallint,
    response_uri text,
    response_hash indexer.hash,
    tag text,
    requested_block bigint not null,
    requested_at bigint not null,
    requested_tx indexer.hash not null,
    responded_at bigint,
    responded_tx indexer.hash
);
create index validations_agent on indexer.validations (chain_id, agent_id) where upper_inf(block_range);

-- OFFERS, SPLITS, REQUESTS

-- id: 0x offer hash.
create table indexer.offers (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    offer_hash indexer.hash not null,
    sequence bigint not null,
    agent_id indexer.uint256 not null,
    token indexer.address not null,
    price indexer.uint256 not null,
    operator_set_id indexer.uint64 not null,
    split_hash indexer.hash not null,
    corpus_root indexer.hash not null,
    model_hash indexer.hash not null,
    duration_min bigint not null,
    duration_max bigint not null,
    challenge_window bigint not null,
    referee indexer.address not null,
    active boolean not null,
    published_block bigint not null,
    published_block_hash indexer.hash not null,
    published_at bigint not null,
    published_tx indexer.hash not null,
    retired_at bigint,
    retired_tx indexer.hash
);
create index offers_agent on indexer.offers (chain_id, agent_id) where upper_inf(block_range);
create index offers_sequence on indexer.offers (chain_id, sequence) where upper_inf(block_range);

-- id: 0x split hash.
create table indexer.splits (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    split_hash indexer.hash not null,
    recipients bytea[] not null,
    allocations numeric[] not null,
    total_allocation indexer.uint256 not null,
    distribution_incentive integer not null
);

-- Who has a share in which split. id: `<0x split hash>:<0x account>`.
create table indexer.split_shares (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    split_hash indexer.hash not null,
    account indexer.address not null,
    position integer not null,
    allocation indexer.uint256 not null
);
create index split_shares_account on indexer.split_shares (chain_id, account) where upper_inf(block_range);

-- Everything that was ever settled into a split, as the escrow counts it: each payee is entitled to
-- floor(settled_total * allocation / total_allocation). `credited` is the sum of those floors, `residue` what is left.
-- id: `<0x split hash>:<0x token>`.
create table indexer.split_totals (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    split_hash indexer.hash not null,
    token indexer.address not null,
    settled_total indexer.uint256 not null,
    credited indexer.uint256 not null,
    residue indexer.uint256 not null,
    settlements bigint not null
);
create index split_totals_split on indexer.split_totals (chain_id, split_hash) where upper_inf(block_range);

-- id: 0x request id. The terms are pinned when the request is made; `status` moves as the escrow's does.
create table indexer.requests (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    request_id indexer.hash not null,
    -- The sequence of the `Requested` event: the order of requests on this chain.
    sequence bigint not null,
    status text not null,
    agent_id indexer.uint256 not null,
    payer indexer.address not null,
    offer_hash indexer.hash not null,
    operator_set_hash indexer.hash not null,
    split_hash indexer.hash not null,
    token indexer.address not null,
    max_amount indexer.uint256 not null,
    fee_bps integer not null,
    fee_recipient indexer.address not null,
    deadline bigint not null,
    challenge_window bigint not null,
    referee indexer.address not null,
    callback indexer.address not null,
    callback_gas bigint not null,
    input_hash indexer.hash not null,
    salt indexer.hash not null,
    input bytea not null,
    requested_block bigint not null,
    requested_block_hash indexer.hash not null,
    requested_at bigint not null,
    requested_tx indexer.hash not null,
    requested_gas_used bigint,
    -- The result, from `delivered` on.
    outcome text,
    output_hash indexer.hash,
    trace_root indexer.hash,
    retrieval_root indexer.hash,
    model_hash indexer.hash,
    result_amount indexer.uint256,
    valid_until indexer.uint64,
    signers bytea[],
    transmitter indexer.address,
    delivered_block bigint,
    delivered_block_hash indexer.hash,
    delivered_at bigint,
    delivered_tx indexer.hash,
    delivered_gas_used bigint,
    -- The settlement. `split_total_before` and `split_residue` are the split's total before it and its residue after it.
    settled_amount indexer.uint256,
    settled_fee indexer.uint256,
    settled_returned indexer.uint256,
    split_total_before indexer.uint256,
    split_residue indexer.uint256,
    settled_block bigint,
    settled_block_hash indexer.hash,
    settled_at bigint,
    settled_tx indexer.hash,
    settled_gas_used bigint,
    refunded_amount indexer.uint256,
    refunded_block bigint,
    refunded_block_hash indexer.hash,
    refunded_at bigint,
    refunded_tx indexer.hash,
    refunded_gas_used bigint,
    slashed_signer indexer.address,
    slashed_amount indexer.uint256,
    slashed_block bigint,
    slashed_block_hash indexer.hash,
    slashed_at bigint,
    slashed_tx indexer.hash,
    constraint requests_status check (status in ('funded', 'delivered', 'settled', 'refunded', 'slashed')),
    constraint requests_outcome check (outcome is null or outcome in ('answered', 'declined')),
    constraint requests_result check ((outcome is null) = (delivered_block is null))
);
create index requests_sequence on indexer.requests (chain_id, sequence) where upper_inf(block_range);
create index requests_payer on indexer.requests (chain_id, payer, sequence) where upper_inf(block_range);
create index requests_agent on indexer.requests (chain_id, agent_id, sequence) where upper_inf(block_range);
-- Open requests are few and are what operators look for.
create index requests_open on indexer.requests (chain_id, deadline)
    where upper_inf(block_range) and status in ('funded', 'delivered');
create index requests_output on indexer.requests (output_hash)
    where upper_inf(block_range) and output_hash is not null;

-- What went on beside a request: a refused permit, a failed callback. id: `<0x request id>:<kind>:<log index>`.
create table indexer.request_notes (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    request_id indexer.hash not null,
    kind text not null,
    address indexer.address not null,
    created_block bigint not null,
    created_at bigint not null,
    created_tx indexer.hash not null,
    constraint request_notes_kind check (kind in ('callback_failed', 'permit_failed'))
);
create index request_notes_request on indexer.request_notes (chain_id, request_id) where upper_inf(block_range);

-- MONEY

-- What one request's end credited to whom. `share` rows are the split to the last unit; `fee`, `returned`, `refund` and
-- `slash` rows are credited outright. id: `<0x request id>:<kind>:<0x account>`.
create table indexer.settlement_credits (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    request_id indexer.hash not null,
    kind text not null,
    -- The payee's place in the split for `share` rows, otherwise null.
    position integer,
    account indexer.address not null,
    token indexer.address not null,
    amount indexer.uint256 not null,
    created_block bigint not null,
    created_at bigint not null,
    constraint settlement_credits_kind check (kind in ('share', 'fee', 'returned', 'refund', 'slash'))
);
create index settlement_credits_request on indexer.settlement_credits (chain_id, request_id)
    where upper_inf(block_range);
create index settlement_credits_account on indexer.settlement_credits (chain_id, account)
    where upper_inf(block_range);

-- What an account may withdraw of a token from the escrow is `credited - withdrawn`. id: `<0x account>:<0x token>`.
create table indexer.credits (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    account indexer.address not null,
    token indexer.address not null,
    credited indexer.uint256 not null,
    withdrawn indexer.uint256 not null,
    updated_at bigint not null
);
create index credits_account on indexer.credits (chain_id, account) where upper_inf(block_range);

-- The same for slashed bonds, which the operator registry holds for their beneficiaries. id: `<0x account>:<0x token>`.
create table indexer.bond_credits (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    account indexer.address not null,
    token indexer.address not null,
    credited indexer.uint256 not null,
    withdrawn indexer.uint256 not null,
    updated_at bigint not null
);
create index bond_credits_account on indexer.bond_credits (chain_id, account) where upper_inf(block_range);

-- Payouts of the escrow and of the operator registry; `contract` says whose. id: `<0x transaction hash>:<log index>`.
create table indexer.withdrawals (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    contract indexer.address not null,
    sequence bigint not null,
    account indexer.address not null,
    token indexer.address not null,
    amount indexer.uint256 not null,
    created_block bigint not null,
    created_at bigint not null,
    created_tx indexer.hash not null
);
create index withdrawals_account on indexer.withdrawals (chain_id, account) where upper_inf(block_range);

-- OPERATORS

-- id: 0x owner. `signer` is null after a revocation.
create table indexer.operators (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    owner indexer.address not null,
    signer indexer.address,
    transmitter indexer.address not null,
    withdrawal indexer.address not null,
    pending_signer indexer.address,
    pending_signer_active_at indexer.uint64,
    pending_withdrawal indexer.address,
    pending_withdrawal_active_at indexer.uint64,
    registered_block bigint not null,
    registered_at bigint not null,
    registered_tx indexer.hash not null,
    updated_at bigint not null
);

-- Every signing key that was ever named, and whose it is. id: 0x signer.
create table indexer.signers (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    signer indexer.address not null,
    owner indexer.address not null,
    status text not null,
    updated_at bigint not null,
    constraint signers_status check (status in ('pending', 'active', 'replaced', 'revoked'))
);
create index signers_owner on indexer.signers (chain_id, owner) where upper_inf(block_range);

-- id: decimal set id. `epoch` is 0 and the member columns are empty until the first epoch starts; the `pending_` columns
-- describe a proposed epoch that has not started.
create table indexer.operator_sets (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    set_id indexer.uint64 not null,
    admin indexer.address not null,
    bond_token indexer.address not null,
    bond indexer.uint256 not null,
    -- The contract that may convict this set's results; the zero address means none.
    referee indexer.address not null,
    epoch indexer.uint64 not null,
    threshold smallint not null,
    operators bytea[] not null,
    signers bytea[] not null,
    operator_set_hash indexer.hash,
    pending_epoch indexer.uint64,
    pending_threshold smallint,
    pending_operators bytea[],
    pending_active_at indexer.uint64,
    created_block bigint not null,
    created_at bigint not null,
    created_tx indexer.hash not null,
    updated_at bigint not null
);

-- Every epoch that ever started; a request pins one by its hash. id: `<set id>:<epoch>`.
create table indexer.epochs (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    set_id indexer.uint64 not null,
    epoch indexer.uint64 not null,
    threshold smallint not null,
    operators bytea[] not null,
    signers bytea[] not null,
    operator_set_hash indexer.hash not null,
    started_block bigint not null,
    started_at bigint not null,
    started_tx indexer.hash not null
);
create index epochs_hash on indexer.epochs (chain_id, operator_set_hash) where upper_inf(block_range);

-- id: `<set id>:<0x owner>`.
create table indexer.bonds (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    set_id indexer.uint64 not null,
    owner indexer.address not null,
    amount indexer.uint256 not null,
    slashed indexer.uint256 not null,
    status text not null,
    release_at indexer.uint64,
    released_to indexer.address,
    updated_at bigint not null,
    constraint bonds_status check (status in ('bonded', 'unbonding', 'released'))
);
create index bonds_owner on indexer.bonds (chain_id, owner) where upper_inf(block_range);

-- id: `<set id>:<0x owner>:<0x request id>`.
create table indexer.slashes (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    set_id indexer.uint64 not null,
    owner indexer.address not null,
    request_id indexer.hash not null,
    amount indexer.uint256 not null,
    beneficiary indexer.address not null,
    created_block bigint not null,
    created_at bigint not null,
    created_tx indexer.hash not null
);
create index slashes_owner on indexer.slashes (chain_id, owner) where upper_inf(block_range);

-- ENTRY POLICY

-- Which tokens new requests may use; the zero address is the native coin. id: 0x token.
create table indexer.tokens (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    token indexer.address not null,
    allowed boolean not null,
    updated_at bigint not null
);

-- The fee of new requests; one entity per policy contract. id: 0x policy.
create table indexer.fee_policies (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    policy indexer.address not null,
    fee_bps integer not null,
    fee_recipient indexer.address not null,
    updated_at bigint not null
);

-- OTHER EVENTS

-- An EIP-3009 authorization and the transfer that it made: what tells an x402 payment from any other transfer.
-- The nonce of a request that was paid this way is its request id. id: `<0x transaction hash>:<log index>`.
create table indexer.x402_settlements (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    token indexer.address not null,
    payer indexer.address not null,
    payee indexer.address not null,
    amount indexer.uint256 not null,
    nonce indexer.hash not null,
    created_block bigint not null,
    created_at bigint not null,
    created_tx indexer.hash not null
);
create index x402_settlements_payer on indexer.x402_settlements (chain_id, payer) where upper_inf(block_range);
create index x402_settlements_payee on indexer.x402_settlements (chain_id, payee) where upper_inf(block_range);
create index x402_settlements_nonce on indexer.x402_settlements (chain_id, nonce) where upper_inf(block_range);

-- Logs of a known event whose data did not decode. They never stop the loop; a person looks at them.
-- id: `<0x transaction hash>:<log index>`.
create table indexer.undecodable_logs (
    vid bigint generated always as identity primary key,
    chain_id bigint not null,
    id text not null,
    block_range int8range not null,
    address indexer.address not null,
    topic0 indexer.hash,
    reason text not null,
    created_block bigint not null,
    created_at bigint not null,
    created_tx indexer.hash not null
);

-- The three indexes that every projection has; see the rules at the top.
do $$
declare
    projection text;
begin
    foreach projection in array array[
        'agents', 'agent_metadata', 'feedback', 'feedback_responses', 'validations',
        'offers', 'splits', 'split_shares', 'split_totals', 'requests', 'request_notes',
        'settlement_credits', 'credits', 'bond_credits', 'withdrawals',
        'operators', 'signers', 'operator_sets', 'epochs', 'bonds', 'slashes',
        'tokens', 'fee_policies', 'x402_settlements', 'undecodable_logs'
    ] loop
        execute format(
            'create unique index %I on indexer.%I (chain_id, id) where upper_inf(block_range)',
            projection || '_current', projection);
        execute format(
            'create index %I on indexer.%I (chain_id, lower(block_range))',
            projection || '_from', projection);
        execute format(
            'create index %I on indexer.%I (chain_id, upper(block_range)) where not upper_inf(block_range)',
            projection || '_until', projection);
        execute format(
            'alter table indexer.%I add constraint %I check (not isempty(block_range) and lower_inc(block_range))',
            projection, projection || '_block_range');
    end loop;

    -- Entities that change have a history to look back into; the others have one version.
    foreach projection in array array[
        'agents', 'agent_metadata', 'feedback', 'validations', 'offers', 'split_totals', 'requests',
        'credits', 'bond_credits', 'operators', 'signers', 'operator_sets', 'bonds', 'tokens', 'fee_policies'
    ] loop
        execute format(
            'create index %I on indexer.%I (chain_id, id, lower(block_range))',
            projection || '_history', projection);
    end loop;
end;
$$;

-- How final a block is. Every row that is served says it.
create function indexer.finality(chain bigint, block bigint) returns text
    language sql stable
    return (
        select case
            when block <= finalized_number then 'finalized'
            when block <= safe_number then 'safe'
            else 'latest'
        end
        from indexer.cursors
        where chain_id = chain
    );

-- BESIDE THE CHAIN

-- Answer documents by their hash. `claimed` says that a delivered result names the hash; others are swept after a while.
create table indexer.answers (
    output_hash indexer.hash not null,
    body bytea not null,
    claimed boolean not null default false,
    created_at timestamptz not null default now(),
    constraint answers_pkey primary key (output_hash),
    constraint answers_size check (octet_length(body) between 2 and 65536)
);
create index answers_unclaimed on indexer.answers (created_at) where not claimed;

-- Operators' signed messages about one request: the board that stands in when the message broker is down.
create table indexer.messages (
    chain_id bigint not null,
    request_id indexer.hash not null,
    n bigint not null,
    signer indexer.address not null,
    -- The digest that the envelope's signature covers: posting the same message again adds nothing.
    digest indexer.hash not null,
    envelope jsonb not null,
    created_at timestamptz not null default now(),
    constraint messages_pkey primary key (chain_id, request_id, n),
    constraint messages_digest_key unique (chain_id, request_id, signer, digest),
    constraint messages_n check (n > 0)
);

-- Agents' registration files, resolved from the URI that the chain names. Not on the chain, hence not a projection:
-- the same URI may say something else tomorrow.
create table indexer.agent_files (
    chain_id bigint not null,
    agent_id indexer.uint256 not null,
    uri text not null,
    status text not null,
    -- The parsed file and the keccak-256 of its bytes, when it was resolved.
    file jsonb,
    content_hash indexer.hash,
    error text,
    attempts integer not null default 0,
    next_attempt_at timestamptz,
    resolved_at timestamptz,
    constraint agent_files_pkey primary key (chain_id, agent_id),
    constraint agent_files_status check (status in ('resolved', 'failed', 'refused')),
    constraint agent_files_content check ((status = 'resolved') = (file is not null))
);
create index agent_files_due on indexer.agent_files (next_attempt_at) where next_attempt_at is not null;
