// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {AgentRegistry} from "../src/AgentRegistry.sol";
import {EntryPolicy} from "../src/EntryPolicy.sol";
import {PlatformToken} from "../src/PlatformToken.sol";
import {ReputationRegistry} from "../src/ReputationRegistry.sol";
import {RequestEscrow} from "../src/RequestEscrow.sol";
import {ValidationRegistry} from "../src/ValidationRegistry.sol";
import {IRequestEscrow} from "../src/interfaces/IRequestEscrow.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

/// @notice What is deployed where. Addresses come from the deterministic CREATE2 factory, so they are known before anything
/// is sent, and the same on every chain where the arguments are the same.
library DeploymentPlan {
    struct Config {
        /// Proposes to the timelock and receives the platform token's supply.
        address multisig;
        /// The zero address deploys ours.
        address agentRegistry;
        /// The zero address where the chain has none.
        address permit2;
    }

    struct Addresses {
        address agentRegistry;
        address entryPolicy;
        address operatorRegistry;
        address platformToken;
        address reputationRegistry;
        address requestEscrow;
        address timelock;
        address validationRegistry;
    }

    error FactoryMissing(address factory);
    error NotDeployed(address wanted);

    /// @dev https://github.com/Arachnid/deterministic-deployment-proxy; anvil has it from the start.
    address internal constant FACTORY = 0x4e59b44847b379578588920cA78FbF26c0B4956C;
    bytes32 internal constant SALT = keccak256("Auspex 1");
    uint256 internal constant TIMELOCK_DELAY = 2 days;
    uint256 internal constant TOKEN_SUPPLY = 1_000_000_000 ether;

    /// @notice Where everything is, deployed or not.
    function predict(Config memory config) internal pure returns (Addresses memory addresses) {
        addresses.platformToken = _address(_tokenCode(config));
        addresses.agentRegistry =
            config.agentRegistry == address(0) ? _address(type(AgentRegistry).creationCode) : config.agentRegistry;
        addresses.timelock = _address(_timelockCode(config));
        addresses.entryPolicy = _address(_policyCode(addresses));
        addresses.requestEscrow = _address(_escrowCode(config, addresses));
        addresses.operatorRegistry = _firstCreation(addresses.requestEscrow);
        addresses.reputationRegistry = _address(_reputationCode(addresses));
        addresses.validationRegistry = _address(_validationCode(addresses));
    }

    /// @notice Deploys what is missing, in the order in which the contracts know each other.
    function deploy(Config memory config) internal returns (Addresses memory addresses) {
        require(FACTORY.code.length != 0, FactoryMissing(FACTORY));
        addresses = predict(config);
        _deploy(addresses.platformToken, _tokenCode(config));
        if (config.agentRegistry == address(0)) {
            _deploy(addresses.agentRegistry, type(AgentRegistry).creationCode);
        }
        _deploy(addresses.timelock, _timelockCode(config));
        _deploy(addresses.entryPolicy, _policyCode(addresses));
        _deploy(addresses.requestEscrow, _escrowCode(config, addresses));
        _deploy(addresses.reputationRegistry, _reputationCode(addresses));
        _deploy(addresses.validationRegistry, _validationCode(addresses));
    }

    function _deploy(address wanted, bytes memory initCode) private {
        if (wanted.code.length != 0) return;
        (bool success,) = FACTORY.call(bytes.concat(SALT, initCode));
        require(success && wanted.code.length != 0, NotDeployed(wanted));
    }

    function _tokenCode(Config memory config) private pure returns (bytes memory) {
        return bytes.concat(type(PlatformToken).creationCode, abi.encode(config.multisig, TOKEN_SUPPLY));
    }

    /// @dev The multisig proposes and cancels, anyone executes what is due, and no admin stays.
    function _timelockCode(Config memory config) private pure returns (bytes memory) {
        address[] memory proposers = new address[](1);
        proposers[0] = config.multisig;
        address[] memory executors = new address[](1);
        return bytes.concat(
            type(TimelockController).creationCode, abi.encode(TIMELOCK_DELAY, proposers, executors, address(0))
        );
    }

    function _policyCode(Addresses memory addresses) private pure returns (bytes memory) {
        return bytes.concat(type(EntryPolicy).creationCode, abi.encode(addresses.timelock));
    }

    function _escrowCode(Config memory config, Addresses memory addresses) private pure returns (bytes memory) {
        return bytes.concat(
            type(RequestEscrow).creationCode, abi.encode(addresses.agentRegistry, addresses.entryPolicy, config.permit2)
        );
    }

    function _reputationCode(Addresses memory addresses) private pure returns (bytes memory) {
        return bytes.concat(type(ReputationRegistry).creationCode, abi.encode(addresses.requestEscrow));
    }

    function _validationCode(Addresses memory addresses) private pure returns (bytes memory) {
        return bytes.concat(type(ValidationRegistry).creationCode, abi.encode(addresses.agentRegistry));
    }

    function _address(bytes memory initCode) private pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encodePacked(hex"ff", FACTORY, SALT, keccak256(initCode))))));
    }

    /// @dev The address of the first contract that `creator` makes with CREATE.
    function _firstCreation(address creator) private pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encodePacked(hex"d694", creator, hex"01")))));
    }
}
