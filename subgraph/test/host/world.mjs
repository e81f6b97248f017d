// A market of the real contracts on a real chain, and what people do on it.

import assert from 'node:assert/strict'
import { AbiCoder, ZeroHash, keccak256, toUtf8Bytes } from 'ethers'

import { logsOf } from '../compare.mjs'
import { replay } from '../replay.mjs'
import { startAnvil } from './anvil.mjs'
import { ZERO_ADDRESS, account, hash, splitHashOf } from './chain.mjs'
import { OFFER, OPERATOR_SET, SIGNER_KEYS, attest, deployAll, mined } from './contracts.mjs'

export const INPUT = toUtf8Bytes('how does a refund work?')

// Three equal shares, which most amounts do not divide by.
export const SPLIT = {
  recipients: [account('author'), account('host'), account('curator')],
  allocations: [1n, 1n, 1n],
  totalAllocation: 3n,
  distributionIncentive: 0,
}

export class World {
  static async start() {
    const chain = await startAnvil()
    const accounts = await Promise.all(
      Array.from({ length: 8 }, (_, index) => chain.provider.getSigner(index)),
    )
    const contracts = await deployAll(chain.provider, accounts[0], account('treasury'))
    return new World(chain, accounts, contracts)
  }

  constructor(chain, accounts, contracts) {
    this.chain = chain
    this.accounts = accounts
    Object.assign(this, contracts)
    this.requestCount = 0n
  }

  stop() {
    this.chain.stop()
  }

  async publish(owner, changes) {
    const offer = {
      agentId: 0n,
      operatorSetId: 1n,
      splitHash: splitHashOf(SPLIT),
      corpusRoot: ZeroHash,
      modelHash: ZeroHash,
      durationMin: 10n,
      durationMax: 3_600n,
      challengeWindow: 0n,
      referee: ZERO_ADDRESS,
      ...changes,
    }
    await mined(this.escrow.connect(owner).publishOffer(offer, SPLIT))
    return offer
  }

  // What a payer agrees to, as the offer, the fee and the set are now.
  async termsOf(payer, offer, changes = {}) {
    const [, feeBps, feeRecipient] = await this.policy.entryTerms(offer.token)
    const { timestamp } = await this.chain.provider.getBlock('latest')
    this.requestCount += 1n
    return {
      payer: payer.address,
      agentId: 0n,
      offerHash: hashOf(OFFER, offer),
      operatorSetHash: await this.operators.operatorSetHash(1n),
      splitHash: offer.splitHash,
      token: offer.token,
      maxAmount: offer.price,
      feeBps,
      feeRecipient,
      deadline: BigInt(timestamp) + 3_000n,
      challengeWindow: offer.challengeWindow,
      referee: offer.referee,
      callback: ZERO_ADDRESS,
      callbackGas: 0n,
      inputHash: keccak256(INPUT),
      salt: `0x${this.requestCount.toString(16).padStart(64, '0')}`,
      ...changes,
    }
  }

  // Delivers a result of the first two operators; an amount of zero is a refusal.
  async deliver(terms, amount) {
    const { epoch, threshold, signers: members } = await this.operators.epochOf(1n)
    const operatorSet = { setId: 1n, epoch, threshold, signers: [...members] }
    assert.equal(hashOf(OPERATOR_SET, operatorSet), terms.operatorSetHash)
    const result = {
      requestId: await this.escrow.requestIdOf(terms),
      outcome: amount === 0n ? 2 : 1,
      outputHash: hash('output'),
      traceRoot: ZeroHash,
      retrievalRoot: hash('retrieval'),
      modelHash: ZeroHash,
      amount,
      validUntil: terms.deadline,
    }
    const keys = SIGNER_KEYS.slice(0, 2)
    const attestations = await attest(this.deployment.requestEscrow, result, keys)
    await mined(this.escrow.deliver(terms, result, operatorSet, attestations))
    return { terms, result, operatorSet, signers: attestations.map(({ signer }) => signer) }
  }

  async rotate(owner, key) {
    await mined(this.operators.connect(owner).proposeSigner(key.address))
    await this.chain.pass(86_401)
    await mined(this.operators.activateSigner(owner.address))
  }

  // What the mappings make of everything that has happened.
  async replay() {
    const head = await this.chain.provider.getBlockNumber()
    const logs = await logsOf(this.chain.url, this.deployment, head)
    return replay({ deployment: this.deployment, logs })
  }
}

export function hashOf(type, value) {
  return keccak256(AbiCoder.defaultAbiCoder().encode([type], [value]))
}
