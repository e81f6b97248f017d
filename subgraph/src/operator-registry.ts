import { Address, BigInt, Bytes, ethereum, log } from '@graphprotocol/graph-ts'
import {
  BondReleased,
  BondSlashed,
  EpochProposed,
  EpochStarted,
  Joined,
  OperatorRegistered,
  SetAdminChanged,
  SetAdminProposed,
  SetCreated,
  SignerActivated,
  SignerProposed,
  SignerRevoked,
  TransmitterChanged,
  UnbondingStarted,
  WithdrawalActivated,
  WithdrawalProposed,
  Withdrawn,
} from '../generated/OperatorRegistry/OperatorRegistry'
import { Bond, Operator, OperatorSet, OperatorSetEpoch, Signer, Slash } from '../generated/schema'
import { chainId } from './chain'
import { creditBond, payBondCredit } from './money'

/** What the registry credits with the part of a slashed bond that rewards nobody. */
const BURN_ADDRESS = Bytes.fromHexString('0x000000000000000000000000000000000000dead')

/* OPERATORS */

export function handleOperatorRegistered(event: OperatorRegistered): void {
  const params = event.params
  const operator = new Operator(params.owner.toHexString())
  operator.chainId = chainId()
  operator.owner = params.owner
  operator.signer = params.signer
  operator.transmitter = params.transmitter
  operator.withdrawal = params.withdrawal
  operator.createdAt = event.block.timestamp
  operator.createdAtBlock = event.block.number
  operator.createdTx = event.transaction.hash
  operator.updatedAt = event.block.timestamp
  operator.save()
  setSigner(params.signer, operator.id, 'active', event)
}

export function handleSignerProposed(event: SignerProposed): void {
  const operator = operatorOf(event.params.owner, event)
  operator.pendingSigner = event.params.signer
  operator.pendingSignerActiveAt = event.params.activeAt
  operator.save()
  setSigner(event.params.signer, operator.id, 'pending', event)
}

export function handleSignerActivated(event: SignerActivated): void {
  const operator = operatorOf(event.params.owner, event)
  const former = operator.signer
  if (former !== null && former != event.params.signer) {
    setSigner(former, operator.id, 'replaced', event)
  }
  operator.signer = event.params.signer
  operator.pendingSigner = null
  operator.pendingSignerActiveAt = null
  operator.save()
  setSigner(event.params.signer, operator.id, 'active', event)
}

export function handleSignerRevoked(event: SignerRevoked): void {
  const operator = operatorOf(event.params.owner, event)
  const signer = operator.signer
  if (signer !== null && signer == event.params.signer) operator.signer = null
  const pending = operator.pendingSigner
  if (pending !== null && pending == event.params.signer) {
    operator.pendingSigner = null
    operator.pendingSignerActiveAt = null
  }
  operator.save()
  setSigner(event.params.signer, operator.id, 'revoked', event)
}

export function handleTransmitterChanged(event: TransmitterChanged): void {
  const operator = operatorOf(event.params.owner, event)
  operator.transmitter = event.params.transmitter
  operator.save()
}

export function handleWithdrawalProposed(event: WithdrawalProposed): void {
  const operator = operatorOf(event.params.owner, event)
  operator.pendingWithdrawal = event.params.withdrawal
  operator.pendingWithdrawalActiveAt = event.params.activeAt
  operator.save()
}

export function handleWithdrawalActivated(event: WithdrawalActivated): void {
  const operator = operatorOf(event.params.owner, event)
  operator.withdrawal = event.params.withdrawal
  operator.pendingWithdrawal = null
  operator.pendingWithdrawalActiveAt = null
  operator.save()
}

/* SETS */

export function handleSetCreated(event: SetCreated): void {
  const params = event.params
  const set = new OperatorSet(params.setId.toString())
  set.chainId = chainId()
  set.setId = params.setId
  set.admin = params.admin
  set.bondToken = params.bondToken
  set.bond = params.bond
  set.referee = params.referee
  set.epoch = BigInt.zero()
  set.threshold = 0
  set.operators = []
  set.signers = []
  set.createdAt = event.block.timestamp
  set.createdAtBlock = event.block.number
  set.createdTx = event.transaction.hash
  set.updatedAt = event.block.timestamp
  set.save()
}

export function handleSetAdminProposed(event: SetAdminProposed): void {
  const set = setOf(event.params.setId, event)
  const pending = event.params.pendingAdmin
  if (pending.equals(Address.zero())) set.pendingAdmin = null
  else set.pendingAdmin = pending
  set.save()
}

export function handleSetAdminChanged(event: SetAdminChanged): void {
  const set = setOf(event.params.setId, event)
  set.admin = event.params.admin
  set.pendingAdmin = null
  set.save()
}

export function handleEpochProposed(event: EpochProposed): void {
  const set = setOf(event.params.setId, event)
  set.pendingEpoch = event.params.epoch
  set.pendingThreshold = event.params.threshold
  set.pendingOperators = bytesOf(event.params.operators)
  set.pendingActiveAt = event.params.activeAt
  set.save()
}

