// The real contracts on a real chain: what the mappings make of its logs is what the contracts themselves say.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { keccak256 } from 'ethers'

import { ZERO_ADDRESS, account, hash, splitHashOf } from './host/chain.mjs'
import { BOND, OFFER, SIGNER_KEYS, authorize, mined } from './host/contracts.mjs'
import { INPUT, SPLIT, World, hashOf } from './host/world.mjs'

const STATUS = ['none', 'funded', 'delivered', 'settled', 'refunded', 'slashed']
const NATIVE = ZERO_ADDRESS

let world

before(async () => {
  world = await World.start()
})

after(() => world?.stop())

test('everything that happens on a chain is what its contracts say', async () => {
  const offers = await openMarket()
  const requests = [
    ...(await payInToken(offers.token)),
    ...(await payInNative(offers.native)),
    await letExpire(offers.token),
  ]
  await withdraw()
  await changeOperators()
  await refreshBesideProposal()
  await handOverSet()
  await sellAgent(offers.native)
  await judgeAgent()

  const { store, messages } = await world.replay()
  assert.deepEqual(messages, [], 'no event was left out')
  const dump = store.dump()
  await checkRequests(dump, requests)
  await checkMoney(dump)
  await checkOperators(dump)
  await checkOffersAndAgents(dump, Object.values(offers))
  const notes = Object.values(dump.RequestNote).map(({ kind }) => kind)
  assert.deepEqual(notes.sort(), ['callback_failed', 'permit_failed'])
})

/* WHAT HAPPENS */

// Four operators, three of them in the set's first epoch; an agent; two offers.
async function openMarket() {
  const [deployer, ada, bob, cyd, dee, payer, agentOwner, referee] = world.accounts
  const { token, agents, operators, deployment } = world
  await mined(operators.createSet(deployer.address, NATIVE, BOND, referee.address))
  for (const [index, owner] of [ada, bob, cyd, dee].entries()) {
    const as = operators.connect(owner)
    const [transmitter, withdrawal] = [`transmitter ${index}`, `withdrawal ${index}`].map(account)
    await mined(as.register(SIGNER_KEYS[index].address, transmitter, withdrawal))
    await mined(as.join(1n, { value: BOND }))
  }
  await mined(operators.proposeEpoch(1n, 2, [ada.address, bob.address, cyd.address]))
  await mined(operators.startEpoch(1n))
  const asAgent = agents.connect(agentOwner)
  await mined(asAgent['register(string)']('https://agent.example/registration.json'))
  await mined(asAgent.setMetadata(0n, 'model', '0x01'))
  await mined(token.transfer(payer.address, 10n ** 9n))
  await mined(token.connect(payer).approve(deployment.requestEscrow, 10n ** 9n))
  return {
    token: await world.publish(agentOwner, { token: deployment.platformToken, price: 1_000_003n }),
    native: await world.publish(agentOwner, {
      token: NATIVE,
      price: 10n ** 15n,
      challengeWindow: 600n,
      referee: referee.address,
    }),
  }
}

// By allowance, with a refusal and with a consumer that reverts; by one signature that somebody else relays; and by an
// allowance after a permit that the token refuses.
async function payInToken(offer) {
  const [, , bob, , , payer] = world.accounts
  const { escrow, deployment } = world
  const asPayer = escrow.connect(payer)
  const requests = []
  for (const amount of [7n, 1_000_003n, 100_001n, 0n]) {
    const reverting = { callback: deployment.platformToken, callbackGas: 50_000n }
    const terms = await world.termsOf(payer, offer, amount === 7n ? reverting : {})
    await mined(asPayer.request(terms, offer, INPUT))
    requests.push(await world.deliver(terms, amount))
  }

  const authorized = await world.termsOf(payer, offer)
  const nonce = await escrow.requestIdOf(authorized)
  const signature = await authorize(
    payer,
    deployment.platformToken,
    deployment.requestEscrow,
    offer.price,
    nonce,
  )
  await mined(
    escrow
      .connect(bob)
      .requestWithAuthorization(authorized, offer, INPUT, 0n, 2n ** 48n, signature),
  )

  const permitted = await world.termsOf(payer, offer)
  await mined(
    asPayer.requestWithPermit(permitted, offer, INPUT, 2n ** 48n, 27, hash('r'), hash('s')),
  )
  return [...requests, { terms: authorized, isAuthorized: true }, { terms: permitted }]
}

