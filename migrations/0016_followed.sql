-- How far each source of facts was followed: what is taken out of the configuration for a while is not followed meanwhile, and
-- putting it back must not leave a hole that nobody sees. The sources that a deployment or `--token` names have rows, too,
-- whose `topic0` is zero: all that is kept of such a contract.
--
-- `followed_from` is the first block from which on the facts hold all of the source. `left_number` and `left_epoch` are the
-- cursor's when the one that follows began to do so without the source; they are null while it is followed.
alter table indexer.followed_events
    add column followed_from bigint,
    add column left_number bigint,
    add column left_epoch bigint,
    add constraint followed_events_left check ((left_number is null) = (left_epoch is null));
update indexer.followed_events set followed_from = start_number;
alter table indexer.followed_events alter column followed_from set not null;
