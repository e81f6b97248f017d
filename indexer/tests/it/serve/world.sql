-- A small world on chain 31337: indexed up to block 100, safe up to 80, finalized up to 50.
-- Ids are short where nothing refers to them by another form.

create function pg_temp.h(byte text) returns bytea language sql as $$ select decode(repeat(byte, 32), 'hex') $$;
create function pg_temp.a(byte text) returns bytea language sql as $$ select decode(repeat(byte, 20), 'hex') $$;
create function pg_temp.n(number bigint) returns bytea language sql as $$ select decode(lpad(to_hex(number), 64, '0'), 'hex') $$;
create function pg_temp.x(bytes bytea) returns text language sql as $$ select '0x' || encode(bytes, 'hex') $$;

insert into indexer.cursors (chain_id, number, hash, time, start_number, head_number, safe_number, finalized_number)
values (31337, 100, pg_temp.n(100), 1100, 5, 103, 80, 50);

insert into indexer.blocks (chain_id, number, hash, parent_hash, time)
select 31337, b, pg_temp.n(b), pg_temp.n(b - 1), 1000 + b from generate_series(50, 100) b;

insert into indexer.facts (chain_id, block_number, block_hash, block_time, log_index, transaction_hash, transaction_index, address, data)
values (31337, 20, pg_temp.n(20), 1020, 0, pg_temp.h('01'), 0, pg_temp.a('01'), '');

insert into indexer.agents (chain_id, id, block_range, agent_id, registry, owner, agent_uri, wallet, registered_block, registered_block_hash, registered_at, registered_tx, updated_at)
values
    (31337, '31337:1', '[10,60)', 1, pg_temp.a('01'), pg_temp.a('11'), 'https://one', null, 10, pg_temp.n(10), 1010, pg_temp.h('0a'), 1010),
    (31337, '31337:1', '[60,)', 1, pg_temp.a('01'), pg_temp.a('22'), 'https://one', pg_temp.a('22'), 10, pg_temp.n(10), 1010, pg_temp.h('0a'), 1060),
    (31337, '31337:2', '[20,)', 2, pg_temp.a('01'), pg_temp.a('22'), 'ipfs://two', null, 20, pg_temp.n(20), 1020, pg_temp.h('0b'), 1020),
    (31337, '31337:3', '[90,)', 3, pg_temp.a('01'), pg_temp.a('33'), 'data:three', pg_temp.a('33'), 90, pg_temp.n(90), 1090, pg_temp.h('0c'), 1090),
    (10, '10:1', '[10,)', 1, pg_temp.a('01'), pg_temp.a('11'), 'https://elsewhere', null, 10, pg_temp.n(10), 1010, pg_temp.h('0d'), 1010);

insert into indexer.agent_metadata (chain_id, id, block_range, agent_id, key, value, updated_at)
values (31337, '31337:1:Kind', '[10,)', 1, 'Kind', 'librarian', 1010);

insert into indexer.agent_files (chain_id, agent_id, uri, status, file, content_hash, resolved_at)
values (31337, 1, 'https://one', 'resolved',
    '{"name": "One", "description": "The first", "active": true, "supportedTrust": ["reputation", "Crypto-Economic"]}',
    pg_temp.h('0e'), '2026-01-01T00:00:00Z'),
    (31337, 2, 'ipfs://two', 'resolved', '{"name": 7, "active": "yes", "supportedTrust": "none"}', pg_temp.h('0f'), '2026-01-01T00:00:00Z');

insert into indexer.feedback (chain_id, id, block_range, agent_id, client, feedback_index, value, value_decimals, tag1, tag2, endpoint, feedback_uri, feedback_hash, revoked, response_count, created_block, created_at, created_tx, revoked_at)
values
    (31337, 'f1', '[30,)', 1, pg_temp.a('44'), 1, 90, 0, 'alpha', '', '', '', pg_temp.h('00'), false, 1, 30, 1030, pg_temp.h('0a'), null),
    (31337, 'f2', '[40,)', 1, pg_temp.a('44'), 2, -5, 2, 'Beta', '100%', '', '', pg_temp.h('00'), true, 0, 40, 1040, pg_temp.h('0a'), 1041),
    (31337, 'f3', '[95,)', 2, pg_temp.a('55'), 1, 1000000000000000000000000000000, 0, 'alphabet', '', '', '', pg_temp.h('00'), false, 0, 95, 1095, pg_temp.h('0a'), null);