export function handleEpochStarted(event: EpochStarted): void {
  const params = event.params
  const set = setOf(params.setId, event)
  const operators = bytesOf(params.operators)
  const signers = bytesOf(params.signers)
  set.epoch = params.epoch
  set.threshold = params.threshold
  set.operators = operators
  set.signers = signers
  set.operatorSetHash = params.operatorSetHash
  // A refresh makes an epoch of the one before: a proposal then goes on waiting.
  if (!params.refreshed) {
    set.pendingEpoch = null
    set.unset('pendingThreshold')
    set.pendingOperators = null
    set.pendingActiveAt = null
  }
  set.save()

  const epoch = new OperatorSetEpoch(set.id + ':' + params.epoch.toString())
  epoch.chainId = set.chainId
  epoch.operatorSet = set.id
  epoch.epoch = params.epoch
  epoch.threshold = params.threshold
  epoch.operators = operators
  epoch.signers = signers
  epoch.operatorSetHash = params.operatorSetHash
  epoch.startedAt = event.block.timestamp
  epoch.startedAtBlock = event.block.number
  epoch.startedTx = event.transaction.hash
  epoch.save()
}

/* BONDS */

export function handleJoined(event: Joined): void {
  const params = event.params
  const bond = new Bond(bondId(params.setId, params.owner))
  bond.chainId = chainId()
  bond.operatorSet = params.setId.toString()
  bond.operator = params.owner.toHexString()
  bond.amount = params.bond
  bond.slashed = BigInt.zero()
  bond.status = 'bonded'
  // Who joins again starts with a clean slate.
  bond.releaseAt = null
  bond.releasedTo = null
  bond.updatedAt = event.block.timestamp
  bond.save()
}

export function handleUnbondingStarted(event: UnbondingStarted): void {
  const bond = bondOf(event.params.setId, event.params.owner, event)
  bond.status = 'unbonding'
  bond.releaseAt = event.params.releaseAt
  bond.save()
}

export function handleBondReleased(event: BondReleased): void {
  const bond = bondOf(event.params.setId, event.params.owner, event)
  bond.amount = BigInt.zero()
  bond.status = 'released'
  bond.releasedTo = event.params.to
  bond.save()
}

export function handleBondSlashed(event: BondSlashed): void {
  const params = event.params
  const set = setOf(params.setId, event)
  const bond = bondOf(params.setId, params.owner, event)
  bond.amount = bond.amount.minus(params.amount)
  bond.slashed = bond.slashed.plus(params.amount)
  // A bond that was being released is still due, with nothing left in it.
  if (bond.status == 'bonded') bond.status = 'slashed'
  bond.save()

  const slash = new Slash(bond.id + ':' + params.requestId.toHexString())
  slash.chainId = chainId()
  slash.operatorSet = set.id
  slash.operator = params.owner.toHexString()
  slash.request = params.requestId.toHexString()
  slash.signer = params.signer
  slash.amount = params.amount
  slash.beneficiary = params.beneficiary
  slash.reward = params.reward
  slash.createdAt = event.block.timestamp
  slash.createdAtBlock = event.block.number
  slash.createdTx = event.transaction.hash
  slash.save()

  creditBond(params.beneficiary, set.bondToken, params.reward, event)
  creditBond(BURN_ADDRESS, set.bondToken, params.amount.minus(params.reward), event)
}

export function handleBondsWithdrawn(event: Withdrawn): void {
  payBondCredit(
    event.params.sequence,
    event.params.account,
    event.params.token,
    event.params.amount,
    event,
  )
}

/* INTERNAL */

function operatorOf(owner: Address, event: ethereum.Event): Operator {
  const operator = Operator.load(owner.toHexString())
  if (operator == null) {
    log.critical('operator {} was never registered: an event is missing', [owner.toHexString()])
    return new Operator(owner.toHexString())
  }
  operator.updatedAt = event.block.timestamp
  return operator
}

function setOf(setId: BigInt, event: ethereum.Event): OperatorSet {
  const set = OperatorSet.load(setId.toString())
  if (set == null) {
    log.critical('operator set {} was never created: an event is missing', [setId.toString()])
    return new OperatorSet(setId.toString())
  }
  set.updatedAt = event.block.timestamp
  return set
}

function bondOf(setId: BigInt, owner: Address, event: ethereum.Event): Bond {
  const id = bondId(setId, owner)
  const bond = Bond.load(id)
  if (bond == null) {
    log.critical('bond {} was never paid: an event is missing', [id])
    return new Bond(id)
  }
  bond.updatedAt = event.block.timestamp
  return bond
}

function bondId(setId: BigInt, owner: Address): string {
  return setId.toString() + ':' + owner.toHexString()
}

function setSigner(signer: Bytes, operator: string, status: string, event: ethereum.Event): void {
  const entity = new Signer(signer.toHexString())
  entity.chainId = chainId()
  entity.signer = signer
  entity.operator = operator
  entity.status = status
  entity.updatedAt = event.block.timestamp
  entity.save()
}

function bytesOf(addresses: Array<Address>): Array<Bytes> {
  const bytes = new Array<Bytes>(addresses.length)
  for (let i = 0; i < addresses.length; i++) bytes[i] = addresses[i]
  return bytes
}