// One is settled after its challenge window, one is convicted inside it; the convicted key signs nothing more.
async function payInNative(offer) {
  const [, , , , , payer, , referee] = world.accounts
  const { escrow } = world
  const requests = []
  for (const end of ['settled', 'convicted']) {
    const terms = await world.termsOf(payer, offer)
    await mined(escrow.connect(payer).request(terms, offer, INPUT, { value: terms.maxAmount }))
    const delivered = await world.deliver(terms, terms.maxAmount - 5n)
    const { result, signers, operatorSet } = delivered
    if (end === 'convicted') {
      const convicted = SIGNER_KEYS[0].address
      const asReferee = escrow.connect(referee)
      await mined(asReferee.convict(terms, result, operatorSet, signers, convicted))
    } else {
      await world.chain.pass(601)
      await mined(escrow.settle(terms, result, signers))
    }
    requests.push(delivered)
  }
  return requests
}

// Nobody answers, and a stranger refunds the payer.
async function letExpire(offer) {
  const [, , , cyd, , payer] = world.accounts
  const terms = await world.termsOf(payer, offer)
  await mined(world.escrow.connect(payer).request(terms, offer, INPUT))
  await world.chain.pass(3_001)
  await mined(world.escrow.connect(cyd).refund(terms))
  return { terms }
}

async function withdraw() {
  const [, , , , , payer] = world.accounts
  const { escrow, operators, deployment } = world
  await mined(escrow.withdrawFor(account('author'), deployment.platformToken, [SPLIT]))
  await mined(escrow.withdrawFor(account('treasury'), deployment.platformToken, []))
  await mined(escrow.withdrawFor(account('host'), NATIVE, [SPLIT]))
  await mined(operators.withdrawFor(payer.address, NATIVE))
}

// Keys rotate, an epoch with one member begins, and who is not in it any more gets its bond back.
async function changeOperators() {
  const [, , bob, cyd] = world.accounts
  const { operators, chain } = world
  await world.rotate(bob, SIGNER_KEYS[4])
  await mined(operators.connect(bob).revokeSigner(SIGNER_KEYS[1].address))
  await mined(operators.connect(bob).setTransmitter(account('new transmitter')))
  await mined(operators.connect(bob).proposeWithdrawal(account('new withdrawal')))
  await mined(operators.connect(cyd).proposeWithdrawal(account('a withdrawal to come')))
  await mined(operators.connect(cyd).proposeSigner(SIGNER_KEYS[5].address))
  await mined(operators.proposeEpoch(1n, 1, [bob.address]))
  await chain.pass(2 * 86_400 + 1)
  await mined(operators.activateWithdrawal(bob.address))
  await mined(operators.startEpoch(1n))
  await mined(operators.connect(cyd).startUnbonding(1n))
  await chain.pass(14 * 86_400 + 1)
  await mined(operators.releaseBond(1n, cyd.address))
}

// A refresh overtakes a proposal, which starts later all the same.
async function refreshBesideProposal() {
  const [, , bob, , dee] = world.accounts
  const { operators } = world
  await mined(operators.proposeEpoch(1n, 2, [dee.address, bob.address]))
  await world.rotate(bob, SIGNER_KEYS[6])
  await mined(operators.refreshEpoch(1n))
  const refreshed = (await world.replay()).store.plain('OperatorSet', '1')
  assert.equal(refreshed.epoch, '3')
  assert.equal(refreshed.pendingThreshold, 2)
  await mined(operators.startEpoch(1n))
}

