// Runs the built mappings on raw logs, as graph-node would: a fresh instance of the data source's module per event, host
// functions for what graph-ts imports, and a store that checks what is saved. A handler that fails stops everything.

import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { keccak256 } from 'ethers'
import { parse } from 'yaml'

import { decode, eventOf, matches } from './decode.mjs'
import { Memory, bytesOf, hexOf } from './memory.mjs'
import { Schema } from './schema.mjs'
import { Store } from './store.mjs'

const build = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'build')
const LEVELS = ['critical', 'error', 'warning', 'info', 'debug']

export class Host {
  // `addresses` gives each data source's contract by the data source's name; one that it does not name sees no log.
  constructor({ network, addresses }) {
    const manifest = parse(readFileSync(join(build, 'subgraph.yaml'), 'utf8'))
    this.network = network
    this.store = new Store(new Schema(readFileSync(join(build, 'schema.graphql'), 'utf8')))
    this.messages = []
    this.sources = manifest.dataSources
      .filter(({ name }) => addresses[name] !== undefined)
      .map((source) => sourceOf(source, addresses[source.name].toLowerCase()))
  }

  // `logs` are whole transactions in the order of the chain.
  run(logs) {
    for (const log of logs) {
      for (const source of this.sources) {
        if (source.address !== log.address.toLowerCase()) continue
        for (const handler of source.handlers) {
          if (matches(handler.event, log)) this.handle(source, handler, log, logs)
        }
      }
    }
  }

  handle(source, handler, log, logs) {
    const instance = new WebAssembly.Instance(source.module, this.imports())
    this.memory = new Memory(instance.exports)
    instance.exports._start()
    const receiptLogs = handler.receipt
      ? logs.filter(({ transactionHash }) => transactionHash === log.transactionHash)
      : null
    const event = this.memory.newEvent(log, decode(handler.event, log), receiptLogs)
    try {
      instance.exports[handler.name](event)
    } catch (error) {
      throw new Error(
        `${handler.name} of ${source.name} at block ${log.blockNumber}: ${error.message}`,
      )
    }
  }

  imports() {
    const text = (pointer) => this.memory.string(pointer)
    const bytes = (pointer) => this.memory.bytes(pointer)
    const integer = (pointer) => this.memory.bigInt(pointer)
    const arithmetic = (operation) => (left, right) =>
      this.memory.newBigInt(operation(integer(left), integer(right)))
    const functions = {
      env: {
        abort: (message, file, line, column) => {
          const what = message === 0 ? 'aborted' : text(message)
          throw new Error(`${what} at ${file === 0 ? '?' : text(file)}:${line}:${column}`)
        },
      },
      index: {
        'store.get': (name, id) => {
          const entity = this.store.get(text(name), text(id))
          return entity === undefined ? 0 : this.memory.newEntity(entity)
        },
        'store.set': (name, id, entity) => {
          this.store.set(text(name), text(id), this.memory.entity(entity))
        },
        'crypto.keccak256': (input) => this.memory.newBytes(bytesOf(keccak256(bytes(input)))),
        'log.log': (level, message) => {
          const entry = { level: LEVELS[level], message: text(message) }
          if (entry.level === 'critical') throw new Error(entry.message)
          this.messages.push(entry)
        },
      },
      datasource: {
        'dataSource.network': () => this.memory.newString(this.network),
      },
      conversion: {
        'typeConversion.bytesToHex': (input) => this.memory.newString(hexOf(bytes(input))),
        'typeConversion.bigIntToString': (input) =>
          this.memory.newString(integer(input).toString()),
      },
      numbers: {
        'bigInt.plus': arithmetic((left, right) => left + right),
        'bigInt.minus': arithmetic((left, right) => left - right),
        'bigInt.times': arithmetic((left, right) => left * right),
        'bigInt.dividedBy': arithmetic((left, right) => left / right),
      },
    }
    // What is imported but not listed belongs to classes that the mappings do not use.
    const strict = (namespace, members) =>
      new Proxy(members, {
        get: (target, name) =>
          target[name] ??
          (() => {
            throw new Error(`host function ${namespace}.${String(name)} is not provided`)
          }),
      })
    return Object.fromEntries(
      Object.entries(functions).map(([namespace, members]) => [
        namespace,
        strict(namespace, members),
      ]),
    )
  }
}

function sourceOf(source, address) {
  const file = ({ file: path }) => join(build, path)
  const abi = source.mapping.abis.find(({ name }) => name === source.source.abi)
  const items = JSON.parse(readFileSync(file(abi), 'utf8'))
  return {
    name: source.name,
    address,
    module: new WebAssembly.Module(readFileSync(file(source.mapping))),
    handlers: source.mapping.eventHandlers.map(({ event, handler, receipt }) => ({
      name: handler,
      event: eventOf(items, event),
      receipt: receipt === true,
    })),
  }
}
