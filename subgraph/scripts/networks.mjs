// Writes networks.json and the manifest's own addresses from contracts/deployments.json, the one file that says where the
// contracts live. With --check it writes nothing and fails when a committed file differs.
//
// contracts/deployments.json holds the deployments by network name, each as `protocol::deployment::Deployment` reads it:
//   { "base": { "chainId": 8453, "startBlock": 1, "agentRegistry": "0x..", .. }, .. }
// A network that it does not name yet keeps the ERC-8004 registries that are deployed there, and the zero address, which
// emits nothing, for our own contracts.

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseDocument } from 'yaml'

const subgraph = join(dirname(fileURLToPath(import.meta.url)), '..')
const ZERO_ADDRESS = `0x${'0'.repeat(40)}`

// The network whose addresses the manifest itself carries.
const MANIFEST_NETWORK = 'base'

const DATA_SOURCES = {
  AgentRegistry: 'agentRegistry',
  ReputationRegistry: 'reputationRegistry',
  ValidationRegistry: 'validationRegistry',
  OperatorRegistry: 'operatorRegistry',
  RequestEscrow: 'requestEscrow',
  EntryPolicy: 'entryPolicy',
  PlatformToken: 'platformToken',
}

// ERC-8004's own deployments, with the blocks that they were made in.
const CANONICAL = {
  base: {
    chainId: 8453,
    AgentRegistry: { address: '0x8004A169FB4a3325136EB29fA0ceB6D2e539a432', startBlock: 41663799 },
    ReputationRegistry: {
      address: '0x8004BAa17C55a88189AE136b182e5fdA19dE9b63',
      startBlock: 41663801,
    },
  },
  'base-sepolia': {
    chainId: 84532,
    AgentRegistry: { address: '0x8004A818BFB912233c491871b3d84c89A494BD9e', startBlock: 37174254 },
    ReputationRegistry: {
      address: '0x8004B663056A597Dffe9eCcC1965A193B7388713',
      startBlock: 37174254,
    },
  },
}

function networkOf(name, deployment) {
  const canonical = CANONICAL[name]
  if (deployment !== undefined && deployment.chainId !== canonical.chainId) {
    throw new Error(
      `deployments.json: ${name}.chainId is ${deployment.chainId}, but ${name} is ${canonical.chainId}`,
    )
  }
  const sources = {}
  for (const [source, field] of Object.entries(DATA_SOURCES)) {
    const known = canonical[source]
    const address = deployment === undefined ? known?.address : deployment[field]
    const isCanonical =
      address !== undefined && address.toLowerCase() === known?.address.toLowerCase()
    // A registry that was there before us has agents from before us.
    const startBlock = isCanonical
      ? known.startBlock
      : (deployment?.startBlock ?? canonical.AgentRegistry.startBlock)
    sources[source] = { address: address ?? ZERO_ADDRESS, startBlock }
  }
  return sources
}

const deploymentsFile = join(subgraph, '..', 'contracts', 'deployments.json')
const deployments = existsSync(deploymentsFile)
  ? JSON.parse(readFileSync(deploymentsFile, 'utf8'))
  : {}
const networks = Object.fromEntries(
  Object.keys(CANONICAL).map((name) => [name, networkOf(name, deployments[name])]),
)

const manifest = parseDocument(readFileSync(join(subgraph, 'subgraph.yaml'), 'utf8'))
for (const source of manifest.get('dataSources').items) {
  const { address, startBlock } = networks[MANIFEST_NETWORK][source.get('name')]
  source.set('network', MANIFEST_NETWORK)
  source.setIn(['source', 'address'], address)
  source.getIn(['source', 'address'], true).type = 'QUOTE_DOUBLE'
  source.setIn(['source', 'startBlock'], startBlock)
}

const files = {
  'networks.json': `${JSON.stringify(networks, null, 2)}\n`,
  'subgraph.yaml': manifest.toString({ lineWidth: 0 }),
}
const check = process.argv.includes('--check')
let stale = 0
for (const [name, text] of Object.entries(files)) {
  const path = join(subgraph, name)
  if (existsSync(path) && readFileSync(path, 'utf8') === text) continue
  if (check) {
    console.error(
      `networks: ${name} differs from contracts/deployments.json; run \`npm run networks\``,
    )
    stale += 1
  } else {
    writeFileSync(path, text)
  }
}
process.exit(stale === 0 ? 0 : 1)
