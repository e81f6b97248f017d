import { FeeChanged, TokenAllowed } from '../generated/EntryPolicy/EntryPolicy'
import { FeePolicy, Token } from '../generated/schema'
import { chainId } from './chain'

export function handleTokenAllowed(event: TokenAllowed): void {
  const token = new Token(event.params.token.toHexString())
  token.chainId = chainId()
  token.address = event.params.token
  token.allowed = event.params.allowed
  token.updatedAt = event.block.timestamp
  token.save()
}

export function handleFeeChanged(event: FeeChanged): void {
  const policy = new FeePolicy(event.address.toHexString())
  policy.chainId = chainId()
  policy.policy = event.address
  policy.feeBps = event.params.feeBps
  policy.feeRecipient = event.params.feeRecipient
  policy.updatedAt = event.block.timestamp
  policy.save()
}
