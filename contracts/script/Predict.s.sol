// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {DeploymentPlan} from "./DeploymentPlan.sol";

/// @title Says where the deployment will put what, without sending anything
contract Predict {
    bool public constant IS_SCRIPT = true;

    /// @notice What needs no multisig.
    function run(address agentRegistry)
        external
        pure
        returns (address factory, bytes32 salt, address validationRegistry)
    {
        DeploymentPlan.Config memory config = DeploymentPlan.Config(address(0), agentRegistry, address(0));
        return (DeploymentPlan.FACTORY, DeploymentPlan.SALT, DeploymentPlan.predict(config).validationRegistry);
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
