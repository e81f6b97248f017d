import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { test } from 'node:test'

import { compare } from './compare.mjs'
import { DEPLOYMENT, account, deliver, fund, market } from './host/chain.mjs'

test('an indexer that serves the same is found the same, and one that does not is told apart', async () => {
  const chain = market()
  const settled = fund(chain, 'one')
  deliver(chain, settled)
  const { store } = chain.replay()
  const dump = store.dump()
  const servers = await Promise.all([serve(answerOf(chain, dump)), serve(refuse)])
  const [rpcUrl, refusingUrl] = servers.map(({ url }) => url)
  try {
    const urls = { rpcUrl, graphqlUrl: rpcUrl, deployment: DEPLOYMENT }
    const same = await compare(urls)
    assert.deepEqual(same.differences, [])
    assert.equal(same.block, Number(chain.number))
    assert.equal(same.rows, Object.values(dump).flatMap(Object.keys).length)

    dump.Request[settled].settledFee = '20001'
    dump.Request[settled].epochs = ['1:2']
    dump.Request[settled].offer = account('another')
    delete dump.Agent['31337:0']
    dump.Token[account('extra')] = { id: account('extra') }
    const { differences } = await compare(urls)
    assert.deepEqual(
      differences.map((line) => line.split(':').slice(0, -1).join(':').split(': ')[0]).sort(),
      [
        'Agent[31337:0]',
        `Request[${settled}].epochs`,
        `Request[${settled}].offer`,
        `Request[${settled}].settledFee`,
        `Token[${account('extra')}]`,
      ].sort(),
    )
    await assert.rejects(compare({ ...urls, graphqlUrl: refusingUrl }), /no such field/)
  } finally {
    for (const { server } of servers) server.close()
  }
})

// A node and an indexer in one: answers JSON-RPC from the chain's logs and GraphQL from the dump.
function answerOf(chain, dump) {
  return ({ method, params, query, variables }) => {
    if (method === 'eth_getLogs') {
      const [{ fromBlock, toBlock, address }] = params
      const logs = chain.logs.filter(
        (log) =>
          Number(fromBlock) <= log.blockNumber &&
          log.blockNumber <= Number(toBlock) &&
          address.includes(log.address),
      )
      return {
        result: logs.map((log) => ({ ...log, blockNumber: `0x${log.blockNumber.toString(16)}` })),
      }
    }
    if (method === 'eth_getBlockByNumber') {
      const log = chain.logs.find(({ blockNumber }) => blockNumber === Number(params[0]))
      return { result: { timestamp: `0x${log.blockTime.toString(16)}` } }
    }
    if (query.includes('_meta'))
      return { data: { _meta: { block: { number: Number(chain.number) } } } }
    const [, root, selection] = /(\w+)\(first[\s\S]*?\) \{ (.*) \}\s*\}$/.exec(query.trim())
    const name = Object.keys(dump).find((entity) => isRoot(root, entity))
    const references = new Set([...selection.matchAll(/(\w+) \{ id \}/g)].map(([, key]) => key))
    const rows = Object.values(dump[name]).filter(({ id }) => variables.last < id)
    return { data: { [root]: rows.map((row) => linked(row, references)) } }
  }
}

// An indexer that knows its head and none of the fields.
function refuse({ query }) {
  if (query.includes('_meta')) return { data: { _meta: { block: { number: 0 } } } }
  return { errors: [{ message: 'no such field' }] }
}

function isRoot(root, entity) {
  const singular = lowerFirst(entity)
  return [`${singular}s`, `${singular}es`, `${singular.slice(0, -1)}ies`].includes(root)
}

function linked(row, references) {
  const link = (value) =>
    Array.isArray(value) ? value.map((id) => ({ id })) : value && { id: value }
  return Object.fromEntries(
    Object.entries(row).map(([key, value]) => [key, references.has(key) ? link(value) : value]),
  )
}

function lowerFirst(name) {
  return name[0].toLowerCase() + name.slice(1)
}

async function serve(answer) {
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const part of request) body += part
    response.end(JSON.stringify(answer(JSON.parse(body))))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, url: `http://127.0.0.1:${server.address().port}` }
}
