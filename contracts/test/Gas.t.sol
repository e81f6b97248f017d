// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "./base/EscrowTest.sol";
import {vm} from "./base/Vm.sol";

/// @notice What each action costs, and that it stays under its bar. A figure is the gas between the start and the end of
/// the call as the test makes it: the cold account, the copying of the arguments and the call are in it, the 21,000 of a
/// transaction and its calldata are not. Arguments are made in `setUp`, so every account and slot is cold.
/// @dev "steady" figures are those of an agent and a payer that were paid before; "first" ones pay for new slots, too.
contract GasTest is EscrowTest {
    string private constant GROUP = "RequestEscrow";
    uint256 private constant BATCH = 50;

    mapping(string name => bytes) private _calls;
    mapping(string name => address) private _callers;

    function setUp() public override {
        super.setUp();
        _warmUp();
        _prepareRequests();
        _prepareDeliveries();
        _prepareExits();
    }

    function test_gasOfARequest() public {
        assertLe(_measure("request, allowance, ERC-20"), 130_000, "request");
    }

    function test_gasOfAnAuthorizedRequest() public {
        assertLe(_measure("request, one signature, ERC-20"), 130_000, "request with authorization");
    }

    function test_gasOfANativeRequest() public {
        bytes memory data = _calls["request, native"];
        vm.prank(payer);
        vm.startSnapshotGas(GROUP, "request, native");
        bool success = _call(data, PRICE);
        uint256 used = vm.stopSnapshotGas(GROUP, "request, native");
        assertTrue(success, "call");
        assertLe(used, 130_000, "request, native");
    }

    function test_gasOfAPermit() public {
        _measure("request, ERC-2612 permit");
    }

    function test_gasOfABatch() public {
        uint256 used = _measure("requestBatch of 50");
        vm.snapshotValue(GROUP, "requestBatch of 50, per request", used / BATCH);
    }

    function test_gasOfABatchOfOne() public {
        _measure("requestBatch of 1");
    }

    function test_gasOfADelivery1() public {
        assertLe(_measure("deliver, 1 signer, steady"), 65_000, "deliver 1");
    }

    function test_gasOfADelivery3() public {
        assertLe(_measure("deliver, 3 of 5, steady"), 85_000, "deliver 3 of 5");
    }

    function test_gasOfAFirstDelivery1() public {
        _measure("deliver, 1 signer, first");
    }

    function test_gasOfAFirstDelivery3() public {
        _measure("deliver, 3 of 5, first");
    }

    function test_gasOfADeliveryBatch() public {
        uint256 used = _measure("deliverBatch of 10, 3 of 5");
        vm.snapshotValue(GROUP, "deliverBatch of 10, 3 of 5, per result", used / 10);
    }

    function test_gasOfAChallengedDelivery() public {
        _measure("deliver into a challenge window, 3 of 5");
    }

    function test_gasOfARefund() public {
        vm.warp(block.timestamp + DURATION_MAX);
        assertLe(_measure("refund, first"), 45_000, "refund");
    }

    function test_gasOfASteadyRefund() public {
        vm.warp(block.timestamp + DURATION_MAX);
        assertLe(_measure("refund, steady"), 45_000, "refund");
    }

    function test_gasOfAWithdrawal() public {
        assertLe(_measure("withdraw a refund"), 45_000, "withdraw");
    }

    function test_gasOfAFirstSplitWithdrawal() public {
        _measure("withdraw a split share, first");
    }

    function test_gasOfASteadySplitWithdrawal() public {
        assertLe(_measure("withdraw a split share, steady"), 45_000, "withdraw");
    }

    function _measure(string memory name) private returns (uint256 used) {
        bytes memory data = _calls[name];
        vm.prank(_callers[name]);
        vm.startSnapshotGas(GROUP, name);
        bool success = _call(data, 0);
        used = vm.stopSnapshotGas(GROUP, name);
        assertTrue(success, name);
    }

    /// @dev Solidity would copy the arguments once more, which is not the escrow's cost.
    function _call(bytes memory data, uint256 value) private returns (bool success) {
        address target = address(escrow);
        assembly ("memory-safe") {
            success := call(gas(), target, value, add(data, 0x20), mload(data), 0, 0)
        }
    }

    /* SETUP */

    /// @dev The split, the fee recipient, the payer's change and every account's balance exist before the measuring.
    function _warmUp() private {
        IRequestEscrow.Request memory terms = termsOf(offer, "warm up");
        fund(terms, offer);
        deliverAnswer(terms, PRICE / 2);
        terms = termsOf(nativeOffer, "warm up");
        fund(terms, nativeOffer);
        deliverAnswer(terms, PRICE / 2);
        escrow.withdrawFor(split.recipients[0], address(token), splits());
        terms = termsOf(offer, "warm up again");
        fund(terms, offer);
        deliverAnswer(terms, PRICE / 2);
    }

    function _prepareRequests() private {
        IRequestEscrow.Request memory terms = termsOf(offer, "allowance");
        _set("request, allowance, ERC-20", payer, abi.encodeCall(escrow.request, (terms, offer, INPUT)));

        terms = termsOf(nativeOffer, "native");
        _set("request, native", payer, abi.encodeCall(escrow.request, (terms, nativeOffer, INPUT)));

        terms = termsOf(offer, "3009");
        bytes memory signature_ = authorize(terms);
        _set(
            "request, one signature, ERC-20",
            stranger,
            abi.encodeCall(escrow.requestWithAuthorization, (terms, offer, INPUT, 0, terms.deadline, signature_))
        );

        terms = termsOf(offer, "2612");
        (uint8 v, bytes32 r, bytes32 s) = permit(terms);
        _set(
            "request, ERC-2612 permit",
            payer,
            abi.encodeCall(escrow.requestWithPermit, (terms, offer, INPUT, terms.deadline, v, r, s))
        );

        _set("requestBatch of 50", payer, _batch(BATCH));
        _set("requestBatch of 1", payer, _batch(1));
    }

    function _batch(uint256 count) private view returns (bytes memory) {
        bytes[] memory inputs = new bytes[](count);
        for (uint256 i = 0; i < count; ++i) {
            inputs[i] = INPUT;
        }
        return abi.encodeCall(escrow.requestBatch, (termsOf(offer, "batch"), offer, inputs));
    }

    function _prepareDeliveries() private {
        _set("deliver, 3 of 5, steady", transmitter, _delivery(offer, quorum, 3));
        _set("deliver, 1 signer, steady", transmitter, _delivery(soloOffer, solo, 1));
        _set("deliver into a challenge window, 3 of 5", transmitter, _delivery(challengedOffer, quorum, 3));

        IRequestEscrow.Split memory fresh = split;
        fresh.recipients[0] = address(0xB0B9);
        IRequestEscrow.Offer memory freshOffer = offer;
        freshOffer.splitHash = keccak256(abi.encode(fresh));
        vm.prank(agentOwner);
        escrow.publishOffer(freshOffer, fresh);
        _set("deliver, 3 of 5, first", transmitter, _delivery(freshOffer, quorum, 3));
        IRequestEscrow.Offer memory freshSolo = soloOffer;
        freshSolo.splitHash = freshOffer.splitHash;
        vm.prank(agentOwner);
        escrow.publishOffer(freshSolo, fresh);
        _set("deliver, 1 signer, first", transmitter, _delivery(freshSolo, solo, 1));

        IRequestEscrow.Delivery[] memory deliveries = new IRequestEscrow.Delivery[](10);
        for (uint256 i = 0; i < 10; ++i) {
            IRequestEscrow.Request memory terms = termsOf(offer, keccak256(abi.encode("deliveries", i)));
            IRequestEscrow.Result memory result = answerOf(fund(terms, offer), PRICE);
            deliveries[i] = IRequestEscrow.Delivery(terms, result, quorum, attest(result, 3));
        }
        _set("deliverBatch of 10, 3 of 5", transmitter, abi.encodeCall(escrow.deliverBatch, (deliveries)));
    }

    function _delivery(IRequestEscrow.Offer memory of_, IRequestEscrow.OperatorSet memory set, uint256 signers)
        private
        returns (bytes memory)
    {
        IRequestEscrow.Request memory terms = termsOf(of_, keccak256(abi.encode("delivery", set.setId)));
        IRequestEscrow.Result memory result = answerOf(fund(terms, of_), PRICE);
        IRequestEscrow.Attestation[] memory attestations = attest(result, signers);
        if (set.setId == soloSet) {
            uint256 key = keyOf(solo.signers[0]);
            attestations[0] = IRequestEscrow.Attestation(solo.signers[0], signature(key, escrow.resultDigest(result)));
        }
        return abi.encodeCall(escrow.deliver, (terms, result, set, attestations));
    }

    function _prepareExits() private {
        IRequestEscrow.Request memory terms = termsOf(offer, "refund");
        fund(terms, offer);
        _set("refund, steady", stranger, abi.encodeCall(escrow.refund, (terms)));
        terms.payer = stranger;
        token.transfer(stranger, PRICE);
        vm.prank(stranger);
        token.approve(address(escrow), PRICE);
        fund(terms, offer);
        _set("refund, first", stranger, abi.encodeCall(escrow.refund, (terms)));
        _set("withdraw a refund", payer, abi.encodeCall(escrow.withdraw, (address(token), noSplits())));
        _set(
            "withdraw a split share, first",
            split.recipients[1],
            abi.encodeCall(escrow.withdraw, (address(token), splits()))
        );
        _set(
            "withdraw a split share, steady",
            split.recipients[0],
            abi.encodeCall(escrow.withdraw, (address(token), splits()))
        );
    }

    function _set(string memory name, address caller, bytes memory data) private {
        _callers[name] = caller;
        _calls[name] = data;
    }
}
