-- The memory of one operator's oracle node.
--
-- PostgreSQL is the node's only memory: a restart is the normal path, so everything that must survive one is a row, and
-- every step of a job is one short transaction. Nothing here is truth about the chain. The chain decides what happened to
-- a request; these tables only remember what this operator has promised, signed and sent, because those three must never
-- be done twice in different ways.

create schema oracle;

-- One database belongs to one operator on one escrow. Several processes of that operator may share it; another
-- operator's process is refused, because it would sign with a key that the rows of this schema know nothing about.
create table oracle.identity (
    singleton boolean primary key default true,
    chain_id bigint not null,
    escrow bytea not null,
    owner bytea not null,
    -- Tells this operator's processes from a stranger that holds a copy of the same key with another database.
    database_id uuid not null default gen_random_uuid(),
    -- Requests up to this sequence number are finalized and have been seen. Later ones are read again at every poll,
    -- because a reorg gives their sequence numbers to other requests.
    seen_sequence bigint not null default 0,
    created_at timestamptz not null default now(),
    constraint identity_is_single check (singleton),
    constraint identity_chain_id_positive check (0 < chain_id),
    constraint identity_escrow_is_an_address check (octet_length(escrow) = 20),
    constraint identity_owner_is_an_address check (octet_length(owner) = 20)
);

-- A request that this node works on. Claimed with `for update skip locked` in a short transaction; the claim raises
-- `epoch`, and every later write names the epoch it was claimed under, so that a worker that was paused beyond its lease
-- and wakes up can write nothing.
create table oracle.jobs (
    request_id bytea primary key,
    sequence bigint not null,
    -- The block in which the indexer saw the request.
    block_number bigint not null,
    terms jsonb not null,
    offer jsonb not null,
    operator_set jsonb not null,
    input bytea not null,
    -- Unix seconds of chain time.
    deadline bigint not null,
    state text not null default 'queued',
    -- Why a job was declined, dropped or closed, in words for the operator.
    reason text,
    -- Consecutive failures of the present step; grows the wait before the next try.
    failures integer not null default 0,
    due_at timestamptz not null default now(),
    -- Raised by everything that makes a job worth looking at before its time; a release that finds it raised does not
    -- sleep, so that no bell is lost between a worker's look and its sleep.
    wakes bigint not null default 0,
    epoch bigint not null default 0,
    leased_by text,
    leased_until timestamptz,
    -- The answer document is known to be kept by the indexer.
    answer_stored boolean not null default false,
    -- When this node first held a quorum of signatures; the ranks take over from here.
    quorum_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint jobs_request_id_is_a_hash check (octet_length(request_id) = 32),
    constraint jobs_input_fits check (octet_length(input) <= 8192),
    constraint jobs_state_known check (
        state in ('queued', 'signed', 'delivering', 'delivered', 'done', 'declined', 'dropped', 'closed')
    ),
    constraint jobs_end_has_a_reason check (state not in ('declined', 'dropped', 'closed') or reason is not null)
);

create index jobs_due on oracle.jobs (due_at, deadline) where state in ('queued', 'signed', 'delivering', 'delivered');

-- The one result that this operator stands by for a request, recorded before it is signed. A second, different result for
-- the same request cannot be recorded, so it cannot be signed: equivocation is impossible by construction, also for a
-- request that a reorg removed and brought back.
create table oracle.results (
    request_id bytea primary key references oracle.jobs (request_id),
    digest bytea not null,
    result jsonb not null,
    -- The answer's canonical JSON; null when the result declines.
    answer text,
    signature bytea,
    created_at timestamptz not null default now(),
    constraint results_digest_is_a_hash check (octet_length(digest) = 32),
    constraint results_signature_is_ecdsa check (octet_length(signature) = 65)
);

create function oracle.refuse_second_result() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        raise exception 'a recorded result is never deleted' using constraint = 'results_are_for_ever';
    end if;
    if new.request_id is distinct from old.request_id
        or new.digest is distinct from old.digest
        or new.result is distinct from old.result
        or new.answer is distinct from old.answer
        or (old.signature is not null and new.signature is distinct from old.signature) then
        raise exception 'a recorded result is never changed' using constraint = 'results_are_for_ever';
    end if;
    return new;
end
$$;

create trigger results_are_for_ever before update or delete on oracle.results
    for each row execute function oracle.refuse_second_result();

-- Verified signatures of the members over a result's digest, ours among them. One per member: a member that signs two
-- digests has its newer one kept only while it does not replace a signature over the digest that we derived.
create table oracle.attestations (
    request_id bytea not null references oracle.jobs (request_id),
    signer bytea not null,
    digest bytea not null,
    signature bytea not null,
    received_at timestamptz not null default now(),
    primary key (request_id, signer),
    constraint attestations_signer_is_an_address check (octet_length(signer) = 20),
    constraint attestations_digest_is_a_hash check (octet_length(digest) = 32),
    constraint attestations_signature_is_ecdsa check (octet_length(signature) = 65)
);

-- Members that will not sign, and what they said; ours is here too, so that it is published once.
create table oracle.refusals (
    request_id bytea not null references oracle.jobs (request_id),
    signer bytea not null,
    digest bytea not null,
    reason text not null,
    received_at timestamptz not null default now(),
    primary key (request_id, signer)
);

