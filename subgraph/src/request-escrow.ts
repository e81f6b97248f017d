import { BigInt, Bytes, ethereum, log } from '@graphprotocol/graph-ts'
import {
  CallbackFailed,
  Delivered,
  OfferPublished,
  OfferPublishedSplitStruct,
  OfferRetired,
  PermitFailed,
  Refunded,
  Requested,
  Settled,
  Slashed,
  Withdrawn,
} from '../generated/RequestEscrow/RequestEscrow'
import { Offer, OperatorSet, Request, RequestNote, Split, SplitShare } from '../generated/schema'
import { agentIdOf } from './agent-registry'
import { chainId } from './chain'
import { creditOutright, payCredit, settleSplit } from './money'

/* OFFERS */

export function handleOfferPublished(event: OfferPublished): void {
  const terms = event.params.offer
  const split = createSplit(terms.splitHash, event.params.split)

  // Publishing the same offer again makes it active again; it is the same offer.
  const offer = new Offer(event.params.offerHash.toHexString())
  offer.chainId = chainId()
  offer.offerHash = event.params.offerHash
  offer.sequence = event.params.sequence
  offer.agent = agentIdOf(terms.agentId)
  offer.token = terms.token
  offer.price = terms.price
  offer.operatorSet = terms.operatorSetId.toString()
  offer.split = split
  offer.corpusRoot = terms.corpusRoot
  offer.modelHash = terms.modelHash
  offer.durationMin = terms.durationMin
  offer.durationMax = terms.durationMax
  offer.challengeWindow = terms.challengeWindow
  offer.referee = terms.referee
  offer.active = true
  offer.createdAt = event.block.timestamp
  offer.createdAtBlock = event.block.number
  offer.createdTx = event.transaction.hash
  offer.retiredAt = null
  offer.retiredTx = null
  offer.save()
}

export function handleOfferRetired(event: OfferRetired): void {
  const offer = offerOf(event.params.offerHash)
  offer.active = false
  offer.retiredAt = event.block.timestamp
  offer.retiredTx = event.transaction.hash
  offer.save()
}

/* REQUESTS */

export function handleRequested(event: Requested): void {
  const terms = event.params.request
  const offer = offerOf(terms.offerHash)
  const request = new Request(event.params.requestId.toHexString())
  request.chainId = chainId()
  request.requestId = event.params.requestId
  request.sequence = event.params.sequence
  request.status = 'funded'
  request.agent = agentIdOf(terms.agentId)
  request.payer = terms.payer
  request.offer = offer.id
  request.operatorSetHash = terms.operatorSetHash
  request.epochs = [presentEpoch(offer.operatorSet)]
  request.split = terms.splitHash.toHexString()
  request.token = terms.token
  request.maxAmount = terms.maxAmount
  request.feeBps = terms.feeBps
  request.feeRecipient = terms.feeRecipient
  request.deadline = terms.deadline
  request.challengeWindow = terms.challengeWindow
  request.referee = terms.referee
  request.callback = terms.callback
  request.callbackGas = terms.callbackGas
  request.inputHash = terms.inputHash
  request.salt = terms.salt
  request.input = event.params.input
  request.createdAt = event.block.timestamp
  request.createdAtBlock = event.block.number
  request.createdTx = event.transaction.hash
  request.save()
}

export function handleDelivered(event: Delivered): void {
  const result = event.params.result
  const request = requestOf(event.params.requestId)
  const signers = new Array<Bytes>(event.params.signers.length)
  for (let i = 0; i < signers.length; i++) signers[i] = event.params.signers[i]
  request.status = 'delivered'
  request.outcome = result.outcome == 1 ? 'answered' : 'declined'
  request.outputHash = result.outputHash
  request.traceRoot = result.traceRoot
  request.retrievalRoot = result.retrievalRoot
  request.modelHash = result.modelHash
  request.resultAmount = result.amount
  request.validUntil = result.validUntil
  request.signers = signers
  request.transmitter = event.params.transmitter
  request.deliveredAt = event.block.timestamp
  request.deliveredAtBlock = event.block.number
  request.deliveredTx = event.transaction.hash
  request.save()
}

