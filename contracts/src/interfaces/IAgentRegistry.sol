// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title AgentRegistry: the identity registry of ERC-8004
/// @notice For chains where the canonical registry is not deployed. ABI, events and semantics are those of
/// https://eips.ethereum.org/EIPS/eip-8004: an agent is an ERC-721 token whose URI is its registration file.
/// @dev Ids start at 0. `agentWallet` is reserved metadata: it is set to the owner at registration, changes only with the
/// new wallet's signature, and is cleared by a transfer. So nobody may resolve a payee through it at settlement time.
interface IAgentRegistry {
    struct MetadataEntry {
        string metadataKey;
        bytes metadataValue;
    }

    event Registered(uint256 indexed agentId, string agentURI, address indexed owner);
    event MetadataSet(
        uint256 indexed agentId, string indexed indexedMetadataKey, string metadataKey, bytes metadataValue
    );
    event URIUpdated(uint256 indexed agentId, string newURI, address indexed updatedBy);

    /// @notice Thrown when the caller is neither the agent's owner nor approved for it.
    error NotAuthorized(uint256 agentId, address caller);
    /// @notice Thrown when reserved metadata is set directly.
    error ReservedMetadataKey(string metadataKey);
    /// @notice Thrown when a wallet's signature is late, too far ahead, or not its own.
    error InvalidWalletSignature(address newWallet, uint256 deadline);

    function register() external returns (uint256 agentId);

    function register(string calldata agentURI) external returns (uint256 agentId);

    function register(string calldata agentURI, MetadataEntry[] calldata metadata) external returns (uint256 agentId);

    function setAgentURI(uint256 agentId, string calldata newURI) external;

    function getMetadata(uint256 agentId, string calldata metadataKey) external view returns (bytes memory);

    function setMetadata(uint256 agentId, string calldata metadataKey, bytes calldata metadataValue) external;

    function getAgentWallet(uint256 agentId) external view returns (address);

    /// @param deadline Unix time in seconds, at most five minutes ahead.
    /// @param signature `newWallet`'s EIP-712 (or ERC-1271) signature over
    /// `AgentWalletSet(uint256 agentId,address newWallet,address owner,uint256 deadline)`.
    function setAgentWallet(uint256 agentId, address newWallet, uint256 deadline, bytes calldata signature) external;

    function unsetAgentWallet(uint256 agentId) external;

    function isAuthorizedOrOwner(address spender, uint256 agentId) external view returns (bool);
}
