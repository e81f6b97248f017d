// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../interfaces/IRequestEscrow.sol";

/// @notice The order of an operator set's members, and the hash of an epoch.
library MemberOrder {
    /// @notice Sorts both lists so that `signers` ascends and `operators[i]` still signs with `signers[i]`.
    /// @dev Insertion: a set has at most 32 members and is mostly in order already.
    function sortBySigner(address[] memory signers, address[] memory operators) internal pure {
        for (uint256 i = 1; i < signers.length; ++i) {
            address signer = signers[i];
            address operator = operators[i];
            uint256 j = i;
            while (j != 0 && signers[j - 1] > signer) {
                signers[j] = signers[j - 1];
                operators[j] = operators[j - 1];
                --j;
            }
            signers[j] = signer;
            operators[j] = operator;
        }
    }

    /// @notice `keccak256(abi.encode(OperatorSet))`, which requests pin.
    function epochHash(uint64 setId, uint64 epoch, uint8 threshold, address[] memory signers)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(IRequestEscrow.OperatorSet(setId, epoch, threshold, signers)));
    }
}
