// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "./base/EscrowTest.sol";
import {vm} from "./base/Vm.sol";

/// @notice The roads through the state machine, end to end.
contract LifecycleTest is EscrowTest {
    function test_answeredRequestPaysTheSplitTheFeeAndTheChange() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "answered");
        bytes32 requestId = fund(terms, offer);
        assertStatus(requestId, IRequestEscrow.Status.Funded);
        assertEq(token.balanceOf(address(escrow)), PRICE, "escrowed");

        deliverAnswer(terms, PRICE * 3 / 4);

        assertStatus(requestId, IRequestEscrow.Status.Settled);
        uint256 amount = PRICE * 3 / 4;
        uint256 fee = amount / 100;
        assertEq(escrow.settledAmountOf(requestId), amount, "settled amount");
        assertEq(escrow.creditOf(payer, address(token)), PRICE / 4, "change");
        assertEq(escrow.creditOf(treasury, address(token)), fee, "fee");
        for (uint256 i = 0; i < 3; ++i) {
            uint256 share = (amount - fee) * split.allocations[i] / 10;
            assertEq(claimableOf(split.recipients[i], address(token)), share, "claimable");
            escrow.withdrawFor(split.recipients[i], address(token), splits());
            assertEq(token.balanceOf(split.recipients[i]), share, "paid");
        }
    }

    function test_nativeRequestIsAnsweredAndWithdrawn() public {
        IRequestEscrow.Request memory terms = termsOf(nativeOffer, "native");
        fund(terms, nativeOffer);
        assertEq(address(escrow).balance, PRICE, "escrowed");
        deliverAnswer(terms, PRICE);
        vm.prank(split.recipients[0]);
        escrow.withdraw(address(0), splits());
        assertEq(split.recipients[0].balance, (PRICE - PRICE / 100) * 7 / 10, "paid");
    }

    function test_unansweredRequestIsRefundedByAStranger() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "refund");
        bytes32 requestId = fund(terms, offer);
        vm.warp(terms.deadline);
        vm.prank(stranger);
        escrow.refund(terms);
        assertStatus(requestId, IRequestEscrow.Status.Refunded);
        uint256 before = token.balanceOf(payer);
        vm.prank(payer);
        escrow.withdraw(address(token), noSplits());
        assertEq(token.balanceOf(payer) - before, PRICE, "refunded");
    }

    function test_declinedRequestCostsNothing() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "declined");
        bytes32 requestId = fund(terms, offer);
        IRequestEscrow.Result memory result = declineOf(requestId);
        escrow.deliver(terms, result, quorum, attest(result, 3));
        assertStatus(requestId, IRequestEscrow.Status.Settled);
        assertEq(escrow.creditOf(payer, address(token)), PRICE, "returned");
        assertEq(escrow.settledTotal(offer.splitHash, address(token)), 0, "nothing for the split");
    }

    function test_challengedResultSettlesAfterItsWindow() public {
        IRequestEscrow.Request memory terms = termsOf(challengedOffer, "challenged");
        bytes32 requestId = fund(terms, challengedOffer);
        IRequestEscrow.Result memory result = deliverAnswer(terms, PRICE);
        assertStatus(requestId, IRequestEscrow.Status.Delivered);
        assertEq(escrow.settledTotal(offer.splitHash, address(token)), 0, "not yet");
        skipTime(WINDOW);
        escrow.settle(terms, result, signersOf(attest(result, 3)));
        assertStatus(requestId, IRequestEscrow.Status.Settled);
        assertEq(escrow.settledTotal(offer.splitHash, address(token)), PRICE - PRICE / 100, "settled");
    }

    function test_convictedResultRefundsThePayerAndSlashes() public {
        IRequestEscrow.Request memory terms = termsOf(challengedOffer, "convicted");
        bytes32 requestId = fund(terms, challengedOffer);
        IRequestEscrow.Result memory result = deliverAnswer(terms, PRICE);
        address[] memory signers = signersOf(attest(result, 3));
        vm.prank(referee);
        escrow.convict(terms, result, quorum, signers, signers[1]);
        assertStatus(requestId, IRequestEscrow.Status.Slashed);
        assertEq(escrow.creditOf(payer, address(token)), PRICE, "refunded");
        assertEq(registry.creditOf(payer, address(token)), BOND / 2, "half of the bond");
        assertEq(registry.bondOf(quorumSet, registry.ownerOfSigner(signers[1])), 0, "slashed");
    }

    function test_batchOfRequestsIsAnsweredInABatch() public {
        uint256 count = 4;
        bytes[] memory inputs = new bytes[](count);
        for (uint256 i = 0; i < count; ++i) {
            inputs[i] = abi.encode("question", i);
        }
        IRequestEscrow.Request memory template = termsOf(offer, bytes32(type(uint256).max));
        template.inputHash = keccak256(inputs[0]);
        vm.prank(payer);
        escrow.requestBatch(template, offer, inputs);
        IRequestEscrow.Delivery[] memory deliveries = new IRequestEscrow.Delivery[](count);
        for (uint256 i = 0; i < count; ++i) {
            IRequestEscrow.Request memory terms = batchItem(template, inputs, i);
            bytes32 requestId = escrow.requestIdOf(terms);
            assertStatus(requestId, IRequestEscrow.Status.Funded);
            IRequestEscrow.Result memory result = answerOf(requestId, PRICE);
            deliveries[i] = IRequestEscrow.Delivery(terms, result, quorum, attest(result, 3));
        }
        escrow.deliver(
            deliveries[2].request, deliveries[2].result, deliveries[2].operatorSet, deliveries[2].attestations
        );
        bool[] memory accepted = escrow.deliverBatch(deliveries);
        for (uint256 i = 0; i < count; ++i) {
            assertTrue(accepted[i] == (i != 2), "accepted");
            assertStatus(deliveries[i].result.requestId, IRequestEscrow.Status.Settled);
        }
    }

    function test_signedAuthorizationIsOrderAndPayment() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "3009");
        bytes32 requestId = escrow.requestIdOf(terms);
        vm.prank(stranger);
        escrow.requestWithAuthorization(terms, offer, INPUT, 0, terms.deadline, authorize(terms));
        assertStatus(requestId, IRequestEscrow.Status.Funded);
        assertEq(token.balanceOf(address(escrow)), PRICE, "escrowed");
    }
}
