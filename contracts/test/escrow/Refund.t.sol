// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {vm} from "../base/Vm.sol";

contract RefundTest is EscrowTest {
    IRequestEscrow.Request private _terms;
    bytes32 private _id;

    function setUp() public override {
        super.setUp();
        _terms = termsOf(offer, "refund");
        _id = fund(_terms, offer);
    }

    function test_anyoneRefundsAtTheDeadline() public {
        vm.warp(_terms.deadline);
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IRequestEscrow.Refunded(escrow.sequence() + 1, _id, payer, address(token), PRICE);
        vm.prank(stranger);
        escrow.refund(_terms);
        assertStatus(_id, IRequestEscrow.Status.Refunded);
        assertEq(escrow.creditOf(payer, address(token)), PRICE, "credit");
        assertEq(escrow.settledAmountOf(_id), 0, "amount");
    }

    function test_refundsAddUp() public {
        IRequestEscrow.Request memory second = termsOf(offer, "second");
        fund(second, offer);
        vm.warp(_terms.deadline);
        escrow.refund(_terms);
        escrow.refund(second);
        assertEq(escrow.creditOf(payer, address(token)), 2 * uint256(PRICE), "credit");
    }

    /// @dev For every moment exactly one of the two can succeed.
    function testFuzz_deliverAndRefundPartitionTime(uint40 at_) public {
        uint256 moment = bound(at_, block.timestamp, type(uint40).max);
        vm.warp(moment);
        IRequestEscrow.Result memory result = answerOf(_id, PRICE);
        IRequestEscrow.Attestation[] memory attestations = attest(result, 3);
        bytes memory deliver = abi.encodeCall(escrow.deliver, (_terms, result, quorum, attestations));
        bytes memory refund = abi.encodeCall(escrow.refund, (_terms));
        (bool first,) = address(escrow).call(moment % 2 == 0 ? deliver : refund);
        (bool second,) = address(escrow).call(moment % 2 == 0 ? refund : deliver);
        assertTrue(first != second, "exactly one");
        assertStatus(_id, moment < _terms.deadline ? IRequestEscrow.Status.Settled : IRequestEscrow.Status.Refunded);
    }

    function test_RevertWhen_BeforeTheDeadline() public {
        vm.warp(_terms.deadline - 1);
        _refused(abi.encodeWithSelector(IRequestEscrow.DeadlineNotReached.selector, _terms.deadline));
    }

    function test_RevertWhen_RefundedBefore() public {
        vm.warp(_terms.deadline);
        escrow.refund(_terms);
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, _id, IRequestEscrow.Status.Refunded));
    }

    function test_RevertWhen_Answered() public {
        deliverAnswer(_terms, PRICE);
        vm.warp(_terms.deadline);
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, _id, IRequestEscrow.Status.Settled));
    }

    function test_RevertWhen_NeverFunded() public {
        _terms.maxAmount *= 2;
        _id = escrow.requestIdOf(_terms);
        vm.warp(_terms.deadline);
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, _id, IRequestEscrow.Status.None));
    }

    /// @dev Every administrator does its worst, and the exit still works.
    function test_worksWithEveryoneAgainstIt() public {
        vm.startPrank(timelock);
        policy.setTokenAllowed(address(token), false);
        policy.setFee(500, stranger);
        policy.renounceOwnership();
        vm.stopPrank();
        vm.prank(agentOwner);
        escrow.retireOffer(offer);
        for (uint256 i = 0; i < 5; ++i) {
            address signer = registry.operatorOf(operators[i]).signer;
            vm.prank(operators[i]);
            registry.revokeSigner(signer);
        }
        vm.etch(address(policy), "");
        vm.etch(address(registry), "");
        vm.etch(address(agents), "");
        vm.warp(_terms.deadline);
        escrow.refund(_terms);
        uint256 before = token.balanceOf(payer);
        escrow.withdrawFor(payer, address(token), noSplits());
        assertEq(token.balanceOf(payer) - before, PRICE, "refunded in full");
    }

    function _refused(bytes memory error_) private {
        vm.expectRevert(error_);
        escrow.refund(_terms);
    }
}
