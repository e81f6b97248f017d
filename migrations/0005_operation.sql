-- What an operator asks of a running node, and what a node does besides delivering.

-- Set while the node finishes what it has promised and begins nothing new, so that it can be stopped without leaving a
-- request behind. It is a row, so that every process of the operator obeys, also one that starts later.
alter table oracle.identity add column draining_since timestamptz;

-- A withdrawal pays the operator's credits out; it belongs to no request.
alter table oracle.intents drop constraint intents_kind_known;
alter table oracle.intents
    add constraint intents_kind_known check (kind in ('delivery', 'filler', 'withdrawal'));