insert into indexer.feedback_responses (chain_id, id, block_range, feedback_id, agent_id, responder, response_uri, response_hash, created_block, created_at, created_tx)
values (31337, 'f1:r', '[31,)', 'f1', 1, pg_temp.a('11'), 'https://thanks', pg_temp.h('00'), 31, 1031, pg_temp.h('0a'));

insert into indexer.validations (chain_id, id, block_range, request_hash, agent_id, validator, request_uri, response, response_uri, response_hash, tag, requested_block, requested_at, requested_tx, responded_at, responded_tx)
values
    (31337, 'v1', '[30,)', pg_temp.h('a0'), 1, pg_temp.a('45'), 'https://v1', null, null, null, null, 30, 1030, pg_temp.h('0a'), null, null),
    (31337, 'v2', '[31,)', pg_temp.h('a1'), 2, pg_temp.a('45'), 'https://v2', 80, 'https://r2', pg_temp.h('a2'), 'ok', 31, 1031, pg_temp.h('0a'), 1032, pg_temp.h('0b')),
    (31337, 'v3', '[32,)', pg_temp.h('a3'), 9, pg_temp.a('46'), 'https://v3', 20, '', pg_temp.h('a4'), 'bad', 32, 1032, pg_temp.h('0a'), 1033, pg_temp.h('0b'));

insert into indexer.splits (chain_id, id, block_range, split_hash, recipients, allocations, total_allocation, distribution_incentive)
values
    (31337, pg_temp.x(pg_temp.h('51')), '[15,)', pg_temp.h('51'), array[pg_temp.a('66'), pg_temp.a('77')], array[60, 40]::numeric[], 100, 0),
    (31337, pg_temp.x(pg_temp.h('52')), '[25,)', pg_temp.h('52'), array[pg_temp.a('77'), pg_temp.a('88')], array[1, 1]::numeric[], 2, 0);

insert into indexer.split_shares (chain_id, id, block_range, split_hash, account, position, allocation)
values
    (31337, 'ss1', '[15,)', pg_temp.h('51'), pg_temp.a('66'), 0, 60),
    (31337, 'ss2', '[15,)', pg_temp.h('51'), pg_temp.a('77'), 1, 40),
    (31337, 'ss3', '[25,)', pg_temp.h('52'), pg_temp.a('77'), 0, 1);

insert into indexer.split_totals (chain_id, id, block_range, split_hash, token, settled_total, credited, residue, settlements)
values (31337, 'st1', '[40,)', pg_temp.h('51'), pg_temp.a('00'), 5, 5, 0, 1);

insert into indexer.offers (chain_id, id, block_range, offer_hash, sequence, agent_id, token, price, operator_set_id, split_hash, corpus_root, model_hash, duration_min, duration_max, challenge_window, referee, active, published_block, published_block_hash, published_at, published_tx, retired_at, retired_tx)
values
    (31337, pg_temp.x(pg_temp.h('a1')), '[15,)', pg_temp.h('a1'), 1, 1, pg_temp.a('00'), 5, 1, pg_temp.h('51'), pg_temp.h('c0'), pg_temp.h('c1'), 60, 3600, 0, pg_temp.a('00'), true, 15, pg_temp.n(15), 1015, pg_temp.h('0a'), null, null),
    (31337, pg_temp.x(pg_temp.h('a2')), '[25,70)', pg_temp.h('a2'), 2, 2, pg_temp.a('aa'), 100000000000000000000, 1, pg_temp.h('52'), pg_temp.h('c0'), pg_temp.h('c1'), 60, 3600, 0, pg_temp.a('00'), true, 25, pg_temp.n(25), 1025, pg_temp.h('0a'), null, null),
    (31337, pg_temp.x(pg_temp.h('a2')), '[70,)', pg_temp.h('a2'), 2, 2, pg_temp.a('aa'), 100000000000000000000, 1, pg_temp.h('52'), pg_temp.h('c0'), pg_temp.h('c1'), 60, 3600, 0, pg_temp.a('00'), false, 25, pg_temp.n(25), 1025, pg_temp.h('0a'), 1070, pg_temp.h('0b'));

insert into indexer.operators (chain_id, id, block_range, owner, signer, transmitter, withdrawal, registered_block, registered_at, registered_tx, updated_at)
values (31337, pg_temp.x(pg_temp.a('d1')), '[11,)', pg_temp.a('d1'), pg_temp.a('d2'), pg_temp.a('d3'), pg_temp.a('d4'), 11, 1011, pg_temp.h('0a'), 1011);

