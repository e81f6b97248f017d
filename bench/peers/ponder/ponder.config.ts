// What `make bench-indexer` gives to Ponder: the chain and the database that Auspex gets, and no limit on requests.
import { createConfig } from "ponder";
import { erc20 } from "./abi";

function needed(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set; \`make bench-indexer\` sets it`);
  return value;
}

export default createConfig({
  database: { kind: "postgres", connectionString: needed("PEER_DATABASE_URL") },
  chains: {
    replay: { id: 8453, rpc: needed("PEER_RPC_URL"), maxRequestsPerSecond: 10_000 },
  },
  contracts: {
    Token: {
      abi: erc20,
      chain: "replay",
      address: "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
      startBlock: 1,
      endBlock: Number(needed("PEER_LAST_BLOCK")),
    },
  },
});
