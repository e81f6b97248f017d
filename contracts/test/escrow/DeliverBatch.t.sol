// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {vm} from "../base/Vm.sol";

contract DeliverBatchTest is EscrowTest {
    /// @dev Encoded, because Solidity stores no arrays of such structs.
    bytes[] private _encoded;

    function setUp() public override {
        super.setUp();
        for (uint256 i = 0; i < 4; ++i) {
            _push(bytes32(i));
        }
    }

    function test_deliversAll() public {
        IRequestEscrow.Delivery[] memory deliveries = _deliveries();
        bool[] memory accepted = escrow.deliverBatch(deliveries);
        for (uint256 i = 0; i < 4; ++i) {
            assertTrue(accepted[i], "accepted");
            assertStatus(deliveries[i].result.requestId, IRequestEscrow.Status.Settled);
        }
        assertEq(escrow.settledTotal(offer.splitHash, address(token)), 4 * (uint256(PRICE) * 99 / 100), "split");
    }

    function test_leavesOutWhatIsNoLongerFunded() public {
        // One settled, one refunded, one delivered; two times the same in one batch.
        IRequestEscrow.Delivery memory first = _deliveries()[0];
        escrow.deliver(first.request, first.result, quorum, first.attestations);
        IRequestEscrow.Request memory terms = termsOf(challengedOffer, "delivered");
        fund(terms, challengedOffer);
        IRequestEscrow.Result memory result = deliverAnswer(terms, PRICE);
        _add(terms, result);
        _encoded.push(_encoded[1]);
        terms = termsOf(offer, "refunded");
        terms.deadline = uint40(block.timestamp + DURATION_MIN);
        bytes32 refunded = fund(terms, offer);
        result = answerOf(refunded, PRICE);
        _add(terms, result);
        vm.warp(terms.deadline);
        escrow.refund(terms);

        bool[] memory accepted = escrow.deliverBatch(_deliveries());
        bool[7] memory wanted = [false, true, true, true, false, false, false];
        for (uint256 i = 0; i < 7; ++i) {
            assertTrue(accepted[i] == wanted[i], vm.toString(i));
        }
        assertEq(escrow.settledTotal(offer.splitHash, address(token)), 4 * (uint256(PRICE) * 99 / 100), "split");
    }

    /// @dev A delivery that the deadline overtook on its way into a block costs the others nothing.
    function test_leavesOutWhatIsPastItsDeadline() public {
        IRequestEscrow.Request memory late = termsOf(offer, "late");
        late.deadline = uint40(block.timestamp + DURATION_MIN);
        bytes32 requestId = fund(late, offer);
        _add(late, answerOf(requestId, PRICE));
        _push("after it");
        vm.warp(late.deadline - 1);
        IRequestEscrow.Delivery[] memory deliveries = _deliveries();
        uint256 snapshot = vm.snapshotState();
        assertTrue(escrow.deliverBatch(deliveries)[4], "in time");
        vm.revertToState(snapshot);
        vm.warp(late.deadline);
        bool[] memory accepted = escrow.deliverBatch(deliveries);
        for (uint256 i = 0; i < 6; ++i) {
            assertTrue(accepted[i] == (i != 4), vm.toString(i));
        }
        assertStatus(requestId, IRequestEscrow.Status.Funded);
        escrow.refund(late);
    }

    function test_leavesOutWhatIsPastItsValidity() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "stale");
        IRequestEscrow.Result memory result = answerOf(fund(terms, offer), PRICE);
        result.validUntil = uint64(block.timestamp + 5);
        _add(terms, result);
        vm.warp(result.validUntil);
        IRequestEscrow.Delivery[] memory deliveries = _deliveries();
        uint256 snapshot = vm.snapshotState();
        assertTrue(escrow.deliverBatch(deliveries)[4], "valid");
        vm.revertToState(snapshot);
        vm.warp(result.validUntil + 1);
        bool[] memory accepted = escrow.deliverBatch(deliveries);
        assertTrue(accepted[3], "its neighbour");
        assertFalse(accepted[4], "stale");
        assertStatus(result.requestId, IRequestEscrow.Status.Funded);
    }

    function test_RevertWhen_OneRequestIsUnknown() public {
        IRequestEscrow.Delivery[] memory deliveries = _deliveries();
        deliveries[2].request.salt = "unknown";
        bytes32 requestId = escrow.requestIdOf(deliveries[2].request);
        vm.expectRevert(
            abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, requestId, IRequestEscrow.Status.None)
        );
        escrow.deliverBatch(deliveries);
    }

    function test_RevertWhen_OneDeliveryIsFaulty() public {
        IRequestEscrow.Delivery[] memory deliveries = _deliveries();
        deliveries[3].result.amount -= 1;
        vm.expectRevert(
            abi.encodeWithSelector(IRequestEscrow.InvalidSignature.selector, deliveries[3].attestations[0].signer)
        );
        escrow.deliverBatch(deliveries);
        assertStatus(deliveries[0].result.requestId, IRequestEscrow.Status.Funded);
    }

    function test_deliversTheLargestBatch_RevertWhen_EmptyOrLarger() public {
        vm.expectRevert(IRequestEscrow.InvalidBatch.selector);
        escrow.deliverBatch(new IRequestEscrow.Delivery[](0));
        for (uint256 i = 4; i < 64; ++i) {
            _push(bytes32(i));
        }
        uint256 snapshot = escrow.sequence();
        escrow.deliverBatch(_deliveries());
        assertEq(escrow.sequence(), snapshot + 128, "events");
        _push("one more");
        IRequestEscrow.Delivery[] memory deliveries = _deliveries();
        vm.expectRevert(IRequestEscrow.InvalidBatch.selector);
        escrow.deliverBatch(deliveries);
    }

    function _push(bytes32 salt) private {
        IRequestEscrow.Request memory terms = termsOf(offer, salt);
        IRequestEscrow.Result memory result = answerOf(fund(terms, offer), PRICE);
        _add(terms, result);
    }

    function _add(IRequestEscrow.Request memory terms, IRequestEscrow.Result memory result) private {
        _encoded.push(abi.encode(IRequestEscrow.Delivery(terms, result, quorum, attest(result, 3))));
    }

    function _deliveries() private view returns (IRequestEscrow.Delivery[] memory list) {
        list = new IRequestEscrow.Delivery[](_encoded.length);
        for (uint256 i = 0; i < list.length; ++i) {
            list[i] = abi.decode(_encoded[i], (IRequestEscrow.Delivery));
        }
    }
}
