import { Address, BigInt, Bytes, crypto, ethereum, log } from '@graphprotocol/graph-ts'
import {
  MetadataSet,
  Registered,
  Transfer,
  URIUpdated,
} from '../generated/AgentRegistry/AgentRegistry'
import { Agent, AgentMetadata } from '../generated/schema'
import { chainId } from './chain'

/** The reserved metadata key: its value is the account that an agent is paid at. */
const WALLET_KEY = 'agentWallet'

/** Longest metadata key in bytes that stands in an id as it is: a database key has a limit, a metadata key has none. */
const ID_KEY_BYTES_MAX = 128

export function handleRegistered(event: Registered): void {
  const agent = loadOrCreate(event.params.agentId, event)
  agent.owner = event.params.owner
  agent.agentURI = event.params.agentURI
  agent.save()
}

export function handleMetadataSet(event: MetadataSet): void {
  const agent = load(event.params.agentId, event)
  if (agent == null) return
  const key = event.params.metadataKey
  const value = event.params.metadataValue
  if (key == WALLET_KEY) agent.agentWallet = walletOf(value)
  agent.save()

  const id = metadataId(agent.id, key)
  let metadata = AgentMetadata.load(id)
  if (metadata == null) {
    metadata = new AgentMetadata(id)
    metadata.chainId = agent.chainId
    metadata.agent = agent.id
    metadata.key = key
  }
  metadata.value = value
  metadata.updatedAt = event.block.timestamp
  metadata.save()
}

export function handleURIUpdated(event: URIUpdated): void {
  const agent = load(event.params.agentId, event)
  if (agent == null) return
  agent.agentURI = event.params.newURI
  agent.save()
}

export function handleTransfer(event: Transfer): void {
  const agent = loadOrCreate(event.params.tokenId, event)
  agent.owner = event.params.to
  agent.save()
}

export function agentIdOf(agentId: BigInt): string {
  return chainId().toString() + ':' + agentId.toString()
}

/** Null for an agent that was registered before the start block, which the subgraph then knows nothing of. */
function load(agentId: BigInt, event: ethereum.Event): Agent | null {
  const id = agentIdOf(agentId)
  const agent = Agent.load(id)
  if (agent == null) {
    log.warning('agent {} was never registered: is the start block right?', [id])
    return null
  }
  agent.updatedAt = event.block.timestamp
  return agent
}

/** A registry mints before it says `Registered`, so whichever event comes first makes the agent. */
function loadOrCreate(agentId: BigInt, event: ethereum.Event): Agent {
  const id = agentIdOf(agentId)
  let agent = Agent.load(id)
  if (agent == null) {
    agent = new Agent(id)
    agent.chainId = chainId()
    agent.agentId = agentId
    agent.registry = event.address
    agent.owner = Address.zero()
    agent.agentURI = ''
    agent.createdAt = event.block.timestamp
    agent.createdAtBlock = event.block.number
    agent.createdTx = event.transaction.hash
  }
  agent.updatedAt = event.block.timestamp
  return agent
}

function metadataId(agent: string, key: string): string {
  const bytes = Bytes.fromUTF8(key)
  if (bytes.length <= ID_KEY_BYTES_MAX && !key.startsWith('#')) return agent + ':' + key
  return agent + ':#' + crypto.keccak256(bytes).toHexString().slice(2)
}

/** The registries write 20 bytes; an empty or other value clears the wallet. */
function walletOf(value: Bytes): Bytes | null {
  return value.length == 20 && value != Address.zero() ? value : null
}
