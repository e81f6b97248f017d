// Writes abis/<Contract>.json: the events of the contracts' artifacts, which is all that the mappings read.
// With --check it writes nothing and fails when a committed file differs. With --from DIR it reads artifacts elsewhere.

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const subgraph = join(dirname(fileURLToPath(import.meta.url)), '..')

// ERC-8004's reputation and validation registries may come from elsewhere: where the project has no artifact of its own,
// the committed file (the events of the standard) stands.
const CONTRACTS = [
  { name: 'AgentRegistry', required: true },
  { name: 'OperatorRegistry', required: true },
  { name: 'EntryPolicy', required: true },
  { name: 'RequestEscrow', required: true },
  { name: 'PlatformToken', required: true },
  { name: 'ReputationRegistry', required: true },
  { name: 'ValidationRegistry', required: true },
]

const check = process.argv.includes('--check')
const from = process.argv.includes('--from')
  ? process.argv[process.argv.indexOf('--from') + 1]
  : join(subgraph, '..', 'contracts', 'artifacts')

let stale = 0
for (const { name, required } of CONTRACTS) {
  const artifact = join(from, `${name}.json`)
  if (!existsSync(artifact)) {
    if (!required) continue
    console.error(`abis: ${artifact} does not exist; build the contracts first`)
    process.exit(1)
  }
  const parsed = JSON.parse(readFileSync(artifact, 'utf8'))
  const abi = Array.isArray(parsed) ? parsed : parsed.abi
  const events = abi.filter((item) => item.type === 'event')
  const text = `${JSON.stringify(events, null, 2)}\n`
  const target = join(subgraph, 'abis', `${name}.json`)
  if (existsSync(target) && readFileSync(target, 'utf8') === text) continue
  if (check) {
    console.error(`abis: ${name}.json differs from the contract's artifact; run \`npm run abis\``)
    stale += 1
  } else {
    writeFileSync(target, text)
  }
}
process.exit(stale === 0 ? 0 : 1)
