// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {EntryPolicy} from "../../src/EntryPolicy.sol";
import {IEntryPolicy} from "../../src/interfaces/IEntryPolicy.sol";
import {Assert} from "../base/Assert.sol";
import {vm} from "../base/Vm.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

contract EntryPolicyTest is Assert {
    address private _owner = address(0x71E1);
    address private _token = address(0x70);
    EntryPolicy private _policy;

    function setUp() public {
        _policy = new EntryPolicy(_owner);
    }

    function test_allowsAndDisallowsTokens() public {
        _check(_token, false, 0, address(0));
        vm.expectEmit(true, true, true, true, address(_policy));
        emit IEntryPolicy.TokenAllowed(1, _token, true);
        vm.startPrank(_owner);
        _policy.setTokenAllowed(_token, true);
        _check(_token, true, 0, address(0));
        _check(address(0), false, 0, address(0));
        _policy.setTokenAllowed(_token, false);
        _check(_token, false, 0, address(0));
        assertEq(_policy.sequence(), 2, "sequence");
        vm.stopPrank();
    }

    function test_setsTheFeeUpToItsCap() public {
        vm.startPrank(_owner);
        vm.expectEmit(true, true, true, true, address(_policy));
        emit IEntryPolicy.FeeChanged(1, 500, _token);
        _policy.setFee(500, _token);
        _check(address(9), false, 500, _token);
        vm.expectRevert(abi.encodeWithSelector(IEntryPolicy.FeeTooHigh.selector, 501, 500));
        _policy.setFee(501, _token);
        vm.expectRevert(IEntryPolicy.FeeRecipientMissing.selector);
        _policy.setFee(1, address(0));
        _policy.setFee(0, address(0));
        _check(address(9), false, 0, address(0));
        vm.stopPrank();
    }

    function test_RevertWhen_CallerIsNotTheOwner() public {
        bytes memory error_ = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, address(this));
        vm.expectRevert(error_);
        _policy.setFee(1, _token);
        vm.expectRevert(error_);
        _policy.setTokenAllowed(_token, true);
    }

    function _check(address token, bool allowed, uint16 feeBps, address recipient) private view {
        (bool seenAllowed, uint16 seenFee, address seenRecipient) = _policy.entryTerms(token);
        assertTrue(seenAllowed == allowed, "allowed");
        assertEq(seenFee, feeBps, "fee");
        assertEq(seenRecipient, recipient, "recipient");
    }
}
