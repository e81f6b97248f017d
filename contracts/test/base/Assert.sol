// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {vm} from "./Vm.sol";

/// @notice The assertions and bounds of these tests. A failed one reverts with what was seen and what was wanted.
abstract contract Assert {
    /// @dev forge looks for this flag to know a test contract.
    bool public constant IS_TEST = true;

    error NotEqual(string what, uint256 seen, uint256 wanted);
    error NotEqualBytes32(string what, bytes32 seen, bytes32 wanted);
    error NotEqualAddress(string what, address seen, address wanted);
    error NotTrue(string what);
    error TooLarge(string what, uint256 seen, uint256 limit);
    error TooSmall(string what, uint256 seen, uint256 limit);

    function assertEq(uint256 seen, uint256 wanted, string memory what) internal pure {
        if (seen != wanted) revert NotEqual(what, seen, wanted);
    }

    function assertEq(bytes32 seen, bytes32 wanted, string memory what) internal pure {
        if (seen != wanted) revert NotEqualBytes32(what, seen, wanted);
    }

    function assertEq(address seen, address wanted, string memory what) internal pure {
        if (seen != wanted) revert NotEqualAddress(what, seen, wanted);
    }

    function assertTrue(bool condition, string memory what) internal pure {
        if (!condition) revert NotTrue(what);
    }

    function assertFalse(bool condition, string memory what) internal pure {
        if (condition) revert NotTrue(string.concat("not: ", what));
    }

    function assertLe(uint256 seen, uint256 limit, string memory what) internal pure {
        if (seen > limit) revert TooLarge(what, seen, limit);
    }

    function assertGe(uint256 seen, uint256 limit, string memory what) internal pure {
        if (seen < limit) revert TooSmall(what, seen, limit);
    }

    /// @dev Maps any word into `[low, high]`, evenly enough for tests.
    function bound(uint256 word, uint256 low, uint256 high) internal pure returns (uint256) {
        require(low <= high, "bound: empty range");
        if (word >= low && word <= high) return word;
        if (high - low == type(uint256).max) return word;
        return low + word % (high - low + 1);
    }

    function selectorOf(bytes memory data) internal pure returns (bytes4) {
        return bytes4(data);
    }

    function sum(uint256[] memory values) internal pure returns (uint256 total) {
        for (uint256 i = 0; i < values.length; ++i) {
            total += values[i];
        }
    }

    function skipTime(uint256 secs) internal {
        vm.warp(block.timestamp + secs);
    }
}