-- Every operator message that was applied, so that one that comes twice (over the broker and over the board, or from a
-- broker that repeats itself) is applied once.
create table oracle.inbox (
    message_hash bytea primary key,
    request_id bytea not null references oracle.jobs (request_id),
    signer bytea not null,
    kind text not null,
    received_at timestamptz not null default now(),
    constraint inbox_message_hash_is_a_hash check (octet_length(message_hash) = 32)
);

create index inbox_by_signer on oracle.inbox (request_id, signer);

-- What this node says about a request, until the broker and the board have each taken it. Both get everything: the
-- broker is fast, the board is there when the broker is not.
create table oracle.outbox (
    id bigint generated always as identity primary key,
    request_id bytea not null references oracle.jobs (request_id),
    topic text not null,
    payload text not null,
    created_at timestamptz not null default now(),
    bus_acked_at timestamptz,
    board_acked_at timestamptz,
    -- The board refused the message for good, and why.
    board_refusal text
);

create index outbox_for_bus on oracle.outbox (id) where bus_acked_at is null;
create index outbox_for_board on oracle.outbox (id) where board_acked_at is null;

-- The last heartbeat of every operator that was heard.
create table oracle.peers (
    signer bytea primary key,
    head_block bigint not null,
    version text not null,
    sent_at bigint not null,
    seen_at timestamptz not null default now()
);

-- A key that pays gas, with its nonces. The nonce stream belongs to this row and not to an RPC node's idea of `pending`.
-- One process at a time works on it (an advisory lock), and `epoch` fences off one that lost the lock without noticing.
create table oracle.transmitters (
    address bytea primary key,
    next_nonce bigint not null,
    epoch bigint not null default 0,
    holder text,
    -- Set when the manager stops itself, with the reason; an operator clears it.
    stopped text,
    -- Reverts before this nonce have been looked at by the operator who resumed the manager.
    resumed_nonce bigint not null default 0,
    constraint transmitters_address_is_an_address check (octet_length(address) = 20),
    constraint transmitters_next_nonce_not_negative check (0 <= next_nonce)
);

-- A transaction to be made true. The row exists before anything is signed. An intent keeps its nonce for ever: what
-- happens to the nonce is what happened to the intent.
--   queued    no nonce yet
--   sent      has a nonce and at least one signed transaction in `oracle.transactions`
--   included  one of them is in the latest chain and succeeded, but is not safe yet
--   reverted  one of them is in the latest chain and failed, but is not safe yet
--   confirmed / failed   the same, on the safe chain
--   replaced  the nonce was used by something else, or the intent had become pointless
create table oracle.intents (
    id bigint generated always as identity primary key,
    transmitter bytea not null references oracle.transmitters (address),
    kind text not null,
    request_id bytea references oracle.jobs (request_id),
    target bytea not null,
    calldata bytea not null,
    state text not null default 'queued',
    nonce bigint,
    gas_limit bigint,
    -- False once the intent has become pointless, for example because somebody else delivered.
    wanted boolean not null default true,
    reason text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint intents_kind_known check (kind in ('delivery', 'filler')),
    constraint intents_delivery_has_a_request check ((kind = 'delivery') = (request_id is not null)),
    constraint intents_state_known check (
        state in ('queued', 'sent', 'included', 'reverted', 'confirmed', 'failed', 'replaced')
    ),
    constraint intents_sent_has_a_nonce check (
        state not in ('sent', 'included', 'reverted', 'confirmed', 'failed') or nonce is not null
    ),
    constraint intents_one_per_nonce unique (transmitter, nonce)
);

-- A request has one delivery at a time under way; another may start only when the first can no longer succeed or is being
-- cancelled.
create unique index intents_one_delivery_under_way on oracle.intents (request_id)
    where state in ('queued', 'sent', 'included') and wanted;
create index intents_open on oracle.intents (transmitter, nonce)
    where state in ('queued', 'sent', 'included', 'reverted');

-- Signed transactions, stored before they are sent, so that a restart sends the same bytes again and no transaction of
-- ours is ever on the network without being known here.
create table oracle.transactions (
    hash bytea primary key,
    intent_id bigint not null references oracle.intents (id),
    raw bytea not null,
    gas_limit bigint not null,
    -- Wei per gas.
    max_fee bigint not null,
    priority_fee bigint not null,
    -- True for a transfer of nothing to ourselves that only uses up the nonce.
    cancels boolean not null,
    signed_at timestamptz not null default now(),
    sent_at timestamptz,
    sends integer not null default 0,
    last_error text,
    block_number bigint,
    block_hash bytea,
    succeeded boolean,
    -- Wei paid for gas once included.
    cost numeric(78, 0),
    constraint transactions_hash_is_a_hash check (octet_length(hash) = 32),
    constraint transactions_inclusion_is_whole check (
        (block_number is null) = (block_hash is null)
        and (block_number is null) = (succeeded is null)
        and (block_number is null) = (cost is null)
    )
);

create index intents_by_request on oracle.intents (request_id);
create index transactions_by_intent on oracle.transactions (intent_id);
