// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {DeploymentCheck} from "../../script/DeploymentCheck.sol";
import {DeploymentPlan} from "../../script/DeploymentPlan.sol";
import {EntryPolicy} from "../../src/EntryPolicy.sol";
import {PlatformToken} from "../../src/PlatformToken.sol";
import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {Assert} from "../base/Assert.sol";
import {vm} from "../base/Vm.sol";
import {TestMultisig} from "../doubles/Accounts.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

contract DeployTest is Assert {
    /// @dev The code of https://github.com/Arachnid/deterministic-deployment-proxy.
    bytes private constant FACTORY_CODE =
        hex"7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3";

    TestMultisig private _multisig;
    DeploymentPlan.Config private _config;

    function setUp() public {
        vm.warp(1_800_000_000);
        vm.etch(DeploymentPlan.FACTORY, FACTORY_CODE);
        _multisig = new TestMultisig(2);
        _config.multisig = address(_multisig);
    }

    function test_deploysToThePredictedAddressesAndVerifies() public {
        DeploymentPlan.Addresses memory predicted = DeploymentPlan.predict(_config);
        DeploymentPlan.Addresses memory addresses = this.deploy();
        assertEq(keccak256(abi.encode(addresses)), keccak256(abi.encode(predicted)), "addresses");
        this.verify(addresses);
        assertEq(PlatformToken(addresses.platformToken).balanceOf(address(_multisig)), 1e27, "supply");
        // A second run finds everything in place.
        this.verify(this.deploy());
    }

    function test_usesAnAgentRegistryThatIsThere() public {
        _config.agentRegistry = address(_multisig);
        DeploymentPlan.Addresses memory addresses = this.deploy();
        assertEq(addresses.agentRegistry, address(_multisig), "agents");
        assertEq(IRequestEscrow(addresses.requestEscrow).agentRegistry(), address(_multisig), "the escrow's agents");
        this.verify(addresses);
    }

    /// @dev The whole road of a change: the multisig proposes, the delay passes, anyone executes.
    function test_policyChangesThroughTheTimelockOnly() public {
        DeploymentPlan.Addresses memory addresses = this.deploy();
        TimelockController timelock = TimelockController(payable(addresses.timelock));
        bytes memory change = abi.encodeCall(EntryPolicy.setTokenAllowed, (address(0), true));
        bytes memory schedule =
            abi.encodeCall(timelock.schedule, (addresses.entryPolicy, 0, change, 0, 0, DeploymentPlan.TIMELOCK_DELAY));
        (bool success,) = addresses.timelock.call(schedule);
        assertFalse(success, "a stranger proposed");
        vm.prank(address(_multisig));
        (success,) = addresses.entryPolicy.call(change);
        assertFalse(success, "the multisig skipped the timelock");
        _multisig.execute(addresses.timelock, schedule);
        bytes memory execute = abi.encodeCall(timelock.execute, (addresses.entryPolicy, 0, change, 0, 0));
        skipTime(DeploymentPlan.TIMELOCK_DELAY - 1);
        (success,) = addresses.timelock.call(execute);
        assertFalse(success, "executed too early");
        skipTime(1);
        (success,) = addresses.timelock.call(execute);
        assertTrue(success, "anyone executes");
        (bool allowed,,) = EntryPolicy(addresses.entryPolicy).entryTerms(address(0));
        assertTrue(allowed, "allowed");
    }

    function test_RevertWhen_FactoryIsMissing() public {
        vm.etch(DeploymentPlan.FACTORY, "");
        vm.expectRevert(abi.encodeWithSelector(DeploymentPlan.FactoryMissing.selector, DeploymentPlan.FACTORY));
        this.deploy();
    }

    function test_RevertWhen_MultisigIsWeak() public {
        _config.multisig = address(new TestMultisig(1));
        DeploymentPlan.Addresses memory addresses = this.deploy();
        _refused(addresses, "the multisig needs two signatures");
        _config.multisig = address(0xE0A);
        _refused(addresses, "the multisig is a contract");
    }

    /// @dev A deployment that somebody tampered with does not verify.
    function test_RevertWhen_SomethingElseIsThere() public {
        DeploymentPlan.Addresses memory addresses = this.deploy();
        address other = address(new EntryPolicy(address(this)));
        DeploymentPlan.Addresses memory changed = abi.decode(abi.encode(addresses), (DeploymentPlan.Addresses));
        changed.entryPolicy = other;
        _refused(changed, "the timelock owns the policy");
        changed = abi.decode(abi.encode(addresses), (DeploymentPlan.Addresses));
        changed.agentRegistry = other;
        _refused(changed, "the escrow's agent registry");
        _config.permit2 = other;
        _refused(addresses, "the escrow's Permit2");
    }

    /// @dev The committed file names what this code would deploy; a change of the code shows here.
    function test_committedPredictionsAreThoseOfTheCode() public view {
        string memory json = vm.readFile("deployments.json");
        string[2] memory chains = ["8453", "84532"];
        for (uint256 i = 0; i < 2; ++i) {
            string memory chain = string.concat(".chains.", chains[i]);
            DeploymentPlan.Config memory config;
            config.agentRegistry = vm.parseJsonAddress(json, string.concat(chain, ".contracts.AgentRegistry.address"));
            assertEq(
                vm.parseJsonAddress(json, string.concat(chain, ".contracts.ValidationRegistry.address")),
                DeploymentPlan.predict(config).validationRegistry,
                chains[i]
            );
        }
        DeploymentPlan.Config memory elsewhere;
        DeploymentPlan.Addresses memory addresses = DeploymentPlan.predict(elsewhere);
        assertEq(
            vm.parseJsonAddress(json, ".otherChains.AgentRegistry.address"), addresses.agentRegistry, "agent registry"
        );
        assertEq(
            vm.parseJsonAddress(json, ".otherChains.ValidationRegistry.address"),
            addresses.validationRegistry,
            "validation registry"
        );
        assertEq(vm.parseJsonAddress(json, ".create2.factory"), DeploymentPlan.FACTORY, "factory");
        assertEq(vm.parseJsonBytes32(json, ".create2.salt"), DeploymentPlan.SALT, "salt");
    }

    function deploy() external returns (DeploymentPlan.Addresses memory) {
        return DeploymentPlan.deploy(_config);
    }

    function verify(DeploymentPlan.Addresses memory addresses) external view {
        DeploymentCheck.verify(_config, addresses);
    }

    function _refused(DeploymentPlan.Addresses memory addresses, string memory what) private {
        vm.expectRevert(abi.encodeWithSelector(DeploymentCheck.CheckFailed.selector, what));
        this.verify(addresses);
    }
}
