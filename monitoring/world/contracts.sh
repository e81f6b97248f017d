#!/bin/sh
# Deploys the contracts to a development chain and opens a market on it: three operators in a set of two of three, an agent,
# and two offers of the agent (the platform's token, and the native coin). Writes deployment.json and offers.json last, so a
# set-up that was cut short is begun again on new contracts.
#
# RPC_URL, ARTIFACTS (contracts/artifacts), KEYS (from keys.sh) and WORLD (where the files go) come from the environment.
# The keys are anvil's public development keys: never send anything of value to them.
set -eu

ZERO_ADDRESS=0x0000000000000000000000000000000000000000
ZERO_HASH=0x0000000000000000000000000000000000000000000000000000000000000000
NATIVE_PRICE=1000000000000000
TOKEN_PRICE=5000000000000000000
FEE_BPS=50

DEPLOYER_KEY=0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80
OPERATOR_KEYS="0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d
0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a
0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"
REQUESTER=0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65
PAYEES=0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc,0x976EA74026E726554dB657fA54763abd0C3a0aa9,0x14dC79964da2C08b23698B3D3cc7Ca32193d9955
AGENT_KEY=0x2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6

main() {
    if [ -e "$WORLD/deployment.json" ]; then
        escrow="$(field requestEscrow "$WORLD/deployment.json")"
        if [ "$(cast code --rpc-url "$RPC_URL" "$escrow")" != 0x ]; then
            echo "the contracts are there"
            return
        fi
    fi
    # Each transaction in a block of its own at once makes the set-up quick; afterwards the chain ticks as it did.
    cast rpc --rpc-url "$RPC_URL" evm_setAutomine true > /dev/null
    deploy
    register_operators
    open_market
    cast rpc --rpc-url "$RPC_URL" evm_setIntervalMining 1 > /dev/null
    # A reader sees the whole file or none.
    mv "$WORLD/offers.partial" "$WORLD/offers.json"
    mv "$WORLD/deployment.partial" "$WORLD/deployment.json"
}

deploy() {
    chain_id="$(cast chain-id --rpc-url "$RPC_URL")"
    start_block="$(cast block-number --rpc-url "$RPC_URL")"
    deployer="$(cast wallet address --private-key "$DEPLOYER_KEY")"
    token="$(create PlatformToken 'constructor(address,uint256)' "$deployer" 1000000000000000000000000000)"
    agents="$(create AgentRegistry)"
    policy="$(create EntryPolicy 'constructor(address)' "$deployer")"
    escrow="$(create RequestEscrow 'constructor(address,address,address)' "$agents" "$policy" "$ZERO_ADDRESS")"
    registry="$(call "$escrow" 'operatorRegistry()(address)')"
    send "$DEPLOYER_KEY" "$policy" 'setTokenAllowed(address,bool)' "$token" true
    send "$DEPLOYER_KEY" "$policy" 'setTokenAllowed(address,bool)' "$ZERO_ADDRESS" true
    send "$DEPLOYER_KEY" "$policy" 'setFee(uint16,address)' "$FEE_BPS" "$deployer"
    send "$DEPLOYER_KEY" "$token" 'transfer(address,uint256)' "$REQUESTER" 1000000000000000000000
    cat > "$WORLD/deployment.partial" <<END
{
  "chainId": $chain_id,
  "startBlock": $start_block,
  "agentRegistry": "$agents",
  "operatorRegistry": "$registry",
  "entryPolicy": "$policy",
  "requestEscrow": "$escrow",
  "platformToken": "$token"
}
END
    echo "deployed the escrow to $escrow"
}

register_operators() {
    send "$DEPLOYER_KEY" "$registry" 'createSet(address,address,uint128,address)' \
        "$deployer" "$ZERO_ADDRESS" 0 "$ZERO_ADDRESS"
    owners=""
    number=1
    for key in $OPERATOR_KEYS; do
        owner="$(cast wallet address --private-key "$key")"
        addresses="$KEYS/operator-$number/addresses.json"
        transmitter="$(field transmitter "$addresses")"
        send "$key" "$registry" 'register(address,address,address)' \
            "$(field signer "$addresses")" "$transmitter" "$owner"
        send "$key" "$registry" 'join(uint64)' 1
        cast send --quiet --rpc-url "$RPC_URL" --private-key "$DEPLOYER_KEY" "$transmitter" --value 10ether
        owners="$owners${owners:+,}$owner"
        number=$((number + 1))
    done
    send "$DEPLOYER_KEY" "$registry" 'proposeEpoch(uint64,uint8,address[])' 1 2 "[$owners]"
    send "$DEPLOYER_KEY" "$registry" 'startEpoch(uint64)' 1
    echo "started operator set 1, two of three"
}

open_market() {
    send "$AGENT_KEY" "$agents" 'register(string)' 'data:application/json,{"name":"Auspex documentation"}'
    split="([$PAYEES],[70,20,10],100,0)"
    split_hash="$(cast keccak "$(cast abi-encode 'f((address[],uint256[],uint256,uint16))' "$split")")"
    native_offer="$(publish "$ZERO_ADDRESS" "$NATIVE_PRICE")"
    token_offer="$(publish "$token" "$TOKEN_PRICE")"
    printf '{ "native": "%s", "token": "%s" }\n' "$native_offer" "$token_offer" > "$WORLD/offers.partial"
    echo "published the offers $native_offer and $token_offer"
}

# Publishes an offer of agent 0 in a token at a price; prints its hash.
publish() {
    type='(uint256,address,uint128,uint64,bytes32,bytes32,bytes32,uint32,uint32,uint32,address)'
    offer="(0,$1,$2,1,$split_hash,$ZERO_HASH,$ZERO_HASH,20,3600,0,$ZERO_ADDRESS)"
    send "$AGENT_KEY" "$escrow" "publishOffer($type,(address[],uint256[],uint256,uint16))" "$offer" "$split"
    cast keccak "$(cast abi-encode "f($type)" "$offer")"
}

# Deploys an artifact with its constructor's signature and arguments; prints the address.
create() {
    name="$1"
    shift
    code="$(field bytecode "$ARTIFACTS/$name.json")"
    cast send --rpc-url "$RPC_URL" --private-key "$DEPLOYER_KEY" --json --create "$code" "$@" > "$WORLD/receipt.partial"
    field contractAddress "$WORLD/receipt.partial"
    rm "$WORLD/receipt.partial"
}

send() {
    key="$1"
    shift
    cast send --quiet --rpc-url "$RPC_URL" --private-key "$key" "$@"
}

call() {
    cast call --rpc-url "$RPC_URL" "$@"
}

# The value of a hex field of a JSON file: the images have no JSON tool.
field() {
    sed -n "s/.*\"$1\": *\"\(0x[0-9a-fA-F]*\)\".*/\1/p" "$2" | head -n 1
}

main
