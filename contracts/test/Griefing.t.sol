// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IOperatorRegistry} from "../src/interfaces/IOperatorRegistry.sol";
import {IRequestEscrow} from "../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "./base/EscrowTest.sol";
import {vm} from "./base/Vm.sol";
import {HostileConsumer} from "./doubles/Consumers.sol";

/// @notice Each way in which others were griefed, as a test of its own: the name says the attack, the first comment line
/// who suffered from it.
contract GriefingTest is EscrowTest {
    IRequestEscrow.Request private _terms;
    bytes32 private _id;

    function setUp() public override {
        super.setUp();
        _terms = termsOf(offer, "griefing");
        _id = fund(_terms, offer);
    }

    /// @dev TOB-RITUAL-7. Whoever delivers, the pinned payees are paid, and the deliverer is not.
    function test_frontRunDeliveryStealsNoPay() public {
        IRequestEscrow.Result memory result = answerOf(_id, PRICE);
        IRequestEscrow.Attestation[] memory attestations = attest(result, 3);
        vm.prank(stranger);
        escrow.deliver(_terms, result, quorum, attestations);
        assertEq(claimableOf(stranger, address(token)), 0, "the deliverer");
        assertEq(claimableOf(split.recipients[0], address(token)), uint256(PRICE) * 99 / 100 * 7 / 10, "the payee");
    }

    /// @dev TOB-RITUAL-2. The money is here before the work starts, and emptying the wallet takes nothing back.
    function test_drainedConsumerStillPays() public {
        vm.startPrank(payer);
        token.transfer(stranger, token.balanceOf(payer));
        token.approve(address(escrow), 0);
        vm.stopPrank();
        deliverAnswer(_terms, PRICE);
        escrow.withdrawFor(split.recipients[0], address(token), splits());
        assertEq(token.balanceOf(split.recipients[0]), uint256(PRICE) * 99 / 100 * 7 / 10, "paid");
    }

    /// @dev TOB-RITUAL-3. An agent cannot bring a judge that its operators did not agree to when they joined.
    function test_maliciousVerifierCannotSlash() public {
        challengedOffer.referee = stranger;
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.InvalidChallenge.selector, WINDOW, stranger));
        vm.prank(agentOwner);
        escrow.publishOffer(challengedOffer, split);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotEscrow.selector, referee));
        vm.prank(referee);
        registry.slash(quorumSet, quorum.signers[0], _id, referee);
    }

    /// @dev TOB-RITUAL-6. A consumer's gas is capped, and delivery costs no more than the cap.
    function test_badConsumerBurnsOnlyItsOwnGas() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "burner");
        terms.callbackGas = 500_001;
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.TermsMismatch.selector, "callbackGas"));
        vm.prank(payer);
        escrow.request(terms, offer, INPUT);
        terms.callbackGas = 500_000;
        terms.callback = address(new HostileConsumer(HostileConsumer.Way.BurnGas, address(0), ""));
        bytes32 requestId = fund(terms, offer);
        IRequestEscrow.Result memory result = answerOf(requestId, PRICE);
        IRequestEscrow.Attestation[] memory attestations = attest(result, 3);
        uint256 before = gasleft();
        escrow.deliver(terms, result, quorum, attestations);
        assertLe(before - gasleft(), 650_000, "gas");
        assertStatus(requestId, IRequestEscrow.Status.Settled);
    }

    /// @dev TOB-RITUAL-9. A consumer that re-enters its own delivery is paid nothing twice.
    function test_reenteredFinalizationSettlesOnce() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "reenter");
        HostileConsumer consumer =
            new HostileConsumer(HostileConsumer.Way.Reenter, address(escrow), abi.encodeCall(escrow.refund, (_terms)));
        terms.callback = address(consumer);
        terms.callbackGas = 400_000;
        fund(terms, offer);
        deliverAnswer(terms, PRICE);
        assertFalse(consumer.succeeded(), "reentered");
        assertEq(escrow.settledTotal(offer.splitHash, address(token)), uint256(PRICE) * 99 / 100, "once");
    }

    /// @dev Zellic 3.2. A bad signature takes nobody's place: the same quorum without it goes through.
    function test_invalidAttestationConsumesNoSlot() public {
        IRequestEscrow.Result memory result = answerOf(_id, PRICE);
        IRequestEscrow.Attestation[] memory bad = attest(result, 4);
        bad[0].signature = new bytes(65);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.InvalidSignature.selector, bad[0].signer));
        escrow.deliver(_terms, result, quorum, bad);
        IRequestEscrow.Attestation[] memory good = new IRequestEscrow.Attestation[](3);
        for (uint256 i = 0; i < 3; ++i) {
            good[i] = bad[i + 1];
        }
        escrow.deliver(_terms, result, quorum, good);
        assertStatus(_id, IRequestEscrow.Status.Settled);
    }

    /// @dev Zellic 3.1. Nothing is credited and no consumer hears of a result that can still be convicted.
    function test_resultIsNotUsedBeforeItsWindowIsOver() public {
        IRequestEscrow.Request memory terms = termsOf(challengedOffer, "window");
        HostileConsumer consumer = new HostileConsumer(HostileConsumer.Way.Revert, address(0), "");
        (terms.callback, terms.callbackGas) = (address(consumer), 100_000);
        fund(terms, challengedOffer);
        uint64 sequence = escrow.sequence();
        deliverAnswer(terms, PRICE);
        assertEq(escrow.sequence(), sequence + 1, "one event: Delivered");
        assertEq(claimableOf(split.recipients[0], address(token)), 0, "nothing credited");
    }

    /// @dev Infernet's `finalizeProofVerification`. Silence pays the payer back, never the operators.
    function test_timeoutRefundsThePayer() public {
        vm.warp(_terms.deadline + 365 days);
        escrow.refund(_terms);
        assertEq(escrow.creditOf(payer, address(token)), PRICE, "refunded");
        assertEq(claimableOf(split.recipients[0], address(token)), 0, "the payee");
    }

    /// @dev Olas: no refund path. Here anybody opens it.
    function test_undeliveredMoneyIsNotStuck() public {
        vm.warp(_terms.deadline);
        vm.prank(stranger);
        escrow.refund(_terms);
        vm.prank(stranger);
        escrow.withdrawFor(payer, address(token), noSplits());
        assertEq(token.balanceOf(address(escrow)), 0, "nothing left");
    }

    /// @dev Olas internal5. A call that does nothing says so.
    function test_noSilentNoOps() public {
        deliverAnswer(_terms, PRICE);
        vm.expectRevert();
        escrow.refund(_terms);
        vm.expectRevert();
        escrow.withdrawFor(stranger, address(token), splits());
        vm.expectRevert();
        registry.withdrawFor(stranger, address(token));
        vm.expectRevert();
        registry.refreshEpoch(quorumSet);
        IRequestEscrow.Delivery[] memory deliveries = new IRequestEscrow.Delivery[](1);
        IRequestEscrow.Result memory result = answerOf(_id, PRICE);
        deliveries[0] = IRequestEscrow.Delivery(_terms, result, quorum, attest(result, 3));
        assertFalse(escrow.deliverBatch(deliveries)[0], "a typed outcome");
    }

    /// @dev Cantina x402 3.1.1. The amount is under the quorum's signatures.
    function test_frontRunnerCannotChooseTheAmount() public {
        IRequestEscrow.Result memory result = answerOf(_id, PRICE / 2);
        IRequestEscrow.Attestation[] memory attestations = attest(result, 3);
        result.amount = PRICE;
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.InvalidSignature.selector, attestations[0].signer));
        vm.prank(stranger);
        escrow.deliver(_terms, result, quorum, attestations);
    }

    /// @dev Cantina x402 3.1.2. What is signed has a fixed size, and the input a limit.
    function test_noUnboundedBytesAreSignedOrTaken() public {
        bytes memory input = new bytes(8193);
        IRequestEscrow.Request memory terms = termsOf(offer, "large");
        terms.inputHash = keccak256(input);
        bytes memory signature_ = authorize(terms);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.InputTooLarge.selector, 8193, 8192));
        escrow.requestWithAuthorization(terms, offer, input, 0, terms.deadline, signature_);
    }

    /// @dev Cantina x402 3.1.3. A settlement of nothing cannot use up a paid request.
    function test_zeroAmountSettlesNothing() public {
        IRequestEscrow.Result memory result = answerOf(_id, 0);
        IRequestEscrow.Attestation[] memory attestations = attest(result, 3);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.InvalidResult.selector, "amount"));
        escrow.deliver(_terms, result, quorum, attestations);
        assertStatus(_id, IRequestEscrow.Status.Funded);
    }

    /// @dev Functions, return bombs. See `Callback.t.sol` for each way; here: the failure is an event, nothing else.
    function test_revertingCallbackChangesNothing() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "reverting");
        terms.callback = address(new HostileConsumer(HostileConsumer.Way.Revert, address(0), ""));
        terms.callbackGas = 100_000;
        bytes32 requestId = fund(terms, offer);
        deliverAnswer(terms, PRICE);
        assertStatus(requestId, IRequestEscrow.Status.Settled);
        assertEq(escrow.settledAmountOf(requestId), PRICE, "amount");
    }

    /// @dev ERC-8004: a transfer of the agent clears its wallet and changes its owner; the pay of live requests stays.
    function test_transferOfTheAgentRedirectsNoPay() public {
        vm.prank(agentOwner);
        agents.transferFrom(agentOwner, stranger, agentId);
        deliverAnswer(_terms, PRICE);
        assertEq(claimableOf(stranger, address(token)), 0, "the new owner");
        assertEq(claimableOf(split.recipients[0], address(token)), uint256(PRICE) * 99 / 100 * 7 / 10, "the payee");
    }

    /// @dev An L2 reorg: the delivery of a request that is gone fails as a whole instead of paying for nothing.
    function test_deliveryOfARolledBackRequestFails() public {
        _terms.salt = "rolled back";
        IRequestEscrow.Result memory result = answerOf(escrow.requestIdOf(_terms), PRICE);
        IRequestEscrow.Attestation[] memory attestations = attest(result, 3);
        vm.expectRevert(
            abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, result.requestId, IRequestEscrow.Status.None)
        );
        escrow.deliver(_terms, result, quorum, attestations);
    }

    /// @dev A payer in league with a referee and an operator convicts it to rescue its bond from an honest conviction, or
    /// from the delay: half of it is gone.
    function test_selfSlashingBurnsHalfOfTheBond() public {
        (IRequestEscrow.Request memory terms, IRequestEscrow.Result memory result, address[] memory signers) =
            _challenged("self");
        address owner = registry.ownerOfSigner(signers[0]);
        vm.prank(referee);
        escrow.convict(terms, result, quorum, signers, signers[0]);
        uint256 before = token.balanceOf(payer);
        registry.withdrawFor(payer, address(token));
        assertEq(token.balanceOf(payer) - before, BOND / 2, "rescued");
        address burn = registry.BURN_ADDRESS();
        registry.withdrawFor(burn, address(token));
        assertEq(token.balanceOf(burn), BOND / 2, "burned");
        assertEq(registry.bondOf(quorumSet, owner), 0, "nothing left");
    }

    /// @dev A convicted operator answers nothing more, not even what was asked before.
    function test_convictedSignerCountsNowhere() public {
        IRequestEscrow.Request memory second = termsOf(challengedOffer, "second");
        bytes32 secondId = fund(second, challengedOffer);
        (IRequestEscrow.Request memory terms, IRequestEscrow.Result memory result, address[] memory signers) =
            _challenged("first");
        vm.prank(referee);
        escrow.convict(terms, result, quorum, signers, signers[1]);
        _refusedSigner(_terms, answerOf(_id, PRICE), signers[1]);
        _refusedSigner(second, answerOf(secondId, PRICE), signers[1]);
        vm.startPrank(registry.ownerOfSigner(signers[1]));
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.SignerTaken.selector, signers[1]));
        registry.proposeSigner(signers[1]);
        vm.stopPrank();
    }

    /// @dev A member that leaves, or gives up its key, holds up nobody's rotation.
    function test_leaverCannotBlockTheOthersRotation() public {
        address leaver = registry.ownerOfSigner(quorum.signers[0]);
        address rotating = registry.ownerOfSigner(quorum.signers[1]);
        vm.startPrank(leaver);
        registry.revokeSigner(quorum.signers[0]);
        registry.startUnbonding(quorumSet);
        vm.stopPrank();
        vm.prank(rotating);
        registry.proposeSigner(address(1));
        skipTime(1 days);
        registry.activateSigner(rotating);
        registry.refreshEpoch(quorumSet);
        assertEq(setOf(quorumSet).signers[0], address(1), "rotated");
        assertEq(setOf(quorumSet).signers.length, 4, "without the leaver");
    }

    /// @dev One late item cannot make a batch fail, so nobody gains by delaying it.
    function test_lateItemSpoilsNoBatch() public {
        IRequestEscrow.Request memory late = termsOf(offer, "late");
        late.deadline = uint40(block.timestamp + DURATION_MIN);
        IRequestEscrow.Result memory lateResult = answerOf(fund(late, offer), PRICE);
        IRequestEscrow.Result memory result = answerOf(_id, PRICE);
        IRequestEscrow.Delivery[] memory deliveries = new IRequestEscrow.Delivery[](2);
        deliveries[0] = IRequestEscrow.Delivery(late, lateResult, quorum, attest(lateResult, 3));
        deliveries[1] = IRequestEscrow.Delivery(_terms, result, quorum, attest(result, 3));
        vm.warp(late.deadline);
        bool[] memory accepted = escrow.deliverBatch(deliveries);
        assertFalse(accepted[0], "late");
        assertTrue(accepted[1], "the other");
    }

    function _challenged(bytes32 salt)
        private
        returns (IRequestEscrow.Request memory terms, IRequestEscrow.Result memory result, address[] memory signers)
    {
        terms = termsOf(challengedOffer, salt);
        fund(terms, challengedOffer);
        result = deliverAnswer(terms, PRICE);
        signers = signersOf(attest(result, 3));
    }

    function _refusedSigner(IRequestEscrow.Request memory terms, IRequestEscrow.Result memory result, address signer)
        private
    {
        IRequestEscrow.Attestation[] memory attestations = attest(result, 5);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.UnknownSigner.selector, signer));
        escrow.deliver(terms, result, quorum, attestations);
    }

    /// @dev Nobody can void the payers' signed requests by starting epochs for nothing.
    function test_epochsCannotBeStartedForSport() public {
        vm.expectRevert(IOperatorRegistry.NothingPending.selector);
        vm.prank(stranger);
        registry.refreshEpoch(quorumSet);
    }
}

