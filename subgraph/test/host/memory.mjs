// Objects of a mapping's WebAssembly memory, as AssemblyScript lays them out: a pointer leads to the first field, the four
// bytes before it hold the object's size, every reference is a 32-bit pointer and 0 is null.

// The names by which graph-ts exports its classes' runtime ids (`id_of_type`).
const TypeId = {
  String: 0,
  ArrayBuffer: 1,
  Uint8Array: 6,
  ArrayUint8Array: 14,
  ArrayEthereumValue: 15,
  ArrayStoreValue: 16,
  ArrayEventParam: 19,
  ArrayTypedMapEntryStringStoreValue: 21,
  EventParam: 23,
  EthereumTransaction: 24,
  EthereumBlock: 25,
  WrappedBool: 28,
  EthereumValue: 30,
  StoreValue: 31,
  EthereumEvent: 33,
  TypedMapEntryStringStoreValue: 34,
  TypedMapStringStoreValue: 36,
  TransactionReceipt: 1000,
  Log: 1001,
  ArrayH256: 1002,
  ArrayLog: 1003,
}

export const EthereumKind = {
  ADDRESS: 0,
  FIXED_BYTES: 1,
  BYTES: 2,
  INT: 3,
  UINT: 4,
  BOOL: 5,
  STRING: 6,
  FIXED_ARRAY: 7,
  ARRAY: 8,
  TUPLE: 9,
}

const StoreKind = {
  STRING: 0,
  INT: 1,
  BIGDECIMAL: 2,
  BOOL: 3,
  ARRAY: 4,
  NULL: 5,
  BYTES: 6,
  BIGINT: 7,
  INT8: 8,
  TIMESTAMP: 9,
}

export class Memory {
  constructor(exports) {
    this.exports = exports
  }

  // The buffer is another one after memory has grown, so nothing may hold on to a view.
  view() {
    return new DataView(this.exports.memory.buffer)
  }

  /* READING */

  string(pointer) {
    const size = this.view().getUint32(pointer - 4, true)
    return Buffer.from(this.exports.memory.buffer, pointer, size).toString('utf16le')
  }

  bytes(pointer) {
    const start = this.view().getUint32(pointer + 4, true)
    const size = this.view().getUint32(pointer + 8, true)
    return Uint8Array.from(new Uint8Array(this.exports.memory.buffer, start, size))
  }

  bigInt(pointer) {
    return bigIntOfBytes(this.bytes(pointer))
  }

  pointers(pointer) {
    const start = this.view().getUint32(pointer + 4, true)
    const length = this.view().getUint32(pointer + 12, true)
    return Array.from({ length }, (_, index) => this.view().getUint32(start + 4 * index, true))
  }

  // A store entity as a plain object of `{ kind, value }`.
  entity(pointer) {
    const entity = {}
    for (const entry of this.pointers(this.view().getUint32(pointer, true))) {
      const key = this.string(this.view().getUint32(entry, true))
      entity[key] = this.storeValue(this.view().getUint32(entry + 4, true))
    }
    return entity
  }

  storeValue(pointer) {
    const kind = this.view().getInt32(pointer, true)
    const data = this.view().getUint32(pointer + 8, true)
    switch (kind) {
      case StoreKind.STRING:
        return { kind: 'String', value: this.string(data) }
      case StoreKind.INT:
        return { kind: 'Int', value: this.view().getInt32(pointer + 8, true) }
      case StoreKind.BOOL:
        return { kind: 'Boolean', value: data !== 0 }
      case StoreKind.ARRAY:
        return { kind: 'List', value: this.pointers(data).map((item) => this.storeValue(item)) }
      case StoreKind.NULL:
        return { kind: 'Null', value: null }
      case StoreKind.BYTES:
        return { kind: 'Bytes', value: hexOf(this.bytes(data)) }
      case StoreKind.BIGINT:
        return { kind: 'BigInt', value: this.bigInt(data) }
      default:
        throw new Error(`store value of kind ${kind}: this host has no such kind`)
    }
  }

  /* WRITING */

  newString(text) {
    const encoded = Buffer.from(text, 'utf16le')
    const pointer = this.allocate(encoded.length, TypeId.String)
    new Uint8Array(this.exports.memory.buffer).set(encoded, pointer)
    return pointer
  }

