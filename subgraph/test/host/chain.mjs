// A chain of our own contracts' events, ABI-encoded as the contracts emit them.

import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { AbiCoder, Interface, id, keccak256, toBeHex, toUtf8Bytes } from 'ethers'

import { replay } from '../replay.mjs'

const abis = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'abis')

export const ZERO_ADDRESS = `0x${'0'.repeat(40)}`
export const ZERO_HASH = `0x${'0'.repeat(64)}`

// A named account or hash: readable in a test, different from every other name's.
export const account = (name) => `0x${id(name).slice(26)}`
export const hash = (name) => id(name)

export const DEPLOYMENT = {
  chainId: 31337,
  startBlock: 0,
  agentRegistry: account('AgentRegistry'),
  operatorRegistry: account('OperatorRegistry'),
  entryPolicy: account('EntryPolicy'),
  requestEscrow: account('RequestEscrow'),
  platformToken: account('PlatformToken'),
  reputationRegistry: account('ReputationRegistry'),
  validationRegistry: account('ValidationRegistry'),
}

const SEQUENCED = ['OperatorRegistry', 'EntryPolicy', 'RequestEscrow']

export class Chain {
  constructor() {
    this.logs = []
    this.number = 100n
    this.transactions = 0
    this.logIndex = 0
    this.sequences = {}
    this.interfaces = {}
  }

  // The next block; its time grows by two seconds.
  block() {
    this.number += 1n
    this.logIndex = 0
    return this.transaction()
  }

  // The next transaction of the present block.
  transaction() {
    this.transactions += 1
    return this
  }

  get time() {
    return 1_700_000_000n + 2n * this.number
  }

  get transactionHash() {
    return hash(`transaction ${this.transactions}`)
  }

  // Emits one event, its arguments by name; a sequenced contract counts its events by itself.
  emit(contract, event, args) {
    const abi = this.interfaceOf(contract)
    const fragment = abi.getEvent(event)
    const all = SEQUENCED.includes(contract)
      ? { sequence: this.nextSequence(contract), ...args }
      : args
    const { topics, data } = abi.encodeEventLog(
      fragment,
      fragment.inputs.map(({ name }) => {
        if (all[name] === undefined) throw new Error(`${contract}.${event}: ${name} is missing`)
        return all[name]
      }),
    )
    const address = DEPLOYMENT[contract[0].toLowerCase() + contract.slice(1)]
    this.logs.push({
      address,
      topics,
      data,
      blockNumber: Number(this.number),
      blockHash: hash(`block ${this.number}`),
      blockTime: Number(this.time),
      transactionHash: this.transactionHash,
      transactionIndex: 0,
      logIndex: this.logIndex,
    })
    this.logIndex += 1
    return this
  }

  // What the mappings make of everything that was emitted.
  replay() {
    return replay({ deployment: DEPLOYMENT, logs: this.logs })
  }

  nextSequence(contract) {
    this.sequences[contract] = (this.sequences[contract] ?? 0n) + 1n
    return this.sequences[contract]
  }

  interfaceOf(contract) {
    this.interfaces[contract] ??= new Interface(
      JSON.parse(readFileSync(join(abis, `${contract}.json`), 'utf8')),
    )
    return this.interfaces[contract]
  }
}

/* THE MAIN JOB'S EVENTS */

export const TOKEN = account('usdc')
export const OWNERS = ['ada', 'bob', 'cyd'].map((name) => account(`${name} owner`))
export const SIGNERS = ['ada', 'bob', 'cyd'].map((name) => account(`${name} signer`)).sort()
export const SPLIT = {
  recipients: [account('author'), account('host'), account('curator')],
  allocations: [70n, 20n, 10n],
  totalAllocation: 100n,
  distributionIncentive: 0,
}

export function splitHashOf(split) {
  const type =
    'tuple(address[] recipients,uint256[] allocations,uint256 totalAllocation,uint16 distributionIncentive)'
  return keccak256(AbiCoder.defaultAbiCoder().encode([type], [split]))
}

export function offerOf(changes = {}) {
  return {
    agentId: 0n,
    token: TOKEN,
    price: 1_000_000n,
    operatorSetId: 1n,
    splitHash: splitHashOf(SPLIT),
    corpusRoot: hash('corpus'),
    modelHash: hash('model'),
    durationMin: 10,
    durationMax: 3_600,
    challengeWindow: 0,
    referee: ZERO_ADDRESS,
    ...changes,
  }
}

