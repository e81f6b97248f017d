// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Assert} from "../base/Assert.sol";
import {Handler} from "./Handler.sol";

/// @notice What the two campaigns share: the checks of `README.md` in this folder, and the gate on effectiveness.
abstract contract EscrowInvariants is Assert {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    /// @dev A handler that was called less often in one run proves nothing about its rate.
    uint256 private constant CALLS_MIN = 10;
    uint256 private constant EFFECTIVE_PERCENT_MIN = 30;

    Handler internal handler;

    function setUp() public {
        handler = new Handler();
    }

    function selectors() internal view virtual returns (bytes4[] memory);

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), selectors());
    }

    /// @dev One function, because each one is a campaign of its own; the messages name the invariants.
    function invariant_all() external view {
        handler.checkMoney(gasleft());
        handler.checkBonds();
        handler.checkRequest(gasleft());
    }

    function afterInvariant() external view {
        for (uint256 i = 0; i < 3; ++i) {
            handler.checkMoney(i);
        }
        handler.checkAllRequests();
        bytes4[] memory list = selectors();
        uint256 calls = 0;
        uint256 effective = 0;
        for (uint256 i = 0; i < list.length; ++i) {
            uint256 made = handler.calls(list[i]);
            uint256 did = handler.effective(list[i]);
            calls += made;
            effective += did;
            if (made >= CALLS_MIN) {
                assertGe(did * 100, made * EFFECTIVE_PERCENT_MIN, "a handler is idle");
            }
        }
        assertGe(effective * 100, calls * EFFECTIVE_PERCENT_MIN, "the run is idle");
    }
}

/// @notice The ordinary life of requests, with deadlines, windows and signatures under attack.
contract PaymentInvariants is EscrowInvariants {
    function selectors() internal pure override returns (bytes4[] memory list) {
        list = new bytes4[](14);
        list[0] = Handler.request.selector;
        list[1] = Handler.requestSigned.selector;
        list[2] = Handler.requestBatch.selector;
        list[3] = Handler.deliver.selector;
        list[4] = Handler.deliverBatch.selector;
        list[5] = Handler.settle.selector;
        list[6] = Handler.refund.selector;
        list[7] = Handler.withdraw.selector;
        list[8] = Handler.attackSignatures.selector;
        list[9] = Handler.attackQuorum.selector;
        list[10] = Handler.attackAnotherChain.selector;
        list[11] = Handler.attackLateDelivery.selector;
        list[12] = Handler.attackEarlyRefund.selector;
        list[13] = Handler.attackClosedRequest.selector;
    }
}

/// @notice Convictions, bonds, administrators, and a token and a receiver that re-enter.
contract PowerInvariants is EscrowInvariants {
    function selectors() internal pure override returns (bytes4[] memory list) {
        list = new bytes4[](13);
        list[0] = Handler.request.selector;
        list[1] = Handler.deliver.selector;
        list[2] = Handler.convict.selector;
        list[3] = Handler.settle.selector;
        list[4] = Handler.refund.selector;
        list[5] = Handler.withdraw.selector;
        list[6] = Handler.withdrawSlashed.selector;
        list[7] = Handler.leaveAndJoin.selector;
        list[8] = Handler.changePolicy.selector;
        list[9] = Handler.attackWindow.selector;
        list[10] = Handler.attackLockedBond.selector;
        list[11] = Handler.attackAsAdministrator.selector;
        list[12] = Handler.attackReentrancy.selector;
    }
}