  newBytes(bytes) {
    return this.newView(bytes, TypeId.Uint8Array)
  }

  newBigInt(value) {
    return this.newBytes(bytesOfBigInt(BigInt(value)))
  }

  newEntity(entity) {
    const entries = Object.entries(entity).map(([key, value]) =>
      this.newObject(TypeId.TypedMapEntryStringStoreValue, [
        this.newString(key),
        this.newStoreValue(value),
      ]),
    )
    return this.newObject(TypeId.TypedMapStringStoreValue, [
      this.newArray(entries, TypeId.ArrayTypedMapEntryStringStoreValue),
    ])
  }

  newStoreValue({ kind, value }) {
    switch (kind) {
      case 'String':
        return this.newTagged(TypeId.StoreValue, StoreKind.STRING, this.newString(value))
      case 'Int':
        return this.newTagged(TypeId.StoreValue, StoreKind.INT, value)
      case 'Boolean':
        return this.newTagged(TypeId.StoreValue, StoreKind.BOOL, value ? 1 : 0)
      case 'List': {
        const items = value.map((item) => this.newStoreValue(item))
        const array = this.newArray(items, TypeId.ArrayStoreValue)
        return this.newTagged(TypeId.StoreValue, StoreKind.ARRAY, array)
      }
      case 'Bytes':
        return this.newTagged(TypeId.StoreValue, StoreKind.BYTES, this.newBytes(bytesOf(value)))
      case 'BigInt':
        return this.newTagged(TypeId.StoreValue, StoreKind.BIGINT, this.newBigInt(value))
      default:
        throw new Error(`store value of kind ${kind}: this host has no such kind`)
    }
  }

  // `{ kind, value }` with a kind of `EthereumKind`; tuples and arrays hold further such values.
  newEthereumValue({ kind, value }) {
    return this.newTagged(TypeId.EthereumValue, kind, this.newPayload(kind, value))
  }

  newPayload(kind, value) {
    switch (kind) {
      case EthereumKind.ADDRESS:
      case EthereumKind.FIXED_BYTES:
      case EthereumKind.BYTES:
        return this.newBytes(value)
      case EthereumKind.INT:
      case EthereumKind.UINT:
        return this.newBigInt(value)
      case EthereumKind.BOOL:
        return value ? 1 : 0
      case EthereumKind.STRING:
        return this.newString(value)
      case EthereumKind.FIXED_ARRAY:
      case EthereumKind.ARRAY:
      case EthereumKind.TUPLE:
        return this.newArray(
          value.map((item) => this.newEthereumValue(item)),
          TypeId.ArrayEthereumValue,
        )
      default:
        throw new Error(`ethereum value of kind ${kind}: this host has no such kind`)
    }
  }

  // `log` is a raw log, `parameters` its decoded ones, `receiptLogs` the transaction's logs where the manifest asks for them.
  newEvent(log, parameters, receiptLogs) {
    const items = parameters.map(({ name, value }) =>
      this.newObject(TypeId.EventParam, [this.newString(name), this.newEthereumValue(value)]),
    )
    return this.newObject(TypeId.EthereumEvent, [
      this.newBytes(bytesOf(log.address)),
      this.newBigInt(log.logIndex),
      this.newBigInt(log.logIndex),
      0,
      this.newBlock(log),
      this.newTransaction(log),
      this.newArray(items, TypeId.ArrayEventParam),
      receiptLogs === null ? 0 : this.newReceipt(log, receiptLogs),
    ])
  }

  // Only what a log says of its block is known here; the mappings read nothing else of it.
  newBlock(log) {
    const zero = () => this.newBytes(new Uint8Array(32))
    return this.newObject(TypeId.EthereumBlock, [
      this.newBytes(bytesOf(log.blockHash)),
      zero(),
      zero(),
      this.newBytes(new Uint8Array(20)),
      zero(),
      zero(),
      zero(),
      this.newBigInt(log.blockNumber),
      this.newBigInt(0),
      this.newBigInt(0),
      this.newBigInt(log.blockTime),
      this.newBigInt(0),
      this.newBigInt(0),
      0,
      0,
    ])
  }

