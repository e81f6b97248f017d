-- A node's looks at its own tables cost the same whatever waits there.

-- What is to be worked on is claimed in the order of deadlines; what waits for the chain is looked at when it is due. One index
-- over both made every claim read all that was due, and sort it.
drop index oracle.jobs_due;
create index jobs_to_work on oracle.jobs (deadline, sequence) where state in ('queued', 'signed');
create index jobs_due on oracle.jobs (due_at) where state in ('delivering', 'delivered');

-- The manager looks at transactions. Deliveries that travel in a batch have none of their own and are many.
drop index oracle.intents_open;
create index intents_open on oracle.intents (transmitter, nonce)
    where carrier is null and state in ('queued', 'sent', 'included', 'reverted');
