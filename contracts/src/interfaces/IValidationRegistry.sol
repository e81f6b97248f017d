// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title ValidationRegistry: the validation registry of ERC-8004
/// @notice For chains where the canonical registry is not deployed. ABI, events and semantics are those of
/// https://eips.ethereum.org/EIPS/eip-8004.
/// @dev The first writer of a `requestHash` owns it, so its preimage has to hold something nobody else can know in advance:
/// the chain id, the escrow, the request's id, the agent's id and a secret salt.
interface IValidationRegistry {
    /// @notice A validator was asked about an agent's work.
    event ValidationRequest(
        address indexed validatorAddress, uint256 indexed agentId, string requestURI, bytes32 indexed requestHash
    );
    /// @notice The validator gave its verdict, 0 to 100.
    event ValidationResponse(
        address indexed validatorAddress,
        uint256 indexed agentId,
        bytes32 indexed requestHash,
        uint8 response,
        string responseURI,
        bytes32 responseHash,
        string tag
    );

    /// @notice Thrown when the caller is neither the agent's owner nor approved for it.
    error NotAuthorized(uint256 agentId, address caller);
    /// @notice Thrown when nobody is asked.
    error ZeroValidator();
    /// @notice Thrown when the hash was used before, by anybody.
    error AlreadyRequested(bytes32 requestHash);
    /// @notice Thrown when nobody asked with this hash.
    error UnknownRequest(bytes32 requestHash);
    /// @notice Thrown when somebody other than the asked validator answers.
    error NotValidator(bytes32 requestHash, address caller);
    /// @notice Thrown when a response is over 100.
    error ResponseTooLarge(uint8 response);

    /// @notice Asks a validator about an agent's work. Callable by the agent's owner or approved operator.
    function validationRequest(
        address validatorAddress,
        uint256 agentId,
        string calldata requestURI,
        bytes32 requestHash
    ) external;

    /// @notice The asked validator's verdict, 0 to 100; may be repeated, the last one counts.
    function validationResponse(
        bytes32 requestHash,
        uint8 response,
        string calldata responseURI,
        bytes32 responseHash,
        string calldata tag
    ) external;

    /// @notice Who was asked about what, and the last verdict; `lastUpdate` is its Unix time, zero before the first.
    function getValidationStatus(bytes32 requestHash)
        external
        view
        returns (
            address validatorAddress,
            uint256 agentId,
            uint8 response,
            bytes32 responseHash,
            string memory tag,
            uint256 lastUpdate
        );

    /// @notice The average of an agent's verdicts.
    /// @return count Requests with a response by one of the validators (any, when none is named) and the tag.
    /// @return averageResponse Their average, rounded down.
    function getSummary(uint256 agentId, address[] calldata validatorAddresses, string calldata tag)
        external
        view
        returns (uint64 count, uint8 averageResponse);

    /// @notice The hashes of all requests about an agent, in the order in which they were made.
    function getAgentValidations(uint256 agentId) external view returns (bytes32[] memory requestHashes);

    /// @notice The hashes of all requests to a validator, in the order in which they were made.
    function getValidatorRequests(address validatorAddress) external view returns (bytes32[] memory requestHashes);

    /// @notice The registry of the agents that are validated.
    function getIdentityRegistry() external view returns (address);

    /// @notice The version of the canonical registry whose ABI this is.
    function getVersion() external pure returns (string memory);
}
