-- A conviction names the key that signed, and splits the bond: `reward` is credited to the payer, the rest to an address that
-- nobody has the key of. The event before this one was never deployed, so no row can lack the two.
alter table indexer.slashes
    add column signer indexer.address not null,
    add column reward indexer.uint256 not null;

-- What was bonded and then slashed is no membership any more: its owner has to join again.
alter table indexer.bonds
    drop constraint bonds_status,
    add constraint bonds_status check (status in ('bonded', 'unbonding', 'released', 'slashed'));

-- Whom a set's administrator has named as its successor, until that account accepts.
alter table indexer.operator_sets add column pending_admin indexer.address;
