-- Several deliveries in one transaction. A batch is an intent of its own, with the nonce and the signed transactions; the
-- deliveries that it carries name it and have no nonce. Their states follow the batch's in the same database transaction,
-- so that a job sees its delivery as if it travelled alone.
alter table oracle.intents add column carrier bigint references oracle.intents (id);

alter table oracle.intents drop constraint intents_kind_known;
alter table oracle.intents
    add constraint intents_kind_known check (kind in ('delivery', 'batch', 'filler', 'withdrawal'));

alter table oracle.intents drop constraint intents_sent_has_a_nonce;
alter table oracle.intents add constraint intents_sent_has_a_nonce check (
    state not in ('sent', 'included', 'reverted', 'confirmed', 'failed') or nonce is not null or carrier is not null
);
alter table oracle.intents add constraint intents_carried_is_a_delivery_without_a_nonce check (
    carrier is null or (kind = 'delivery' and nonce is null)
);

create index intents_carried on oracle.intents (carrier) where carrier is not null;
