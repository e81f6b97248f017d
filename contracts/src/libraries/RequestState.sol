// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../interfaces/IRequestEscrow.sol";

/// @notice Everything that the escrow stores about one request, in one word.
///
/// | bits      | Delivered                                        | Settled                      | else |
/// |-----------|--------------------------------------------------|------------------------------|------|
/// | 0 .. 7    | status                                           | status                       | status |
/// | 8 .. 47   | `settleAt`, Unix time in seconds                 | amount, bits 8 .. 135        | 0    |
/// | 48 .. 255 | commitment to the result and its signers         | 0                            | 0    |
///
/// @dev The commitment keeps the upper 208 bits of a keccak256: finding another result for it takes 2^208 tries, two
/// results with one commitment 2^104.
type RequestState is uint256;

using RequestStateLibrary for RequestState global;

library RequestStateLibrary {
    uint256 private constant LOW_48_BITS = (1 << 48) - 1;

    function funded() internal pure returns (RequestState) {
        return RequestState.wrap(uint256(IRequestEscrow.Status.Funded));
    }

    function delivered(uint40 settleAt_, bytes32 commitment) internal pure returns (RequestState) {
        return RequestState.wrap(
            uint256(IRequestEscrow.Status.Delivered) | uint256(settleAt_) << 8 | (uint256(commitment) & ~LOW_48_BITS)
        );
    }

    function settled(uint128 amount) internal pure returns (RequestState) {
        return RequestState.wrap(uint256(IRequestEscrow.Status.Settled) | uint256(amount) << 8);
    }

    function refunded() internal pure returns (RequestState) {
        return RequestState.wrap(uint256(IRequestEscrow.Status.Refunded));
    }

    function slashed() internal pure returns (RequestState) {
        return RequestState.wrap(uint256(IRequestEscrow.Status.Slashed));
    }

    function isNone(RequestState self) internal pure returns (bool) {
        return RequestState.unwrap(self) == 0;
    }

    function status(RequestState self) internal pure returns (IRequestEscrow.Status) {
        return IRequestEscrow.Status(uint8(RequestState.unwrap(self)));
    }

    /// @dev Meaningful while `Delivered`.
    function settleAt(RequestState self) internal pure returns (uint256) {
        return uint40(RequestState.unwrap(self) >> 8);
    }

    /// @dev Meaningful while `Delivered`.
    function commitsTo(RequestState self, bytes32 commitment) internal pure returns (bool) {
        return (RequestState.unwrap(self) ^ uint256(commitment)) & ~LOW_48_BITS == 0;
    }

    /// @dev Zero in every status but `Settled`.
    function settledAmount(RequestState self) internal pure returns (uint128) {
        if (self.status() != IRequestEscrow.Status.Settled) return 0;
        return uint128(RequestState.unwrap(self) >> 8);
    }
}
