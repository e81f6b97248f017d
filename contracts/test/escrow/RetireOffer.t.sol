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

    /// @dev The seller of an agent keeps neither its customers nor a say in its offers; live requests stay as agreed.
    function test_endsWithTheTransferOfTheAgent() public {
        bytes32 hash = keccak256(abi.encode(offer));
        IRequestEscrow.Request memory live = termsOf(offer, "live");
        bytes32 requestId = fund(live, offer);
        vm.prank(agentOwner);
        agents.transferFrom(agentOwner, stranger, agentId);

        assertFalse(escrow.isOfferActive(hash), "active for the seller");
        IRequestEscrow.Request memory terms = termsOf(offer, "sold");
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.OfferNotActive.selector, hash));
        vm.prank(payer);
        escrow.request(terms, offer, INPUT);
        deliverAnswer(live, PRICE);
        assertStatus(requestId, IRequestEscrow.Status.Settled);

        vm.prank(stranger);
        escrow.publishOffer(offer, split);
        assertTrue(escrow.isOfferActive(hash), "active for the buyer");
        fund(terms, offer);
    }

    /// @dev Who was approved publishes for as long as that lasts, and another's word is not needed in between.
    function test_endsWithTheApprovalOfItsPublisher() public {
        bytes32 hash = keccak256(abi.encode(offer));
        vm.prank(agentOwner);
        agents.approve(stranger, agentId);
        vm.prank(stranger);
        escrow.publishOffer(offer, split);
        fund(termsOf(offer, "approved"), offer);
        vm.prank(agentOwner);
        agents.approve(address(0), agentId);
        assertFalse(escrow.isOfferActive(hash), "active without the approval");
        vm.prank(agentOwner);
        agents.approve(stranger, agentId);
        assertTrue(escrow.isOfferActive(hash), "active again");
    }

    /// @dev The agent's id is part of the question: another agent's owner cannot stand in for this one's.
    function test_activeForItsOwnAgentOnly() public {
        vm.prank(agentOwner);
        uint256 second = agents.register("https://agent.example/second.json");
        offer.agentId = second;
        vm.prank(agentOwner);
        bytes32 hash = escrow.publishOffer(offer, split);
        vm.prank(agentOwner);
        agents.transferFrom(agentOwner, stranger, second);
        assertFalse(escrow.isOfferActive(hash), "active with the first agent alone");
        assertFalse(escrow.isOfferActive("unknown"), "unknown");
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
