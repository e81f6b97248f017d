import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keccak256, toUtf8Bytes } from 'ethers'

import { Chain, TOKEN, ZERO_ADDRESS, account, hash, market } from './host/chain.mjs'

const AGENT = '31337:0'

function setMetadata(chain, key, value) {
  chain.emit('AgentRegistry', 'MetadataSet', {
    agentId: 0n,
    indexedMetadataKey: key,
    metadataKey: key,
    metadataValue: value,
  })
}

test('an agent is there, field by field', () => {
  const chain = market()
  const { store } = chain.replay()
  assert.deepEqual(store.plain('Agent', AGENT), {
    id: AGENT,
    chainId: '31337',
    agentId: '0',
    registry: account('AgentRegistry'),
    owner: account('agent owner'),
    agentURI: 'https://agent.example/registration.json',
    agentWallet: account('agent owner'),
    createdAt: '1700000202',
    createdAtBlock: '101',
    createdTx: hash('transaction 1'),
    updatedAt: '1700000202',
  })
})

test('a transfer changes the owner and clears the wallet', () => {
  const chain = market()
  chain.block()
  setMetadata(chain, 'agentWallet', '0x')
  chain.emit('AgentRegistry', 'Transfer', {
    from: account('agent owner'),
    to: account('buyer'),
    tokenId: 0n,
  })
  const { store } = chain.replay()
  const agent = store.plain('Agent', AGENT)
  assert.equal(agent.owner, account('buyer'))
  assert.equal(agent.agentWallet, null)
  assert.equal(agent.updatedAt, String(chain.time))
  assert.equal(agent.createdTx, hash('transaction 1'))
  assert.equal(store.plain('AgentMetadata', `${AGENT}:agentWallet`).value, '0x')
})

test('a wallet that is no account is none', () => {
  for (const value of [ZERO_ADDRESS, '0x1234', `${account('too long')}00`]) {
    const chain = market()
    chain.block()
    setMetadata(chain, 'agentWallet', value)
    assert.equal(chain.replay().store.plain('Agent', AGENT).agentWallet, null, value)
  }
})

test('a new registration file is taken over', () => {
  const chain = market()
  chain.block().emit('AgentRegistry', 'URIUpdated', {
    agentId: 0n,
    newURI: 'ipfs://bafkrei',
    updatedBy: account('agent owner'),
  })
  assert.equal(chain.replay().store.plain('Agent', AGENT).agentURI, 'ipfs://bafkrei')
})

test('metadata stands at its latest value, and a key of any length has an id', () => {
  const long = 'k'.repeat(129)
  const fits = 'é'.repeat(64)
  const tooLong = 'é'.repeat(65)
  const chain = market()
  chain.block()
  for (const key of ['model', '#model', '', long, fits, tooLong]) setMetadata(chain, key, '0x01')
  setMetadata(chain, 'model', '0x02')
  const { store } = chain.replay()
  const hashed = (key) => `${AGENT}:#${keccak256(toUtf8Bytes(key)).slice(2)}`
  assert.deepEqual(
    new Set(Object.keys(store.dump().AgentMetadata)),
    new Set([
      `${AGENT}:agentWallet`,
      `${AGENT}:model`,
      hashed('#model'),
      `${AGENT}:`,
      hashed(long),
      `${AGENT}:${fits}`,
      hashed(tooLong),
    ]),
  )
  assert.equal(store.plain('AgentMetadata', `${AGENT}:model`).value, '0x02')
  assert.equal(store.plain('AgentMetadata', hashed(long)).key, long)
})

test('an event of an agent from before the start block is left out with a warning', () => {
  const chain = new Chain().block()
  setMetadata(chain, 'model', '0x01')
  const { store, messages } = chain.replay()
  assert.deepEqual(store.dump().AgentMetadata, {})
  assert.match(messages[0].message, /agent 31337:0 was never registered/)
})

