// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title ReputationRegistry: the reputation registry of ERC-8004, with feedback that was paid for
/// @notice For chains where the canonical registry is not deployed. ABI, events and semantics are those of
/// https://eips.ethereum.org/EIPS/eip-8004. Beyond it, `giveBackedFeedback` ties a feedback to a request that its author
/// paid for; readers that score agents count only those.
/// @dev The summaries loop over all feedback of the named clients: they are for readers, never for contracts.
interface IReputationRegistry {
    event NewFeedback(
        uint256 indexed agentId,
        address indexed clientAddress,
        uint64 feedbackIndex,
        int128 value,
        uint8 valueDecimals,
        string indexed indexedTag1,
        string tag1,
        string tag2,
        string endpoint,
        string feedbackURI,
        bytes32 feedbackHash
    );
    event FeedbackRevoked(uint256 indexed agentId, address indexed clientAddress, uint64 indexed feedbackIndex);
    event ResponseAppended(
        uint256 indexed agentId,
        address indexed clientAddress,
        uint64 feedbackIndex,
        address indexed responder,
        string responseURI,
        bytes32 responseHash
    );
    /// @notice The feedback of the same transaction's `NewFeedback` is about a request that its author paid `amount` for.
    event FeedbackBacked(
        uint256 indexed agentId,
        address indexed clientAddress,
        uint64 feedbackIndex,
        bytes32 indexed requestId,
        uint128 amount
    );

    /// @notice Thrown when an agent's owner or approved operator rates it.
    error SelfFeedback(uint256 agentId, address client);
    /// @notice Thrown when there are more decimals than 18.
    error TooManyDecimals(uint8 valueDecimals);
    error UnknownFeedback(uint256 agentId, address client, uint64 feedbackIndex);
    error AlreadyRevoked(uint256 agentId, address client, uint64 feedbackIndex);
    error EmptyResponseURI();
    error NoClients();
    /// @notice Thrown when the caller did not pay for the request, it cost nothing, or it is not settled.
    error NotPaidFor(bytes32 requestId);
    /// @notice Thrown when a request backs a second feedback.
    error AlreadyBacked(bytes32 requestId);

    function giveFeedback(
        uint256 agentId,
        int128 value,
        uint8 valueDecimals,
        string calldata tag1,
        string calldata tag2,
        string calldata endpoint,
        string calldata feedbackURI,
        bytes32 feedbackHash
    ) external;

    function revokeFeedback(uint256 agentId, uint64 feedbackIndex) external;

    function appendResponse(
        uint256 agentId,
        address clientAddress,
        uint64 feedbackIndex,
        string calldata responseURI,
        bytes32 responseHash
    ) external;

    /// @notice The request that backs a feedback; zero when none does.
    function requestOf(uint256 agentId, address clientAddress, uint64 feedbackIndex)
        external
        view
        returns (bytes32 requestId);

    /// @return count Feedback that is not revoked and has both tags; an empty tag matches every one.
    /// @return summaryValue Their average, with as many decimals as the finest of them has.
    function getSummary(uint256 agentId, address[] calldata clientAddresses, string calldata tag1, string calldata tag2)
        external
        view
        returns (uint64 count, int128 summaryValue, uint8 summaryValueDecimals);

    function readFeedback(uint256 agentId, address clientAddress, uint64 feedbackIndex)
        external
        view
        returns (int128 value, uint8 valueDecimals, string memory tag1, string memory tag2, bool isRevoked);

    function getClients(uint256 agentId) external view returns (address[] memory);

    /// @notice The index of a client's last feedback; indices start at 1.
    function getLastIndex(uint256 agentId, address clientAddress) external view returns (uint64);

    /// @notice How many responses an account has appended to a feedback.
    function getResponseCount(
        uint256 agentId,
        address clientAddress,
        uint64 feedbackIndex,
        address[] calldata responders
    ) external view returns (uint64 count);

    function getIdentityRegistry() external view returns (address);
}
