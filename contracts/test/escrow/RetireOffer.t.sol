// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {vm} from "../base/Vm.sol";

contract RetireOfferTest is EscrowTest {
    function test_retires() public {
        bytes32 hash = keccak256(abi.encode(offer));
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IRequestEscrow.OfferRetired(escrow.sequence() + 1, hash, agentId);
        vm.prank(agentOwner);
        escrow.retireOffer(offer);
        assertFalse(escrow.isOfferActive(hash), "active");
        IRequestEscrow.Request memory terms = termsOf(offer, "retired");
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.OfferNotActive.selector, hash));
        vm.prank(payer);
        escrow.request(terms, offer, INPUT);
    }

    function test_leavesLiveRequestsAlone() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "live");
        bytes32 requestId = fund(terms, offer);
        vm.prank(agentOwner);
        escrow.retireOffer(offer);
        deliverAnswer(terms, PRICE);
        assertStatus(requestId, IRequestEscrow.Status.Settled);
    }

    function test_isTheNewOwnersAfterATransfer() public {
        vm.prank(agentOwner);
        agents.transferFrom(agentOwner, stranger, agentId);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.NotAgentOwner.selector, agentId, agentOwner));
        vm.prank(agentOwner);
        escrow.retireOffer(offer);
        vm.prank(stranger);
        escrow.retireOffer(offer);
        assertFalse(escrow.isOfferActive(keccak256(abi.encode(offer))), "active");
    }

    function test_RevertWhen_OfferIsNotActive() public {
        offer.price = 77;
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.OfferNotActive.selector, keccak256(abi.encode(offer))));
        vm.prank(agentOwner);
        escrow.retireOffer(offer);
    }
}
