-- Facts in partitions of a million blocks each: an index that fits into memory stays so as the chain grows, old partitions can
-- be moved to slower disks, and a vacuum or a backup has something to work on that is bounded.
--
-- A unique key of a partitioned table has to hold its partition's key. A block hash has one number, so that the key below
-- says the same as before. A sequence number has none, and is unique because the follower checks it under the cursor's
-- lock before it writes (`verify::sequences`).
--
-- The store asks for a partition before it writes into it; there is no default partition, because attaching another one
-- would have to search it.

alter table indexer.facts rename to facts_before_partitions;
alter table indexer.facts_before_partitions rename constraint facts_log_key to facts_before_partitions_log_key;
alter index indexer.facts_block rename to facts_before_partitions_block;
alter index indexer.facts_sequence rename to facts_before_partitions_sequence;

create table indexer.facts (like indexer.facts_before_partitions) partition by range (block_number);
alter table indexer.facts add constraint facts_log_key unique (chain_id, block_hash, log_index, block_number);
create index facts_block on indexer.facts using brin (block_number, chain_id) with (pages_per_range = 16);
create index facts_sequence on indexer.facts (chain_id, address, sequence) where sequence is not null;

-- Makes the partitions that hold these blocks, both ends included, as far as they are missing. Readers go on meanwhile:
-- attaching does not lock them out, as creating a partition in place would.
create function indexer.ensure_fact_partitions(first_block bigint, last_block bigint) returns void
language plpgsql as $$
declare
    width constant bigint := 1000000;
    number bigint;
    name text;
begin
    perform pg_advisory_xact_lock(hashtextextended('auspex indexer fact partitions', 0));
    for number in first_block / width .. last_block / width loop
        name := 'facts_' || number || 'm';
        if to_regclass('indexer.' || name) is not null then
            continue;
        end if;
        execute format('create table indexer.%I (like indexer.facts)', name);
        execute format(
            'alter table indexer.facts attach partition indexer.%I for values from (%s) to (%s)',
            name, number * width, (number + 1) * width);
    end loop;
end $$;

-- The first one always, and those of what is stored.
select indexer.ensure_fact_partitions(0, 0);
do $$
declare
    number bigint;
begin
    for number in select distinct block_number / 1000000 from indexer.facts_before_partitions loop
        perform indexer.ensure_fact_partitions(number * 1000000, number * 1000000);
    end loop;
end $$;
insert into indexer.facts select * from indexer.facts_before_partitions;

-- The indexes that followed contracts have got for their events.
do $$
declare
    definitions text[] := array(
        select indexdef from pg_indexes
        where schemaname = 'indexer' and tablename = 'facts_before_partitions' and indexname like 'facts\_of\_%');
    definition text;
begin
    drop table indexer.facts_before_partitions;
    foreach definition in array definitions loop
        execute replace(definition, 'indexer.facts_before_partitions', 'indexer.facts');
    end loop;
end $$;
