// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title The part of ERC-8183 that an evaluator calls
/// @notice See https://eips.ethereum.org/EIPS/eip-8183.
interface IERC8183 {
    function complete(uint256 jobId, bytes32 reason, bytes calldata optParams) external;

    function reject(uint256 jobId, bytes32 reason, bytes calldata optParams) external;
}
