// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../interfaces/IRequestEscrow.sol";

/// @notice The rules and the arithmetic of a split.
library SplitShares {
    uint256 internal constant RECIPIENTS_MAX = 16;
    uint256 internal constant ALLOCATION_MAX = type(uint64).max;

    /// @notice Reverts unless a split keeps every rule of `IRequestEscrow.Split`.
    function validate(IRequestEscrow.Split calldata split) internal pure {
        uint256 count = split.recipients.length;
        require(
            count != 0 && count <= RECIPIENTS_MAX && split.allocations.length == count
                && split.distributionIncentive == 0,
            IRequestEscrow.InvalidSplit(0)
        );
        uint256 sum = 0;
        for (uint256 i = 0; i < count; ++i) {
            address recipient = split.recipients[i];
            uint256 allocation = split.allocations[i];
            require(
                recipient != address(0) && allocation != 0 && allocation <= ALLOCATION_MAX,
                IRequestEscrow.InvalidSplit(i)
            );
            for (uint256 j = 0; j < i; ++j) {
                require(split.recipients[j] != recipient, IRequestEscrow.InvalidSplit(i));
            }
            sum += allocation;
        }
        require(sum == split.totalAllocation && sum <= ALLOCATION_MAX, IRequestEscrow.InvalidSplit(count));
    }

    /// @notice What `account` may have taken in all from a split into which `total` was settled:
    /// `floor(total * allocation / totalAllocation)`.
    /// @dev Grows with `total` and does not depend on how `total` came together, so slicing gains nothing. The shares of
    /// all recipients add up to `total` less fewer units than there are recipients; later settlements bring those out.
    /// Call it only for splits that were validated, which is so for each one with `total != 0`.
    function entitlement(IRequestEscrow.Split calldata split, uint256 total, address account)
        internal
        pure
        returns (uint256)
    {
        uint256 count = split.recipients.length;
        for (uint256 i = 0; i < count; ++i) {
            if (split.recipients[i] == account) return total * split.allocations[i] / split.totalAllocation;
        }
        return 0;
    }

    /// @notice The protocol's part of a settled amount, rounded down.
    function fee(uint256 amount, uint256 feeBps) internal pure returns (uint256) {
        return amount * feeBps / 10_000;
    }
}
