import assert from 'node:assert/strict'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Fragment } from 'ethers'
import { parse } from 'yaml'

import { manifestSignature } from './host/decode.mjs'
import { Schema } from './host/schema.mjs'

const subgraph = join(dirname(fileURLToPath(import.meta.url)), '..')
const read = (...path) => readFileSync(join(subgraph, ...path), 'utf8')
const manifest = parse(read('subgraph.yaml'))
const schema = new Schema(read('schema.graphql'))

test('every event that our contracts count has a handler', () => {
  for (const source of manifest.dataSources) {
    const handled = new Set(source.mapping.eventHandlers.map(({ event }) => event))
    const events = JSON.parse(read('abis', `${source.name}.json`)).map((item) =>
      Fragment.from(item),
    )
    for (const event of events) {
      if (event.inputs[0]?.name !== 'sequence') continue
      assert.ok(
        handled.has(manifestSignature(event)),
        `${source.name}: ${event.name} is not handled`,
      )
    }
  }
})

test('every network of networks.json names every data source', () => {
  const names = manifest.dataSources.map(({ name }) => name).sort()
  for (const [network, sources] of Object.entries(JSON.parse(read('networks.json')))) {
    assert.deepEqual(Object.keys(sources).sort(), names, network)
    for (const [name, { address, startBlock }] of Object.entries(sources)) {
      assert.match(address, /^0x[0-9a-fA-F]{40}$/, `${network}.${name}.address`)
      assert.ok(Number.isSafeInteger(startBlock) && 0 < startBlock, `${network}.${name}.startBlock`)
    }
  }
})

// The indexer serves more: what is not on the chain, or cannot be had in a mapping.
const INDEXER_ONLY = new Set([
  'AgentRegistrationFile',
  'UndecodableLog',
  'Agent.registrationFile',
  'Feedback.backedAmount',
  'Feedback.backedRequest',
  'Request.createdGasUsed',
  'Request.deliveredGasUsed',
  'Request.payments',
  'Token.offers',
])

test('the indexer serves the same entities, fields and types', () => {
  const served = servedByIndexer(join(subgraph, '..', 'indexer', 'src', 'entity'))
  assert.ok(20 < served.size, 'the tables of the indexer were found and read')
  const missing = []
  for (const [name, { fields }] of schema.entities) {
    const entity = served.get(name)
    if (entity === undefined) missing.push(`${name}: only in the subgraph`)
    for (const [key, field] of entity === undefined ? [] : fields) {
      const other = entity.get(key)
      if (other === undefined) missing.push(`${name}.${key}: only in the subgraph`)
      else if (!isSame(field, other)) missing.push(`${name}.${key}: ${JSON.stringify(other)} there`)
    }
  }
  for (const [name, entity] of served) {
    if (INDEXER_ONLY.has(name)) continue
    const fields = schema.entities.get(name)?.fields
    if (fields === undefined) missing.push(`${name}: only in the indexer`)
    for (const key of fields === undefined ? [] : entity.keys()) {
      if (!fields.has(key) && !INDEXER_ONLY.has(`${name}.${key}`)) {
        missing.push(`${name}.${key}: only in the indexer`)
      }
    }
  }
  assert.deepEqual(missing, [])
})

function isSame(field, { kind, type, nullable }) {
  if (kind === 'Many') return field.list && field.type === type
  if (kind === 'One') return !field.list && field.type === type
  if (field.required === nullable) return false
  if (kind === 'List') return field.list && field.type === type
  return !field.list && field.type === (type ?? kind)
}

// The indexer's tables say `field("name", "column", Kind::X)`, `one("name", "column", "Entity", ..)` and `many(..)`.
function servedByIndexer(folder) {
  assert.ok(existsSync(folder), `${folder} does not exist`)
  const sources = readdirSync(folder)
    .filter((name) => name.endsWith('.rs'))
    .map((name) => readFileSync(join(folder, name), 'utf8'))
  const enums = new Map()
  for (const source of sources) {
    for (const [, constant, name] of source.matchAll(
      /static (\w+): Enumeration\s*=\s*Enumeration\s*\{\s*name: "(\w+)"/g,
    )) {
      enums.set(constant, name)
    }
  }
  const served = new Map()
  for (const source of sources) {
    const constants = constantsOf(source, enums)
    for (const [, name, body] of source.matchAll(
      /Entity = Entity \{\s*name: "(\w+)",[\s\S]*?fields: &\[([\s\S]*?)\n {4}\],/g,
    )) {
      served.set(name, fieldsOf(body, constants, enums))
    }
  }
  return served
}

// Fields that several entities of a file share.
function constantsOf(source, enums) {
  const constants = new Map([
    ['ID', ['id', { kind: 'ID', nullable: false }]],
    ['CHAIN_ID', ['chainId', { kind: 'BigInt', nullable: false }]],
  ])
  for (const [, constant, expression] of source.matchAll(/const (\w+): Field =([\s\S]*?);\n/g)) {
    const [[name, field]] = fieldsOf(expression, constants, enums)
    constants.set(constant, [name, field])
  }
  return constants
}

function fieldsOf(body, constants, enums) {
  const fields = new Map()
  const pattern =
    /\b(field|one|many)\(\s*"(\w+)",\s*"\w+",\s*(?:Kind::(\w+)(?:\((&?)(?:Element::)?(\w+)\))?|"(\w+)")[^)]*\)((?:\s*\.(?:or_null|about)\((?:"[^"]*")?\))*)|^\s*([A-Z_0-9]+),$/gm
  for (const match of body.matchAll(pattern)) {
    const [, call, name, kind, reference, argument, entity, suffix, constant] = match
    if (constant !== undefined) {
      const known = constants.get(constant)
      assert.ok(known, `the shared field ${constant} was not found`)
      fields.set(...known)
    } else if (call === 'field') {
      const nullable = suffix.includes('or_null')
      const type = reference === '&' ? enums.get(argument) : argument
      fields.set(name, { kind: kind === 'Id' ? 'ID' : kind, type, nullable })
    } else {
      fields.set(name, { kind: call === 'one' ? 'One' : 'Many', type: entity, nullable: true })
    }
  }
  return fields
}
