// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IOperatorRegistry} from "../../src/interfaces/IOperatorRegistry.sol";
import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {vm} from "../base/Vm.sol";
import {ContractSigner} from "../doubles/Accounts.sol";

/// @notice A delivered result in its challenge window: what `settle` and `convict` share.
abstract contract ChallengeTest is EscrowTest {
    IRequestEscrow.Request internal terms;
    IRequestEscrow.Result internal result;
    address[] internal signers;
    bytes32 internal requestId;
    uint256 internal settleAt;

    function setUp() public virtual override {
        super.setUp();
        terms = termsOf(challengedOffer, "challenged");
        requestId = fund(terms, challengedOffer);
        vm.warp(terms.deadline - 1);
        result = deliverAnswer(terms, PRICE / 2);
        signers = signersOf(attest(result, 3));
        settleAt = block.timestamp + WINDOW;
    }
}

contract SettleTest is ChallengeTest {
    function test_anyoneSettlesAfterTheWindow() public {
        vm.warp(settleAt);
        uint128 amount = PRICE / 2;
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IRequestEscrow.Settled(
            escrow.sequence() + 1, requestId, offer.splitHash, address(token), amount, amount / 100, PRICE - amount
        );
        vm.prank(stranger);
        escrow.settle(terms, result, signers);
        assertStatus(requestId, IRequestEscrow.Status.Settled);
        assertEq(escrow.settledAmountOf(requestId), amount, "amount");
        assertEq(escrow.settledTotal(offer.splitHash, address(token)), amount - amount / 100, "split");
        assertEq(escrow.creditOf(payer, address(token)), PRICE - amount, "change");
    }

    function test_RevertWhen_InsideTheWindow() public {
        vm.warp(settleAt - 1);
        _refused(abi.encodeWithSelector(IRequestEscrow.ChallengeWindow.selector, settleAt));
    }

    function test_RevertWhen_SettledBefore() public {
        vm.warp(settleAt);
        escrow.settle(terms, result, signers);
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, requestId, IRequestEscrow.Status.Settled));
    }

    function test_RevertWhen_NotDelivered() public {
        terms.salt = "funded";
        terms.deadline += 1 hours;
        bytes32 other = fund(terms, challengedOffer);
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, other, IRequestEscrow.Status.Funded));
    }

    function test_RevertWhen_ResultIsAnotherOne() public {
        vm.warp(settleAt);
        result.amount += 1;
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongResult.selector, requestId));
    }

    function test_RevertWhen_SignersAreOthers() public {
        vm.warp(settleAt);
        signers[0] = stranger;
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongResult.selector, requestId));
        signers.pop();
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongResult.selector, requestId));
    }

    function test_RevertWhen_RefundedInstead() public {
        vm.warp(terms.deadline + DURATION_MAX);
        vm.expectRevert(
            abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, requestId, IRequestEscrow.Status.Delivered)
        );
        escrow.refund(terms);
    }

    function test_revokedSignersStillCountForWhatTheySigned() public {
        vm.prank(registry.ownerOfSigner(signers[0]));
        registry.revokeSigner(signers[0]);
        vm.warp(settleAt);
        escrow.settle(terms, result, signers);
        assertStatus(requestId, IRequestEscrow.Status.Settled);
    }

    function _refused(bytes memory error_) private {
        vm.expectRevert(error_);
        escrow.settle(terms, result, signers);
    }
}

