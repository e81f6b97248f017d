import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keccak256, toUtf8Bytes } from 'ethers'

import {
  SIGNERS,
  SPLIT,
  TOKEN,
  ZERO_ADDRESS,
  ZERO_HASH,
  account,
  deliver,
  deliverOnly,
  fund,
  hash,
  market,
  request,
  splitHashOf,
} from './host/chain.mjs'

const AUTHOR = account('author')
const PAYER = account('payer')

test('a paid request is answered and settled, field by field', () => {
  const chain = market()
  const id = fund(chain, 'one')
  const funded = { block: chain.number, time: chain.time, tx: chain.transactionHash }
  deliver(chain, id)
  const { store } = chain.replay()

  assert.deepEqual(store.plain('Request', id), {
    id,
    chainId: '31337',
    requestId: id,
    sequence: '2',
    status: 'settled',
    agent: '31337:0',
    payer: PAYER,
    offer: hash('offer'),
    operatorSetHash: hash('epoch 1'),
    epochs: ['1:1'],
    split: splitHashOf(SPLIT),
    token: TOKEN,
    maxAmount: '1000000',
    feeBps: 250,
    feeRecipient: account('treasury'),
    deadline: '1700003600',
    challengeWindow: '0',
    referee: ZERO_ADDRESS,
    callback: ZERO_ADDRESS,
    callbackGas: '0',
    inputHash: keccak256(toUtf8Bytes('what is a split?')),
    salt: `0x${'0'.repeat(63)}7`,
    input: '0x7768617420697320612073706c69743f',
    createdAt: String(funded.time),
    createdAtBlock: String(funded.block),
    createdTx: funded.tx,
    outcome: 'answered',
    outputHash: hash('output'),
    traceRoot: ZERO_HASH,
    retrievalRoot: hash('retrieval'),
    modelHash: hash('model'),
    resultAmount: '800000',
    validUntil: '1700003000',
    signers: SIGNERS.slice(0, 2),
    transmitter: account('transmitter 0'),
    deliveredAt: String(chain.time),
    deliveredAtBlock: String(chain.number),
    deliveredTx: chain.transactionHash,
    settledAmount: '800000',
    settledFee: '20000',
    settledReturned: '200000',
    splitTotalBefore: '0',
    splitResidue: '0',
    settledAt: String(chain.time),
    settledAtBlock: String(chain.number),
    settledTx: chain.transactionHash,
    refundedAmount: null,
    refundedAt: null,
    refundedAtBlock: null,
    refundedTx: null,
    slashedSigner: null,
    slashedAmount: null,
    slashedAt: null,
    slashedAtBlock: null,
    slashedTx: null,
  })
})

test('a settlement credits the split to the last unit, the treasury and the payer', () => {
  const chain = market()
  const id = fund(chain, 'one')
  deliver(chain, id)
  const { store } = chain.replay()

  const credits = Object.values(store.dump().SettlementCredit)
  const amounts = Object.fromEntries(
    credits.map(({ kind, account: to, amount }) => [`${kind} ${to}`, amount]),
  )
  assert.deepEqual(amounts, {
    [`share ${AUTHOR}`]: '546000',
    [`share ${account('host')}`]: '156000',
    [`share ${account('curator')}`]: '78000',
    [`fee ${account('treasury')}`]: '20000',
    [`returned ${PAYER}`]: '200000',
  })
  assert.deepEqual(store.plain('SettlementCredit', `${id}:share:${account('host')}`), {
    id: `${id}:share:${account('host')}`,
    chainId: '31337',
    request: id,
    kind: 'share',
    position: 1,
    account: account('host'),
    token: TOKEN,
    amount: '156000',
    createdAt: String(chain.time),
    createdAtBlock: String(chain.number),
  })
  assert.equal(store.plain('SettlementCredit', `${id}:fee:${account('treasury')}`).position, null)
  const sum = credits.reduce((total, { amount }) => total + BigInt(amount), 0n)
  assert.equal(sum, 1_000_000n, 'everything that was escrowed is owed to somebody')
})

test('what rounding leaves over is paid out by later settlements', () => {
  const chain = market()
  const amounts = [1n, 3n, 7n, 1n, 999_999n, 13n]
  let total = 0n
  amounts.forEach((amount, index) => {
    const id = fund(chain, String(index))
    deliver(chain, id, { amount, fee: 0n, returned: 1_000_000n - amount })
    total += amount
    const { store } = chain.replay()
    // The reference is the contract's rule, applied once to everything that was settled so far.
    const owed = SPLIT.allocations.map((allocation) => (total * allocation) / SPLIT.totalAllocation)
    SPLIT.recipients.forEach((recipient, position) => {
      assert.equal(store.plain('Credit', `${recipient}:${TOKEN}`).credited, String(owed[position]))
    })
    const credited = owed.reduce((sum, part) => sum + part, 0n)
    assert.deepEqual(store.plain('SplitTotal', `${splitHashOf(SPLIT)}:${TOKEN}`), {
      id: `${splitHashOf(SPLIT)}:${TOKEN}`,
      chainId: '31337',
      split: splitHashOf(SPLIT),
      token: TOKEN,
      settledTotal: String(total),
      credited: String(credited),
      residue: String(total - credited),
      settlements: String(index + 1),
    })
    assert.equal(store.plain('Request', id).splitTotalBefore, String(total - amount))
    assert.equal(store.plain('Request', id).splitResidue, String(total - credited))
  })
})

