// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title The part of ERC-8183 that an evaluator calls
/// @notice See https://eips.ethereum.org/EIPS/eip-8183.
interface IERC8183 {
    /// @notice Accepts the work of a job and pays its provider. Callable by the job's evaluator.
    function complete(uint256 jobId, bytes32 reason, bytes calldata optParams) external;

    /// @notice Refuses the work of a job and pays its client back. Callable by the job's evaluator.
    function reject(uint256 jobId, bytes32 reason, bytes calldata optParams) external;
}
