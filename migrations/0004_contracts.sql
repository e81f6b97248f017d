-- What a feedback's author paid for, as the reputation registry checked when the feedback was given: null for feedback
-- that names no request, and for all feedback of registries that know no requests.
alter table indexer.feedback
    add column backed_request indexer.hash,
    add column backed_amount indexer.uint256;
create index feedback_backed on indexer.feedback (chain_id, backed_request)
    where upper_inf(block_range) and backed_request is not null;

-- CONTRACTS BY CONFIGURATION

-- The events that are followed because the configuration says so, and from which block on the facts hold all of them.
-- A contract that is configured later has to start above what is indexed: this is how that is told.
create table indexer.followed_events (
    chain_id bigint not null,
    address indexer.address not null,
    topic0 indexer.hash not null,
    name text not null,
    start_number bigint not null,
    constraint followed_events_pkey primary key (chain_id, address, topic0)
);

-- How a log's words are read (Solidity ABI specification, "Formal Specification of the Encoding"). They are inlined into
-- the queries that use them.
create function indexer.abi_uint(word bytea) returns numeric
    language sql immutable strict parallel safe
    return ('0x' || encode(word, 'hex'))::numeric;

create function indexer.abi_int(word bytea) returns numeric
    language sql immutable strict parallel safe
    return ('0x' || encode(word, 'hex'))::numeric - case
        when get_byte(word, 0) >= 128
            then 115792089237316195423570985008687907853269984665640564039457584007913129639936
        else 0
    end;

create function indexer.abi_address(word bytea) returns bytea
    language sql immutable strict parallel safe
    return substring(word from 13 for 20);

create function indexer.abi_bool(word bytea) returns boolean
    language sql immutable strict parallel safe
    return get_byte(word, 31) <> 0;

-- The dynamic value whose offset is the data's word at `place`, counted from zero. Null where offset or length lead out of
-- the data: a contract may write what it likes.
create function indexer.abi_bytes(data bytea, place integer) returns bytea
    language plpgsql immutable strict parallel safe
as $$
declare
    at numeric := indexer.abi_uint(substring(data from 32 * place + 1 for 32));
    length numeric;
begin
    if at + 32 > octet_length(data) then
        return null;
    end if;
    length := indexer.abi_uint(substring(data from at::integer + 1 for 32));
    if at + 32 + length > octet_length(data) then
        return null;
    end if;
    return substring(data from at::integer + 33 for length::integer);
end;
$$;

-- The same as text. Null where it is not UTF-8, or holds the zero byte that PostgreSQL's text cannot.
create function indexer.abi_text(data bytea, place integer) returns text
    language plpgsql immutable strict parallel safe
as $$
begin
    return convert_from(indexer.abi_bytes(data, place), 'UTF8');
exception
    when character_not_in_repertoire or untranslatable_character then
        return null;
end;
$$;
