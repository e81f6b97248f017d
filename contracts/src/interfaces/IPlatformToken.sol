// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title PlatformToken: ERC-20 with ERC-2612 permits and ERC-3009 authorizations
/// @notice What is beyond OpenZeppelin's ERC-20 and ERC-2612. The supply is minted once, at deployment.
interface IPlatformToken {
    event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);
    event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce);

    /// @notice Thrown when an authorization is used outside its time window.
    error AuthorizationOutOfTime(uint256 validAfter, uint256 validBefore);
    /// @notice Thrown when an authorization's nonce was used or canceled before.
    error AuthorizationUsedOrCanceled(address authorizer, bytes32 nonce);
    /// @notice Thrown when the signature is not the authorizer's.
    error InvalidAuthorization(address authorizer);
    /// @notice Thrown when somebody other than the payee receives.
    error CallerNotPayee(address caller, address payee);

    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;

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

    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;

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

    function cancelAuthorization(address authorizer, bytes32 nonce, bytes calldata signature) external;

    function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
}
