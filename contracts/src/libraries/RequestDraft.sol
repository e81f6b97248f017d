// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../interfaces/IRequestEscrow.sol";
import {RequestState, RequestStateLibrary} from "./RequestState.sol";
import {TypedHash} from "./TypedHash.sol";

/// @notice A request in memory, laid out so that one copy serves both its EIP-712 hash and its `Requested` event.
///
/// | bytes           | while hashing       | in the event           |
/// |-----------------|---------------------|------------------------|
/// | 0x000 .. 0x01f  | type hash           | sequence               |
/// | 0x020 .. 0x21f  | the 16 words of `Request` (inputHash at 0x1e0, salt at 0x200) | the same |
/// | 0x220 .. 0x23f  |                     | 0x240, where the input's length is |
/// | 0x240 .. 0x25f  |                     | length of the input    |
/// | 0x260 ..        | the input           | the input, padded      |
///
/// @dev A draft takes the free memory from `open` to `close`, so nothing else may allocate meanwhile. A batch writes one
/// input after the other into the same draft.
type RequestDraft is uint256;

using RequestDraftLibrary for RequestDraft global;

library RequestDraftLibrary {
    /// @notice Copies a request into free memory.
    /// @param inputBytesMax The largest input that will be written.
    function open(IRequestEscrow.Request calldata terms, uint256 inputBytesMax)
        internal
        pure
        returns (RequestDraft draft)
    {
        assembly ("memory-safe") {
            draft := mload(0x40)
            mstore(0x40, add(add(draft, 0x280), inputBytesMax))
            calldatacopy(add(draft, 0x20), terms, 0x200)
            mstore(add(draft, 0x220), 0x240)
        }
    }

    /// @notice Gives the draft's memory back.
    function close(RequestDraft self) internal pure {
        assembly ("memory-safe") {
            mstore(0x40, self)
        }
    }

    /// @notice Puts an input and a salt into the draft and returns its EIP-712 digest.
    function write(RequestDraft self, bytes calldata input, uint256 salt, bytes32 domainSeparator)
        internal
        pure
        returns (bytes32 requestId)
    {
        bytes32 typeHash = TypedHash.REQUEST_TYPEHASH;
        assembly ("memory-safe") {
            let inputAt := add(self, 0x260)
            calldatacopy(inputAt, input.offset, input.length)
            // The longer input before this one must not become its padding.
            mstore(add(inputAt, input.length), 0)
            mstore(add(self, 0x240), input.length)
            mstore(add(self, 0x1e0), keccak256(inputAt, input.length))
            mstore(add(self, 0x200), salt)
            mstore(self, typeHash)

            let free := mload(0x40)
            mstore(0x00, hex"1901")
            mstore(0x02, domainSeparator)
            // The last two bytes of the hash reach into the free memory pointer, which is put back.
            mstore(0x22, keccak256(self, 0x220))
            requestId := keccak256(0x00, 0x42)
            mstore(0x40, free)
        }
    }

    /// @notice Writes `Funded` to a request's slot and emits `Requested` from the draft.
    function fund(RequestDraft self, uint256 slot, bytes32 requestId, uint256 sequence) internal {
        RequestState funded = RequestStateLibrary.funded();
        bytes32 topic = IRequestEscrow.Requested.selector;
        assembly ("memory-safe") {
            sstore(slot, funded)
            mstore(self, sequence)
            let size := add(0x260, and(add(mload(add(self, 0x240)), 0x1f), not(0x1f)))
            log4(self, size, topic, requestId, mload(add(self, 0x40)), mload(add(self, 0x20)))
        }
    }
}
