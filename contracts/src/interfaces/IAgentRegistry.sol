// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title AgentRegistry: the identity registry of ERC-8004
/// @notice For chains where the canonical registry is not deployed. ABI, events and semantics are those of
/// https://eips.ethereum.org/EIPS/eip-8004: an agent is an ERC-721 token whose URI is its registration file.
/// @dev Ids start at 0. `agentWallet` is reserved metadata: it is set to the owner at registration, changes only with the
/// new wallet's signature, and is cleared by a transfer. So nobody may resolve a payee through it at settlement time.
interface IAgentRegistry {
    /// @notice One entry of an agent's metadata.
    struct MetadataEntry {
        string metadataKey;
        bytes metadataValue;
    }

    /// @notice An agent was registered.
    event Registered(uint256 indexed agentId, string agentURI, address indexed owner);
    /// @notice An entry of an agent's metadata changed; an empty value means that it is gone.
    event MetadataSet(
        uint256 indexed agentId, string indexed indexedMetadataKey, string metadataKey, bytes metadataValue
    );
    /// @notice An agent's registration file moved.
    event URIUpdated(uint256 indexed agentId, string newURI, address indexed updatedBy);

    /// @notice Thrown when the caller is neither the agent's owner nor approved for it.
    error NotAuthorized(uint256 agentId, address caller);
    /// @notice Thrown when reserved metadata is set directly.
    error ReservedMetadataKey(string metadataKey);
    /// @notice Thrown when a wallet's signature is late, too far ahead, or not its own.
    error InvalidWalletSignature(address newWallet, uint256 deadline);

    /// @notice Registers an agent of the caller without a registration file.
    function register() external returns (uint256 agentId);

    /// @notice Registers an agent of the caller.
    function register(string calldata agentURI) external returns (uint256 agentId);

    /// @notice Registers an agent of the caller with metadata, which must not have the key `agentWallet`.
    function register(string calldata agentURI, MetadataEntry[] calldata metadata) external returns (uint256 agentId);

    /// @notice Changes the address of an agent's registration file. Callable by its owner or approved operator.
    function setAgentURI(uint256 agentId, string calldata newURI) external;

    /// @notice An entry of an agent's metadata; empty when there is none.
    function getMetadata(uint256 agentId, string calldata metadataKey) external view returns (bytes memory);

    /// @notice Changes an entry of an agent's metadata. Callable by its owner or approved operator.
    function setMetadata(uint256 agentId, string calldata metadataKey, bytes calldata metadataValue) external;

    /// @notice The agent's wallet; zero when there is none.
    function getAgentWallet(uint256 agentId) external view returns (address);

    /// @notice Names the agent's wallet, which agrees by its signature. Callable by the agent's owner or approved operator.
    /// @param deadline Unix time in seconds, at most five minutes ahead.
    /// @param signature `newWallet`'s EIP-712 (or ERC-1271) signature over
    /// `AgentWalletSet(uint256 agentId,address newWallet,address owner,uint256 deadline)`.
    function setAgentWallet(uint256 agentId, address newWallet, uint256 deadline, bytes calldata signature) external;

    /// @notice Takes the agent's wallet away. Callable by the agent's owner or approved operator.
    function unsetAgentWallet(uint256 agentId) external;

    /// @notice Whether an account is the agent's owner or approved for it.
    function isAuthorizedOrOwner(address spender, uint256 agentId) external view returns (bool);

    /// @notice The version of the canonical registry whose ABI this is.
    function getVersion() external pure returns (string memory);
}
