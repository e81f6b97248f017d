// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";

/// @notice Whether a signature is an account's.
/// @dev ECDSA takes 65 bytes, `s` in the lower half order and `v` of 27 or 28, so one message has one signature per key.
/// ERC-1271 is asked when ECDSA does not name the signer, which covers contracts and delegated accounts.
library SignatureProof {
    /// @dev Enough for a multisig of a few owners, too little to make a delivery unaffordable.
    uint256 internal constant ERC1271_GAS_MAX = 200_000;

    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    function isValid(address signer, bytes32 digest, bytes calldata signature) internal view returns (bool) {
        return isValidEcdsa(signer, digest, signature) || isValidErc1271(signer, digest, signature);
    }

    function isValidEcdsa(address signer, bytes32 digest, bytes calldata signature) internal pure returns (bool) {
        if (signature.length != 65) return false;
        bytes32 r = bytes32(signature[0:32]);
        bytes32 s = bytes32(signature[32:64]);
        uint8 v = uint8(signature[64]);
        if (uint256(s) > HALF_ORDER || (v != 27 && v != 28)) return false;
        return signer != address(0) && ecrecover(digest, v, r, s) == signer;
    }

    function isValidErc1271(address signer, bytes32 digest, bytes calldata signature)
        internal
        view
        returns (bool valid)
    {
        bytes memory question = abi.encodeCall(IERC1271.isValidSignature, (digest, signature));
        bytes32 expected = bytes32(IERC1271.isValidSignature.selector);
        uint256 gasMax = ERC1271_GAS_MAX;
        // At most one word of the answer is copied, so a large answer costs its author alone.
        assembly ("memory-safe") {
            mstore(0x00, 0)
            let success := staticcall(gasMax, signer, add(question, 0x20), mload(question), 0x00, 0x20)
            valid := and(and(success, gt(returndatasize(), 0x1f)), eq(mload(0x00), expected))
        }
    }
}
