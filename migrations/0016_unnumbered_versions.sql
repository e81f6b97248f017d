-- Versions of requests need no index by their number: they are read by where they lie in the table, within the snapshot that
-- found them.
alter table indexer.requests drop constraint requests_pkey;
