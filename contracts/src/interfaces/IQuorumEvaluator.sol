// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title QuorumEvaluator: an operator set as the evaluator of ERC-8183 jobs
/// @notice A client names this contract as the evaluator of its job, at any ERC-8183 contract. The set's quorum signs a
/// verdict off-chain; anyone hands it in, and the job is completed or rejected.
/// @dev One evaluator serves one operator set for ever, so a client that names it knows who judges. What the set's admin may
/// change, and how fast, is in the operator registry: a later epoch judges jobs that are open then.
interface IQuorumEvaluator {
    /// @notice What the quorum signs (EIP-712, domain {name: "Auspex QuorumEvaluator", version: "1"}).
    struct Verdict {
        /// The ERC-8183 contract.
        address jobs;
        uint256 jobId;
        /// True completes the job, false rejects it.
        bool approved;
        /// Passed on to the job: the hash of the evaluation's document.
        bytes32 reason;
        /// Unix time in seconds after which the signatures are void.
        uint64 validUntil;
    }

    /// @notice A quorum's verdict was handed in and passed on to the job. `signers` are those whose signatures counted.
    event Evaluated(
        uint64 sequence, address indexed jobs, uint256 indexed jobId, bool approved, bytes32 reason, address[] signers
    );

    /// @notice Thrown when a verdict is past its validity.
    error VerdictExpired(uint64 validUntil);
    /// @notice Thrown when the operator set shown is not the present epoch of this evaluator's set.
    error NotPresentEpoch();
    /// @notice Thrown when a job has had its verdict.
    error AlreadyEvaluated(address jobs, uint256 jobId);

    /// @notice The EIP-712 digest that operators sign.
    function verdictDigest(Verdict calldata verdict) external view returns (bytes32);

    /// @notice The registry that the set is in.
    function operatorRegistry() external view returns (address);

    /// @notice The set that judges.
    function operatorSetId() external view returns (uint64);

    /// @notice The number of events so far, which is the sequence number of the last one.
    function sequence() external view returns (uint64);
}
