// A development chain of a test: anvil on a free port, stopped with the test.

import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { JsonRpcProvider } from 'ethers'

const ARCHITECTURES = { x64: 'amd64', arm64: 'arm64' }

export async function startAnvil() {
  const name = `@foundry-rs/anvil-${process.platform}-${ARCHITECTURES[process.arch]}`
  const program = createRequire(import.meta.url).resolve(`${name}/bin/anvil`)
  const child = spawn(program, ['--port', '0', '--host', '127.0.0.1'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const url = await new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`anvil ended with ${code} before it listened`)))
    createInterface({ input: child.stdout }).on('line', (line) => {
      const [, address] = /^Listening on (\S+)$/.exec(line) ?? []
      if (address !== undefined) resolve(`http://${address}`)
    })
  })
  // Blocks come as transactions do, so nothing is gained by looking again later for the same answer.
  const provider = new JsonRpcProvider(url, undefined, { cacheTimeout: -1, pollingInterval: 10 })
  return {
    url,
    provider,
    // Lets time pass; the next block is that much later.
    pass: async (seconds) => {
      await provider.send('evm_increaseTime', [seconds])
      await provider.send('evm_mine', [])
    },
    stop: () => {
      provider.destroy()
      child.kill('SIGKILL')
    },
  }
}