insert into indexer.operator_sets (chain_id, id, block_range, set_id, admin, bond_token, bond, referee, epoch, threshold, operators, signers, operator_set_hash, created_block, created_at, created_tx, updated_at)
values (31337, '1', '[12,)', 1, pg_temp.a('d0'), pg_temp.a('00'), 7, pg_temp.a('00'), 1, 1, array[pg_temp.a('d1')], array[pg_temp.a('d2')], pg_temp.h('e1'), 12, 1012, pg_temp.h('0a'), 1013);

insert into indexer.bonds (chain_id, id, block_range, set_id, owner, amount, slashed, status, updated_at)
values (31337, 'b1', '[12,)', 1, pg_temp.a('d1'), 7, 0, 'bonded', 1012);

insert into indexer.requests (chain_id, id, block_range, request_id, sequence, status, agent_id, payer, offer_hash, operator_set_hash, split_hash, token, max_amount, fee_bps, fee_recipient, deadline, challenge_window, referee, callback, callback_gas, input_hash, salt, input, requested_block, requested_block_hash, requested_at, requested_tx, requested_gas_used)
select 31337, pg_temp.x(pg_temp.h(r.byte)), r.range::int8range, pg_temp.h(r.byte), r.sequence, r.status, r.agent, pg_temp.a('99'), pg_temp.h(r.offer), pg_temp.h('e1'), pg_temp.h(r.split), pg_temp.a('00'), 5, 0, pg_temp.a('00'), 9999, 0, pg_temp.a('00'), pg_temp.a('00'), 0, pg_temp.h('00'), pg_temp.h('00'), r.input::bytea, r.block, pg_temp.n(r.block), 1000 + r.block, pg_temp.h('0a'), 100000
from (values
    ('b1', '[30,40)', 3, 'funded', 1, 'a1', '51', 'hello', 30),
    ('b1', '[40,)', 3, 'settled', 1, 'a1', '51', 'hello', 30),
    ('b3', '[83,85)', 4, 'funded', 1, 'a1', '51', '\xff00', 83),
    ('b3', '[85,)', 4, 'refunded', 1, 'a1', '51', '\xff00', 83),
    ('b2', '[95,)', 5, 'funded', 2, 'a2', '52', 'what?', 95)
) as r (byte, range, sequence, status, agent, offer, split, input, block);

update indexer.requests
set outcome = 'answered', output_hash = pg_temp.h('f1'), trace_root = pg_temp.h('00'), retrieval_root = pg_temp.h('00'),
    model_hash = pg_temp.h('c1'), result_amount = 5, valid_until = 18446744073709551615, signers = array[pg_temp.a('d2')],
    transmitter = pg_temp.a('d3'), delivered_block = 40, delivered_block_hash = pg_temp.n(40), delivered_at = 1040,
    delivered_tx = pg_temp.h('0b'), delivered_gas_used = 200000, settled_amount = 5, settled_fee = 0, settled_returned = 0,
    split_total_before = 0, split_residue = 0, settled_block = 40, settled_block_hash = pg_temp.n(40), settled_at = 1040,
    settled_tx = pg_temp.h('0b'), settled_gas_used = 200000
where status = 'settled';

update indexer.requests
set refunded_amount = 5, refunded_block = 85, refunded_block_hash = pg_temp.n(85), refunded_at = 1085, refunded_tx = pg_temp.h('0c')
where status = 'refunded';

insert into indexer.settlement_credits (chain_id, id, block_range, request_id, kind, position, account, token, amount, created_block, created_at)
values
    (31337, 'c1', '[40,)', pg_temp.h('b1'), 'share', 0, pg_temp.a('66'), pg_temp.a('00'), 3, 40, 1040),
    (31337, 'c2', '[40,)', pg_temp.h('b1'), 'share', 1, pg_temp.a('77'), pg_temp.a('00'), 2, 40, 1040),
    (31337, 'c3', '[85,)', pg_temp.h('b3'), 'refund', null, pg_temp.a('99'), pg_temp.a('00'), 5, 85, 1085);

insert into indexer.credits (chain_id, id, block_range, account, token, credited, withdrawn, updated_at)
values (31337, 'k1', '[40,)', pg_temp.a('66'), pg_temp.a('00'), 3, 1, 1040);
