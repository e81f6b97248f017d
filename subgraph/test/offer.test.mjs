import assert from 'node:assert/strict'
import { test } from 'node:test'

import {
  SPLIT,
  TOKEN,
  ZERO_ADDRESS,
  account,
  fund,
  hash,
  market,
  offerOf,
  splitHashOf,
} from './host/chain.mjs'

test('an offer and its split are there, field by field', () => {
  const chain = market()
  const { store } = chain.replay()
  assert.deepEqual(store.plain('Offer', hash('offer')), {
    id: hash('offer'),
    chainId: '31337',
    offerHash: hash('offer'),
    sequence: '1',
    agent: '31337:0',
    token: TOKEN,
    price: '1000000',
    operatorSet: '1',
    split: splitHashOf(SPLIT),
    corpusRoot: hash('corpus'),
    modelHash: hash('model'),
    durationMin: '10',
    durationMax: '3600',
    challengeWindow: '0',
    referee: ZERO_ADDRESS,
    active: true,
    createdAt: String(chain.time),
    createdAtBlock: String(chain.number),
    createdTx: chain.transactionHash,
    retiredAt: null,
    retiredTx: null,
  })
  assert.deepEqual(store.plain('Split', splitHashOf(SPLIT)), {
    id: splitHashOf(SPLIT),
    chainId: '31337',
    splitHash: splitHashOf(SPLIT),
    recipients: SPLIT.recipients,
    allocations: ['70', '20', '10'],
    totalAllocation: '100',
    distributionIncentive: 0,
  })
  assert.deepEqual(store.plain('SplitShare', `${splitHashOf(SPLIT)}:${account('curator')}`), {
    id: `${splitHashOf(SPLIT)}:${account('curator')}`,
    chainId: '31337',
    split: splitHashOf(SPLIT),
    account: account('curator'),
    position: 2,
    allocation: '10',
  })
})

test('a retired offer says since when, and is active again once it is published again', () => {
  const chain = market()
  chain.block().emit('RequestEscrow', 'OfferRetired', { offerHash: hash('offer'), agentId: 0n })
  const retired = chain.replay().store.plain('Offer', hash('offer'))
  assert.equal(retired.active, false)
  assert.equal(retired.retiredAt, String(chain.time))
  assert.equal(retired.retiredTx, chain.transactionHash)

  chain.block().emit('RequestEscrow', 'OfferPublished', {
    offerHash: hash('offer'),
    agentId: 0n,
    offer: offerOf(),
    split: SPLIT,
  })
  const { store } = chain.replay()
  const again = store.plain('Offer', hash('offer'))
  assert.equal(again.active, true)
  assert.equal(again.retiredAt, null)
  assert.equal(again.retiredTx, null)
  assert.equal(again.createdTx, chain.transactionHash)
  assert.equal(Object.keys(store.dump().Split).length, 1)
})

test('a request is for the epoch that the set of its offer is in', () => {
  const chain = market()
  const first = fund(chain, 'first')
  chain.block().emit('OperatorRegistry', 'EpochStarted', {
    setId: 1n,
    epoch: 2n,
    threshold: 1,
    operators: [account('ada owner')],
    signers: [account('new signer')],
    operatorSetHash: hash('epoch 2'),
    refreshed: true,
  })
  const second = fund(chain, 'second', { operatorSetHash: hash('epoch 2') })
  const { store } = chain.replay()
  assert.deepEqual(store.plain('Request', first).epochs, ['1:1'])
  assert.deepEqual(store.plain('Request', second).epochs, ['1:2'])
  for (const id of [first, second]) {
    const request = store.plain('Request', id)
    const epoch = store.plain('OperatorSetEpoch', request.epochs[0])
    assert.equal(epoch.operatorSetHash, request.operatorSetHash)
  }
})
