// What graph-node checks when a mapping saves an entity: every field is one of the schema's, of its type, and present when
// the schema says so; an immutable entity is written once.

import { parse } from 'graphql'

const SCALARS = {
  ID: 'String',
  String: 'String',
  Bytes: 'Bytes',
  Int: 'Int',
  BigInt: 'BigInt',
  Boolean: 'Boolean',
}

export class Schema {
  constructor(text) {
    const document = parse(text)
    this.enums = new Map()
    for (const definition of document.definitions) {
      if (definition.kind !== 'EnumTypeDefinition') continue
      this.enums.set(
        definition.name.value,
        definition.values.map((value) => value.name.value),
      )
    }
    this.entities = new Map()
    for (const definition of document.definitions) {
      if (definition.kind !== 'ObjectTypeDefinition') continue
      const directive = definition.directives.find(({ name }) => name.value === 'entity')
      const immutable = directive.arguments.find(({ name }) => name.value === 'immutable')
      this.entities.set(definition.name.value, {
        immutable: immutable?.value.value === true,
        fields: new Map(
          definition.fields.map((field) => [field.name.value, fieldOf(field, this.enums)]),
        ),
      })
    }
  }

  entity(name) {
    const entity = this.entities.get(name)
    if (entity === undefined) throw new Error(`${name}: no such entity in the schema`)
    return entity
  }

  // `stored` is the whole entity as it would be kept.
  validate(name, id, stored) {
    const where = `${name}[${id}]`
    const { fields } = this.entity(name)
    for (const [key, value] of Object.entries(stored)) {
      const field = fields.get(key)
      if (field === undefined) throw new Error(`${where}.${key}: no such field in the schema`)
      if (field.derived) throw new Error(`${where}.${key}: a derived field cannot be stored`)
      this.validateValue(`${where}.${key}`, field, value)
    }
    for (const [key, field] of fields) {
      if (field.required && !field.derived && stored[key] === undefined) {
        throw new Error(`${where}.${key}: is required and missing`)
      }
    }
  }

  validateValue(where, field, value) {
    if (field.list !== (value.kind === 'List')) {
      throw new Error(`${where}: a list and a single value are not the same`)
    }
    const expected = SCALARS[field.type] ?? 'String'
    for (const item of field.list ? value.value : [value]) {
      if (item.kind !== expected) throw new Error(`${where}: is ${item.kind}, not ${expected}`)
      const values = this.enums.get(field.type)
      if (values !== undefined && !values.includes(item.value)) {
        throw new Error(`${where}: ${item.value} is none of ${values.join(', ')}`)
      }
    }
  }
}

function fieldOf(field, enums) {
  const derived = field.directives.some(({ name }) => name.value === 'derivedFrom')
  let type = field.type
  const required = type.kind === 'NonNullType'
  if (required) type = type.type
  const list = type.kind === 'ListType'
  if (list) type = type.type
  if (type.kind === 'NonNullType') type = type.type
  const name = type.name.value
  return { type: name, enum: enums.has(name), required, list, derived }
}
