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

-- A delivery that travels in a batch has no nonce, and needs no place among the nonces.
alter table oracle.intents drop constraint intents_one_per_nonce;
create unique index intents_one_per_nonce on oracle.intents (transmitter, nonce) where nonce is not null;

-- The newest intent of a request is looked for at every claim: in this order it is found without the others.
drop index oracle.intents_by_request;
create index intents_by_request on oracle.intents (request_id, id) where request_id is not null;