test('feedback keeps its sign, its answers and its revocation', () => {
  const chain = market()
  const client = account('client')
  const id = `${AGENT}:${client}:1`
  chain.block().emit('ReputationRegistry', 'NewFeedback', {
    agentId: 0n,
    clientAddress: client,
    feedbackIndex: 1n,
    value: -(2n ** 127n),
    valueDecimals: 2,
    indexedTag1: 'speed',
    tag1: 'speed',
    tag2: '',
    endpoint: 'https://agent.example',
    feedbackURI: 'ipfs://bafy',
    feedbackHash: hash('feedback'),
  })
  chain.emit('ReputationRegistry', 'ResponseAppended', {
    agentId: 0n,
    clientAddress: client,
    feedbackIndex: 1n,
    responder: account('agent owner'),
    responseURI: 'ipfs://answer',
    responseHash: hash('answer'),
  })
  const given = chain.replay().store
  assert.equal(given.plain('Feedback', id).value, String(-(2n ** 127n)))
  assert.equal(given.plain('Feedback', id).valueDecimals, 2)
  assert.equal(given.plain('Feedback', id).responseCount, 1)
  assert.equal(given.plain('Feedback', id).isRevoked, false)
  const response = `${id}:${account('agent owner')}:${chain.transactionHash}:1`
  assert.equal(given.plain('FeedbackResponse', response).feedback, id)

  chain.block().emit('ReputationRegistry', 'FeedbackRevoked', {
    agentId: 0n,
    clientAddress: client,
    feedbackIndex: 1n,
  })
  const revoked = chain.replay().store.plain('Feedback', id)
  assert.equal(revoked.isRevoked, true)
  assert.equal(revoked.revokedAt, String(chain.time))
  assert.equal(revoked.responseCount, 1)
})

test('a validation is asked for and answered, and may be answered again', () => {
  const chain = market()
  const id = hash('validation')
  chain.block().emit('ValidationRegistry', 'ValidationRequest', {
    validatorAddress: account('validator'),
    agentId: 0n,
    requestURI: 'ipfs://work',
    requestHash: id,
  })
  const asked = chain.replay().store.plain('Validation', id)
  assert.equal(asked.response, null)
  assert.equal(asked.respondedAt, null)
  for (const response of [40, 100]) {
    chain.block().emit('ValidationRegistry', 'ValidationResponse', {
      validatorAddress: account('validator'),
      agentId: 0n,
      requestHash: id,
      response,
      responseURI: 'ipfs://verdict',
      responseHash: hash('verdict'),
      tag: 'final',
    })
  }
  const answered = chain.replay().store.plain('Validation', id)
  assert.equal(answered.response, 100)
  assert.equal(answered.tag, 'final')
  assert.equal(answered.respondedTx, chain.transactionHash)
  assert.equal(answered.agent, AGENT)
})

test('an authorization is joined with the transfer that it made, and with no other', () => {
  const chain = market()
  const nonce = hash('request one')
  const payer = account('payer')
  const transfer = (from, to, value) =>
    chain.emit('PlatformToken', 'Transfer', { from: account(from), to: account(to), value })
  chain.block()
  transfer('payer', 'before', 1n)
  chain.emit('PlatformToken', 'AuthorizationUsed', { authorizer: payer, nonce })
  transfer('somebody', 'else', 2n)
  transfer('payer', 'RequestEscrow', 2n ** 255n + 9n)
  transfer('payer', 'after', 3n)
  const authorized = chain.transactionHash
  chain
    .block()
    .emit('PlatformToken', 'AuthorizationUsed', { authorizer: payer, nonce: hash('moved nothing') })
  chain.block()
  transfer('payer', 'in another transaction', 4n)
  const { store } = chain.replay()
  assert.deepEqual(store.dump().X402Payment, {
    [`${authorized}:1`]: {
      id: `${authorized}:1`,
      chainId: '31337',
      token: account('PlatformToken'),
      payer,
      payee: account('RequestEscrow'),
      amount: String(2n ** 255n + 9n),
      nonce,
      createdAt: String(chain.time - 4n),
      createdAtBlock: String(chain.number - 2n),
      createdTx: authorized,
    },
  })
})

test('tokens are allowed and stopped, and the fee is the latest', () => {
  const chain = new Chain().block()
  chain.emit('EntryPolicy', 'TokenAllowed', { token: TOKEN, allowed: true })
  chain.emit('EntryPolicy', 'TokenAllowed', { token: ZERO_ADDRESS, allowed: true })
  chain.emit('EntryPolicy', 'FeeChanged', { feeBps: 100, feeRecipient: account('treasury') })
  chain.block().emit('EntryPolicy', 'TokenAllowed', { token: TOKEN, allowed: false })
  chain.emit('EntryPolicy', 'FeeChanged', { feeBps: 250, feeRecipient: account('safe') })
  const { store } = chain.replay()
  assert.equal(store.plain('Token', TOKEN).allowed, false)
  assert.equal(store.plain('Token', ZERO_ADDRESS).allowed, true)
  assert.deepEqual(store.dump().FeePolicy, {
    [account('EntryPolicy')]: {
      id: account('EntryPolicy'),
      chainId: '31337',
      policy: account('EntryPolicy'),
      feeBps: 250,
      feeRecipient: account('safe'),
      updatedAt: String(chain.time),
    },
  })
})