/// @notice The four defects of ERC-8183's reference implementation, tried on this escrow.
contract Erc8183DefectsTest is EscrowTest {
    /// @dev 1: `claimRefund` paid out a budget that nobody had funded.
    function test_defect1_unfundedRequestIsNotRefunded() public {
        IRequestEscrow.Request memory victim = termsOf(offer, "victim");
        fund(victim, offer);
        IRequestEscrow.Request memory thief = termsOf(offer, "thief");
        thief.payer = stranger;
        bytes32 requestId = escrow.requestIdOf(thief);
        vm.warp(thief.deadline);
        vm.expectRevert(
            abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, requestId, IRequestEscrow.Status.None)
        );
        vm.prank(stranger);
        escrow.refund(thief);
    }

    /// @dev 2: the provider swapped the token between the client's look and its payment.
    function test_defect2_tokenCannotBeSwappedUnderThePayer() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "swap");
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.TermsMismatch.selector, "offerHash"));
        vm.prank(payer);
        escrow.request(terms, nativeOffer, INPUT);
    }

    /// @dev 3: the admin changed the fee of jobs in flight.
    function test_defect3_feeOfALiveRequestIsFrozen() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "fee");
        fund(terms, offer);
        vm.prank(timelock);
        policy.setFee(500, stranger);
        deliverAnswer(terms, PRICE);
        assertEq(escrow.creditOf(stranger, address(token)), 0, "the new recipient");
        assertEq(escrow.creditOf(treasury, address(token)), PRICE / 100, "the agreed one");
    }

    /// @dev 4: the code took the payer from `msg.sender` where the text says it may come through a forwarder.
    function test_defect4_relayedRequestIsTheSignersNotTheRelayers() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "relayed");
        bytes memory signature_ = authorize(terms);
        vm.prank(stranger);
        escrow.requestWithAuthorization(terms, offer, INPUT, 0, terms.deadline, signature_);
        vm.warp(terms.deadline);
        escrow.refund(terms);
        assertEq(escrow.creditOf(payer, address(token)), PRICE, "the payer");
        assertEq(escrow.creditOf(stranger, address(token)), 0, "the relayer");
    }
}