contract ConvictTest is ChallengeTest {
    function test_refereeConvictsUntilTheLastSecond() public {
        vm.warp(settleAt - 1);
        address owner = registry.ownerOfSigner(signers[2]);
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IRequestEscrow.Slashed(escrow.sequence() + 1, requestId, signers[2], address(token), PRICE);
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.BondSlashed(
            registry.sequence() + 1, quorumSet, owner, requestId, signers[2], BOND, payer, BOND / 2
        );
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.SignerRevoked(registry.sequence() + 2, owner, signers[2]);
        _convict(signers[2]);
        assertStatus(requestId, IRequestEscrow.Status.Slashed);
        assertEq(escrow.creditOf(payer, address(token)), PRICE, "refunded");
        assertEq(escrow.settledTotal(offer.splitHash, address(token)), 0, "split");
        assertEq(registry.bondOf(quorumSet, owner), 0, "bond");
        assertEq(registry.creditOf(payer, address(token)), BOND / 2, "half of the bond goes to the payer");
        uint256 before = token.balanceOf(payer);
        registry.withdrawFor(payer, address(token));
        escrow.withdrawFor(payer, address(token), noSplits());
        assertEq(token.balanceOf(payer) - before, uint256(BOND) / 2 + PRICE, "paid");
    }

    function test_convictionsAddUp() public {
        _convict(signers[0]);
        terms = termsOf(challengedOffer, "second");
        bytes32 second = fund(terms, challengedOffer);
        result = answerOf(second, PRICE);
        IRequestEscrow.Attestation[] memory attestations = _attestWithout(signers[0]);
        escrow.deliver(terms, result, quorum, attestations);
        signers = signersOf(attestations);
        _convict(signers[0]);
        assertEq(escrow.creditOf(payer, address(token)), 2 * uint256(PRICE), "refunded");
        assertEq(registry.creditOf(payer, address(token)), BOND, "two halves");
        assertEq(registry.creditOf(registry.BURN_ADDRESS(), address(token)), BOND, "the other two");
    }

    function test_RevertWhen_TheWindowIsOver() public {
        vm.warp(settleAt);
        _refused(abi.encodeWithSelector(IRequestEscrow.ChallengeWindow.selector, settleAt));
    }

    function test_RevertWhen_CallerIsNotTheReferee() public {
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.NotReferee.selector, stranger));
        vm.prank(stranger);
        escrow.convict(terms, result, quorum, signers, signers[0]);
    }

    /// @dev Naming oneself the referee makes another request, which nobody funded.
    function test_RevertWhen_TermsNameAnotherReferee() public {
        terms.referee = stranger;
        bytes32 other = escrow.requestIdOf(terms);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, other, IRequestEscrow.Status.None));
        vm.prank(stranger);
        escrow.convict(terms, result, quorum, signers, signers[0]);
    }

    function test_RevertWhen_ConvictedBefore() public {
        _convict(signers[0]);
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, requestId, IRequestEscrow.Status.Slashed));
    }

    function test_RevertWhen_SettledBefore() public {
        vm.warp(settleAt);
        escrow.settle(terms, result, signers);
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, requestId, IRequestEscrow.Status.Settled));
    }

    function test_RevertWhen_ResultIsAnotherOne() public {
        result.outputHash = "other";
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongResult.selector, requestId));
    }

    function test_RevertWhen_OperatorSetIsAnotherOne() public {
        quorum.setId = soloSet;
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongOperatorSet.selector));
    }

    function test_RevertWhen_SignerDidNotSign() public {
        address other = vm.addr(signerKeys[4]);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.UnknownSigner.selector, other));
        vm.prank(referee);
        escrow.convict(terms, result, quorum, signers, other);
        signers.push(other);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.WrongResult.selector, requestId));
        vm.prank(referee);
        escrow.convict(terms, result, quorum, signers, other);
    }

    function test_slashesAnOperatorThatRevokedItsSignerAndIsUnbonding() public {
        address owner = registry.ownerOfSigner(signers[0]);
        vm.startPrank(owner);
        registry.revokeSigner(signers[0]);
        registry.startUnbonding(quorumSet);
        vm.stopPrank();
        _convict(signers[0]);
        assertEq(registry.creditOf(payer, address(token)), BOND / 2, "slashed");
        vm.warp(registry.releaseAt(quorumSet, owner));
        uint256 before = token.balanceOf(registry.operatorOf(owner).withdrawal);
        registry.releaseBond(quorumSet, owner);
        assertEq(token.balanceOf(registry.operatorOf(owner).withdrawal), before, "nothing left");
    }

    function test_takesWhatIsLeftOfABondTheSecondTime() public {
        IRequestEscrow.Request memory second = termsOf(challengedOffer, "second");
        fund(second, challengedOffer);
        IRequestEscrow.Result memory secondResult = deliverAnswer(second, PRICE);
        _convict(signers[0]);
        vm.prank(referee);
        escrow.convict(second, secondResult, quorum, signers, signers[0]);
        assertEq(registry.creditOf(payer, address(token)), BOND / 2, "one bond");
        assertEq(escrow.creditOf(payer, address(token)), 2 * uint256(PRICE), "both refunded");
    }

    /// @dev What was accepted is committed to; a contract signer cannot take it back.
    function test_contractSignerCannotTakeItsSignatureBack() public {
        ContractSigner wallet = new ContractSigner(vm.addr(0xC0DE));
        uint64 setId = registry.createSet(setAdmin, address(token), BOND, referee);
        address owner = address(0x0ee);
        addOperator(owner, address(wallet), setId);
        address[] memory one = new address[](1);
        one[0] = owner;
        IRequestEscrow.OperatorSet memory set = startEpoch(setId, 1, one);
        challengedOffer.operatorSetId = setId;
        vm.prank(agentOwner);
        escrow.publishOffer(challengedOffer, split);
        terms = termsOf(challengedOffer, "contract");
        requestId = fund(terms, challengedOffer);
        result = answerOf(requestId, PRICE);
        IRequestEscrow.Attestation[] memory attestations = new IRequestEscrow.Attestation[](1);
        attestations[0] = IRequestEscrow.Attestation(address(wallet), signature(0xC0DE, escrow.resultDigest(result)));
        escrow.deliver(terms, result, set, attestations);
        wallet.setRefuses(true);
        vm.prank(referee);
        escrow.convict(terms, result, set, one1(address(wallet)), address(wallet));
        assertEq(registry.bondOf(setId, owner), 0, "slashed");
    }

    /// @dev Everyone else signs.
    function _attestWithout(address signer) private view returns (IRequestEscrow.Attestation[] memory attestations) {
        attestations = new IRequestEscrow.Attestation[](4);
        IRequestEscrow.Attestation[] memory all = attest(result, 5);
        uint256 count = 0;
        for (uint256 i = 0; i < 5; ++i) {
            if (all[i].signer != signer) attestations[count++] = all[i];
        }
    }

    function one1(address account) private pure returns (address[] memory list) {
        list = new address[](1);
        list[0] = account;
    }

    function _convict(address signer) private {
        vm.prank(referee);
        escrow.convict(terms, result, quorum, signers, signer);
    }

    function _refused(bytes memory error_) private {
        vm.expectRevert(error_);
        vm.prank(referee);
        escrow.convict(terms, result, quorum, signers, signers[0]);
    }
}