// The set has another administrator, who has named the next one.
async function handOverSet() {
  const [, , bob, , dee] = world.accounts
  const { operators } = world
  await mined(operators.proposeSetAdmin(1n, dee.address))
  await mined(operators.connect(dee).acceptSetAdmin(1n))
  await mined(operators.connect(dee).proposeSetAdmin(1n, bob.address))
}

async function sellAgent(offer) {
  const [, ada, , , , , agentOwner] = world.accounts
  await mined(world.escrow.connect(agentOwner).retireOffer(offer))
  await mined(world.agents.connect(agentOwner).transferFrom(agentOwner.address, ada.address, 0n))
}

async function judgeAgent() {
  const [, ada, bob, , , payer] = world.accounts
  const asPayer = world.reputation.connect(payer)
  const endpoint = 'https://agent.example'
  const value = -(10n ** 18n)
  await mined(asPayer.giveFeedback(0n, value, 18, 'speed', '', endpoint, 'ipfs://f', hash('f')))
  await mined(asPayer.revokeFeedback(0n, 1n))
  const asOwner = world.validation.connect(ada)
  await mined(asOwner.validationRequest(bob.address, 0n, 'ipfs://v', hash('v')))
  const asValidator = world.validation.connect(bob)
  await mined(asValidator.validationResponse(hash('v'), 90, 'ipfs://w', hash('w'), 'final'))
}

/* WHAT THE CONTRACTS SAY */

async function checkRequests(dump, requests) {
  assert.equal(Object.keys(dump.Request).length, requests.length)
  const seen = new Set()
  for (const { terms, isAuthorized } of requests) {
    const id = await world.escrow.requestIdOf(terms)
    const request = dump.Request[id]
    seen.add(request.status)
    assert.equal(request.status, STATUS[Number(await world.escrow.statusOf(id))])
    assert.equal(keccak256(request.input), request.inputHash)
    assert.equal(request.deadline, String(terms.deadline))
    const [epoch] = request.epochs
    assert.equal(dump.OperatorSetEpoch[epoch].operatorSetHash, terms.operatorSetHash)
    if (request.status === 'settled') {
      assert.equal(request.settledAmount, String(await world.escrow.settledAmountOf(id)))
    }
    const payments = Object.values(dump.X402Payment).filter(({ nonce }) => nonce === id)
    assert.equal(payments.length, isAuthorized ? 1 : 0)
  }
  assert.deepEqual([...seen].sort(), ['funded', 'refunded', 'settled', 'slashed'])
}

async function checkMoney(dump) {
  for (const [id, { account: holder, token, credited, withdrawn }] of Object.entries(dump.Credit)) {
    const [claimable] = await world.escrow.claimable(holder, [token], [SPLIT])
    assert.equal(BigInt(credited) - BigInt(withdrawn), claimable, `Credit ${id}`)
  }
  for (const { account: holder, token, credited, withdrawn } of Object.values(dump.BondCredit)) {
    const owed = await world.operators.creditOf(holder, token)
    assert.equal(BigInt(credited) - BigInt(withdrawn), owed)
  }
  await checkHeld(dump, NATIVE, await world.chain.provider.getBalance(world.escrow))
  const tokenAddress = world.deployment.platformToken.toLowerCase()
  await checkHeld(dump, tokenAddress, await world.token.balanceOf(world.escrow))
}

// Everything that the escrow holds is owed to somebody, waits in a request, or is the split's residue.
async function checkHeld(dump, token, held) {
  const splitHash = splitHashOf(SPLIT)
  const total = dump.SplitTotal[`${splitHash}:${token}`]
  assert.equal(total.settledTotal, String(await world.escrow.settledTotal(splitHash, token)))
  const of = (rows) => Object.values(rows).filter((row) => row.token === token)
  const owed = of(dump.Credit).map(
    ({ credited, withdrawn }) => BigInt(credited) - BigInt(withdrawn),
  )
  const waiting = of(dump.Request)
    .filter(({ status }) => status === 'funded')
    .map(({ maxAmount }) => BigInt(maxAmount))
  const sum = [...owed, ...waiting, BigInt(total.residue)].reduce((left, right) => left + right, 0n)
  assert.equal(sum, held, `what the escrow holds of ${token}`)
}

