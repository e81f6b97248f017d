// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {vm} from "../base/Vm.sol";

contract RequestTest is EscrowTest {
    IRequestEscrow.Request private _terms;

    function setUp() public override {
        super.setUp();
        _terms = termsOf(offer, "salt");
    }

    function test_fundsFromAnAllowance() public {
        bytes32 requestId = escrow.requestIdOf(_terms);
        uint256 before = token.balanceOf(payer);
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IRequestEscrow.Requested(escrow.sequence() + 1, requestId, agentId, payer, _terms, INPUT);
        assertEq(fund(_terms, offer), requestId, "id");
        assertStatus(requestId, IRequestEscrow.Status.Funded);
        assertEq(before - token.balanceOf(payer), PRICE, "paid");
        assertEq(token.balanceOf(address(escrow)), PRICE, "held");
        assertEq(escrow.settledAmountOf(requestId), 0, "settled amount");
    }

    function test_fundsFromNativeValue() public {
        fund(termsOf(nativeOffer, "native"), nativeOffer);
        assertEq(address(escrow).balance, PRICE, "held");
    }

    function testFuzz_emitsTheInputAsItIs(bytes calldata input, bytes32 salt) public {
        vm.assume(input.length <= 8192);
        _terms.salt = salt;
        _terms.inputHash = keccak256(input);
        bytes32 requestId = escrow.requestIdOf(_terms);
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IRequestEscrow.Requested(escrow.sequence() + 1, requestId, agentId, payer, _terms, input);
        vm.prank(payer);
        escrow.request(_terms, offer, input);
    }

    /// @dev The id that the escrow hashes from one copy of calldata is EIP-712's, member by member.
    function testFuzz_idIsTheTypedDigest(IRequestEscrow.Request calldata terms) public view {
        bytes32 typeHash = keccak256(
            "Request(address payer,uint256 agentId,bytes32 offerHash,bytes32 operatorSetHash,bytes32 splitHash,address token,uint128 maxAmount,uint16 feeBps,address feeRecipient,uint40 deadline,uint32 challengeWindow,address referee,address callback,uint32 callbackGas,bytes32 inputHash,bytes32 salt)"
        );
        bytes32 hash = keccak256(bytes.concat(typeHash, abi.encode(terms)));
        assertEq(
            escrow.requestIdOf(terms), keccak256(abi.encodePacked(hex"1901", escrow.DOMAIN_SEPARATOR(), hash)), "id"
        );
    }

    function testFuzz_resultDigestIsTyped(bytes32 a, bytes32 b, uint128 amount, uint64 validUntil) public view {
        IRequestEscrow.Result memory result = answerOf(a, amount);
        result.outputHash = b;
        result.validUntil = validUntil;
        bytes32 typeHash = keccak256(
            "Result(bytes32 requestId,uint8 outcome,bytes32 outputHash,bytes32 traceRoot,bytes32 retrievalRoot,bytes32 modelHash,uint128 amount,uint64 validUntil)"
        );
        bytes32 hash = keccak256(bytes.concat(typeHash, abi.encode(result)));
        assertEq(
            escrow.resultDigest(result),
            keccak256(abi.encodePacked(hex"1901", escrow.DOMAIN_SEPARATOR(), hash)),
            "digest"
        );
    }

    function test_acceptsTheLargestInput_RevertWhen_Larger() public {
        bytes memory input = new bytes(8192);
        _terms.inputHash = keccak256(input);
        vm.prank(payer);
        escrow.request(_terms, offer, input);
        input = new bytes(8193);
        _terms.inputHash = keccak256(input);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.InputTooLarge.selector, 8193, 8192));
        vm.prank(payer);
        escrow.request(_terms, offer, input);
    }

    /// @dev The domain is built anew then, in memory, where the draft of the request must not lie.
    function test_afterAChainSplitARequestIsOfItsChain() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "split");
        bytes32 old = escrow.requestIdOf(terms);
        vm.chainId(block.chainid + 1);
        bytes32 requestId = escrow.requestIdOf(terms);
        assertTrue(requestId != old, "another id");
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IRequestEscrow.Requested(escrow.sequence() + 1, requestId, agentId, payer, terms, INPUT);
        assertEq(fund(terms, offer), requestId, "id");
        assertStatus(requestId, IRequestEscrow.Status.Funded);
        assertStatus(old, IRequestEscrow.Status.None);
    }

    function test_RevertWhen_CallerIsNotThePayer() public {
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.NotPayer.selector, payer, stranger));
        vm.prank(stranger);
        escrow.request(_terms, offer, INPUT);
    }

    function test_RevertWhen_ItIsFundedAlready() public {
        bytes32 requestId = fund(_terms, offer);
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, requestId, IRequestEscrow.Status.Funded));
    }

    function test_RevertWhen_ItIsOverAlready() public {
        bytes32 requestId = fund(_terms, offer);
        deliverAnswer(_terms, PRICE);
        _refused(abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, requestId, IRequestEscrow.Status.Settled));
    }

    function test_RevertWhen_ValueIsSentForAToken() public {
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.WrongValue.selector, 1, 0));
        vm.prank(payer);
        escrow.request{value: 1}(_terms, offer, INPUT);
    }

    function test_RevertWhen_NativeValueDiffers() public {
        _terms = termsOf(nativeOffer, "native");
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.WrongValue.selector, PRICE - 1, PRICE));
        vm.prank(payer);
        escrow.request{value: PRICE - 1}(_terms, nativeOffer, INPUT);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.WrongValue.selector, PRICE + 1, PRICE));
        vm.prank(payer);
        escrow.request{value: PRICE + 1}(_terms, nativeOffer, INPUT);
    }

    function test_RevertWhen_OfferIsUnknown() public {
        offer.price += 1;
        _refused(abi.encodeWithSelector(IRequestEscrow.OfferNotActive.selector, keccak256(abi.encode(offer))));
    }

    function test_RevertWhen_TokenIsAllowedNoMore() public {
        vm.prank(timelock);
        policy.setTokenAllowed(address(token), false);
        _refused(abi.encodeWithSelector(IRequestEscrow.TokenNotAllowed.selector, address(token)));
    }

    function test_RevertWhen_TermsDiffer() public {
        IRequestEscrow.Request memory good = _terms;
        _terms.agentId += 1;
        _mismatch("agentId");
        _terms = good;
        _terms.offerHash = keccak256(abi.encode(soloOffer));
        _mismatch("offerHash");
        _terms = good;
        _terms.operatorSetHash = registry.operatorSetHash(soloSet);
        _mismatch("operatorSetHash");
        _terms = good;
        _terms.splitHash = 0;
        _mismatch("splitHash");
        _terms = good;
        _terms.token = address(0);
        _mismatch("token");
        _terms = good;
        _terms.maxAmount -= 1;
        _mismatch("maxAmount");
        _terms.maxAmount += 2;
        _mismatch("maxAmount");
        _terms = good;
        _terms.feeBps -= 1;
        _mismatch("feeBps");
        _terms = good;
        _terms.feeRecipient = stranger;
        _mismatch("feeRecipient");
        _terms = good;
        _terms.challengeWindow = 1;
        _mismatch("challengeWindow");
        _terms = good;
        _terms.referee = referee;
        _mismatch("referee");
        _terms = good;
        _terms.callbackGas = 500_001;
        _mismatch("callbackGas");
        _terms = good;
        _terms.callback = address(escrow);
        _mismatch("callback");
        _terms = good;
        _terms.inputHash = keccak256("other");
        _mismatch("inputHash");
        _terms = good;
        _terms.callbackGas = 500_000;
        fund(_terms, offer);
    }

    function test_RevertWhen_DeadlineIsOutOfRange() public {
        uint256 earliest = block.timestamp + DURATION_MIN;
        uint256 latest = block.timestamp + DURATION_MAX;
        _terms.deadline = uint40(earliest - 1);
        _refused(abi.encodeWithSelector(IRequestEscrow.DeadlineOutOfRange.selector, earliest - 1, earliest, latest));
        _terms.deadline = uint40(latest + 1);
        _refused(abi.encodeWithSelector(IRequestEscrow.DeadlineOutOfRange.selector, latest + 1, earliest, latest));
        _terms.deadline = uint40(earliest);
        fund(_terms, offer);
        _terms.deadline = uint40(latest);
        fund(_terms, offer);
    }

    /// @dev A member with dirty bits would make an id that nobody can compute from the clean values.
    function test_RevertWhen_CalldataIsDirty() public {
        bytes memory data = abi.encodeCall(escrow.request, (_terms, offer, INPUT));
        // Words of `Request` that are narrower than a word: payer, token, maxAmount, feeBps, feeRecipient, deadline,
        // challengeWindow, referee, callback, callbackGas.
        uint8[10] memory narrow = [0, 5, 6, 7, 8, 9, 10, 11, 12, 13];
        for (uint256 i = 0; i < narrow.length; ++i) {
            bytes memory dirty = bytes.concat(data);
            dirty[4 + uint256(narrow[i]) * 32] = 0xff;
            vm.prank(payer);
            (bool success,) = address(escrow).call(dirty);
            assertFalse(success, "dirty calldata accepted");
        }
        vm.prank(payer);
        (bool clean,) = address(escrow).call(data);
        assertTrue(clean, "clean calldata refused");
    }

    function test_RevertWhen_PlainCoinIsSent() public {
        vm.prank(payer);
        (bool success,) = address(escrow).call{value: 1}("");
        assertFalse(success, "accepted");
    }

    function _mismatch(string memory field) private {
        _refused(abi.encodeWithSelector(IRequestEscrow.TermsMismatch.selector, field));
    }

    function _refused(bytes memory error_) private {
        vm.expectRevert(error_);
        vm.prank(payer);
        escrow.request(_terms, offer, INPUT);
    }
}
