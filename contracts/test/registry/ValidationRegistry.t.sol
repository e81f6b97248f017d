// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {AgentRegistry} from "../../src/AgentRegistry.sol";
import {ValidationRegistry} from "../../src/ValidationRegistry.sol";
import {IValidationRegistry} from "../../src/interfaces/IValidationRegistry.sol";
import {Assert} from "../base/Assert.sol";
import {vm} from "../base/Vm.sol";

contract ValidationRegistryTest is Assert {
    address private _owner = address(0xA6E7);
    address private _validator = address(0x7A11);
    address private _stranger = address(0x57A4);
    AgentRegistry private _agents;
    ValidationRegistry private _validation;
    uint256 private _agentId;

    function setUp() public {
        vm.warp(1_800_000_000);
        _agents = new AgentRegistry();
        _validation = new ValidationRegistry(address(_agents));
        vm.startPrank(_owner);
        _agents.register();
        _agentId = _agents.register();
        vm.stopPrank();
    }

    function test_selectorsAreTheStandards() public pure {
        assertEq(bytes32(IValidationRegistry.validationRequest.selector), bytes32(bytes4(0xaaf400c4)), "request");
        assertEq(bytes32(IValidationRegistry.validationResponse.selector), bytes32(bytes4(0x3d659a96)), "response");
        assertEq(bytes32(IValidationRegistry.getValidationStatus.selector), bytes32(bytes4(0xff2febfc)), "status");
        assertEq(
            IValidationRegistry.ValidationRequest.selector,
            0x530436c3634a98e1e626b0898be2f1e9980cc1bd2a78c07a0aba52d0a48a5059,
            "ValidationRequest"
        );
        assertEq(
            IValidationRegistry.ValidationResponse.selector,
            0xafddf629e874ccc3963b6a888c477bd464a6c8525024fc88759ea3b2326349ae,
            "ValidationResponse"
        );
    }

    function test_asksAndAnswers() public {
        vm.expectEmit(true, true, true, true, address(_validation));
        emit IValidationRegistry.ValidationRequest(_validator, _agentId, "uri", "hash");
        _ask("hash");
        (address validator, uint256 agentId, uint8 response,,, uint256 lastUpdate) =
            _validation.getValidationStatus("hash");
        assertEq(validator, _validator, "validator");
        assertEq(agentId, _agentId, "agent");
        assertEq(response, 0, "response");
        assertEq(lastUpdate, 0, "no answer yet");

        vm.expectEmit(true, true, true, true, address(_validation));
        emit IValidationRegistry.ValidationResponse(_validator, _agentId, "hash", 100, "answer", "rhash", "tag");
        vm.prank(_validator);
        _validation.validationResponse("hash", 100, "answer", "rhash", "tag");
        bytes32 responseHash;
        string memory tag;
        (,, response, responseHash, tag, lastUpdate) = _validation.getValidationStatus("hash");
        assertEq(response, 100, "response");
        assertEq(responseHash, "rhash", "response hash");
        assertEq(keccak256(bytes(tag)), keccak256("tag"), "tag");
        assertEq(lastUpdate, block.timestamp, "last update");
        assertEq(_validation.getAgentValidations(_agentId)[0], "hash", "of the agent");
        assertEq(_validation.getValidatorRequests(_validator)[0], "hash", "of the validator");
        assertEq(_validation.getIdentityRegistry(), address(_agents), "agents");
        assertEq(keccak256(bytes(_validation.getVersion())), keccak256("2.0.0"), "version");
    }

    function test_summarizes() public {
        bytes32[4] memory hashes = [bytes32("1"), "2", "3", "4"];
        for (uint256 i = 0; i < 4; ++i) {
            _ask(hashes[i]);
        }
        vm.startPrank(_validator);
        _validation.validationResponse("1", 10, "", 0, "a");
        _validation.validationResponse("1", 100, "", 0, "a");
        _validation.validationResponse("2", 51, "", 0, "a");
        _validation.validationResponse("3", 0, "", 0, "b");
        vm.stopPrank();
        _checkSummary(new address[](0), "a", 2, 75);
        _checkSummary(new address[](0), "", 3, 50);
        _checkSummary(new address[](0), "none", 0, 0);
        address[] memory named = new address[](2);
        named[0] = _stranger;
        _checkSummary(named, "", 0, 0);
        named[1] = _validator;
        _checkSummary(named, "b", 1, 0);
        (named[0], named[1]) = (_validator, _stranger);
        _checkSummary(named, "b", 1, 0);
    }

    function test_RevertWhen_AskingWithoutAuthority() public {
        vm.expectRevert(abi.encodeWithSelector(IValidationRegistry.NotAuthorized.selector, _agentId, _stranger));
        vm.prank(_stranger);
        _validation.validationRequest(_validator, _agentId, "uri", "hash");
        vm.expectRevert(IValidationRegistry.ZeroValidator.selector);
        vm.prank(_owner);
        _validation.validationRequest(address(0), _agentId, "uri", "hash");
        _ask("hash");
        vm.expectRevert(abi.encodeWithSelector(IValidationRegistry.AlreadyRequested.selector, bytes32("hash")));
        _ask("hash");
    }

    function test_RevertWhen_AnsweringWithoutAuthority() public {
        vm.expectRevert(abi.encodeWithSelector(IValidationRegistry.UnknownRequest.selector, bytes32("hash")));
        vm.prank(_validator);
        _validation.validationResponse("hash", 1, "", 0, "");
        vm.expectRevert(abi.encodeWithSelector(IValidationRegistry.UnknownRequest.selector, bytes32("hash")));
        _validation.getValidationStatus("hash");
        _ask("hash");
        vm.expectRevert(abi.encodeWithSelector(IValidationRegistry.NotValidator.selector, bytes32("hash"), _stranger));
        vm.prank(_stranger);
        _validation.validationResponse("hash", 1, "", 0, "");
        vm.expectRevert(abi.encodeWithSelector(IValidationRegistry.ResponseTooLarge.selector, 101));
        vm.prank(_validator);
        _validation.validationResponse("hash", 101, "", 0, "");
    }

    function _ask(bytes32 hash) private {
        vm.prank(_owner);
        _validation.validationRequest(_validator, _agentId, "uri", hash);
    }

    function _checkSummary(address[] memory named, string memory tag, uint64 count, uint8 average) private view {
        (uint64 seenCount, uint8 seenAverage) = _validation.getSummary(_agentId, named, tag);
        assertEq(seenCount, count, "count");
        assertEq(seenAverage, average, "average");
    }
}
