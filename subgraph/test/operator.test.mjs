import assert from 'node:assert/strict'
import { test } from 'node:test'

import { OWNERS, SIGNERS, TOKEN, account, fund, hash, market } from './host/chain.mjs'

const [ADA] = OWNERS

function signerStatus(store, signer) {
  return store.plain('Signer', signer).status
}

test('an operator set and its epoch are there, field by field', () => {
  const chain = market()
  const { store } = chain.replay()
  const started = String(chain.number - 1n)
  assert.deepEqual(store.plain('OperatorSet', '1'), {
    id: '1',
    chainId: '31337',
    setId: '1',
    admin: account('set admin'),
    pendingAdmin: null,
    bondToken: TOKEN,
    bond: '5000',
    referee: account('referee'),
    epoch: '1',
    threshold: 2,
    operators: OWNERS,
    signers: SIGNERS,
    operatorSetHash: hash('epoch 1'),
    pendingEpoch: null,
    pendingThreshold: null,
    pendingOperators: null,
    pendingActiveAt: null,
    createdAt: String(chain.time - 4n),
    createdAtBlock: String(chain.number - 2n),
    createdTx: hash('transaction 2'),
    updatedAt: String(chain.time - 2n),
  })
  const epoch = store.plain('OperatorSetEpoch', '1:1')
  assert.deepEqual(epoch.operators, OWNERS)
  assert.deepEqual(epoch.signers, SIGNERS)
  assert.equal(epoch.startedAtBlock, started)
  assert.deepEqual(store.plain('Bond', `1:${ADA}`), {
    id: `1:${ADA}`,
    chainId: '31337',
    operatorSet: '1',
    operator: ADA,
    amount: '5000',
    slashed: '0',
    status: 'bonded',
    releaseAt: null,
    releasedTo: null,
    updatedAt: String(chain.time - 4n),
  })
})

test('a rotated signer is announced, counts, and is then followed by the next', () => {
  const chain = market()
  const next = account('ada next signer')
  chain.block().emit('OperatorRegistry', 'SignerProposed', {
    owner: ADA,
    signer: next,
    activeAt: chain.time + 86_400n,
  })
  const proposed = chain.replay().store
  assert.equal(proposed.plain('Operator', ADA).signer, SIGNERS[0])
  assert.equal(proposed.plain('Operator', ADA).pendingSigner, next)
  assert.equal(proposed.plain('Operator', ADA).pendingSignerActiveAt, String(chain.time + 86_400n))
  assert.equal(signerStatus(proposed, next), 'pending')

  chain.block().emit('OperatorRegistry', 'SignerActivated', { owner: ADA, signer: next })
  const activated = chain.replay().store
  assert.equal(activated.plain('Operator', ADA).signer, next)
  assert.equal(activated.plain('Operator', ADA).pendingSigner, null)
  assert.equal(activated.plain('Operator', ADA).pendingSignerActiveAt, null)
  assert.equal(signerStatus(activated, next), 'active')
  assert.equal(signerStatus(activated, SIGNERS[0]), 'replaced')

  chain.block().emit('OperatorRegistry', 'SignerRevoked', { owner: ADA, signer: SIGNERS[0] })
  const formerRevoked = chain.replay().store
  assert.equal(
    formerRevoked.plain('Operator', ADA).signer,
    next,
    'a former key takes nothing along',
  )
  assert.equal(signerStatus(formerRevoked, SIGNERS[0]), 'revoked')

  chain.block().emit('OperatorRegistry', 'SignerRevoked', { owner: ADA, signer: next })
  const revoked = chain.replay().store
  assert.equal(revoked.plain('Operator', ADA).signer, null)
  assert.equal(signerStatus(revoked, next), 'revoked')
})

test('a revoked announcement is withdrawn', () => {
  const chain = market()
  const next = account('ada next signer')
  chain
    .block()
    .emit('OperatorRegistry', 'SignerProposed', { owner: ADA, signer: next, activeAt: 1n })
  chain.emit('OperatorRegistry', 'SignerRevoked', { owner: ADA, signer: next })
  const operator = chain.replay().store.plain('Operator', ADA)
  assert.equal(operator.signer, SIGNERS[0])
  assert.equal(operator.pendingSigner, null)
  assert.equal(operator.pendingSignerActiveAt, null)
})

test('the accounts that send and receive change as announced', () => {
  const chain = market()
  chain.block().emit('OperatorRegistry', 'TransmitterChanged', {
    owner: ADA,
    transmitter: account('new transmitter'),
  })
  chain.emit('OperatorRegistry', 'WithdrawalProposed', {
    owner: ADA,
    withdrawal: account('new withdrawal'),
    activeAt: 1_800_000_000n,
  })
  const proposed = chain.replay().store.plain('Operator', ADA)
  assert.equal(proposed.transmitter, account('new transmitter'))
  assert.equal(proposed.withdrawal, account('withdrawal 0'))
  assert.equal(proposed.pendingWithdrawal, account('new withdrawal'))
  assert.equal(proposed.pendingWithdrawalActiveAt, '1800000000')

  chain.block().emit('OperatorRegistry', 'WithdrawalActivated', {
    owner: ADA,
    withdrawal: account('new withdrawal'),
  })
  const activated = chain.replay().store.plain('Operator', ADA)
  assert.equal(activated.withdrawal, account('new withdrawal'))
  assert.equal(activated.pendingWithdrawal, null)
  assert.equal(activated.pendingWithdrawalActiveAt, null)
  assert.equal(activated.updatedAt, String(chain.time))
})

