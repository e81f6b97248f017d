// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {vm} from "../base/Vm.sol";
import {IERC721Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

contract PublishOfferTest is EscrowTest {
    function test_publishes() public {
        offer.price = 5;
        bytes32 hash = keccak256(abi.encode(offer));
        assertFalse(escrow.isOfferActive(hash), "active before");
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IRequestEscrow.OfferPublished(escrow.sequence() + 1, hash, agentId, offer, split);
        vm.prank(agentOwner);
        assertEq(escrow.publishOffer(offer, split), hash, "hash");
        assertTrue(escrow.isOfferActive(hash), "active");
    }

    function test_publishesForAnApprovedOperator() public {
        vm.prank(agentOwner);
        agents.setApprovalForAll(stranger, true);
        offer.price = 5;
        vm.prank(stranger);
        assertTrue(escrow.isOfferActive(escrow.publishOffer(offer, split)), "active");
    }

    function test_publishesARetiredOfferAgain() public {
        vm.startPrank(agentOwner);
        escrow.retireOffer(offer);
        assertTrue(escrow.isOfferActive(escrow.publishOffer(offer, split)), "active");
    }

    function test_RevertWhen_CallerIsNotTheAgents() public {
        _expect(abi.encodeWithSelector(IRequestEscrow.NotAgentOwner.selector, agentId, stranger));
        vm.prank(stranger);
        escrow.publishOffer(offer, split);
    }

    function test_RevertWhen_AgentIsUnknown() public {
        offer.agentId = 77;
        _refused(abi.encodeWithSelector(IERC721Errors.ERC721NonexistentToken.selector, 77));
    }

    function test_RevertWhen_TokenIsNotAllowed() public {
        offer.token = address(0xDEAD);
        _refused(abi.encodeWithSelector(IRequestEscrow.TokenNotAllowed.selector, address(0xDEAD)));
    }

    function test_RevertWhen_PriceIsZero() public {
        offer.price = 0;
        _refused(abi.encodeWithSelector(IRequestEscrow.ZeroAmount.selector));
    }

    function test_RevertWhen_OperatorSetHasNoEpoch() public {
        offer.operatorSetId = 99;
        _refused(abi.encodeWithSelector(IRequestEscrow.UnknownOperatorSet.selector, 99));
    }

    function test_RevertWhen_SplitIsNotTheOffers() public {
        split.recipients[0] = stranger;
        _refused(abi.encodeWithSelector(IRequestEscrow.TermsMismatch.selector, "splitHash"));
    }

    function test_RevertWhen_DurationsAreEmptyOrReversed() public {
        offer.durationMin = 0;
        _refused(abi.encodeWithSelector(IRequestEscrow.InvalidDurations.selector, 0, DURATION_MAX));
        offer.durationMin = DURATION_MAX + 1;
        _refused(abi.encodeWithSelector(IRequestEscrow.InvalidDurations.selector, DURATION_MAX + 1, DURATION_MAX));
        offer.durationMin = DURATION_MAX;
        vm.prank(agentOwner);
        escrow.publishOffer(offer, split);
    }

    function test_RevertWhen_WindowAndRefereeDoNotComeTogether() public {
        offer.challengeWindow = 1;
        _refused(abi.encodeWithSelector(IRequestEscrow.InvalidChallenge.selector, 1, address(0)));
        offer.challengeWindow = 0;
        offer.referee = referee;
        _refused(abi.encodeWithSelector(IRequestEscrow.InvalidChallenge.selector, 0, referee));
    }

    function test_RevertWhen_RefereeIsNotTheSets() public {
        challengedOffer.referee = stranger;
        _expect(abi.encodeWithSelector(IRequestEscrow.InvalidChallenge.selector, WINDOW, stranger));
        vm.prank(agentOwner);
        escrow.publishOffer(challengedOffer, split);
    }

    function test_RevertWhen_BondsCouldBeReleasedBeforeTheWindowEnds() public {
        uint32 window = uint32(registry.UNBONDING_DELAY()) - DURATION_MAX;
        challengedOffer.challengeWindow = window + 1;
        _expect(abi.encodeWithSelector(IRequestEscrow.InvalidChallenge.selector, window + 1, referee));
        vm.prank(agentOwner);
        escrow.publishOffer(challengedOffer, split);
        challengedOffer.challengeWindow = window;
        vm.prank(agentOwner);
        escrow.publishOffer(challengedOffer, split);
        challengedOffer.challengeWindow = type(uint32).max;
        challengedOffer.durationMax = type(uint32).max;
        _expect(abi.encodeWithSelector(IRequestEscrow.InvalidChallenge.selector, type(uint32).max, referee));
        vm.prank(agentOwner);
        escrow.publishOffer(challengedOffer, split);
    }

    /* SPLITS */

    function test_RevertWhen_SplitHasNoRecipients() public {
        _resize(0);
        _refusedSplit(0);
    }

    function test_publishesASplitOfSixteen_RevertWhen_Seventeen() public {
        _resize(16);
        _publishSplit();
        _resize(17);
        _refusedSplit(0);
    }

    function test_RevertWhen_SplitLengthsDiffer() public {
        split.allocations.push(1);
        _refusedSplit(0);
    }

    function test_RevertWhen_SplitHasAnIncentive() public {
        split.distributionIncentive = 1;
        _refusedSplit(0);
    }

    function test_RevertWhen_SplitRecipientIsZero() public {
        split.recipients[1] = address(0);
        _refusedSplit(1);
    }

    function test_RevertWhen_SplitAllocationIsZero() public {
        split.allocations[2] = 0;
        split.totalAllocation = 9;
        _refusedSplit(2);
    }

    function test_RevertWhen_SplitAllocationIsTooLarge() public {
        split.allocations[1] = uint256(type(uint64).max) + 1;
        split.totalAllocation = split.allocations[0] + split.allocations[1] + split.allocations[2];
        _refusedSplit(1);
    }

    function test_RevertWhen_SplitRecipientAppearsTwice() public {
        split.recipients[2] = split.recipients[0];
        _refusedSplit(2);
        split.recipients[2] = split.recipients[1];
        _refusedSplit(2);
    }

    function test_RevertWhen_SplitTotalIsNotTheSum() public {
        split.totalAllocation = 11;
        _refusedSplit(3);
    }

    function test_RevertWhen_SplitTotalIsTooLarge() public {
        split.allocations[0] = type(uint64).max - 3;
        split.totalAllocation = type(uint64).max;
        _publishSplit();
        split.allocations[0] += 1;
        split.totalAllocation += 1;
        _refusedSplit(3);
    }

    function test_onePayeeMayHaveTheLargestAllocation() public {
        _resize(1);
        split.allocations[0] = type(uint64).max;
        split.totalAllocation = type(uint64).max;
        _publishSplit();
    }

    function _resize(uint256 count) private {
        delete split.recipients;
        delete split.allocations;
        for (uint256 i = 0; i < count; ++i) {
            split.recipients.push(address(uint160(0xC000 + i)));
            split.allocations.push(i + 1);
        }
        split.totalAllocation = count * (count + 1) / 2;
    }

    function _publishSplit() private {
        offer.splitHash = keccak256(abi.encode(split));
        vm.prank(agentOwner);
        escrow.publishOffer(offer, split);
    }

    function _refusedSplit(uint256 index) private {
        offer.splitHash = keccak256(abi.encode(split));
        _refused(abi.encodeWithSelector(IRequestEscrow.InvalidSplit.selector, index));
    }

    function _refused(bytes memory error_) private {
        _expect(error_);
        vm.prank(agentOwner);
        escrow.publishOffer(offer, split);
    }

    function _expect(bytes memory error_) private {
        vm.expectRevert(error_);
    }
}
