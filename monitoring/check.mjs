// Checks that the files here and compose.yaml speak of what the programs really have: metrics, environment variables, labels,
// files. Prints every fault and exits with 1 when there is one.
//
// With --dashboard-rules it prints the dashboards' queries as recording rules, for promtool to check their syntax.

import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const read = (path) => readFileSync(join(root, path), 'utf8')
// Variables that the images of others read, and those of the scripts in monitoring/world.
const FOREIGN = /^(POSTGRES_|PGPASSFILE$|GF_|HOME$|RPC_URL$|ARTIFACTS$|KEYS$|WORLD$|DOCUMENTS$)/

const faults = []
const ensure = (holds, fault) => {
  if (!holds) faults.push(fault)
}

const rust = sourcesUnder('indexer/src', 'oracle/src', 'inference/src', 'cli/src')
const rules = read('monitoring/prometheus/alerts.yml')
const compose = read('compose.yaml')
const dashboards = readdirSync(join(root, 'monitoring/grafana/dashboards')).map((name) => ({
  name,
  dashboard: JSON.parse(read(`monitoring/grafana/dashboards/${name}`)),
}))

if (process.argv.includes('--dashboard-rules')) {
  process.stdout.write(dashboardRules())
  process.exit(0)
}

checkMetrics()
checkRunbooks()
checkDashboards()
checkEnvironment()
checkFiles()

for (const fault of faults) console.error(fault)
process.exit(faults.length === 0 ? 0 : 1)

/* METRICS */

function checkMetrics() {
  const known = metricsOfSources()
  ensure(
    20 < known.size,
    'metrics: fewer than 20 were found in the sources; is the search still right?',
  )
  const used = new Map()
  for (const name of namesIn(rules)) used.set(name, 'alerts.yml')
  for (const { name, dashboard } of dashboards) {
    for (const expression of expressionsOf(dashboard)) {
      for (const metric of namesIn(expression)) used.set(metric, name)
    }
  }
  for (const [name, where] of used) {
    // A histogram has further series beside its name.
    const base = name.replace(/_(sum|count|bucket)$/, '')
    ensure(known.has(name) || known.has(base), `${where}: no program has the metric ${name}`)
  }
}

