-- The head at which a job was first seen delivered: the delivery stands in that block or an earlier one, so there is nothing
-- to look at before that block is safe. Jobs that wait are woken by the safe head's advance, all with one statement.
alter table oracle.jobs add column delivered_block bigint;

create index jobs_delivered on oracle.jobs (delivered_block) where state = 'delivered';
