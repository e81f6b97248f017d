// The entities that mappings have saved, with graph-node's rules.

export class Store {
  constructor(schema) {
    this.schema = schema
    this.entities = new Map([...schema.entities.keys()].map((name) => [name, new Map()]))
  }

  get(name, id) {
    return this.rows(name).get(id)
  }

  // Saving an entity that exists merges it: fields that are not named keep their values, and null removes a field.
  set(name, id, entity) {
    const rows = this.rows(name)
    const known = rows.get(id)
    if (known !== undefined && this.schema.entity(name).immutable) {
      throw new Error(`${name}[${id}]: an immutable entity cannot be written twice`)
    }
    const merged = { ...known, ...entity, id: { kind: 'String', value: id } }
    for (const [key, value] of Object.entries(merged)) {
      if (value.kind === 'Null') delete merged[key]
    }
    this.schema.validate(name, id, merged)
    rows.set(id, merged)
  }

  rows(name) {
    const rows = this.entities.get(name)
    if (rows === undefined) throw new Error(`${name}: no such entity in the schema`)
    return rows
  }

  // One entity as a query would answer: integers wider than 32 bits as decimal strings, absent fields as null.
  plain(name, id) {
    const stored = this.get(name, id)
    if (stored === undefined) return null
    const entity = {}
    for (const [key, field] of this.schema.entity(name).fields) {
      if (!field.derived) entity[key] = stored[key] === undefined ? null : plainValue(stored[key])
    }
    return entity
  }

  // Everything, by entity and id, in the order of the ids.
  dump() {
    const dump = {}
    for (const [name, rows] of this.entities) {
      dump[name] = {}
      for (const id of [...rows.keys()].sort()) dump[name][id] = this.plain(name, id)
    }
    return dump
  }
}

function plainValue({ kind, value }) {
  if (kind === 'List') return value.map(plainValue)
  return kind === 'BigInt' ? value.toString() : value
}
