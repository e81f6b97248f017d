-- Where the outbox begins. Telling of every change of a chain's whole past costs as much as writing it, and is trimmed away
-- before anybody has read it. So the outbox is silent while the past is read, and tells of everything from the moment when
-- following first came near the head: from `told_from` on, of every block, also of those that are read late because the
-- process was down. Null means: not yet.
alter table indexer.cursors add column told_from bigint;

-- Chains that are already followed were told of from their first block on.
update indexer.cursors set told_from = start_number;