async function checkOperators(dump) {
  const { operators } = world
  const orNull = (value) => (value === ZERO_ADDRESS ? null : value.toLowerCase())
  const timeOrNull = (value) => (value === 0n ? null : String(value))
  assert.equal(Object.keys(dump.Operator).length, 4)
  for (const { owner, ...operator } of Object.values(dump.Operator)) {
    const said = await operators.operatorOf(owner)
    assert.equal(operator.signer, orNull(said.signer))
    assert.equal(operator.transmitter, said.transmitter.toLowerCase())
    assert.equal(operator.withdrawal, said.withdrawal.toLowerCase())
    assert.equal(operator.pendingSigner, orNull(said.pendingSigner))
    assert.equal(operator.pendingSignerActiveAt, timeOrNull(said.signerActiveAt))
    assert.equal(operator.pendingWithdrawal, orNull(said.pendingWithdrawal))
    assert.equal(operator.pendingWithdrawalActiveAt, timeOrNull(said.withdrawalActiveAt))
    assert.equal(dump.Bond[`1:${owner}`].amount, String(await operators.bondOf(1n, owner)))
  }
  for (const { signer, operator, status } of Object.values(dump.Signer)) {
    assert.equal(operator, (await operators.ownerOfSigner(signer)).toLowerCase())
    assert.equal(status === 'revoked', await operators.isRevoked(signer))
  }
  const set = dump.OperatorSet['1']
  const said = await operators.epochOf(1n)
  assert.equal(set.epoch, String(said.epoch))
  assert.equal(BigInt(set.threshold), said.threshold)
  assert.deepEqual(
    set.operators,
    said.operators.map((address) => address.toLowerCase()),
  )
  assert.deepEqual(
    set.signers,
    said.signers.map((address) => address.toLowerCase()),
  )
  assert.equal(set.operatorSetHash, await operators.operatorSetHash(1n))
  assert.equal(set.referee, (await operators.refereeOf(1n)).toLowerCase())
  assert.equal(set.pendingEpoch, null)
  const [admin, pendingAdmin] = await operators.adminOf(1n)
  assert.equal(set.admin, admin.toLowerCase())
  assert.equal(set.pendingAdmin, orNull(pendingAdmin))
}

async function checkOffersAndAgents(dump, offers) {
  for (const offer of offers) {
    const id = hashOf(OFFER, offer)
    // `active` says that an offer was published and not retired. The escrow also asks whether its publisher may still act
    // for the agent, which is a state of the agent registry and no event of the offer.
    const owner = (await world.agents.ownerOf(offer.agentId)).toLowerCase()
    const mayAct = owner === world.accounts[6].address.toLowerCase()
    assert.equal(dump.Offer[id].active && mayAct, await world.escrow.isOfferActive(id))
  }
  const agent = dump.Agent['31337:0']
  assert.equal(agent.owner, (await world.agents.ownerOf(0n)).toLowerCase())
  assert.equal(agent.agentURI, await world.agents.tokenURI(0n))
  assert.equal(agent.agentWallet, null)
  assert.equal(await world.agents.getAgentWallet(0n), ZERO_ADDRESS)
  for (const { key, value } of Object.values(dump.AgentMetadata)) {
    assert.equal(value, await world.agents.getMetadata(0n, key))
  }
  const tokenAddress = world.deployment.platformToken
  const [allowed, feeBps, feeRecipient] = await world.policy.entryTerms(tokenAddress)
  assert.equal(dump.Token[tokenAddress.toLowerCase()].allowed, allowed)
  const policy = dump.FeePolicy[world.deployment.entryPolicy.toLowerCase()]
  assert.equal(BigInt(policy.feeBps), feeBps)
  assert.equal(policy.feeRecipient, feeRecipient.toLowerCase())
  assert.equal(Object.values(dump.Feedback)[0].isRevoked, true)
  assert.equal(dump.Validation[hash('v')].response, 90)
}
