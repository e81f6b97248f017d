-- What was spent in the budget's window is added up before every plan. Deliveries that travel in a batch have no nonce and paid
-- nothing; without this index they would all be read.
create index intents_paid on oracle.intents (transmitter, updated_at)
    where nonce is not null and state in ('confirmed', 'failed', 'replaced');
