// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title PlatformToken: ERC-20 with ERC-2612 permits and ERC-3009 authorizations
/// @notice What is beyond OpenZeppelin's ERC-20 and ERC-2612. The supply is minted once, at deployment.
interface IPlatformToken {
    /// @notice An authorization moved its value; its nonce is spent.
    event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);
    /// @notice An authorizer took an unused authorization back; its nonce is spent.
    event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce);

    /// @notice Thrown when an authorization is used outside its time window.
    error AuthorizationOutOfTime(uint256 validAfter, uint256 validBefore);
    /// @notice Thrown when an authorization's nonce was used or canceled before.
    error AuthorizationUsedOrCanceled(address authorizer, bytes32 nonce);
    /// @notice Thrown when the signature is not the authorizer's.
    error InvalidAuthorization(address authorizer);
    /// @notice Thrown when somebody other than the payee receives.
    error CallerNotPayee(address caller, address payee);

    /// @notice Moves `value` from `from` to `to` on the EIP-712 signature of `from`, once per nonce and inside its time
    /// window. Anyone may call. This form takes ERC-1271 signatures, too.
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;

    /// @notice The same for an ECDSA signature in parts, as ERC-3009 has it.
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;

    /// @notice The same, callable by the payee `to` only, so that nobody can take the transfer out of the payee's own call.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;

    /// @notice The same for an ECDSA signature in parts, as ERC-3009 has it.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;

    /// @notice Spends a nonce without a transfer, on the authorizer's signature over `CancelAuthorization`.
    function cancelAuthorization(address authorizer, bytes32 nonce, bytes calldata signature) external;

    /// @notice Whether a nonce is spent, by use or by cancellation.
    function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
}
