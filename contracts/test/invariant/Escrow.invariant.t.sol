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
    /// @dev A run of the long profile makes 500 calls, which choose each of the selectors about 36 times. In such a run each
    /// negative path has to be hit, so the 1,000 runs of the profile hit each at least 1,000 times.
    uint256 private constant LONG_RUN_CALLS_MIN = 400;
    uint256 private constant HITS_MIN = 1;

    Handler internal handler;

    function setUp() public {
        handler = new Handler();
    }

    function selectors() internal view virtual returns (bytes4[] memory);

    /// @notice The names of what is attempted and has to be refused.
    function negativePaths() internal pure virtual returns (string[] memory);

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
        if (calls < LONG_RUN_CALLS_MIN) return;
        string[] memory paths = negativePaths();
        for (uint256 i = 0; i < paths.length; ++i) {
            assertGe(handler.hits(paths[i]), HITS_MIN, string.concat("never hit: ", paths[i]));
        }
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

    function negativePaths() internal pure override returns (string[] memory list) {
        list = new string[](16);
        list[0] = "a stranger's key";
        list[1] = "high s";
        list[2] = "v of 0 or 1";
        list[3] = "64 bytes";
        list[4] = "another output";
        list[5] = "one signer twice";
        list[6] = "the zero signer";
        list[7] = "too few signers";
        list[8] = "another operator set";
        list[9] = "another chain";
        list[10] = "late delivery";
        list[11] = "early refund";
        list[12] = "second delivery";
        list[13] = "second refund";
        list[14] = "second settlement";
        list[15] = "late delivery in a batch";
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

    function negativePaths() internal pure override returns (string[] memory list) {
        list = new string[](17);
        list[0] = "early settlement";
        list[1] = "a stranger convicts";
        list[2] = "late conviction";
        list[3] = "I11 a member unbonds";
        list[4] = "I11 a member's bond is released";
        list[5] = "I14 fee";
        list[6] = "I14 token";
        list[7] = "I14 offer";
        list[8] = "I12 slash";
        list[9] = "I14 epoch";
        list[10] = "reentered refund";
        list[11] = "reentered delivery";
        list[12] = "reentered withdrawal";
        list[13] = "a convicted signer";
        list[14] = "a convicted signer comes back";
        list[15] = "I14 set admin";
        list[16] = "I14 set admin accepted";
    }
}
