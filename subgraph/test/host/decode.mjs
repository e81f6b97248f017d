// A log's parameters as graph-node hands them to a mapping.

import { AbiCoder, Fragment } from 'ethers'

import { EthereumKind, bytesOf } from './memory.mjs'

const lossy = new TextDecoder('utf-8')

// The event of an ABI that a manifest's signature names, e.g. `Transfer(indexed address,indexed address,uint256)`.
export function eventOf(abi, signature) {
  const events = abi.filter(({ type }) => type === 'event').map((item) => Fragment.from(item))
  const event = events.find((candidate) => manifestSignature(candidate) === signature)
  if (event === undefined) throw new Error(`${signature}: no such event in the ABI`)
  return event
}

export function manifestSignature(event) {
  const inputs = event.inputs.map((input) => (input.indexed ? 'indexed ' : '') + bare(input))
  return `${event.name}(${inputs.join(',')})`
}

export function matches(event, log) {
  const indexed = event.inputs.filter((input) => input.indexed).length
  return log.topics[0] === event.topicHash && log.topics.length === indexed + 1
}

export function decode(event, log) {
  const plain = event.inputs.filter((input) => !input.indexed)
  const values = AbiCoder.defaultAbiCoder().decode(plain.map(decodable), log.data)
  let topic = 1
  let position = 0
  return event.inputs.map((input) => {
    if (!input.indexed) return { name: input.name, value: valueOf(input, values[position++]) }
    const word = log.topics[topic++]
    // What has no fixed size is only there as its hash.
    const hashed = ['string', 'bytes'].includes(input.type) || input.isArray() || input.isTuple()
    if (hashed) {
      return { name: input.name, value: { kind: EthereumKind.FIXED_BYTES, value: bytesOf(word) } }
    }
    const [value] = AbiCoder.defaultAbiCoder().decode([input.type], word)
    return { name: input.name, value: valueOf(input, value) }
  })
}

function bare(input) {
  if (input.isArray()) return `${bare(input.arrayChildren)}[]`
  if (input.isTuple()) return `(${input.components.map(bare).join(',')})`
  return input.type
}

// Strings are decoded as bytes: a chain's strings need not be UTF-8, and graph-node does not stop at those that are not.
function decodable(input) {
  if (input.isArray()) return `${decodable(input.arrayChildren)}[]`
  if (input.isTuple()) return `tuple(${input.components.map(decodable).join(',')})`
  return input.type === 'string' ? 'bytes' : input.type
}

function valueOf(input, value) {
  if (input.isArray()) {
    const items = Array.from(value, (item) => valueOf(input.arrayChildren, item))
    return { kind: EthereumKind.ARRAY, value: items }
  }
  if (input.isTuple()) {
    const items = input.components.map((component, index) => valueOf(component, value[index]))
    return { kind: EthereumKind.TUPLE, value: items }
  }
  if (input.type === 'address') return { kind: EthereumKind.ADDRESS, value: bytesOf(value) }
  if (input.type === 'bool') return { kind: EthereumKind.BOOL, value }
  if (input.type === 'bytes') return { kind: EthereumKind.BYTES, value: bytesOf(value) }
  if (input.type === 'string') {
    // PostgreSQL has no place for U+0000, so graph-node leaves it out.
    return { kind: EthereumKind.STRING, value: lossy.decode(bytesOf(value)).replaceAll('\0', '') }
  }
  if (input.type.startsWith('bytes')) {
    return { kind: EthereumKind.FIXED_BYTES, value: bytesOf(value) }
  }
  if (input.type.startsWith('uint')) return { kind: EthereumKind.UINT, value }
  if (input.type.startsWith('int')) return { kind: EthereumKind.INT, value }
  throw new Error(`${input.name}: a parameter of type ${input.type} is not decoded here`)
}
