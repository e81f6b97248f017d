// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title ReputationRegistry: the reputation registry of ERC-8004, with feedback that was paid for
/// @notice For chains where the canonical registry is not deployed. ABI, events and semantics are those of
/// https://eips.ethereum.org/EIPS/eip-8004. Beyond it, `giveBackedFeedback` ties a feedback to a request that its author
/// paid for; readers that score agents count only those.
/// @dev The summaries loop over all feedback of the named clients: they are for readers, never for contracts.
interface IReputationRegistry {
    /// @notice A client rated an agent; `feedbackIndex` counts its feedback on that agent from 1.
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
    /// @notice A client took its feedback back.
    event FeedbackRevoked(uint256 indexed agentId, address indexed clientAddress, uint64 indexed feedbackIndex);
    /// @notice Somebody answered a feedback.
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
    /// @notice Thrown when a client has given no feedback of this index.
    error UnknownFeedback(uint256 agentId, address client, uint64 feedbackIndex);
    /// @notice Thrown when a feedback is revoked a second time.
    error AlreadyRevoked(uint256 agentId, address client, uint64 feedbackIndex);
    /// @notice Thrown when a response says nothing.
    error EmptyResponseURI();
    /// @notice Thrown when a summary names no clients: one over everybody is for whoever wrote most.
    error NoClients();
    /// @notice Thrown when the caller did not pay for the request, it cost nothing, or it is not settled.
    error NotPaidFor(bytes32 requestId);
    /// @notice Thrown when a request backs a second feedback.
    error AlreadyBacked(bytes32 requestId);

    /// @notice Rates an agent with `value / 10^valueDecimals`. Anyone may but the agent's owner and approved operators.
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

    /// @notice Takes a feedback of the caller back, for ever.
    function revokeFeedback(uint256 agentId, uint64 feedbackIndex) external;

    /// @notice Answers a feedback. Anyone may, any number of times.
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

    /// @notice The average of the named clients' feedback.
    /// @return count Feedback that is not revoked and has both tags; an empty tag matches every one.
    /// @return summaryValue Their average, with as many decimals as the finest of them has.
    function getSummary(uint256 agentId, address[] calldata clientAddresses, string calldata tag1, string calldata tag2)
        external
        view
        returns (uint64 count, int128 summaryValue, uint8 summaryValueDecimals);

    /// @notice One feedback.
    function readFeedback(uint256 agentId, address clientAddress, uint64 feedbackIndex)
        external
        view
        returns (int128 value, uint8 valueDecimals, string memory tag1, string memory tag2, bool isRevoked);

    /// @notice All feedback on an agent, grouped by client: position `i` of every list is about the same one.
    /// @param clientAddresses Whose feedback; everybody's when empty.
    /// @param tag1 The tag it has to have; any when empty. The same for `tag2`.
    /// @param includeRevoked Whether to list what was taken back, too.
    function readAllFeedback(
        uint256 agentId,
        address[] calldata clientAddresses,
        string calldata tag1,
        string calldata tag2,
        bool includeRevoked
    )
        external
        view
        returns (
            address[] memory clients,
            uint64[] memory feedbackIndexes,
            int128[] memory values,
            uint8[] memory valueDecimals,
            string[] memory tag1s,
            string[] memory tag2s,
            bool[] memory revokedStatuses
        );

    /// @notice Everyone who has ever rated an agent, in the order of their first feedback.
    function getClients(uint256 agentId) external view returns (address[] memory);

    /// @notice The index of a client's last feedback; indices start at 1.
    function getLastIndex(uint256 agentId, address clientAddress) external view returns (uint64);

    /// @notice How many responses were appended to feedback on an agent.
    /// @param clientAddress Whose feedback; everybody's when zero, and `feedbackIndex` is then not looked at.
    /// @param feedbackIndex Which feedback of the client; all of them when zero.
    /// @param responders Whose responses; everybody's when empty.
    function getResponseCount(
        uint256 agentId,
        address clientAddress,
        uint64 feedbackIndex,
        address[] calldata responders
    ) external view returns (uint64 count);

    /// @notice The registry of the agents that are rated.
    function getIdentityRegistry() external view returns (address);

    /// @notice The version of the canonical registry whose ABI this is.
    function getVersion() external pure returns (string memory);
}
