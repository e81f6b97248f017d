// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {Vm, vm} from "../base/Vm.sol";

contract RequestBatchTest is EscrowTest {
    IRequestEscrow.Request private _terms;
    bytes[] private _inputs;

    function setUp() public override {
        super.setUp();
        // Lengths go up and down, so that a longer input could leave something behind for a shorter one.
        _inputs = [bytes("first"), _filled(100), bytes("3rd"), bytes(""), _filled(32)];
        _terms = termsOf(offer, bytes32(type(uint256).max - 1));
        _terms.inputHash = keccak256(_inputs[0]);
    }

    function test_fundsEachWithOneTransfer() public {
        uint64 sequence = escrow.sequence();
        uint256 before = token.balanceOf(payer);
        vm.recordLogs();
        vm.prank(payer);
        escrow.requestBatch(_terms, offer, _inputs);

        assertEq(before - token.balanceOf(payer), 5 * uint256(PRICE), "paid");
        assertEq(escrow.sequence(), sequence + 5, "sequence");
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 6, "five events and one transfer");
        for (uint256 i = 0; i < 5; ++i) {
            IRequestEscrow.Request memory terms = batchItem(_terms, _inputs, i);
            assertStatus(escrow.requestIdOf(terms), IRequestEscrow.Status.Funded);
            assertEq(logs[i].topics[0], IRequestEscrow.Requested.selector, "event");
            assertEq(logs[i].topics[1], escrow.requestIdOf(terms), "id");
            assertEq(logs[i].topics[2], bytes32(agentId), "agent");
            assertEq(logs[i].topics[3], bytes32(uint256(uint160(payer))), "payer");
            assertEq(keccak256(logs[i].data), keccak256(abi.encode(sequence + i + 1, terms, _inputs[i])), "data");
        }
    }

    function test_fundsFromNativeValue() public {
        _terms = termsOf(nativeOffer, 0);
        _terms.inputHash = keccak256(_inputs[0]);
        vm.prank(payer);
        escrow.requestBatch{value: 5 * uint256(PRICE)}(_terms, nativeOffer, _inputs);
        assertEq(address(escrow).balance, 5 * uint256(PRICE), "held");
    }

    function test_fundsTheLargestBatch_RevertWhen_Larger() public {
        delete _inputs;
        for (uint256 i = 0; i < 64; ++i) {
            _inputs.push("x");
        }
        _terms.inputHash = keccak256("x");
        vm.prank(payer);
        escrow.requestBatch(_terms, offer, _inputs);
        _inputs.push("x");
        _refused(abi.encodeWithSelector(IRequestEscrow.InvalidBatch.selector));
    }

    function test_RevertWhen_Empty() public {
        delete _inputs;
        _refused(abi.encodeWithSelector(IRequestEscrow.InvalidBatch.selector));
    }

    function test_RevertWhen_CallerIsNotThePayer() public {
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.NotPayer.selector, payer, stranger));
        vm.prank(stranger);
        escrow.requestBatch(_terms, offer, _inputs);
    }

    function test_RevertWhen_TermsAreNotTheFirstRequest() public {
        _terms.inputHash = keccak256(_inputs[1]);
        _refused(abi.encodeWithSelector(IRequestEscrow.TermsMismatch.selector, "inputHash"));
    }

    function test_RevertWhen_TermsDifferFromTheOffer() public {
        _terms.maxAmount -= 1;
        _refused(abi.encodeWithSelector(IRequestEscrow.TermsMismatch.selector, "maxAmount"));
    }

    function test_RevertWhen_OneInputIsTooLarge() public {
        _inputs[4] = new bytes(8193);
        _refused(abi.encodeWithSelector(IRequestEscrow.InputTooLarge.selector, 8193, 8192));
    }

    function test_RevertWhen_OneIsFundedAlready() public {
        vm.prank(payer);
        bytes32 requestId = escrow.request(batchItem(_terms, _inputs, 3), offer, _inputs[3]);
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, requestId, IRequestEscrow.Status.Funded));
    }

    function test_RevertWhen_NativeValueIsForFewer() public {
        _terms = termsOf(nativeOffer, 0);
        _terms.inputHash = keccak256(_inputs[0]);
        vm.expectRevert(
            abi.encodeWithSelector(IRequestEscrow.WrongValue.selector, 4 * uint256(PRICE), 5 * uint256(PRICE))
        );
        vm.prank(payer);
        escrow.requestBatch{value: 4 * uint256(PRICE)}(_terms, nativeOffer, _inputs);
    }

    /// @dev Offsets of the inputs that point outside of calldata must neither pay nor corrupt anything.
    function testFuzz_malformedOffsetsFundOnlyWhatIsPaid(uint256 offset, uint8 which) public {
        bytes memory data = abi.encodeCall(escrow.requestBatch, (_terms, offer, _inputs));
        // The head has 16 words of terms, 11 of the offer and the offset of the inputs; their count comes next.
        uint256 position = 4 + 32 * (16 + 11 + 1 + 1 + bound(which, 1, 4)) + 32;
        assembly ("memory-safe") {
            mstore(add(data, position), offset)
        }
        uint256 before = token.balanceOf(address(escrow));
        uint64 sequence = escrow.sequence();
        vm.prank(payer);
        (bool success,) = address(escrow).call(data);
        uint256 funded = escrow.sequence() - sequence;
        assertEq(funded, success ? 5 : 0, "funded");
        assertEq(token.balanceOf(address(escrow)) - before, funded * PRICE, "held");
    }

    function _refused(bytes memory error_) private {
        vm.expectRevert(error_);
        vm.prank(payer);
        escrow.requestBatch(_terms, offer, _inputs);
    }

    /// @dev Bytes without a zero among them, so that whatever is left of them shows.
    function _filled(uint256 length) private pure returns (bytes memory input) {
        input = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            input[i] = 0xff;
        }
    }
}