export function handleSettled(event: Settled): void {
  const params = event.params
  const request = requestOf(params.requestId)
  const split = splitOf(params.splitHash)
  const net = params.amount.minus(params.fee)
  const total = settleSplit(request, split, net, event)
  if (!params.fee.isZero()) {
    creditOutright(request, 'fee', request.feeRecipient, params.fee, event)
  }
  if (!params.returned.isZero()) {
    creditOutright(request, 'returned', request.payer, params.returned, event)
  }

  request.status = 'settled'
  request.settledAmount = params.amount
  request.settledFee = params.fee
  request.settledReturned = params.returned
  request.splitTotalBefore = total.settledTotal.minus(net)
  request.splitResidue = total.residue
  request.settledAt = event.block.timestamp
  request.settledAtBlock = event.block.number
  request.settledTx = event.transaction.hash
  request.save()
}

export function handleRefunded(event: Refunded): void {
  const request = requestOf(event.params.requestId)
  creditOutright(request, 'refund', event.params.payer, event.params.amount, event)
  request.status = 'refunded'
  request.refundedAmount = event.params.amount
  request.refundedAt = event.block.timestamp
  request.refundedAtBlock = event.block.number
  request.refundedTx = event.transaction.hash
  request.save()
}

export function handleSlashed(event: Slashed): void {
  const request = requestOf(event.params.requestId)
  creditOutright(request, 'slash', request.payer, event.params.amount, event)
  request.status = 'slashed'
  request.slashedSigner = event.params.signer
  request.slashedAmount = event.params.amount
  request.slashedAt = event.block.timestamp
  request.slashedAtBlock = event.block.number
  request.slashedTx = event.transaction.hash
  request.save()
}

/* WHAT GOES ON BESIDE */

export function handleCallbackFailed(event: CallbackFailed): void {
  addNote(event.params.requestId, 'callback_failed', event.params.callback, event)
}

export function handlePermitFailed(event: PermitFailed): void {
  addNote(event.params.requestId, 'permit_failed', event.params.token, event)
}

export function handleWithdrawn(event: Withdrawn): void {
  payCredit(
    event.params.sequence,
    event.params.account,
    event.params.token,
    event.params.amount,
    event,
  )
}

/* INTERNAL */

/** Many offers may share a split: the first one brings it. */
function createSplit(splitHash: Bytes, terms: OfferPublishedSplitStruct): string {
  const id = splitHash.toHexString()
  if (Split.load(id) != null) return id
  const count = terms.recipients.length
  const recipients = new Array<Bytes>(count)
  const allocations = new Array<BigInt>(count)
  for (let i = 0; i < count; i++) {
    const account = terms.recipients[i]
    recipients[i] = account
    allocations[i] = terms.allocations[i]
    const payee = new SplitShare(id + ':' + account.toHexString())
    payee.chainId = chainId()
    payee.split = id
    payee.account = account
    payee.position = i
    payee.allocation = terms.allocations[i]
    payee.save()
  }
  const split = new Split(id)
  split.chainId = chainId()
  split.splitHash = splitHash
  split.recipients = recipients
  split.allocations = allocations
  split.totalAllocation = terms.totalAllocation
  split.distributionIncentive = terms.distributionIncentive
  split.save()
  return id
}

/** The escrow takes a request only for the epoch that its offer's set is in, so that is the one that it pins. */
function presentEpoch(operatorSet: string): string {
  const set = OperatorSet.load(operatorSet)
  if (set == null) {
    log.critical('operator set {} was never created: an event is missing', [operatorSet])
    return operatorSet
  }
  return set.id + ':' + set.epoch.toString()
}

function addNote(requestId: Bytes, kind: string, address: Bytes, event: ethereum.Event): void {
  const request = requestId.toHexString()
  const note = new RequestNote(request + ':' + kind + ':' + event.logIndex.toString())
  note.chainId = chainId()
  note.request = request
  note.kind = kind
  note.address = address
  note.createdAt = event.block.timestamp
  note.createdAtBlock = event.block.number
  note.createdTx = event.transaction.hash
  note.save()
}

function offerOf(offerHash: Bytes): Offer {
  const offer = Offer.load(offerHash.toHexString())
  if (offer == null) {
    log.critical('offer {} was never published: an event is missing', [offerHash.toHexString()])
    return new Offer(offerHash.toHexString())
  }
  return offer
}

function requestOf(requestId: Bytes): Request {
  const request = Request.load(requestId.toHexString())
  if (request == null) {
    log.critical('request {} was never made: an event is missing', [requestId.toHexString()])
    return new Request(requestId.toHexString())
  }
  return request
}

function splitOf(splitHash: Bytes): Split {
  const split = Split.load(splitHash.toHexString())
  if (split == null) {
    log.critical('split {} was never published: an event is missing', [splitHash.toHexString()])
    return new Split(splitHash.toHexString())
  }
  return split
}
