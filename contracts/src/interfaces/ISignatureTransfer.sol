// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title The part of Permit2 that the escrow uses
/// @notice See https://docs.uniswap.org/contracts/permit2/reference/signature-transfer.
interface ISignatureTransfer {
    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    struct PermitTransferFrom {
        TokenPermissions permitted;
        uint256 nonce;
        uint256 deadline;
    }

    struct SignatureTransferDetails {
        address to;
        uint256 requestedAmount;
    }

    /// @notice Moves `owner`'s tokens once, on its signature over the permit, the caller and a witness.
    /// @param witness The struct hash of what the owner agreed to beside the transfer.
    /// @param witnessTypeString The rest of the EIP-712 type, from the witness member on.
    function permitWitnessTransferFrom(
        PermitTransferFrom calldata permit,
        SignatureTransferDetails calldata transferDetails,
        address owner,
        bytes32 witness,
        string calldata witnessTypeString,
        bytes calldata signature
    ) external;
}
