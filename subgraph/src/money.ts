import { BigInt, Bytes, ethereum } from '@graphprotocol/graph-ts'
import {
  BondCredit,
  Credit,
  Request,
  SettlementCredit,
  Split,
  SplitTotal,
  Withdrawal,
} from '../generated/schema'
import { chainId, logId } from './chain'

/** A payee's part of everything that was ever settled into a split: the escrow rounds it down, once, on the running total. */
export function share(total: BigInt, allocation: BigInt, totalAllocation: BigInt): BigInt {
  return total.times(allocation).div(totalAllocation)
}

/**
 * Adds `amount` to a split's running total and credits each payee with what its share grew by. Whatever is lost to
 * rounding stays in the split as residue and is paid out by later settlements.
 */
export function settleSplit(
  request: Request,
  split: Split,
  amount: BigInt,
  event: ethereum.Event,
): SplitTotal {
  const id = split.id + ':' + request.token.toHexString()
  let total = SplitTotal.load(id)
  if (total == null) {
    total = new SplitTotal(id)
    total.chainId = chainId()
    total.split = split.id
    total.token = request.token
    total.settledTotal = BigInt.zero()
    total.credited = BigInt.zero()
    total.residue = BigInt.zero()
    total.settlements = BigInt.zero()
  }
  // A refusal settles nothing: it leaves no trace in the split.
  if (amount.isZero()) return total
  const before = total.settledTotal
  const after = before.plus(amount)
  const recipients = split.recipients
  const allocations = split.allocations
  for (let i = 0; i < recipients.length; i++) {
    const gain = share(after, allocations[i], split.totalAllocation).minus(
      share(before, allocations[i], split.totalAllocation),
    )
    total.credited = total.credited.plus(gain)
    addSettlementCredit(request, 'share', i, recipients[i], gain, event)
  }
  total.settledTotal = after
  total.residue = after.minus(total.credited)
  total.settlements = total.settlements.plus(BigInt.fromI32(1))
  total.save()
  return total
}

/** Credits an account outright: a fee, what was not spent, a refund. */
export function creditOutright(
  request: Request,
  kind: string,
  account: Bytes,
  amount: BigInt,
  event: ethereum.Event,
): void {
  addSettlementCredit(request, kind, -1, account, amount, event)
}

export function payCredit(
  sequence: BigInt,
  account: Bytes,
  token: Bytes,
  amount: BigInt,
  event: ethereum.Event,
): void {
  const credit = creditOf(account, token, event)
  credit.withdrawn = credit.withdrawn.plus(amount)
  credit.save()
  addWithdrawal(sequence, account, token, amount, event)
}

export function creditBond(
  account: Bytes,
  token: Bytes,
  amount: BigInt,
  event: ethereum.Event,
): void {
  const credit = bondCreditOf(account, token, event)
  credit.credited = credit.credited.plus(amount)
  credit.save()
}

export function payBondCredit(
  sequence: BigInt,
  account: Bytes,
  token: Bytes,
  amount: BigInt,
  event: ethereum.Event,
): void {
  const credit = bondCreditOf(account, token, event)
  credit.withdrawn = credit.withdrawn.plus(amount)
  credit.save()
  addWithdrawal(sequence, account, token, amount, event)
}

function addSettlementCredit(
  request: Request,
  kind: string,
  position: i32,
  account: Bytes,
  amount: BigInt,
  event: ethereum.Event,
): void {
  const entry = new SettlementCredit(request.id + ':' + kind + ':' + account.toHexString())
  entry.chainId = chainId()
  entry.request = request.id
  entry.kind = kind
  if (0 <= position) entry.position = position
  entry.account = account
  entry.token = request.token
  entry.amount = amount
  entry.createdAt = event.block.timestamp
  entry.createdAtBlock = event.block.number
  entry.save()

  const credit = creditOf(account, request.token, event)
  credit.credited = credit.credited.plus(amount)
  credit.save()
}

function addWithdrawal(
  sequence: BigInt,
  account: Bytes,
  token: Bytes,
  amount: BigInt,
  event: ethereum.Event,
): void {
  const withdrawal = new Withdrawal(logId(event))
  withdrawal.chainId = chainId()
  withdrawal.contract = event.address
  withdrawal.sequence = sequence
  withdrawal.account = account
  withdrawal.token = token
  withdrawal.amount = amount
  withdrawal.createdAt = event.block.timestamp
  withdrawal.createdAtBlock = event.block.number
  withdrawal.createdTx = event.transaction.hash
  withdrawal.save()
}

function creditOf(account: Bytes, token: Bytes, event: ethereum.Event): Credit {
  const id = account.toHexString() + ':' + token.toHexString()
  let credit = Credit.load(id)
  if (credit == null) {
    credit = new Credit(id)
    credit.chainId = chainId()
    credit.account = account
    credit.token = token
    credit.credited = BigInt.zero()
    credit.withdrawn = BigInt.zero()
  }
  credit.updatedAt = event.block.timestamp
  return credit
}

function bondCreditOf(account: Bytes, token: Bytes, event: ethereum.Event): BondCredit {
  const id = account.toHexString() + ':' + token.toHexString()
  let credit = BondCredit.load(id)
  if (credit == null) {
    credit = new BondCredit(id)
    credit.chainId = chainId()
    credit.account = account
    credit.token = token
    credit.credited = BigInt.zero()
    credit.withdrawn = BigInt.zero()
  }
  credit.updatedAt = event.block.timestamp
  return credit
}
