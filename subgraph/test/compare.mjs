// Compares the indexer with the subgraph on one chain, field by field: reads the chain's logs from a node, runs them through
// the built mappings, reads every entity from the indexer's GraphQL at the same block, and prints what differs.
//
//   node test/compare.mjs --rpc-url http://127.0.0.1:8545 --graphql-url http://127.0.0.1:8080/graphql --deployment deployment.json
//
// Ends with 0 when nothing differs, and prints how much was compared.

import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

import { replay } from './replay.mjs'

// Rows of one query: the most that The Graph's dialect gives.
const PAGE_ROWS_MAX = 1000

// Blocks of one log query, and block headers that are asked for at once.
const RANGE_BLOCKS_MAX = 1000
const HEADERS_IN_FLIGHT_MAX = 32

const PLURALS = { AgentMetadata: 'agentMetadatas', FeePolicy: 'feePolicies', Slash: 'slashes' }

// Returns `{ block, rows, differences }`; a difference is a line of text.
export async function compare({ rpcUrl, graphqlUrl, deployment }) {
  const { _meta: meta } = await query(graphqlUrl, '{ _meta { block { number } } }')
  const block = meta.block.number
  const logs = await logsOf(rpcUrl, deployment, block)
  const { store } = replay({ deployment, logs })
  const differences = []
  let rows = 0
  for (const [name, entity] of store.schema.entities) {
    const expected = store.dump()[name]
    const served = await entitiesOf(graphqlUrl, name, entity, block)
    rows += served.size
    for (const id of new Set([...Object.keys(expected), ...served.keys()])) {
      differences.push(...difference(`${name}[${id}]`, expected[id], served.get(id)))
    }
  }
  return { block, rows, differences }
}

function difference(where, expected, served) {
  if (expected === undefined) return [`${where}: only in the indexer`]
  if (served === undefined) return [`${where}: only in the subgraph`]
  return Object.keys(expected)
    .filter((key) => JSON.stringify(expected[key]) !== JSON.stringify(served[key]))
    .map(
      (key) =>
        `${where}.${key}: ${JSON.stringify(expected[key])} in the subgraph, ${JSON.stringify(served[key])} in the indexer`,
    )
}

/* THE INDEXER */

async function entitiesOf(url, name, entity, block) {
  const root = PLURALS[name] ?? `${name[0].toLowerCase()}${name.slice(1)}s`
  const stored = [...entity.fields].filter(([, field]) => !field.derived)
  const selection = stored
    .map(([key, field]) => (isReference(field) ? `${key} { id }` : key))
    .join(' ')
  const served = new Map()
  for (let last = ''; ; ) {
    const { [root]: page } = await query(
      url,
      `query ($last: ID!, $block: Int!) {
        ${root}(first: ${PAGE_ROWS_MAX}, orderBy: id, where: { id_gt: $last }, block: { number: $block }) { ${selection} }
      }`,
      { last, block },
    )
    for (const row of page) {
      for (const [key, field] of stored) if (isReference(field)) row[key] = idOf(row[key])
      served.set(row.id, row)
    }
    if (page.length < PAGE_ROWS_MAX) return served
    last = page[page.length - 1].id
  }
}

function isReference(field) {
  return !['ID', 'String', 'Bytes', 'Int', 'BigInt', 'Boolean'].includes(field.type) && !field.enum
}

function idOf(value) {
  return Array.isArray(value) ? value.map(({ id }) => id) : (value?.id ?? null)
}

async function query(url, text, variables = {}) {
  const { data, errors } = await post(url, { query: text, variables })
  if (errors !== undefined)
    throw new Error(`${url}: ${errors.map(({ message }) => message).join('; ')}`)
  return data
}

/* THE CHAIN */

export async function logsOf(url, deployment, last) {
  const addresses = Object.values(deployment).filter((value) => /^0x[0-9a-f]{40}$/i.test(value))
  const raw = []
  for (let from = deployment.startBlock; from <= last; from += RANGE_BLOCKS_MAX) {
    const to = Math.min(from + RANGE_BLOCKS_MAX - 1, last)
    const filter = { address: addresses, fromBlock: hex(from), toBlock: hex(to) }
    raw.push(...(await call(url, 'eth_getLogs', [filter])))
  }
  const times = await timesOf(url, [...new Set(raw.map(({ blockNumber }) => blockNumber))])
  return raw.map((log) => ({
    address: log.address,
    topics: log.topics,
    data: log.data,
    blockNumber: Number(log.blockNumber),
    blockHash: log.blockHash,
    blockTime: times.get(log.blockNumber),
    transactionHash: log.transactionHash,
    transactionIndex: Number(log.transactionIndex),
    logIndex: Number(log.logIndex),
  }))
}

async function timesOf(url, numbers) {
  const times = new Map()
  for (let start = 0; start < numbers.length; start += HEADERS_IN_FLIGHT_MAX) {
    const part = numbers.slice(start, start + HEADERS_IN_FLIGHT_MAX)
    const blocks = await Promise.all(
      part.map((number) => call(url, 'eth_getBlockByNumber', [number, false])),
    )
    part.forEach((number, index) => times.set(number, Number(blocks[index].timestamp)))
  }
  return times
}

async function call(url, method, params) {
  const { result, error } = await post(url, { jsonrpc: '2.0', id: 1, method, params })
  if (error !== undefined) throw new Error(`${method}: ${error.message}`)
  return result
}

async function post(url, body) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  return response.json()
}

function hex(number) {
  return `0x${number.toString(16)}`
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values } = parseArgs({
    options: {
      'rpc-url': { type: 'string' },
      'graphql-url': { type: 'string' },
      deployment: { type: 'string' },
    },
  })
  const { block, rows, differences } = await compare({
    rpcUrl: values['rpc-url'],
    graphqlUrl: values['graphql-url'],
    deployment: JSON.parse(readFileSync(values.deployment, 'utf8')),
  })
  for (const line of differences) console.log(line)
  console.log(`${rows} entities compared at block ${block}, ${differences.length} differences`)
  process.exit(differences.length === 0 ? 0 : 1)
}
