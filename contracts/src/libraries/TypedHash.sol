// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../interfaces/IRequestEscrow.sol";

/// @notice The hashes that the two sides of the chain agree on.
/// @dev `Request`, `Result` and `Offer` have static members only, so their calldata is their ABI encoding and can be copied
/// as it is. Calldata may carry dirty bits above a narrow member: such a hash differs from the clean one and finds no
/// request, because a request and an offer enter storage only after each of their members was read, which refuses dirty
/// bits.
library TypedHash {
    /// @dev Hashes of literals: the compiler computes those, and no others, when it builds.
    bytes32 internal constant REQUEST_TYPEHASH = keccak256(
        "Request(address payer,uint256 agentId,bytes32 offerHash,bytes32 operatorSetHash,bytes32 splitHash,address token,uint128 maxAmount,uint16 feeBps,address feeRecipient,uint40 deadline,uint32 challengeWindow,address referee,address callback,uint32 callbackGas,bytes32 inputHash,bytes32 salt)"
    );
    bytes32 internal constant RESULT_TYPEHASH = keccak256(
        "Result(bytes32 requestId,uint8 outcome,bytes32 outputHash,bytes32 traceRoot,bytes32 retrievalRoot,bytes32 modelHash,uint128 amount,uint64 validUntil)"
    );
    /// @dev What Permit2 appends to its own type: the witness is the whole request.
    string internal constant PERMIT2_WITNESS_TYPE =
        "Request witness)Request(address payer,uint256 agentId,bytes32 offerHash,bytes32 operatorSetHash,bytes32 splitHash,address token,uint128 maxAmount,uint16 feeBps,address feeRecipient,uint40 deadline,uint32 challengeWindow,address referee,address callback,uint32 callbackGas,bytes32 inputHash,bytes32 salt)TokenPermissions(address token,uint256 amount)";

    uint256 internal constant REQUEST_BYTES = 16 * 32;
    uint256 internal constant RESULT_BYTES = 8 * 32;
    uint256 internal constant OFFER_BYTES = 11 * 32;

    /// @notice The EIP-712 struct hash of a request.
    function structHash(IRequestEscrow.Request calldata terms) internal pure returns (bytes32 hash) {
        bytes32 typeHash = REQUEST_TYPEHASH;
        uint256 size = REQUEST_BYTES;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typeHash)
            calldatacopy(add(free, 0x20), terms, size)
            hash := keccak256(free, add(size, 0x20))
        }
    }

    /// @notice The EIP-712 struct hash of a result.
    function structHash(IRequestEscrow.Result calldata result) internal pure returns (bytes32 hash) {
        bytes32 typeHash = RESULT_TYPEHASH;
        uint256 size = RESULT_BYTES;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typeHash)
            calldatacopy(add(free, 0x20), result, size)
            hash := keccak256(free, add(size, 0x20))
        }
    }

    /// @notice `keccak256(abi.encode(offer))`.
    function offerHash(IRequestEscrow.Offer calldata offer) internal pure returns (bytes32 hash) {
        uint256 size = OFFER_BYTES;
        assembly ("memory-safe") {
            let free := mload(0x40)
            calldatacopy(free, offer, size)
            hash := keccak256(free, size)
        }
    }

    /// @notice The EIP-712 digest of a struct hash.
    /// @dev Leaves what is behind the free memory pointer alone, so that a caller can keep a buffer there.
    function digest(bytes32 domainSeparator, bytes32 hash) internal pure returns (bytes32 result) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(0x00, hex"1901")
            mstore(0x02, domainSeparator)
            // The last two bytes of the hash reach into the free memory pointer, which is put back.
            mstore(0x22, hash)
            result := keccak256(0x00, 0x42)
            mstore(0x40, free)
        }
    }
}