export function termsOf(changes = {}) {
  return {
    payer: account('payer'),
    agentId: 0n,
    offerHash: hash('offer'),
    operatorSetHash: hash('epoch 1'),
    splitHash: splitHashOf(SPLIT),
    token: TOKEN,
    maxAmount: 1_000_000n,
    feeBps: 250,
    feeRecipient: account('treasury'),
    deadline: 1_700_003_600n,
    challengeWindow: 0,
    referee: ZERO_ADDRESS,
    callback: ZERO_ADDRESS,
    callbackGas: 0,
    inputHash: keccak256(toUtf8Bytes('what is a split?')),
    salt: toBeHex(7n, 32),
    ...changes,
  }
}

export function resultOf(requestId, changes = {}) {
  return {
    requestId,
    outcome: 1,
    outputHash: hash('output'),
    traceRoot: ZERO_HASH,
    retrievalRoot: hash('retrieval'),
    modelHash: hash('model'),
    amount: 800_000n,
    validUntil: 1_700_003_000n,
    ...changes,
  }
}

// A chain with an agent, a set of three operators and an offer: what a request needs.
export function market() {
  const chain = new Chain()
  chain.block()
  chain.emit('AgentRegistry', 'Transfer', {
    from: ZERO_ADDRESS,
    to: account('agent owner'),
    tokenId: 0n,
  })
  chain.emit('AgentRegistry', 'Registered', {
    agentId: 0n,
    agentURI: 'https://agent.example/registration.json',
    owner: account('agent owner'),
  })
  chain.emit('AgentRegistry', 'MetadataSet', {
    agentId: 0n,
    indexedMetadataKey: 'agentWallet',
    metadataKey: 'agentWallet',
    metadataValue: account('agent owner'),
  })
  chain.block().emit('OperatorRegistry', 'SetCreated', {
    setId: 1n,
    admin: account('set admin'),
    bondToken: TOKEN,
    bond: 5_000n,
    referee: account('referee'),
  })
  OWNERS.forEach((owner, index) => {
    chain.transaction().emit('OperatorRegistry', 'OperatorRegistered', {
      owner,
      signer: SIGNERS[index],
      transmitter: account(`transmitter ${index}`),
      withdrawal: account(`withdrawal ${index}`),
    })
    chain.emit('OperatorRegistry', 'Joined', { setId: 1n, owner, bond: 5_000n })
  })
  chain.block().emit('OperatorRegistry', 'EpochProposed', {
    setId: 1n,
    epoch: 1n,
    threshold: 2,
    operators: [...OWNERS].reverse(),
    activeAt: chain.time,
  })
  chain.emit('OperatorRegistry', 'EpochStarted', {
    setId: 1n,
    epoch: 1n,
    threshold: 2,
    operators: OWNERS,
    signers: SIGNERS,
    operatorSetHash: hash('epoch 1'),
    refreshed: false,
  })
  chain.block().emit('RequestEscrow', 'OfferPublished', {
    offerHash: hash('offer'),
    agentId: 0n,
    offer: offerOf(),
    split: SPLIT,
  })
  return chain
}

// Funds a request of the market in a block of its own; returns its id.
export function fund(chain, name, changes = {}) {
  return request(chain.block(), name, changes)
}

// Funds a request of the market in the present transaction; returns its id.
export function request(chain, name, changes = {}) {
  const requestId = hash(`request ${name}`)
  const terms = termsOf(changes)
  chain.emit('RequestEscrow', 'Requested', {
    requestId,
    agentId: terms.agentId,
    payer: terms.payer,
    request: terms,
    input: toUtf8Bytes('what is a split?'),
  })
  return requestId
}

// Delivers and, in the same transaction, settles a request that has no challenge window.
export function deliver(
  chain,
  requestId,
  { amount = 800_000n, fee = 20_000n, returned = 200_000n } = {},
) {
  deliverOnly(chain.block(), requestId, amount)
  chain.emit('RequestEscrow', 'Settled', {
    requestId,
    splitHash: splitHashOf(SPLIT),
    token: TOKEN,
    amount,
    fee,
    returned,
  })
}

export function deliverOnly(chain, requestId, amount) {
  chain.emit('RequestEscrow', 'Delivered', {
    requestId,
    transmitter: account('transmitter 0'),
    result: resultOf(requestId, { amount, outcome: amount === 0n ? 2 : 1 }),
    signers: SIGNERS.slice(0, 2),
  })
}
