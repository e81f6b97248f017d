// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {DeploymentCheck} from "./DeploymentCheck.sol";
import {DeploymentPlan} from "./DeploymentPlan.sol";

interface ScriptVm {
    function envAddress(string calldata name) external view returns (address);
    function envOr(string calldata name, address defaultValue) external view returns (address);
    function startBroadcast() external;
    function stopBroadcast() external;
}

/// @title Deploys everything to this chain and checks what came out
/// @notice Environment:
/// - `AUSPEX_MULTISIG` (required): the multisig that proposes to the timelock; needs code and a threshold of 2 or more.
/// - `AUSPEX_AGENT_REGISTRY`: an ERC-8004 identity registry; without it ours is deployed.
/// - `AUSPEX_PERMIT2`: Permit2; by default its canonical address, or none where that has no code.
///
/// A second run deploys only what is missing: every address follows from the code, the arguments and the salt.
contract Deploy {
    bool public constant IS_SCRIPT = true;
    address private constant CANONICAL_PERMIT2 = 0x000000000022D473030F116dDEE9F6B43aC78BA3;
    ScriptVm private constant vm = ScriptVm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function run() external returns (DeploymentPlan.Addresses memory addresses) {
        DeploymentPlan.Config memory config = DeploymentPlan.Config({
            multisig: vm.envAddress("AUSPEX_MULTISIG"),
            agentRegistry: vm.envOr("AUSPEX_AGENT_REGISTRY", address(0)),
            permit2: vm.envOr("AUSPEX_PERMIT2", CANONICAL_PERMIT2)
        });
        if (config.permit2.code.length == 0) config.permit2 = address(0);
        vm.startBroadcast();
        addresses = DeploymentPlan.deploy(config);
        vm.stopBroadcast();
        DeploymentCheck.verify(config, addresses);
    }
}
