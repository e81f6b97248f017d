import { log } from '@graphprotocol/graph-ts'
import {
  ValidationRequest,
  ValidationResponse,
} from '../generated/ValidationRegistry/ValidationRegistry'
import { Validation } from '../generated/schema'
import { agentIdOf } from './agent-registry'
import { chainId } from './chain'

export function handleValidationRequest(event: ValidationRequest): void {
  const params = event.params
  const validation = new Validation(params.requestHash.toHexString())
  validation.chainId = chainId()
  validation.requestHash = params.requestHash
  validation.agent = agentIdOf(params.agentId)
  validation.validatorAddress = params.validatorAddress
  validation.requestURI = params.requestURI
  validation.createdAt = event.block.timestamp
  validation.createdAtBlock = event.block.number
  validation.createdTx = event.transaction.hash
  validation.save()
}

export function handleValidationResponse(event: ValidationResponse): void {
  const params = event.params
  const validation = Validation.load(params.requestHash.toHexString())
  if (validation == null) {
    log.warning('validation {} was never requested: is the start block right?', [
      params.requestHash.toHexString(),
    ])
    return
  }
  validation.response = params.response
  validation.responseURI = params.responseURI
  validation.responseHash = params.responseHash
  validation.tag = params.tag
  validation.respondedAt = event.block.timestamp
  validation.respondedTx = event.transaction.hash
  validation.save()
}
