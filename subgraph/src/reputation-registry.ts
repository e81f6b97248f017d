import { Address, BigInt, log } from '@graphprotocol/graph-ts'
import {
  FeedbackRevoked,
  NewFeedback,
  ResponseAppended,
} from '../generated/ReputationRegistry/ReputationRegistry'
import { Feedback, FeedbackResponse } from '../generated/schema'
import { agentIdOf } from './agent-registry'
import { chainId, logId } from './chain'

export function handleNewFeedback(event: NewFeedback): void {
  const params = event.params
  const feedback = new Feedback(
    feedbackId(params.agentId, params.clientAddress, params.feedbackIndex),
  )
  feedback.chainId = chainId()
  feedback.agent = agentIdOf(params.agentId)
  feedback.clientAddress = params.clientAddress
  feedback.feedbackIndex = params.feedbackIndex
  feedback.value = params.value
  feedback.valueDecimals = params.valueDecimals
  feedback.tag1 = params.tag1
  feedback.tag2 = params.tag2
  feedback.endpoint = params.endpoint
  feedback.feedbackURI = params.feedbackURI
  feedback.feedbackHash = params.feedbackHash
  feedback.isRevoked = false
  feedback.responseCount = 0
  feedback.createdAt = event.block.timestamp
  feedback.createdAtBlock = event.block.number
  feedback.createdTx = event.transaction.hash
  feedback.save()
}

export function handleFeedbackRevoked(event: FeedbackRevoked): void {
  const params = event.params
  const id = feedbackId(params.agentId, params.clientAddress, params.feedbackIndex)
  const feedback = Feedback.load(id)
  if (feedback == null) {
    log.warning('feedback {} was never given: is the start block right?', [id])
    return
  }
  feedback.isRevoked = true
  feedback.revokedAt = event.block.timestamp
  feedback.save()
}

export function handleResponseAppended(event: ResponseAppended): void {
  const params = event.params
  const id = feedbackId(params.agentId, params.clientAddress, params.feedbackIndex)
  const feedback = Feedback.load(id)
  if (feedback == null) {
    log.warning('feedback {} was never given: is the start block right?', [id])
    return
  }
  feedback.responseCount += 1
  feedback.save()

  const response = new FeedbackResponse(
    id + ':' + params.responder.toHexString() + ':' + logId(event),
  )
  response.chainId = chainId()
  response.feedback = id
  response.agent = agentIdOf(params.agentId)
  response.responder = params.responder
  response.responseURI = params.responseURI
  response.responseHash = params.responseHash
  response.createdAt = event.block.timestamp
  response.createdAtBlock = event.block.number
  response.createdTx = event.transaction.hash
  response.save()
}

function feedbackId(agentId: BigInt, client: Address, index: BigInt): string {
  return agentIdOf(agentId) + ':' + client.toHexString() + ':' + index.toString()
}
