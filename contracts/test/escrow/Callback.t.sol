// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IOperatorRegistry} from "../../src/interfaces/IOperatorRegistry.sol";
import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {vm} from "../base/Vm.sol";
import {HostileConsumer, RecordingConsumer} from "../doubles/Consumers.sol";

contract CallbackTest is EscrowTest {
    uint32 private constant GAS = 200_000;

    function test_tellsTheConsumerOnceAfterSettlement() public {
        RecordingConsumer consumer = new RecordingConsumer();
        IRequestEscrow.Request memory terms = _terms(address(consumer));
        bytes32 requestId = fund(terms, offer);
        uint64 sequence = escrow.sequence();
        deliverAnswer(terms, PRICE / 4);
        assertEq(consumer.calls(), 1, "calls");
        assertEq(consumer.requestId(), requestId, "id");
        assertEq(consumer.outcome(), 1, "outcome");
        assertEq(consumer.outputHash(), keccak256("output"), "output");
        assertEq(consumer.amount(), PRICE / 4, "amount");
        assertLe(consumer.gasSeen(), GAS, "gas");
        assertGe(consumer.gasSeen(), GAS - 1000, "gas");
        assertEq(escrow.sequence(), sequence + 2, "no failure");
    }

    function test_tellsAboutARefusal() public {
        RecordingConsumer consumer = new RecordingConsumer();
        IRequestEscrow.Request memory terms = _terms(address(consumer));
        IRequestEscrow.Result memory result = declineOf(fund(terms, offer));
        escrow.deliver(terms, result, quorum, attest(result, 3));
        assertEq(consumer.outcome(), 2, "outcome");
        assertEq(consumer.amount(), 0, "amount");
    }

    function test_tellsAfterTheWindowOnly() public {
        RecordingConsumer consumer = new RecordingConsumer();
        IRequestEscrow.Request memory terms = termsOf(challengedOffer, "window");
        (terms.callback, terms.callbackGas) = (address(consumer), GAS);
        fund(terms, challengedOffer);
        IRequestEscrow.Result memory result = deliverAnswer(terms, PRICE);
        assertEq(consumer.calls(), 0, "inside the window");
        skipTime(WINDOW);
        escrow.settle(terms, result, signersOf(attest(result, 3)));
        assertEq(consumer.calls(), 1, "after the window");
    }

    function test_refundAndConvictionTellNobody() public {
        RecordingConsumer consumer = new RecordingConsumer();
        IRequestEscrow.Request memory terms = _terms(address(consumer));
        fund(terms, offer);
        vm.warp(terms.deadline);
        escrow.refund(terms);
        terms = termsOf(challengedOffer, "convicted");
        (terms.callback, terms.callbackGas) = (address(consumer), GAS);
        fund(terms, challengedOffer);
        IRequestEscrow.Result memory result = deliverAnswer(terms, PRICE);
        address[] memory signers = signersOf(attest(result, 3));
        vm.prank(referee);
        escrow.convict(terms, result, quorum, signers, signers[0]);
        assertEq(consumer.calls(), 0, "calls");
    }

    function test_failuresAreEventsAndChangeNothing() public {
        for (uint256 way = 0; way < 2; ++way) {
            HostileConsumer consumer = new HostileConsumer(HostileConsumer.Way(way), address(0), "");
            _expectFailure(_terms(address(consumer)));
        }
    }

    function test_anAccountWithoutCodeIsNoFailure() public {
        IRequestEscrow.Request memory terms = _terms(address(0xE0A));
        fund(terms, offer);
        uint64 sequence = escrow.sequence();
        deliverAnswer(terms, PRICE);
        assertEq(escrow.sequence(), sequence + 2, "events");
    }

    /// @dev The largest answer that 500,000 gas can make costs the deliverer nothing beyond that gas.
    function test_returnBombIsNotCopied() public {
        HostileConsumer consumer = new HostileConsumer(HostileConsumer.Way.HugeAnswer, address(0), "");
        IRequestEscrow.Request memory terms = _terms(address(consumer));
        terms.callbackGas = 500_000;
        IRequestEscrow.Result memory result = answerOf(fund(terms, offer), PRICE);
        IRequestEscrow.Attestation[] memory attestations = attest(result, 3);
        uint256 before = gasleft();
        escrow.deliver(terms, result, quorum, attestations);
        assertLe(before - gasleft(), 500_000 + 150_000, "gas");
    }

    /// @dev Whatever the gas, the consumer gets all of its own or the delivery fails as a whole.
    function testFuzz_cannotBeStarved(uint256 gas_) public {
        RecordingConsumer consumer = new RecordingConsumer();
        IRequestEscrow.Request memory terms = _terms(address(consumer));
        bytes32 requestId = fund(terms, offer);
        IRequestEscrow.Result memory result = answerOf(requestId, PRICE);
        bytes memory data = abi.encodeCall(escrow.deliver, (terms, result, quorum, attest(result, 3)));
        (bool success,) = address(escrow).call{gas: bound(gas_, 100_000, 700_000)}(data);
        if (success) {
            assertGe(consumer.gasSeen(), GAS - 1000, "gas");
        } else {
            assertStatus(requestId, IRequestEscrow.Status.Funded);
            assertEq(consumer.calls(), 0, "calls");
        }
    }

    function test_RevertWhen_GasIsTooLow() public {
        RecordingConsumer consumer = new RecordingConsumer();
        IRequestEscrow.Request memory terms = _terms(address(consumer));
        bytes32 requestId = fund(terms, offer);
        IRequestEscrow.Result memory result = answerOf(requestId, PRICE);
        bytes memory data = abi.encodeCall(escrow.deliver, (terms, result, quorum, attest(result, 3)));
        (bool success, bytes memory answer) = address(escrow).call{gas: 290_000}(data);
        assertFalse(success, "success");
        assertEq(bytes32(bytes4(answer)), bytes32(IRequestEscrow.CallbackGasTooLow.selector), "CallbackGasTooLow");
        uint256 needed;
        assembly {
            needed := mload(add(answer, 0x44))
        }
        // The consumer's own gas, the 64th that EIP-150 keeps back of it, and what remains to be done afterwards.
        assertEq(needed, uint256(GAS) + GAS / 63 + 20_000, "needed");
    }

    function test_withoutAConsumerNobodyIsCalled() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "no consumer");
        fund(terms, offer);
        vm.expectCall(address(0), "", 0);
        deliverAnswer(terms, PRICE);
    }

    /// @dev Every function that changes something is locked while a consumer runs.
    function test_consumerCannotReenter() public {
        IRequestEscrow.Request memory other = termsOf(offer, "other");
        IRequestEscrow.Result memory result = answerOf(fund(other, offer), PRICE);
        IRequestEscrow.Attestation[] memory attestations = attest(result, 3);
        IRequestEscrow.Delivery[] memory deliveries = new IRequestEscrow.Delivery[](1);
        deliveries[0] = IRequestEscrow.Delivery(other, result, quorum, attestations);
        bytes[] memory calls = new bytes[](12);
        calls[0] = abi.encodeCall(escrow.deliver, (other, result, quorum, attestations));
        calls[1] = abi.encodeCall(escrow.deliverBatch, (deliveries));
        calls[2] = abi.encodeCall(escrow.refund, (other));
        calls[3] = abi.encodeCall(escrow.settle, (other, result, signersOf(attestations)));
        calls[4] = abi.encodeCall(escrow.withdraw, (address(token), splits()));
        calls[5] = abi.encodeCall(escrow.withdrawFor, (payer, address(token), splits()));
        calls[6] = abi.encodeCall(escrow.request, (other, offer, INPUT));
        calls[7] = abi.encodeCall(escrow.requestBatch, (other, offer, new bytes[](1)));
        calls[8] = abi.encodeCall(escrow.requestWithAuthorization, (other, offer, INPUT, 0, 0, ""));
        calls[9] = abi.encodeCall(escrow.requestWithPermit, (other, offer, INPUT, 0, 0, 0, 0));
        calls[10] = abi.encodeCall(escrow.requestWithPermit2, (other, offer, INPUT, 0, 0, ""));
        calls[11] =
            abi.encodeCall(escrow.convict, (other, result, quorum, signersOf(attestations), attestations[0].signer));
        for (uint256 i = 0; i < calls.length; ++i) {
            HostileConsumer consumer = new HostileConsumer(HostileConsumer.Way.Reenter, address(escrow), calls[i]);
            IRequestEscrow.Request memory terms = _terms(address(consumer));
            fund(terms, offer);
            deliverAnswer(terms, PRICE);
            assertFalse(consumer.succeeded(), "reentered");
            assertEq(bytes32(bytes4(consumer.answer())), bytes32(IRequestEscrow.Reentered.selector), "Reentered");
        }
        // The lock is open again.
        escrow.deliver(other, result, quorum, attestations);
    }

    /// @dev The registry trusts the escrow, so a callback must not be able to speak to it as the escrow.
    function test_callbackToTheRegistryDoesNothing() public {
        IRequestEscrow.Request memory terms = _terms(address(registry));
        fund(terms, offer);
        deliverAnswer(terms, PRICE);
        for (uint256 i = 0; i < 5; ++i) {
            assertEq(registry.bondOf(quorumSet, operators[i]), BOND, "bond");
        }
    }

    function _expectFailure(IRequestEscrow.Request memory terms) private {
        bytes32 requestId = fund(terms, offer);
        uint256 before = escrow.settledTotal(offer.splitHash, address(token));
        IRequestEscrow.Result memory result = answerOf(requestId, PRICE);
        IRequestEscrow.Attestation[] memory attestations = attest(result, 3);
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IRequestEscrow.CallbackFailed(escrow.sequence() + 3, requestId, terms.callback);
        escrow.deliver(terms, result, quorum, attestations);
        assertStatus(requestId, IRequestEscrow.Status.Settled);
        assertEq(escrow.settledTotal(offer.splitHash, address(token)) - before, uint256(PRICE) * 99 / 100, "settled");
    }

    function _terms(address callback) private view returns (IRequestEscrow.Request memory terms) {
        terms = termsOf(offer, bytes32(uint256(uint160(callback))));
        terms.callback = callback;
        terms.callbackGas = GAS;
    }
}
