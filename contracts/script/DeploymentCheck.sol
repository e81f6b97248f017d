// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {EntryPolicy} from "../src/EntryPolicy.sol";
import {PlatformToken} from "../src/PlatformToken.sol";
import {IOperatorRegistry} from "../src/interfaces/IOperatorRegistry.sol";
import {IReputationRegistry} from "../src/interfaces/IReputationRegistry.sol";
import {IRequestEscrow} from "../src/interfaces/IRequestEscrow.sol";
import {IValidationRegistry} from "../src/interfaces/IValidationRegistry.sol";
import {DeploymentPlan} from "./DeploymentPlan.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

/// @dev What the usual multisigs (Safe and its kin) answer.
interface IMultisig {
    function getThreshold() external view returns (uint256);
}

/// @notice Whether a deployment is what it claims to be: who owns what, and that nobody holds more than they should.
library DeploymentCheck {
    error CheckFailed(string what);

    function verify(DeploymentPlan.Config memory config, DeploymentPlan.Addresses memory addresses) internal view {
        _require(config.multisig.code.length != 0, "the multisig is a contract");
        _require(IMultisig(config.multisig).getThreshold() >= 2, "the multisig needs two signatures");

        TimelockController timelock = TimelockController(payable(addresses.timelock));
        _require(timelock.getMinDelay() == DeploymentPlan.TIMELOCK_DELAY, "the timelock waits");
        _require(timelock.hasRole(timelock.PROPOSER_ROLE(), config.multisig), "the multisig proposes");
        _require(timelock.hasRole(timelock.CANCELLER_ROLE(), config.multisig), "the multisig cancels");
        _require(timelock.hasRole(timelock.EXECUTOR_ROLE(), address(0)), "anyone executes");
        _require(!timelock.hasRole(timelock.DEFAULT_ADMIN_ROLE(), config.multisig), "the multisig is no admin");
        _require(timelock.hasRole(timelock.DEFAULT_ADMIN_ROLE(), addresses.timelock), "the timelock is its own admin");
        _require(EntryPolicy(addresses.entryPolicy).owner() == addresses.timelock, "the timelock owns the policy");

        IRequestEscrow escrow = IRequestEscrow(addresses.requestEscrow);
        _require(escrow.agentRegistry() == addresses.agentRegistry, "the escrow's agent registry");
        _require(addresses.agentRegistry.code.length != 0, "the agent registry is a contract");
        _require(escrow.entryPolicy() == addresses.entryPolicy, "the escrow's policy");
        _require(escrow.permit2() == config.permit2, "the escrow's Permit2");
        _require(escrow.operatorRegistry() == addresses.operatorRegistry, "the escrow's operator registry");
        _require(
            IOperatorRegistry(addresses.operatorRegistry).escrow() == addresses.requestEscrow,
            "the operator registry's escrow"
        );
        _require(
            IReputationRegistry(addresses.reputationRegistry).getIdentityRegistry() == addresses.agentRegistry,
            "the reputation registry's agents"
        );
        _require(
            IValidationRegistry(addresses.validationRegistry).getIdentityRegistry() == addresses.agentRegistry,
            "the validation registry's agents"
        );
        _require(
            PlatformToken(addresses.platformToken).totalSupply() == DeploymentPlan.TOKEN_SUPPLY, "the token's supply"
        );
    }

    function _require(bool condition, string memory what) private pure {
        require(condition, CheckFailed(what));
    }
}
