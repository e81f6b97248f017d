// Replays a chain's raw logs through the built mappings and prints the entities that come out, so that they can be compared
// with what the indexer serves for the same logs:
//
//   node test/replay.mjs < chain.json > entities.json
//
// In: { "deployment": <protocol's Deployment>, "logs": [{ "address", "topics": [..], "data", "blockNumber", "blockHash",
// "blockTime", "transactionHash", "transactionIndex", "logIndex" }, ..] }, logs in the order of the chain, whole transactions.
// Out: { "<Entity>": { "<id>": { <field>: <value>, .. } } }: derived fields left out, wide integers as decimal strings.

import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

import { Host } from './host/host.mjs'

const NETWORKS = {
  10: 'optimism',
  8453: 'base',
  31337: 'anvil',
  42161: 'arbitrum-one',
  84532: 'base-sepolia',
}

export function replay({ deployment, logs }) {
  const network = NETWORKS[deployment.chainId]
  if (network === undefined) throw new Error(`chain ${deployment.chainId}: no network of that id`)
  const host = new Host({
    network,
    addresses: {
      AgentRegistry: deployment.agentRegistry,
      OperatorRegistry: deployment.operatorRegistry,
      EntryPolicy: deployment.entryPolicy,
      RequestEscrow: deployment.requestEscrow,
      PlatformToken: deployment.platformToken,
      ReputationRegistry: deployment.reputationRegistry,
      ValidationRegistry: deployment.validationRegistry,
    },
  })
  host.run(logs)
  return host
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { store } = replay(JSON.parse(readFileSync(0, 'utf8')))
  process.stdout.write(`${JSON.stringify(store.dump(), null, 2)}\n`)
}
