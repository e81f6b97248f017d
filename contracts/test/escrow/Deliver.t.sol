// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {vm} from "../base/Vm.sol";
import {ContractSigner, HostileSigner} from "../doubles/Accounts.sol";

contract DeliverTest is EscrowTest {
    uint256 private constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    IRequestEscrow.Request private _terms;
    IRequestEscrow.Result private _result;
    IRequestEscrow.Attestation[] private _attestations;
    bytes32 private _id;

    function setUp() public override {
        super.setUp();
        _terms = termsOf(offer, "deliver");
        _id = fund(_terms, offer);
        _result = answerOf(_id, PRICE * 3 / 4);
        _attest(3);
    }

    function test_settlesAtOnceWithoutAWindow() public {
        uint64 sequence = escrow.sequence();
        address[] memory signers = signersOf(_attestations);
        uint128 amount = _result.amount;
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IRequestEscrow.Delivered(sequence + 1, _id, transmitter, _result, signers);
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IRequestEscrow.Settled(
            sequence + 2, _id, offer.splitHash, address(token), amount, amount / 100, PRICE - amount
        );
        _deliver();
        assertEq(escrow.sequence(), sequence + 2, "sequence");
        assertStatus(_id, IRequestEscrow.Status.Settled);
        assertEq(escrow.settledAmountOf(_id), amount, "amount");
        assertEq(escrow.settledTotal(offer.splitHash, address(token)), amount - amount / 100, "split");
        assertEq(escrow.creditOf(treasury, address(token)), amount / 100, "fee");
        assertEq(escrow.creditOf(payer, address(token)), PRICE - amount, "change");
    }

    function test_waitsForTheWindow() public {
        _terms = termsOf(challengedOffer, "challenged");
        _id = fund(_terms, challengedOffer);
        _result = answerOf(_id, PRICE);
        _attest(3);
        _deliver();
        assertStatus(_id, IRequestEscrow.Status.Delivered);
        assertEq(escrow.settledAmountOf(_id), 0, "settled amount");
        assertEq(escrow.settledTotal(offer.splitHash, address(token)), 0, "split");
        assertEq(escrow.creditOf(treasury, address(token)), 0, "fee");
    }

    function test_acceptsMoreThanTheThreshold() public {
        _attest(5);
        _deliver();
        assertStatus(_id, IRequestEscrow.Status.Settled);
    }

    function test_acceptsAnyQuorum() public {
        IRequestEscrow.Attestation[] memory all = attest(_result, 5);
        delete _attestations;
        _attestations.push(all[0]);
        _attestations.push(all[2]);
        _attestations.push(all[4]);
        _deliver();
        assertStatus(_id, IRequestEscrow.Status.Settled);
    }

    function test_acceptsUntilTheLastSecond_RevertWhen_AtTheDeadline() public {
        _result.validUntil = type(uint64).max;
        _attest(3);
        vm.warp(_terms.deadline);
        _refused(abi.encodeWithSelector(IRequestEscrow.DeadlinePassed.selector, _terms.deadline));
        vm.warp(_terms.deadline - 1);
        _deliver();
    }

    function test_acceptsUntilValidUntil_RevertWhen_Later() public {
        _result.validUntil = uint64(block.timestamp + 10);
        _attest(3);
        vm.warp(block.timestamp + 11);
        _invalid("validUntil");
        vm.warp(_result.validUntil);
        _deliver();
    }

    function test_declinedCostsNothing() public {
        _result = declineOf(_id);
        _attest(3);
        _deliver();
        assertStatus(_id, IRequestEscrow.Status.Settled);
        assertEq(escrow.creditOf(payer, address(token)), PRICE, "returned");
        assertEq(escrow.creditOf(treasury, address(token)), 0, "fee");
        assertEq(escrow.settledTotal(offer.splitHash, address(token)), 0, "split");
        assertEq(escrow.settledAmountOf(_id), 0, "amount");
    }

    function test_RevertWhen_NotFunded() public {
        _deliver();
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, _id, IRequestEscrow.Status.Settled));
        _terms.salt = "never";
        _id = escrow.requestIdOf(_terms);
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, _id, IRequestEscrow.Status.None));
    }

    function test_RevertWhen_ResultIsAboutAnotherRequest() public {
        _result.requestId = keccak256("other");
        _attest(3);
        _invalid("requestId");
    }

    function test_RevertWhen_OutcomeIsNone() public {
        _result.outcome = IRequestEscrow.Outcome.None;
        _attest(3);
        _invalid("outcome");
    }

    function test_RevertWhen_AmountIsOutOfRange() public {
        _result.amount = PRICE + 1;
        _attest(3);
        _invalid("amount");
        _result.amount = 0;
        _attest(3);
        _invalid("amount");
        _result = declineOf(_id);
        _result.amount = 1;
        _attest(3);
        _invalid("amount");
        _result = answerOf(_id, PRICE);
        _attest(3);
        _deliver();
    }

    function test_RevertWhen_OperatorSetIsNotThePinnedOne() public {
        vm.expectRevert(IRequestEscrow.WrongOperatorSet.selector);
        escrow.deliver(_terms, _result, solo, _attestations);
        quorum.threshold = 1;
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongOperatorSet.selector));
    }

    function test_RevertWhen_QuorumIsNotReached() public {
        _attest(2);
        _refused(abi.encodeWithSelector(IRequestEscrow.QuorumNotReached.selector, 2, 3));
    }

    function test_RevertWhen_SignersDoNotAscend() public {
        (_attestations[0], _attestations[1]) = _swapped(0, 1);
        _refused(abi.encodeWithSelector(IRequestEscrow.SignersNotAscending.selector, _attestations[1].signer));
    }

    function test_RevertWhen_OneSignerCountsTwice() public {
        _attestations[1] = _attestations[0];
        _refused(abi.encodeWithSelector(IRequestEscrow.SignersNotAscending.selector, _attestations[1].signer));
    }

    function test_RevertWhen_SignerIsZero() public {
        _attestations[0].signer = address(0);
        _refused(abi.encodeWithSelector(IRequestEscrow.SignersNotAscending.selector, address(0)));
    }

    function test_RevertWhen_SignerIsNoMember() public {
        uint256 key = 0xBAD;
        _attestations[2] = IRequestEscrow.Attestation(vm.addr(key), signature(key, escrow.resultDigest(_result)));
        IRequestEscrow.Attestation[] memory sorted = _sort(_attestations);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.UnknownSigner.selector, vm.addr(key)));
        escrow.deliver(_terms, _result, quorum, sorted);
        // One after the last member, too.
        _attest(3);
        _attestations[2].signer = address(type(uint160).max);
        _refused(abi.encodeWithSelector(IRequestEscrow.UnknownSigner.selector, address(type(uint160).max)));
    }

    function test_RevertWhen_SignerIsRevoked() public {
        address signer = _attestations[1].signer;
        vm.prank(registry.ownerOfSigner(signer));
        registry.revokeSigner(signer);
        _refused(abi.encodeWithSelector(IRequestEscrow.UnknownSigner.selector, signer));
    }

    function test_acceptsTheOldEpochAfterANewOne() public {
        vm.prank(setAdmin);
        address[] memory two = new address[](2);
        two[0] = operators[3];
        two[1] = operators[4];
        registry.proposeEpoch(quorumSet, 1, two);
        vm.warp(block.timestamp + registry.EPOCH_DELAY());
        _terms = termsOf(offer, "before the epoch");
        _id = fund(_terms, offer);
        registry.startEpoch(quorumSet);
        _result = answerOf(_id, PRICE);
        _attest(3);
        IRequestEscrow.OperatorSet memory next = setOf(quorumSet);
        vm.expectRevert(IRequestEscrow.WrongOperatorSet.selector);
        escrow.deliver(_terms, _result, next, _attestations);
        _deliver();
    }

    /* SIGNATURES */

    function test_RevertWhen_SignatureIsOfAnotherResult() public {
        _result.outputHash = keccak256("other");
        _badSignature(0);
    }

    function test_RevertWhen_SignatureIsForAnotherChain() public {
        vm.chainId(block.chainid + 1);
        bytes32 id = escrow.requestIdOf(_terms);
        assertTrue(id != _id, "the separator follows the chain");
        // The request is unknown on the other chain, and so is the digest that the operators signed.
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, id, IRequestEscrow.Status.None));
        escrow.deliver(_terms, _result, quorum, _attestations);
    }

    function test_RevertWhen_SIsHigh() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(signerKeys[0], escrow.resultDigest(_result));
        _attestations[0].signature = abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? 28 : uint8(27));
        _badSignature(0);
    }

    function test_RevertWhen_VIsOdd() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(signerKeys[0], escrow.resultDigest(_result));
        uint8[4] memory wrong = [0, 1, 26, 29];
        for (uint256 i = 0; i < 4; ++i) {
            _attestations[0].signature = abi.encodePacked(r, s, wrong[i]);
            _badSignature(0);
        }
        _attestations[0].signature = abi.encodePacked(r, s, v);
        _deliver();
    }

    function test_RevertWhen_SignatureIsNot65Bytes() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(signerKeys[0], escrow.resultDigest(_result));
        // ERC-2098's compact form is a second signature of the same message, so it is refused.
        _attestations[0].signature = abi.encodePacked(r, bytes32(uint256(s) | (v == 28 ? 1 << 255 : 0)));
        _badSignature(0);
        _attestations[0].signature = abi.encodePacked(r, s, v, uint8(0));
        _badSignature(0);
        _attestations[0].signature = "";
        _badSignature(0);
    }

    function testFuzz_RevertWhen_SignatureIsNoise(bytes32 r, bytes32 s, uint8 v) public {
        _attestations[0].signature = abi.encodePacked(r, s, v);
        _badSignature(0);
    }

    function testFuzz_RevertWhen_AnyWordOfTheResultChanges(uint8 word, uint256 change) public {
        word = uint8(bound(word, 1, 5));
        vm.assume(change != 0);
        if (word == 1) _result.outputHash ^= bytes32(change);
        if (word == 2) _result.traceRoot ^= bytes32(change);
        if (word == 3) _result.retrievalRoot ^= bytes32(change);
        if (word == 4) _result.modelHash ^= bytes32(change);
        if (word == 5) {
            uint128 amount = uint128(bound(change, 1, PRICE));
            vm.assume(amount != _result.amount);
            _result.amount = amount;
        }
        _badSignature(0);
    }

    function test_acceptsAContractSigner() public {
        ContractSigner wallet = new ContractSigner(vm.addr(0xC0DE));
        _fundWith(address(wallet));
        _attestations.push(IRequestEscrow.Attestation(address(wallet), signature(0xC0DE, escrow.resultDigest(_result))));
        escrow.deliver(_terms, _result, solo, _attestations);
        assertStatus(_id, IRequestEscrow.Status.Settled);
    }

    function test_RevertWhen_ContractSignerRefuses() public {
        ContractSigner wallet = new ContractSigner(vm.addr(0xC0DE));
        _fundWith(address(wallet));
        wallet.setRefuses(true);
        _attestations.push(IRequestEscrow.Attestation(address(wallet), signature(0xC0DE, escrow.resultDigest(_result))));
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.InvalidSignature.selector, address(wallet)));
        escrow.deliver(_terms, _result, solo, _attestations);
    }

    function test_RevertWhen_ContractSignerIsHostile() public {
        for (uint256 i = 0; i < 5; ++i) {
            HostileSigner hostile = new HostileSigner(HostileSigner.Way(i));
            _fundWith(address(hostile));
            _attestations.push(IRequestEscrow.Attestation(address(hostile), "anything"));
            bytes memory data = abi.encodeCall(escrow.deliver, (_terms, _result, solo, _attestations));
            uint256 before = gasleft();
            (bool success, bytes memory answer) = address(escrow).call{gas: 2_000_000}(data);
            assertLe(before - gasleft(), 300_000, "gas is bounded");
            assertFalse(success, "accepted");
            assertEq(
                keccak256(answer),
                keccak256(abi.encodeWithSelector(IRequestEscrow.InvalidSignature.selector, address(hostile))),
                "error"
            );
        }
    }

    /// @dev A new set of one whose signer is a contract.
    function _fundWith(address signer) private {
        address owner = address(uint160(uint256(keccak256(abi.encode(signer)))));
        soloSet = registry.createSet(setAdmin, address(token), BOND, referee);
        addOperator(owner, signer, soloSet);
        address[] memory one = new address[](1);
        one[0] = owner;
        solo = startEpoch(soloSet, 1, one);
        soloOffer.operatorSetId = soloSet;
        vm.prank(agentOwner);
        escrow.publishOffer(soloOffer, split);
        _terms = termsOf(soloOffer, bytes32(uint256(uint160(signer))));
        _id = fund(_terms, soloOffer);
        _result = answerOf(_id, PRICE);
        delete _attestations;
    }

    function _attest(uint256 count) private {
        IRequestEscrow.Attestation[] memory attestations = attest(_result, count);
        delete _attestations;
        for (uint256 i = 0; i < count; ++i) {
            _attestations.push(attestations[i]);
        }
    }

    function _swapped(uint256 i, uint256 j)
        private
        view
        returns (IRequestEscrow.Attestation memory, IRequestEscrow.Attestation memory)
    {
        return (_attestations[j], _attestations[i]);
    }

    function _sort(IRequestEscrow.Attestation[] memory list)
        private
        pure
        returns (IRequestEscrow.Attestation[] memory)
    {
        for (uint256 i = 1; i < list.length; ++i) {
            for (uint256 j = i; j > 0 && list[j - 1].signer > list[j].signer; --j) {
                (list[j - 1], list[j]) = (list[j], list[j - 1]);
            }
        }
        return list;
    }

    function _deliver() private {
        vm.prank(transmitter);
        escrow.deliver(_terms, _result, quorum, _attestations);
    }

    function _badSignature(uint256 i) private {
        _refused(abi.encodeWithSelector(IRequestEscrow.InvalidSignature.selector, _attestations[i].signer));
    }

    function _invalid(string memory field) private {
        _refused(abi.encodeWithSelector(IRequestEscrow.InvalidResult.selector, field));
    }

    function _refused(bytes memory error_) private {
        vm.expectRevert(error_);
        vm.prank(transmitter);
        escrow.deliver(_terms, _result, quorum, _attestations);
    }
}
