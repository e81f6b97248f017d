-- Events of contracts that a factory creates are followed like those of contracts that are named. Their row has the
-- factory's address, and `created_by` says which of its events tells of a new contract and where its address stands in it;
-- it is empty for the events of the contract at `address` itself.
alter table indexer.followed_events add column created_by text not null default '';
alter table indexer.followed_events drop constraint followed_events_pkey;
alter table indexer.followed_events
    add constraint followed_events_pkey primary key (chain_id, address, topic0, created_by);
