// The real contracts on a development chain, from the artifacts that are deployed everywhere.

import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Contract, ContractFactory, Wallet, id } from 'ethers'

import { ZERO_ADDRESS } from './chain.mjs'

const artifacts = join(
  dirname(fileURLToPath(import.meta.url)),
  '..',
  '..',
  '..',
  'contracts',
  'artifacts',
)

export const BOND = 1_000n
export const FEE_BPS = 250n

// The keys that sign results; they send nothing.
export const SIGNER_KEYS = Array.from({ length: 7 }, (_, index) => new Wallet(id(`signs ${index}`)))

// Deploys everything; the deployer owns the entry policy. Returns the contracts and their deployment.
export async function deployAll(provider, deployer, treasury) {
  const startBlock = await provider.getBlockNumber()
  const token = await deploy('PlatformToken', deployer, deployer.address, 10n ** 27n)
  const agents = await deploy('AgentRegistry', deployer)
  const policy = await deploy('EntryPolicy', deployer, deployer.address)
  const escrow = await deploy(
    'RequestEscrow',
    deployer,
    await agents.getAddress(),
    await policy.getAddress(),
    ZERO_ADDRESS,
  )
  const operators = new Contract(
    await escrow.operatorRegistry(),
    abiOf('OperatorRegistry'),
    deployer,
  )
  const reputation = await deploy('ReputationRegistry', deployer, await escrow.getAddress())
  const validation = await deploy('ValidationRegistry', deployer, await agents.getAddress())
  await mined(policy.setTokenAllowed(await token.getAddress(), true))
  await mined(policy.setTokenAllowed(ZERO_ADDRESS, true))
  await mined(policy.setFee(FEE_BPS, treasury))
  const contracts = { token, agents, policy, escrow, operators, reputation, validation }
  const deployment = {
    chainId: 31337,
    startBlock,
    agentRegistry: await agents.getAddress(),
    operatorRegistry: await operators.getAddress(),
    entryPolicy: await policy.getAddress(),
    requestEscrow: await escrow.getAddress(),
    platformToken: await token.getAddress(),
    reputationRegistry: await reputation.getAddress(),
    validationRegistry: await validation.getAddress(),
  }
  return { ...contracts, deployment }
}

// Waits for a transaction; a reverted one is an error.
export async function mined(sent) {
  return (await sent).wait()
}

export const OFFER =
  'tuple(uint256 agentId,address token,uint128 price,uint64 operatorSetId,bytes32 splitHash,bytes32 corpusRoot,bytes32 modelHash,uint32 durationMin,uint32 durationMax,uint32 challengeWindow,address referee)'
export const OPERATOR_SET = 'tuple(uint64 setId,uint64 epoch,uint8 threshold,address[] signers)'

const RESULT_TYPES = {
  Result: [
    { name: 'requestId', type: 'bytes32' },
    { name: 'outcome', type: 'uint8' },
    { name: 'outputHash', type: 'bytes32' },
    { name: 'traceRoot', type: 'bytes32' },
    { name: 'retrievalRoot', type: 'bytes32' },
    { name: 'modelHash', type: 'bytes32' },
    { name: 'amount', type: 'uint128' },
    { name: 'validUntil', type: 'uint64' },
  ],
}

// The quorum's signatures over a result, ascending by signer.
export async function attest(escrowAddress, result, keys) {
  const domain = {
    name: 'Auspex RequestEscrow',
    version: '1',
    chainId: 31337,
    verifyingContract: escrowAddress,
  }
  const attestations = await Promise.all(
    keys.map(async (key) => ({
      signer: key.address,
      signature: await key.signTypedData(domain, RESULT_TYPES, result),
    })),
  )
  return attestations.sort((left, right) =>
    left.signer.toLowerCase() < right.signer.toLowerCase() ? -1 : 1,
  )
}

// A payer's EIP-3009 signature whose nonce is the request.
export async function authorize(payer, tokenAddress, to, value, nonce) {
  const domain = { name: 'Auspex', version: '1', chainId: 31337, verifyingContract: tokenAddress }
  const types = {
    ReceiveWithAuthorization: [
      { name: 'from', type: 'address' },
      { name: 'to', type: 'address' },
      { name: 'value', type: 'uint256' },
      { name: 'validAfter', type: 'uint256' },
      { name: 'validBefore', type: 'uint256' },
      { name: 'nonce', type: 'bytes32' },
    ],
  }
  const message = { from: payer.address, to, value, validAfter: 0n, validBefore: 2n ** 48n, nonce }
  return payer.signTypedData(domain, types, message)
}

function abiOf(name) {
  return JSON.parse(readFileSync(join(artifacts, `${name}.json`), 'utf8')).abi
}

async function deploy(name, deployer, ...args) {
  const { abi, bytecode } = JSON.parse(readFileSync(join(artifacts, `${name}.json`), 'utf8'))
  const contract = await new ContractFactory(abi, bytecode, deployer).deploy(...args)
  return contract.waitForDeployment()
}
