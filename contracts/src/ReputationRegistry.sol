// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IAgentRegistry} from "./interfaces/IAgentRegistry.sol";
import {IReputationRegistry} from "./interfaces/IReputationRegistry.sol";
import {IRequestEscrow} from "./interfaces/IRequestEscrow.sol";

/// @title ReputationRegistry
contract ReputationRegistry is IReputationRegistry {
    struct Feedback {
        int128 value;
        uint8 valueDecimals;
        bool isRevoked;
        string tag1;
        string tag2;
    }

    /// @dev The arguments of a feedback, which together are too many for the stack.
    struct Entry {
        int128 value;
        uint8 valueDecimals;
        string tag1;
        string tag2;
        string endpoint;
        string feedbackURI;
        bytes32 feedbackHash;
    }

    /// @dev The lists of `readAllFeedback`.
    struct Page {
        address[] clients;
        uint64[] indexes;
        int128[] values;
        uint8[] decimals;
        string[] tag1s;
        string[] tag2s;
        bool[] revoked;
    }

    uint8 private constant DECIMALS_MAX = 18;

    IAgentRegistry private immutable _agentRegistry;
    IRequestEscrow private immutable _escrow;

    /// @dev Written through storage references, which slither does not follow.
    // slither-disable-next-line uninitialized-state
    mapping(uint256 agentId => mapping(address client => Feedback[])) private _feedback;
    mapping(uint256 agentId => address[]) private _clients;
    /// @dev The zero address stands for all responders together.
    mapping(
        uint256 agentId => mapping(address client => mapping(uint64 index => mapping(address responder => uint64)))
    ) private _responseCount;
    /// @inheritdoc IReputationRegistry
    mapping(uint256 agentId => mapping(address client => mapping(uint64 index => bytes32))) public requestOf;
    mapping(bytes32 requestId => bool) private _backed;

    /// @param escrow The escrow whose settled requests back feedback; its agent registry is this registry's, too.
    constructor(address escrow) {
        _escrow = IRequestEscrow(escrow);
        _agentRegistry = IAgentRegistry(IRequestEscrow(escrow).agentRegistry());
    }

    /// @inheritdoc IReputationRegistry
    /// @dev The strings are in memory, because in calldata each takes two slots of the stack, and without the optimizer, where
    /// coverage is measured, there are too few.
    function giveFeedback(
        uint256 agentId,
        int128 value,
        uint8 valueDecimals,
        string memory tag1,
        string memory tag2,
        string memory endpoint,
        string memory feedbackURI,
        bytes32 feedbackHash
    ) external {
        _give(agentId, Entry(value, valueDecimals, tag1, tag2, endpoint, feedbackURI, feedbackHash));
    }

    /// @notice Gives feedback on the agent of a request that the caller paid for. A request backs one feedback.
    /// @param terms The request; its agent is the one that is rated.
    function giveBackedFeedback(
        IRequestEscrow.Request calldata terms,
        int128 value,
        uint8 valueDecimals,
        string memory tag1,
        string memory tag2,
        string memory endpoint,
        string memory feedbackURI,
        bytes32 feedbackHash
    ) external {
        _back(terms);
        _give(terms.agentId, Entry(value, valueDecimals, tag1, tag2, endpoint, feedbackURI, feedbackHash));
    }

    /// @inheritdoc IReputationRegistry
    function revokeFeedback(uint256 agentId, uint64 feedbackIndex) external {
        Feedback storage feedback = _at(agentId, msg.sender, feedbackIndex);
        require(!feedback.isRevoked, AlreadyRevoked(agentId, msg.sender, feedbackIndex));
        feedback.isRevoked = true;
        emit FeedbackRevoked(agentId, msg.sender, feedbackIndex);
    }

    /// @inheritdoc IReputationRegistry
    function appendResponse(
        uint256 agentId,
        address clientAddress,
        uint64 feedbackIndex,
        string calldata responseURI,
        bytes32 responseHash
    ) external {
        _at(agentId, clientAddress, feedbackIndex);
        require(bytes(responseURI).length != 0, EmptyResponseURI());
        ++_responseCount[agentId][clientAddress][feedbackIndex][msg.sender];
        ++_responseCount[agentId][clientAddress][feedbackIndex][address(0)];
        emit ResponseAppended(agentId, clientAddress, feedbackIndex, msg.sender, responseURI, responseHash);
    }

    /// @inheritdoc IReputationRegistry
    function getSummary(uint256 agentId, address[] calldata clientAddresses, string calldata tag1, string calldata tag2)
        external
        view
        returns (uint64 count, int128 summaryValue, uint8 summaryValueDecimals)
    {
        require(clientAddresses.length != 0, NoClients());
        // Summed at 18 decimals: 2^127 * 10^18 * 2^64 fits.
        int256 total = 0;
        for (uint256 i = 0; i < clientAddresses.length; ++i) {
            Feedback[] storage list = _feedback[agentId][clientAddresses[i]];
            for (uint256 j = 0; j < list.length; ++j) {
                Feedback storage feedback = list[j];
                if (feedback.isRevoked || !_matches(feedback.tag1, tag1) || !_matches(feedback.tag2, tag2)) continue;
                ++count;
                if (feedback.valueDecimals > summaryValueDecimals) summaryValueDecimals = feedback.valueDecimals;
                total += int256(feedback.value) * int256(10 ** uint256(DECIMALS_MAX - feedback.valueDecimals));
            }
        }
        if (count == 0) return (0, 0, 0);
        int256 average = total / int256(uint256(count)) / int256(10 ** uint256(DECIMALS_MAX - summaryValueDecimals));
        // An average of coarse and huge values can need more digits than 128 bits hold: it is then told with fewer decimals.
        while (average != int128(average)) {
            average /= 10;
            --summaryValueDecimals;
        }
        summaryValue = int128(average);
    }

    /// @inheritdoc IReputationRegistry
    function readFeedback(uint256 agentId, address clientAddress, uint64 feedbackIndex)
        external
        view
        returns (int128 value, uint8 valueDecimals, string memory tag1, string memory tag2, bool isRevoked)
    {
        Feedback storage feedback = _at(agentId, clientAddress, feedbackIndex);
        return (feedback.value, feedback.valueDecimals, feedback.tag1, feedback.tag2, feedback.isRevoked);
    }

    /// @inheritdoc IReputationRegistry
    /// @dev The arguments are in memory for the same reason as those of `giveFeedback`.
    function readAllFeedback(
        uint256 agentId,
        address[] memory clientAddresses,
        string memory tag1,
        string memory tag2,
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
        )
    {
        if (clientAddresses.length == 0) clientAddresses = _clients[agentId];
        // Counted first, because lists in memory do not grow.
        Page memory page = _page(0);
        uint256 count = _fill(page, agentId, clientAddresses, tag1, tag2, includeRevoked);
        page = _page(count);
        _fill(page, agentId, clientAddresses, tag1, tag2, includeRevoked);
        clients = page.clients;
        feedbackIndexes = page.indexes;
        values = page.values;
        valueDecimals = page.decimals;
        tag1s = page.tag1s;
        tag2s = page.tag2s;
        revokedStatuses = page.revoked;
    }

    /// @inheritdoc IReputationRegistry
    function getClients(uint256 agentId) external view returns (address[] memory) {
        return _clients[agentId];
    }

    /// @inheritdoc IReputationRegistry
    function getLastIndex(uint256 agentId, address clientAddress) external view returns (uint64) {
        return uint64(_feedback[agentId][clientAddress].length);
    }

    /// @inheritdoc IReputationRegistry
    function getResponseCount(
        uint256 agentId,
        address clientAddress,
        uint64 feedbackIndex,
        address[] calldata responders
    ) external view returns (uint64 count) {
        if (clientAddress != address(0)) {
            return _responses(agentId, clientAddress, feedbackIndex, responders);
        }
        address[] storage clients = _clients[agentId];
        for (uint256 i = 0; i < clients.length; ++i) {
            count += _responses(agentId, clients[i], 0, responders);
        }
    }

    /// @inheritdoc IReputationRegistry
    function getIdentityRegistry() external view returns (address) {
        return address(_agentRegistry);
    }

    /// @inheritdoc IReputationRegistry
    function getVersion() external pure returns (string memory) {
        return "2.0.0";
    }

    /// @dev Ties the caller's next feedback to a request that it paid for.
    function _back(IRequestEscrow.Request calldata terms) private {
        bytes32 requestId = _escrow.requestIdOf(terms);
        uint128 amount = _escrow.settledAmountOf(requestId);
        require(terms.payer == msg.sender && amount != 0, NotPaidFor(requestId));
        require(!_backed[requestId], AlreadyBacked(requestId));

        _backed[requestId] = true;
        uint64 index = uint64(_feedback[terms.agentId][msg.sender].length + 1);
        requestOf[terms.agentId][msg.sender][index] = requestId;
        emit FeedbackBacked(terms.agentId, msg.sender, index, requestId, amount);
    }

    function _give(uint256 agentId, Entry memory entry) private {
        require(entry.valueDecimals <= DECIMALS_MAX, TooManyDecimals(entry.valueDecimals));
        require(!_agentRegistry.isAuthorizedOrOwner(msg.sender, agentId), SelfFeedback(agentId, msg.sender));

        Feedback[] storage list = _feedback[agentId][msg.sender];
        if (list.length == 0) _clients[agentId].push(msg.sender);
        list.push(Feedback(entry.value, entry.valueDecimals, false, entry.tag1, entry.tag2));
        emit NewFeedback(
            agentId,
            msg.sender,
            uint64(list.length),
            entry.value,
            entry.valueDecimals,
            entry.tag1,
            entry.tag1,
            entry.tag2,
            entry.endpoint,
            entry.feedbackURI,
            entry.feedbackHash
        );
    }

    function _page(uint256 count) private pure returns (Page memory page) {
        page.clients = new address[](count);
        page.indexes = new uint64[](count);
        page.values = new int128[](count);
        page.decimals = new uint8[](count);
        page.tag1s = new string[](count);
        page.tag2s = new string[](count);
        page.revoked = new bool[](count);
    }

    /// @dev Writes what matches to the page, as far as the page reaches.
    /// @return count How much matches.
    function _fill(
        Page memory page,
        uint256 agentId,
        address[] memory clients,
        string memory tag1,
        string memory tag2,
        bool includeRevoked
    ) private view returns (uint256 count) {
        for (uint256 i = 0; i < clients.length; ++i) {
            Feedback[] storage list = _feedback[agentId][clients[i]];
            for (uint256 j = 0; j < list.length; ++j) {
                if (list[j].isRevoked && !includeRevoked) continue;
                if (!_matches(list[j].tag1, tag1) || !_matches(list[j].tag2, tag2)) continue;
                if (count < page.clients.length) {
                    page.clients[count] = clients[i];
                    page.indexes[count] = uint64(j + 1);
                    _copy(page, count, list[j]);
                }
                ++count;
            }
        }
    }

    function _copy(Page memory page, uint256 position, Feedback storage feedback) private view {
        page.values[position] = feedback.value;
        page.decimals[position] = feedback.valueDecimals;
        page.tag1s[position] = feedback.tag1;
        page.tag2s[position] = feedback.tag2;
        page.revoked[position] = feedback.isRevoked;
    }

    /// @param index Zero means all feedback of the client.
    function _responses(uint256 agentId, address client, uint64 index, address[] calldata responders)
        private
        view
        returns (uint64 count)
    {
        if (index != 0) return _responsesTo(agentId, client, index, responders);
        uint256 last = _feedback[agentId][client].length;
        for (uint256 i = 1; i <= last; ++i) {
            count += _responsesTo(agentId, client, uint64(i), responders);
        }
    }

    function _responsesTo(uint256 agentId, address client, uint64 index, address[] calldata responders)
        private
        view
        returns (uint64 count)
    {
        if (responders.length == 0) return _responseCount[agentId][client][index][address(0)];
        for (uint256 i = 0; i < responders.length; ++i) {
            count += _responseCount[agentId][client][index][responders[i]];
        }
    }

    function _at(uint256 agentId, address client, uint64 index) private view returns (Feedback storage) {
        Feedback[] storage list = _feedback[agentId][client];
        require(index != 0 && index <= list.length, UnknownFeedback(agentId, client, index));
        return list[index - 1];
    }

    function _matches(string storage tag, string memory wanted) private pure returns (bool) {
        return bytes(wanted).length == 0 || keccak256(bytes(tag)) == keccak256(bytes(wanted));
    }
}