// Either a macro of the `metrics` crate, or a row of the oracle's own meters, which have a common prefix.
function metricsOfSources() {
  const names = new Set()
  for (const source of rust.values()) {
    for (const [, name] of source.matchAll(/metrics::(?:counter|gauge|histogram)!\(\s*"(\w+)"/g)) {
      names.add(name)
    }
  }
  const meters = rust.get('oracle/src/meter.rs') ?? ''
  const prefix = /HELP (auspex_oracle_)\{name\}/.exec(meters)?.[1]
  ensure(prefix !== undefined, "oracle/src/meter.rs: the meters' prefix was not found")
  for (const [, name] of meters.matchAll(/\(\s*"(\w+)",\s*"/g)) names.add(prefix + name)
  for (const [, name] of meters.matchAll(/metric\(\s*&mut text,\s*"(\w+)"/g))
    names.add(prefix + name)
  for (const [, name] of meters.matchAll(/# TYPE (auspex_\w+) /g)) names.add(name)
  return names
}

function namesIn(text) {
  // Label values and prose name programs (`auspex-oracle`) and variables (`AUSPEX_..`), never metrics.
  return new Set(text.match(/\bauspex_[a-z0-9_]+/g) ?? [])
}

function checkRunbooks() {
  const alerts = rules.split(/^\s*- alert: /m).slice(1)
  const names = new Set()
  for (const alert of alerts) {
    const [name] = alert.split('\n')
    ensure(!names.has(name), `alerts.yml: ${name} is there twice`)
    names.add(name)
    ensure(/^\s+runbook: "\S/m.test(alert), `alerts.yml: ${name} has no runbook`)
    ensure(/severity: (critical|warning)\b/.test(alert), `alerts.yml: ${name} has no severity`)
    const options = alert.match(/(?<!\w)--[a-z][a-z-]+/g) ?? []
    for (const option of options) {
      const field = option.slice(2).replaceAll('-', '_')
      const exists = [...rust.values()].some(
        (source) => source.includes(`${field}:`) || source.includes(`long = "${option.slice(2)}"`),
      )
      ensure(exists, `alerts.yml: ${name} speaks of ${option}, which no program has`)
    }
    for (const variable of alert.match(/\bAUSPEX_[A-Z_]+/g) ?? []) {
      ensure(
        isVariable(variable),
        `alerts.yml: ${name} speaks of ${variable}, which no program reads`,
      )
    }
    for (const other of alert.match(/\b(?:Indexer|Oracle)[A-Z]\w+/g) ?? []) {
      ensure(
        rules.includes(`- alert: ${other}\n`),
        `alerts.yml: ${name} speaks of ${other}, which is no alert`,
      )
    }
  }
}

/* DASHBOARDS */

function checkDashboards() {
  const provisioned = new Set(
    [
      ...read('monitoring/grafana/provisioning/datasources/prometheus.yml').matchAll(/uid: (\S+)/g),
    ].map(([, uid]) => uid),
  )
  for (const { name, dashboard } of dashboards) {
    ensure(typeof dashboard.uid === 'string' && dashboard.title, `${name}: uid or title is missing`)
    const ids = dashboard.panels.map(({ id }) => id)
    ensure(new Set(ids).size === ids.length, `${name}: two panels have one id`)
    for (const panel of dashboard.panels) {
      if (panel.type === 'row') continue
      ensure(panel.title && 0 < panel.targets.length, `${name}: panel ${panel.id} shows nothing`)
      ensure(
        provisioned.has(panel.datasource?.uid),
        `${name}: panel ${panel.id} has no provisioned source`,
      )
    }
  }
}

function expressionsOf(dashboard) {
  return dashboard.panels.flatMap(({ targets }) => (targets ?? []).map(({ expr }) => expr))
}

// JSON is YAML, too.
function dashboardRules() {
  const expressions = dashboards.flatMap(({ dashboard }) => expressionsOf(dashboard))
  const rules = expressions.map((expr, index) => ({ record: `dashboard:query_${index}`, expr }))
  return JSON.stringify({ groups: [{ name: 'dashboards', rules }] })
}

/* COMPOSE */

function checkEnvironment() {
  const blocks = compose.matchAll(
    /^( *)(?:environment:|x-\S*environment:.*|x-postgres-client:.*)\n((?:\1 +.*\n)+)/gm,
  )
  let found = 0
  for (const [, , block] of blocks) {
    for (const [, name] of block.matchAll(/^\s+([A-Z][A-Z0-9_]+):/gm)) {
      found += 1
      ensure(FOREIGN.test(name) || isVariable(name), `compose.yaml: no program reads ${name}`)
    }
  }
  ensure(20 < found, 'compose.yaml: its environment was not found; is the search still right?')
  const services = compose.slice(compose.indexOf('\nservices:'), compose.indexOf('\nnetworks:'))
  for (const [, image] of compose.matchAll(/^\s+image: (\S+)$/gm)) {
    ensure(
      /:[\w.-]+$/.test(image) && !image.endsWith(':latest'),
      `compose.yaml: ${image} has no tag`,
    )
  }
  ensure(
    !/(PASSWORD|SECRET|TOKEN|_KEY): +["']?[^\s"'/$]/.test(services),
    'compose.yaml: a secret stands in it',
  )
  const targets = read('monitoring/prometheus/prometheus.yml').matchAll(/"([\w-]+):(\d+)"/g)
  for (const [, service, port] of targets) {
    ensure(
      new RegExp(`^  ${service}:$`, 'm').test(services),
      `prometheus.yml: no service ${service}`,
    )
    ensure(compose.includes(`0.0.0.0:${port}`), `prometheus.yml: nothing listens on port ${port}`)
  }
}

function isVariable(name) {
  return [...rust.values()].some((source) => source.includes(`env = "${name}"`))
}

function checkFiles() {
  for (const [, path] of compose.matchAll(/^\s+- (\.\/[^:\s]+):/gm)) {
    ensure(existsSync(join(root, path)), `compose.yaml: ${path} is mounted, but does not exist`)
  }
  // Docker sees only what .dockerignore lets through, and the build includes files of other folders.
  const open = read('.dockerignore')
    .split('\n')
    .filter((line) => line.startsWith('!'))
    .map((line) => line.slice(1))
  for (const [path, source] of rust) {
    for (const [, included] of source.matchAll(/include_(?:str|bytes)!\("((?:\.\.\/)+[^"]+)"\)/g)) {
      const target = join(dirname(path), included)
      ensure(
        open.some((prefix) => target === prefix || target.startsWith(`${prefix}/`)),
        `.dockerignore: keeps ${target} away from the build, which includes it`,
      )
    }
  }
}

function sourcesUnder(...folders) {
  const sources = new Map()
  const walk = (folder) => {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      const path = `${folder}/${entry.name}`
      if (entry.isDirectory()) walk(path)
      else if (entry.name.endsWith('.rs')) sources.set(path, read(path))
    }
  }
  folders.forEach(walk)
  return sources
}
