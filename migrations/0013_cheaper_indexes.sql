-- Indexes that cost less to keep. Filling them is most of what it takes to write a projection's rows: each entry of a tree
-- costs about as much processor time as the row itself, and more of the write-ahead log.

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
        -- Versions are written in the order of the blocks in which they begin, and closed in the order of those in which they
        -- end, so that a rollback finds what it takes back in the table's last block ranges, and need not know each row.
        execute format('drop index indexer.%I', projection || '_from');
        execute format('drop index indexer.%I', projection || '_until');
        execute format(
            'create index %I on indexer.%I using brin (lower(block_range)) with (pages_per_range = 32, autosummarize = on)',
            projection || '_from', projection);
        execute format(
            'create index %I on indexer.%I using brin (upper(block_range)) with (pages_per_range = 32, autosummarize = on)',
            projection || '_until', projection);

        -- A version's number is what tells two rows apart, and asked for of requests alone. Gaps in it mean nothing, so that
        -- one write may take many of them at once.
        if projection <> 'requests' then
            execute format('alter table indexer.%I drop constraint %I', projection, projection || '_pkey');
        end if;
        execute format('alter sequence %s cache 256', pg_get_serial_sequence('indexer.' || projection, 'vid'));
    end loop;

    -- A look into the past names an entity and tests the block range of each of its versions. Without the block an entity's
    -- entries are equal, and the tree keeps them as one.
    foreach projection in array array[
        'agents', 'agent_metadata', 'feedback', 'validations', 'offers', 'split_totals', 'requests',
        'credits', 'bond_credits', 'operators', 'signers', 'operator_sets', 'bonds', 'tokens', 'fee_policies'
    ] loop
        execute format('drop index indexer.%I', projection || '_history');
        execute format('create index %I on indexer.%I (chain_id, id)', projection || '_history', projection);
    end loop;
end;
$$;

-- Of each height there is one block, so that its logs are known by number and place. In that order they arrive, and in that
-- order they are read.
alter table indexer.facts drop constraint facts_log_key;
drop index indexer.facts_block;
alter table indexer.facts add constraint facts_log_key unique (chain_id, block_number, log_index);

-- A request's credits are asked for by its id alone, which no two chains share.
drop index indexer.settlement_credits_request;
create index settlement_credits_request on indexer.settlement_credits using hash (request_id)
    where upper_inf(block_range);

-- A request as JSON is just longer than what PostgreSQL leaves uncompressed. Rows of the outbox are trimmed soon, and
-- compressing them costs more than writing them.
alter table indexer.outbox set (toast_tuple_target = 8160);