  newTransaction(log) {
    return this.newObject(TypeId.EthereumTransaction, [
      this.newBytes(bytesOf(log.transactionHash)),
      this.newBigInt(log.transactionIndex),
      this.newBytes(new Uint8Array(20)),
      0,
      this.newBigInt(0),
      this.newBigInt(0),
      this.newBigInt(0),
      this.newBytes(new Uint8Array(0)),
      this.newBigInt(0),
    ])
  }

  newReceipt(log, receiptLogs) {
    const logs = receiptLogs.map((entry) => this.newLog(entry))
    return this.newObject(TypeId.TransactionReceipt, [
      this.newBytes(bytesOf(log.transactionHash)),
      this.newBigInt(log.transactionIndex),
      this.newBytes(bytesOf(log.blockHash)),
      this.newBigInt(log.blockNumber),
      this.newBigInt(0),
      this.newBigInt(0),
      this.newBytes(new Uint8Array(20)),
      this.newArray(logs, TypeId.ArrayLog),
      this.newBigInt(1),
      this.newBytes(new Uint8Array(32)),
      this.newBytes(new Uint8Array(256)),
    ])
  }

  newLog(log) {
    const topics = log.topics.map((topic) => this.newBytes(bytesOf(topic)))
    return this.newObject(TypeId.Log, [
      this.newBytes(bytesOf(log.address)),
      this.newArray(topics, TypeId.ArrayH256),
      this.newBytes(bytesOf(log.data)),
      this.newBytes(bytesOf(log.blockHash)),
      this.newBigInt(log.blockNumber),
      this.newBytes(bytesOf(log.transactionHash)),
      this.newBigInt(log.transactionIndex),
      this.newBigInt(log.logIndex),
      this.newBigInt(log.logIndex),
      this.newString(''),
      this.newWrappedBool(false),
    ])
  }

  newWrappedBool(value) {
    const pointer = this.allocate(1, TypeId.WrappedBool)
    this.view().setUint8(pointer, value ? 1 : 0)
    return pointer
  }

  /* LAYOUT */

  newObject(typeId, fields) {
    const pointer = this.allocate(4 * fields.length, typeId)
    fields.forEach((field, index) => this.view().setUint32(pointer + 4 * index, field, true))
    return pointer
  }

  // An object of a 32-bit kind and a 64-bit payload.
  newTagged(typeId, kind, payload) {
    const pointer = this.allocate(16, typeId)
    this.view().setInt32(pointer, kind, true)
    this.view().setBigInt64(pointer + 8, BigInt(payload), true)
    return pointer
  }

  newArray(pointers, typeId) {
    const data = Buffer.alloc(4 * pointers.length)
    pointers.forEach((item, index) => data.writeUInt32LE(item, 4 * index))
    return this.newView(data, typeId, pointers.length)
  }

  newView(data, typeId, length) {
    const buffer = this.allocate(data.length, TypeId.ArrayBuffer)
    new Uint8Array(this.exports.memory.buffer).set(data, buffer)
    const fields = [buffer, buffer, data.length]
    return this.newObject(typeId, length === undefined ? fields : [...fields, length])
  }

  allocate(size, typeId) {
    return this.exports.__new(size, this.exports.id_of_type(typeId)) >>> 0
  }
}

export function bytesOf(hex) {
  return Uint8Array.from(Buffer.from(hex.slice(2), 'hex'))
}

export function hexOf(bytes) {
  return `0x${Buffer.from(bytes).toString('hex')}`
}

// Two's complement, little-endian: what graph-ts calls a BigInt.
function bigIntOfBytes(bytes) {
  let value = 0n
  for (let index = bytes.length - 1; 0 <= index; index -= 1) {
    value = (value << 8n) | BigInt(bytes[index])
  }
  return BigInt.asIntN(8 * bytes.length, value)
}

function bytesOfBigInt(value) {
  const bytes = []
  let rest = value
  do {
    bytes.push(Number(BigInt.asUintN(8, rest)))
    rest >>= 8n
  } while (rest !== 0n && rest !== -1n)
  const negative = (bytes[bytes.length - 1] & 0x80) !== 0
  if (negative !== value < 0n) bytes.push(value < 0n ? 0xff : 0)
  return Uint8Array.from(bytes)
}
