// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {QuorumEvaluator} from "../../src/QuorumEvaluator.sol";
import {IERC8183} from "../../src/interfaces/IERC8183.sol";
import {IQuorumEvaluator} from "../../src/interfaces/IQuorumEvaluator.sol";
import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {vm} from "../base/Vm.sol";

/// @notice An ERC-8183 contract as far as an evaluator sees it: only the job's evaluator may complete or reject it, once.
contract Jobs is IERC8183 {
    mapping(uint256 => address) public evaluator;
    mapping(uint256 => bytes32) public completed;
    mapping(uint256 => bytes32) public rejected;

    function create(uint256 jobId, address evaluator_) external {
        evaluator[jobId] = evaluator_;
    }

    function complete(uint256 jobId, bytes32 reason, bytes calldata) external {
        require(msg.sender == evaluator[jobId], "not the evaluator");
        completed[jobId] = reason;
    }

    function reject(uint256 jobId, bytes32 reason, bytes calldata) external {
        require(msg.sender == evaluator[jobId], "not the evaluator");
        rejected[jobId] = reason;
    }
}

contract QuorumEvaluatorTest is EscrowTest {
    QuorumEvaluator private _evaluator;
    Jobs private _jobs;
    IQuorumEvaluator.Verdict private _verdict;

    function setUp() public override {
        super.setUp();
        _evaluator = new QuorumEvaluator(address(registry), quorumSet);
        _jobs = new Jobs();
        _jobs.create(7, address(_evaluator));
        _verdict = IQuorumEvaluator.Verdict(address(_jobs), 7, true, "reason", uint64(block.timestamp + 1 hours));
    }

    function test_completesAJob() public {
        IRequestEscrow.Attestation[] memory attestations = _attest(3);
        vm.expectEmit(true, true, true, true, address(_evaluator));
        emit IQuorumEvaluator.Evaluated(1, address(_jobs), 7, true, "reason", signersOf(attestations));
        vm.prank(stranger);
        _evaluator.evaluate(_verdict, quorum, attestations);
        assertEq(_jobs.completed(7), "reason", "completed");
        assertEq(_evaluator.operatorRegistry(), address(registry), "registry");
        assertEq(_evaluator.operatorSetId(), quorumSet, "set");
        vm.expectRevert(abi.encodeWithSelector(IQuorumEvaluator.AlreadyEvaluated.selector, address(_jobs), 7));
        _evaluator.evaluate(_verdict, quorum, attestations);
    }

    function test_rejectsAJob() public {
        _verdict.approved = false;
        _evaluator.evaluate(_verdict, quorum, _attest(4));
        assertEq(_jobs.rejected(7), "reason", "rejected");
        assertEq(_jobs.completed(7), 0, "completed");
    }

    function test_RevertWhen_VerdictIsExpired() public {
        IRequestEscrow.Attestation[] memory attestations = _attest(3);
        vm.warp(_verdict.validUntil + 1);
        vm.expectRevert(abi.encodeWithSelector(IQuorumEvaluator.VerdictExpired.selector, _verdict.validUntil));
        _evaluator.evaluate(_verdict, quorum, attestations);
        vm.warp(_verdict.validUntil);
        _evaluator.evaluate(_verdict, quorum, attestations);
    }

    function test_RevertWhen_SetIsNotThePresentEpochOfItsSet() public {
        IRequestEscrow.Attestation[] memory attestations = _attest(3);
        vm.expectRevert(IQuorumEvaluator.NotPresentEpoch.selector);
        _evaluator.evaluate(_verdict, solo, attestations);
        quorum.epoch += 1;
        vm.expectRevert(IQuorumEvaluator.NotPresentEpoch.selector);
        _evaluator.evaluate(_verdict, quorum, attestations);
    }

    function test_RevertWhen_QuorumIsNotReached() public {
        IRequestEscrow.Attestation[] memory attestations = _attest(2);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.QuorumNotReached.selector, 2, 3));
        _evaluator.evaluate(_verdict, quorum, attestations);
    }

    function test_RevertWhen_AnyMemberOfTheVerdictChanges() public {
        IRequestEscrow.Attestation[] memory attestations = _attest(3);
        IQuorumEvaluator.Verdict memory good = _verdict;
        _verdict.jobs = address(this);
        _refused(attestations);
        _verdict = good;
        _verdict.jobId = 8;
        _refused(attestations);
        _verdict = good;
        _verdict.approved = false;
        _refused(attestations);
        _verdict = good;
        _verdict.reason = "other";
        _refused(attestations);
        _verdict = good;
        _verdict.validUntil += 1;
        _refused(attestations);
    }

    function test_RevertWhen_AResultsSignaturesAreShown() public {
        IRequestEscrow.Result memory result = answerOf("id", 1);
        _refused(attest(result, 3));
    }

    function _refused(IRequestEscrow.Attestation[] memory attestations) private {
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.InvalidSignature.selector, attestations[0].signer));
        _evaluator.evaluate(_verdict, quorum, attestations);
    }

    function _attest(uint256 count) private view returns (IRequestEscrow.Attestation[] memory attestations) {
        bytes32 separator = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Auspex QuorumEvaluator"),
                keccak256("1"),
                block.chainid,
                address(_evaluator)
            )
        );
        bytes32 hash = keccak256(
            abi.encode(
                keccak256("Verdict(address jobs,uint256 jobId,bool approved,bytes32 reason,uint64 validUntil)"),
                _verdict
            )
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", separator, hash));
        assertEq(_evaluator.verdictDigest(_verdict), digest, "digest");
        attestations = new IRequestEscrow.Attestation[](count);
        for (uint256 i = 0; i < count; ++i) {
            attestations[i] = IRequestEscrow.Attestation(quorum.signers[i], signature(signerKeys[i], digest));
        }
    }
}
