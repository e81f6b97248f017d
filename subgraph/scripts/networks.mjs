// Writes networks.json and the manifest's own addresses from contracts/deployments.json, the one file that says where the
// contracts live. With --check it writes nothing and fails when a committed file differs.
//
// A contract that is not deployed on a network has the zero address there, which emits nothing.

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseDocument } from 'yaml'

const subgraph = join(dirname(fileURLToPath(import.meta.url)), '..')
const ZERO_ADDRESS = `0x${'0'.repeat(40)}`

// The network whose addresses the manifest itself carries.
const MANIFEST_NETWORK = 'base'

const DATA_SOURCES = [
  'AgentRegistry',
  'ReputationRegistry',
  'ValidationRegistry',
  'OperatorRegistry',
  'RequestEscrow',
  'EntryPolicy',
  'PlatformToken',
]

function sourcesOf({ network, contracts }) {
  const deployed = Object.values(contracts).filter((contract) => contract.status === 'deployed')
  // Before the first of them there is nothing to read.
  const first = Math.min(...deployed.flatMap(({ startBlock }) => startBlock ?? []))
  const entries = DATA_SOURCES.map((name) => {
    const { address, status, startBlock } = contracts[name]
    if (status !== 'deployed') return [name, { address: ZERO_ADDRESS, startBlock: first }]
    if (startBlock === undefined) {
      throw new Error(`deployments.json: ${network}.${name} is deployed but has no startBlock`)
    }
    return [name, { address, startBlock }]
  })
  return Object.fromEntries(entries)
}

const deploymentsFile = join(subgraph, '..', 'contracts', 'deployments.json')
const { chains } = JSON.parse(readFileSync(deploymentsFile, 'utf8'))
const networks = Object.fromEntries(
  Object.values(chains).map((chain) => [chain.network, sourcesOf(chain)]),
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