test('a proposed epoch waits through a refresh and is gone once it starts', () => {
  const [, bob, cyd] = OWNERS
  const dee = account('dee owner')
  const proposals = [
    { threshold: 1, operators: OWNERS },
    { threshold: 2, operators: OWNERS },
    { threshold: 2, operators: [dee, bob, cyd] },
    { threshold: 2, operators: [bob, cyd] },
    { threshold: 2, operators: [dee, ...OWNERS] },
  ]
  for (const { threshold, operators } of proposals) {
    const chain = market()
    chain.block().emit('OperatorRegistry', 'EpochProposed', {
      setId: 1n,
      epoch: 2n,
      threshold,
      operators,
      activeAt: chain.time + 86_400n,
    })
    start(chain, 2n, 2, OWNERS, true)
    const refreshed = chain.replay().store.plain('OperatorSet', '1')
    assert.equal(refreshed.epoch, '2')
    assert.equal(refreshed.pendingThreshold, threshold)
    assert.deepEqual(refreshed.pendingOperators, operators)

    // The contract starts it in the order of the signers, whatever order it was proposed in.
    start(chain, 3n, threshold, [...operators].reverse(), false)
    const started = chain.replay().store.plain('OperatorSet', '1')
    assert.equal(started.epoch, '3')
    assert.equal(started.threshold, threshold)
    assert.equal(started.pendingEpoch, null)
    assert.equal(started.pendingThreshold, null)
    assert.equal(started.pendingOperators, null)
    assert.equal(started.pendingActiveAt, null)
  }
})

test('a bond is released to the withdrawal account, and joining again starts anew', () => {
  const chain = market()
  chain.block().emit('OperatorRegistry', 'UnbondingStarted', {
    setId: 1n,
    owner: ADA,
    releaseAt: 1_800_000_000n,
  })
  const unbonding = chain.replay().store.plain('Bond', `1:${ADA}`)
  assert.equal(unbonding.status, 'unbonding')
  assert.equal(unbonding.amount, '5000', 'it is at stake until it is released')
  assert.equal(unbonding.releaseAt, '1800000000')

  chain.block().emit('OperatorRegistry', 'BondReleased', {
    setId: 1n,
    owner: ADA,
    to: account('withdrawal 0'),
    amount: 5_000n,
  })
  const released = chain.replay().store.plain('Bond', `1:${ADA}`)
  assert.equal(released.status, 'released')
  assert.equal(released.amount, '0')
  assert.equal(released.releasedTo, account('withdrawal 0'))

  chain.block().emit('OperatorRegistry', 'Joined', { setId: 1n, owner: ADA, bond: 5_000n })
  const joined = chain.replay().store.plain('Bond', `1:${ADA}`)
  assert.equal(joined.status, 'bonded')
  assert.equal(joined.amount, '5000')
  assert.equal(joined.releaseAt, null)
  assert.equal(joined.releasedTo, null)
})

test('a conviction takes the bond and credits the payer with its reward alone', () => {
  const chain = market()
  const id = fund(chain, 'convicted')
  const burn = '0x000000000000000000000000000000000000dead'
  const slashed = {
    setId: 1n,
    owner: ADA,
    requestId: id,
    signer: SIGNERS[0],
    amount: 5_000n,
    beneficiary: account('payer'),
    reward: 2_500n,
  }
  chain.block().emit('OperatorRegistry', 'BondSlashed', slashed)
  chain.emit('OperatorRegistry', 'SignerRevoked', { owner: ADA, signer: SIGNERS[0] })
  const { store } = chain.replay()
  const bond = store.plain('Bond', `1:${ADA}`)
  assert.equal(bond.status, 'slashed')
  assert.equal(bond.amount, '0')
  assert.equal(bond.slashed, '5000')
  const slash = store.plain('Slash', `1:${ADA}:${id}`)
  assert.equal(slash.signer, SIGNERS[0])
  assert.equal(slash.amount, '5000')
  assert.equal(slash.reward, '2500')
  assert.equal(store.plain('BondCredit', `${account('payer')}:${TOKEN}`).credited, '2500')
  assert.equal(store.plain('BondCredit', `${burn}:${TOKEN}`).credited, '2500')
  assert.equal(signerStatus(store, SIGNERS[0]), 'revoked')
})

test("a set's administrator changes when its successor accepts", () => {
  const chain = market()
  const name = (pendingAdmin) =>
    chain.block().emit('OperatorRegistry', 'SetAdminProposed', { setId: 1n, pendingAdmin })
  name(account('successor'))
  const named = chain.replay().store.plain('OperatorSet', '1')
  assert.equal(named.admin, account('set admin'))
  assert.equal(named.pendingAdmin, account('successor'))

  name('0x0000000000000000000000000000000000000000')
  assert.equal(chain.replay().store.plain('OperatorSet', '1').pendingAdmin, null)

  name(account('successor'))
  const admin = account('successor')
  chain.block().emit('OperatorRegistry', 'SetAdminChanged', { setId: 1n, admin })
  const changed = chain.replay().store.plain('OperatorSet', '1')
  assert.equal(changed.admin, account('successor'))
  assert.equal(changed.pendingAdmin, null)
})

function start(chain, epoch, threshold, operators, refreshed) {
  chain.block().emit('OperatorRegistry', 'EpochStarted', {
    setId: 1n,
    epoch,
    threshold,
    operators,
    signers: operators.map((_, index) => account(`signer ${index}`)),
    operatorSetHash: hash(`epoch ${epoch}`),
    refreshed,
  })
}
