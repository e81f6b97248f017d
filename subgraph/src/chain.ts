import { BigInt, dataSource, ethereum, log } from '@graphprotocol/graph-ts'

/** The id of the chain that is being indexed. The host knows only the name of its network. */
export function chainId(): BigInt {
  const network = dataSource.network()
  if (network == 'base') return BigInt.fromI32(8453)
  if (network == 'base-sepolia') return BigInt.fromI32(84532)
  if (network == 'optimism') return BigInt.fromI32(10)
  if (network == 'arbitrum-one') return BigInt.fromI32(42161)
  if (network == 'anvil') return BigInt.fromI32(31337)
  log.critical('network {}: add its chain id to src/chain.ts', [network])
  return BigInt.zero()
}

/** The id of an entity that stands for one log: unique in its chain, also across reorgs. */
export function logId(event: ethereum.Event): string {
  return event.transaction.hash.toHexString() + ':' + event.logIndex.toString()
}
