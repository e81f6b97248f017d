// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IERC8183} from "./interfaces/IERC8183.sol";
import {IOperatorRegistry} from "./interfaces/IOperatorRegistry.sol";
import {IQuorumEvaluator} from "./interfaces/IQuorumEvaluator.sol";
import {IRequestEscrow} from "./interfaces/IRequestEscrow.sol";
import {Quorum} from "./libraries/Quorum.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title QuorumEvaluator
contract QuorumEvaluator is IQuorumEvaluator, EIP712 {
    bytes32 private constant VERDICT_TYPEHASH =
        keccak256("Verdict(address jobs,uint256 jobId,bool approved,bytes32 reason,uint64 validUntil)");

    /// @inheritdoc IQuorumEvaluator
    address public immutable operatorRegistry;
    /// @inheritdoc IQuorumEvaluator
    uint64 public immutable operatorSetId;

    /// @inheritdoc IQuorumEvaluator
    uint64 public sequence;
    mapping(address jobs => mapping(uint256 jobId => bool)) private _evaluated;

    constructor(address operatorRegistry_, uint64 operatorSetId_) EIP712("Auspex QuorumEvaluator", "1") {
        operatorRegistry = operatorRegistry_;
        operatorSetId = operatorSetId_;
    }

    /// @notice Completes or rejects a job on the quorum's verdict, once. Anyone may call.
    /// @param operatorSet The present epoch of this evaluator's set.
    function evaluate(
        Verdict calldata verdict,
        IRequestEscrow.OperatorSet calldata operatorSet,
        IRequestEscrow.Attestation[] calldata attestations
    ) external {
        require(block.timestamp <= verdict.validUntil, VerdictExpired(verdict.validUntil));
        require(!_evaluated[verdict.jobs][verdict.jobId], AlreadyEvaluated(verdict.jobs, verdict.jobId));
        IOperatorRegistry registry = IOperatorRegistry(operatorRegistry);
        require(keccak256(abi.encode(operatorSet)) == registry.operatorSetHash(operatorSetId), NotPresentEpoch());
        address[] memory signers = Quorum.verify(operatorSet, attestations, verdictDigest(verdict), registry);

        _evaluated[verdict.jobs][verdict.jobId] = true;
        emit Evaluated(++sequence, verdict.jobs, verdict.jobId, verdict.approved, verdict.reason, signers);
        if (verdict.approved) {
            IERC8183(verdict.jobs).complete(verdict.jobId, verdict.reason, "");
        } else {
            IERC8183(verdict.jobs).reject(verdict.jobId, verdict.reason, "");
        }
    }

    /// @inheritdoc IQuorumEvaluator
    function verdictDigest(Verdict calldata verdict) public view returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    VERDICT_TYPEHASH, verdict.jobs, verdict.jobId, verdict.approved, verdict.reason, verdict.validUntil
                )
            )
        );
    }
}