test('amounts near 2^128 keep every digit', () => {
  const chain = market()
  const amount = 2n ** 128n - 1n
  const id = fund(chain, 'whale', { maxAmount: amount })
  deliver(chain, id, { amount, fee: 0n, returned: 0n })
  const { store } = chain.replay()
  assert.equal(store.plain('Request', id).maxAmount, String(amount))
  assert.equal(store.plain('Credit', `${AUTHOR}:${TOKEN}`).credited, String((amount * 70n) / 100n))
})

test('a refusal costs nothing and leaves no trace in the split', () => {
  const chain = market()
  const id = fund(chain, 'declined')
  deliver(chain, id, { amount: 0n, fee: 0n, returned: 1_000_000n })
  const { store } = chain.replay()
  assert.equal(store.plain('Request', id).outcome, 'declined')
  assert.equal(store.plain('Request', id).status, 'settled')
  assert.deepEqual(Object.keys(store.dump().SplitTotal), [])
  assert.deepEqual(Object.keys(store.dump().SettlementCredit), [`${id}:returned:${PAYER}`])
})

test('a request without a result is refunded', () => {
  const chain = market()
  const id = fund(chain, 'late')
  chain.block().emit('RequestEscrow', 'Refunded', {
    requestId: id,
    payer: PAYER,
    token: TOKEN,
    amount: 1_000_000n,
  })
  const { store } = chain.replay()
  const entity = store.plain('Request', id)
  assert.equal(entity.status, 'refunded')
  assert.equal(entity.refundedAmount, '1000000')
  assert.equal(entity.refundedTx, chain.transactionHash)
  assert.equal(entity.outcome, null)
  assert.equal(store.plain('Credit', `${PAYER}:${TOKEN}`).credited, '1000000')
})

test('a convicted result is paid back and half of the bond rewards the beneficiary', () => {
  const chain = market()
  const id = fund(chain, 'wrong', { challengeWindow: 600, referee: account('referee') })
  deliverOnly(chain.block(), id, 800_000n)
  chain.block().emit('OperatorRegistry', 'BondSlashed', {
    setId: 1n,
    owner: account('ada owner'),
    requestId: id,
    signer: SIGNERS[0],
    amount: 5_000n,
    beneficiary: account('challenger'),
    reward: 2_500n,
  })
  chain.emit('RequestEscrow', 'Slashed', {
    requestId: id,
    signer: SIGNERS[0],
    token: TOKEN,
    amount: 1_000_000n,
  })
  chain.block().emit('OperatorRegistry', 'Withdrawn', {
    account: account('challenger'),
    token: TOKEN,
    amount: 2_500n,
  })
  const { store } = chain.replay()
  const entity = store.plain('Request', id)
  assert.equal(entity.status, 'slashed')
  assert.equal(entity.slashedSigner, SIGNERS[0])
  assert.equal(entity.slashedAmount, '1000000')
  assert.equal(store.plain('SettlementCredit', `${id}:slash:${PAYER}`).amount, '1000000')
  const bond = store.plain('Bond', `1:${account('ada owner')}`)
  assert.equal(bond.amount, '0')
  assert.equal(bond.slashed, '5000')
  const slash = store.plain('Slash', `1:${account('ada owner')}:${id}`)
  assert.equal(slash.request, id)
  assert.equal(slash.beneficiary, account('challenger'))
  const credit = store.plain('BondCredit', `${account('challenger')}:${TOKEN}`)
  assert.equal(credit.credited, '2500')
  assert.equal(credit.withdrawn, '2500')
  const [withdrawal] = Object.values(store.dump().Withdrawal)
  assert.equal(withdrawal.id, `${chain.transactionHash}:0`)
  assert.equal(withdrawal.contract, account('OperatorRegistry'))
})

test('a withdrawal lowers the credit of its account and token alone', () => {
  const chain = market()
  const id = fund(chain, 'one')
  deliver(chain, id)
  chain
    .block()
    .emit('RequestEscrow', 'Withdrawn', { account: AUTHOR, token: TOKEN, amount: 546_000n })
  const { store } = chain.replay()
  assert.deepEqual(store.plain('Credit', `${AUTHOR}:${TOKEN}`), {
    id: `${AUTHOR}:${TOKEN}`,
    chainId: '31337',
    account: AUTHOR,
    token: TOKEN,
    credited: '546000',
    withdrawn: '546000',
    updatedAt: String(chain.time),
  })
  assert.equal(store.plain('Credit', `${account('host')}:${TOKEN}`).withdrawn, '0')
  assert.equal(Object.values(store.dump().BondCredit).length, 0)
})

test('a refused permit is noted, also before its request, and a failed callback after it', () => {
  const chain = market()
  const id = hash('request noted')
  chain.block().emit('RequestEscrow', 'PermitFailed', { requestId: id, token: TOKEN })
  request(chain, 'noted', { callback: account('consumer'), callbackGas: 100_000 })
  deliver(chain, id)
  chain.emit('RequestEscrow', 'CallbackFailed', { requestId: id, callback: account('consumer') })
  const { store } = chain.replay()
  const notes = Object.values(store.dump().RequestNote)
  assert.deepEqual(
    notes.map(({ id: note, kind, address }) => ({ note, kind, address })),
    [
      { note: `${id}:callback_failed:2`, kind: 'callback_failed', address: account('consumer') },
      { note: `${id}:permit_failed:0`, kind: 'permit_failed', address: TOKEN },
    ],
  )
  assert.equal(store.plain('Request', id).callbackGas, '100000')
})

test('a settlement of a request that was never funded stops the subgraph', () => {
  const chain = market()
  deliver(chain, hash('request unknown'))
  assert.throws(() => chain.replay(), /was never made: an event is missing/)
})
