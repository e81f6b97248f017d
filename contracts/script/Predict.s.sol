// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {DeploymentPlan} from "./DeploymentPlan.sol";

/// @title Says where the deployment will put what, without sending anything
contract Predict {
    bool public constant IS_SCRIPT = true;

    /// @notice What needs no multisig. The zero address stands for a chain without ERC-8004's own agent registry.
    function run(address canonicalAgentRegistry)
        external
        pure
        returns (address factory, bytes32 salt, address agentRegistry, address validationRegistry)
    {
        DeploymentPlan.Addresses memory addresses =
            DeploymentPlan.predict(DeploymentPlan.Config(address(0), canonicalAgentRegistry, address(0)));
        return (DeploymentPlan.FACTORY, DeploymentPlan.SALT, addresses.agentRegistry, addresses.validationRegistry);
    }

    /// @notice Everything, once the multisig is named.
    function run(address multisig, address agentRegistry, address permit2)
        external
        pure
        returns (DeploymentPlan.Addresses memory)
    {
        return DeploymentPlan.predict(DeploymentPlan.Config(multisig, agentRegistry, permit2));
    }
}
