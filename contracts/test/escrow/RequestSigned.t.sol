// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IPlatformToken} from "../../src/interfaces/IPlatformToken.sol";
import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {IPermit2} from "../base/Permit2.sol";
import {vm} from "../base/Vm.sol";
import {ContractSigner} from "../doubles/Accounts.sol";
import {WeirdToken} from "../doubles/WeirdToken.sol";

/// @notice `requestWithAuthorization`: the payer's one ERC-3009 signature is order and payment.
contract RequestWithAuthorizationTest is EscrowTest {
    IRequestEscrow.Request private _terms;

    function setUp() public override {
        super.setUp();
        _terms = termsOf(offer, "3009");
        vm.prank(payer);
        token.approve(address(escrow), 0);
    }

    function test_anyoneRelays() public {
        bytes memory signature_ = authorize(_terms);
        bytes32 requestId = escrow.requestIdOf(_terms);
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IRequestEscrow.Requested(escrow.sequence() + 1, requestId, agentId, payer, _terms, INPUT);
        vm.prank(stranger);
        escrow.requestWithAuthorization(_terms, offer, INPUT, 0, _terms.deadline, signature_);
        assertStatus(requestId, IRequestEscrow.Status.Funded);
        assertTrue(token.authorizationState(payer, requestId), "the nonce is the request");
        assertEq(token.balanceOf(address(escrow)), PRICE, "held");
    }

    /// @dev A wallet contract signs with more than 65 bytes; the token's `bytes` form asks it.
    function test_contractWalletSigns() public {
        LongSigner wallet = new LongSigner(vm.addr(PAYER_KEY));
        token.transfer(address(wallet), PRICE);
        _terms.payer = address(wallet);
        bytes memory signature_ = bytes.concat(authorize(_terms), hex"00");
        escrow.requestWithAuthorization(_terms, offer, INPUT, 0, _terms.deadline, signature_);
        assertStatus(escrow.requestIdOf(_terms), IRequestEscrow.Status.Funded);
    }

    function test_contractWalletSignsWith65Bytes() public {
        ContractSigner wallet = new ContractSigner(vm.addr(PAYER_KEY));
        token.transfer(address(wallet), PRICE);
        _terms.payer = address(wallet);
        escrow.requestWithAuthorization(_terms, offer, INPUT, 0, _terms.deadline, authorize(_terms));
        assertStatus(escrow.requestIdOf(_terms), IRequestEscrow.Status.Funded);
    }

    /// @dev The signature is good and the token says nothing, but less arrives than was signed for.
    function test_RevertWhen_TheTokenTakesAFee() public {
        SkimmingToken skimming = new SkimmingToken();
        vm.prank(timelock);
        policy.setTokenAllowed(address(skimming), true);
        offer.token = address(skimming);
        vm.prank(agentOwner);
        escrow.publishOffer(offer, split);
        _terms = termsOf(offer, "3009");
        vm.expectRevert(
            abi.encodeWithSelector(
                IRequestEscrow.TokenMovedOtherAmount.selector, address(skimming), PRICE - 1, uint256(PRICE)
            )
        );
        escrow.requestWithAuthorization(_terms, offer, INPUT, 0, _terms.deadline, new bytes(65));
    }

    function test_RevertWhen_SignatureIsReplayed() public {
        bytes memory signature_ = authorize(_terms);
        escrow.requestWithAuthorization(_terms, offer, INPUT, 0, _terms.deadline, signature_);
        bytes32 requestId = escrow.requestIdOf(_terms);
        vm.expectRevert(
            abi.encodeWithSelector(IRequestEscrow.WrongStatus.selector, requestId, IRequestEscrow.Status.Funded)
        );
        escrow.requestWithAuthorization(_terms, offer, INPUT, 0, _terms.deadline, signature_);
    }

    /// @dev Everything that the payer agreed to is under its signature; the fields that only the offer constrains loosely
    /// are the ones that a relayer could try to change.
    function test_RevertWhen_RelayerChangesTheRequest() public {
        bytes memory signature_ = authorize(_terms);
        _terms.callback = stranger;
        _refused(signature_);
        _terms.callback = address(0);
        _terms.callbackGas = 1;
        _refused(signature_);
        _terms.callbackGas = 0;
        _terms.deadline += 1;
        _refused(signature_);
        _terms.deadline -= 1;
        _terms.salt = "other";
        _refused(signature_);
        _terms.salt = "3009";
        _terms.payer = stranger;
        token.transfer(stranger, PRICE);
        vm.expectRevert(abi.encodeWithSelector(IPlatformToken.InvalidAuthorization.selector, stranger));
        escrow.requestWithAuthorization(_terms, offer, INPUT, 0, _terms.deadline, signature_);
    }

    function test_RevertWhen_RelayerChangesTheInput() public {
        bytes memory signature_ = authorize(_terms);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.TermsMismatch.selector, "inputHash"));
        escrow.requestWithAuthorization(_terms, offer, "other input", 0, _terms.deadline, signature_);
    }

    function test_RevertWhen_TermsDifferFromTheOffer() public {
        _terms.maxAmount -= 1;
        bytes memory signature_ = authorize(_terms);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.TermsMismatch.selector, "maxAmount"));
        escrow.requestWithAuthorization(_terms, offer, INPUT, 0, _terms.deadline, signature_);
    }

    function test_RevertWhen_TokenIsNative() public {
        _terms = termsOf(nativeOffer, "native");
        bytes memory signature_ = authorize(_terms);
        vm.expectRevert();
        escrow.requestWithAuthorization(_terms, nativeOffer, INPUT, 0, _terms.deadline, signature_);
    }

    function testFuzz_RevertWhen_SignedByAnotherKey(uint256 key) public {
        key = bound(key, 1, type(uint128).max);
        vm.assume(key != PAYER_KEY);
        bytes memory signature_ = authorize(_terms, key);
        _refused(signature_);
    }

    function _refused(bytes memory signature_) private {
        vm.expectRevert(abi.encodeWithSelector(IPlatformToken.InvalidAuthorization.selector, payer));
        escrow.requestWithAuthorization(_terms, offer, INPUT, 0, uint40(block.timestamp + 1 hours), signature_);
    }
}

/// @notice `requestWithPermit`: an ERC-2612 permit and the request in one transaction of the payer.
contract RequestWithPermitTest is EscrowTest {
    IRequestEscrow.Request private _terms;

    function setUp() public override {
        super.setUp();
        _terms = termsOf(offer, "2612");
        vm.prank(payer);
        token.approve(address(escrow), 0);
    }

    function test_fundsFromAPermit() public {
        _request();
        assertStatus(escrow.requestIdOf(_terms), IRequestEscrow.Status.Funded);
        assertEq(token.allowance(payer, address(escrow)), 0, "allowance");
    }

    function test_frontRunPermitDoesNotMakeItFail() public {
        (uint8 v, bytes32 r, bytes32 s) = permit(_terms);
        vm.prank(stranger);
        token.permit(payer, address(escrow), PRICE, _terms.deadline, v, r, s);
        bytes32 requestId = escrow.requestIdOf(_terms);
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IRequestEscrow.PermitFailed(escrow.sequence() + 2, requestId, address(token));
        vm.prank(payer);
        escrow.requestWithPermit(_terms, offer, INPUT, _terms.deadline, v, r, s);
        assertStatus(requestId, IRequestEscrow.Status.Funded);
    }

    function test_RevertWhen_PermitFailsWithoutAllowance() public {
        vm.expectRevert();
        vm.prank(payer);
        escrow.requestWithPermit(_terms, offer, INPUT, _terms.deadline, 27, bytes32(uint256(1)), bytes32(uint256(2)));
    }

    function test_RevertWhen_CallerIsNotThePayer() public {
        (uint8 v, bytes32 r, bytes32 s) = permit(_terms);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.NotPayer.selector, payer, stranger));
        vm.prank(stranger);
        escrow.requestWithPermit(_terms, offer, INPUT, _terms.deadline, v, r, s);
    }

    function test_RevertWhen_TermsDifferFromTheOffer() public {
        _terms.feeBps += 1;
        (uint8 v, bytes32 r, bytes32 s) = permit(_terms);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.TermsMismatch.selector, "feeBps"));
        vm.prank(payer);
        escrow.requestWithPermit(_terms, offer, INPUT, _terms.deadline, v, r, s);
    }

    function _request() private {
        (uint8 v, bytes32 r, bytes32 s) = permit(_terms);
        vm.prank(payer);
        escrow.requestWithPermit(_terms, offer, INPUT, _terms.deadline, v, r, s);
    }
}

/// @notice `requestWithPermit2`: a Permit2 signature whose witness is the whole request.
contract RequestWithPermit2Test is EscrowTest {
    uint256 private constant NONCE = 1025;
    IRequestEscrow.Request private _terms;

    function setUp() public override {
        super.setUp();
        _terms = termsOf(offer, "permit2");
        vm.startPrank(payer);
        token.approve(address(escrow), 0);
        token.approve(permit2, type(uint256).max);
        vm.stopPrank();
    }

    function test_anyoneRelays() public {
        bytes memory signature_ = _sign(_terms);
        vm.prank(stranger);
        escrow.requestWithPermit2(_terms, offer, INPUT, NONCE, _terms.deadline, signature_);
        assertStatus(escrow.requestIdOf(_terms), IRequestEscrow.Status.Funded);
        assertEq(token.balanceOf(address(escrow)), PRICE, "held");
    }

    function test_RevertWhen_RelayerChangesTheRequest() public {
        bytes memory signature_ = _sign(_terms);
        _terms.callback = stranger;
        vm.expectRevert(IPermit2.InvalidSigner.selector);
        escrow.requestWithPermit2(_terms, offer, INPUT, NONCE, _terms.deadline, signature_);
        _terms.callback = address(0);
        _terms.salt = "other";
        vm.expectRevert(IPermit2.InvalidSigner.selector);
        escrow.requestWithPermit2(_terms, offer, INPUT, NONCE, _terms.deadline, signature_);
    }

    function test_RevertWhen_TheTokenTakesAFee() public {
        WeirdToken weird = new WeirdToken();
        weird.mint(payer, PRICE);
        vm.prank(payer);
        weird.approve(permit2, PRICE);
        vm.prank(timelock);
        policy.setTokenAllowed(address(weird), true);
        offer.token = address(weird);
        vm.prank(agentOwner);
        escrow.publishOffer(offer, split);
        weird.setFee(100);
        _terms = termsOf(offer, "permit2");
        bytes memory signature_ = _sign(_terms);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRequestEscrow.TokenMovedOtherAmount.selector, address(weird), PRICE - PRICE / 100, uint256(PRICE)
            )
        );
        escrow.requestWithPermit2(_terms, offer, INPUT, NONCE, _terms.deadline, signature_);
    }

    function test_RevertWhen_ThePermitIsUsedOrLate() public {
        bytes memory signature_ = _sign(_terms);
        escrow.requestWithPermit2(_terms, offer, INPUT, NONCE, _terms.deadline, signature_);
        _terms.salt = "second";
        signature_ = _sign(_terms);
        vm.expectRevert(IPermit2.InvalidNonce.selector);
        escrow.requestWithPermit2(_terms, offer, INPUT, NONCE, _terms.deadline, signature_);
        vm.expectRevert(abi.encodeWithSelector(IPermit2.SignatureExpired.selector, block.timestamp - 1));
        escrow.requestWithPermit2(_terms, offer, INPUT, NONCE + 1, block.timestamp - 1, signature_);
    }

    function test_RevertWhen_TermsDifferFromTheOffer() public {
        _terms.feeBps += 1;
        bytes memory signature_ = _sign(_terms);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.TermsMismatch.selector, "feeBps"));
        escrow.requestWithPermit2(_terms, offer, INPUT, NONCE, _terms.deadline, signature_);
    }

    /// @dev One key behind two wallets: the signature names the payer, so it pays for one of them only.
    function test_RevertWhen_SignatureIsReplayedForAnotherWalletOfTheSameKey() public {
        ContractSigner one = new ContractSigner(vm.addr(PAYER_KEY));
        ContractSigner two = new ContractSigner(vm.addr(PAYER_KEY));
        token.transfer(address(one), PRICE);
        token.transfer(address(two), PRICE);
        one.execute(address(token), abi.encodeCall(token.approve, (permit2, type(uint256).max)));
        two.execute(address(token), abi.encodeCall(token.approve, (permit2, type(uint256).max)));
        _terms.payer = address(one);
        bytes memory signature_ = _sign(_terms);
        escrow.requestWithPermit2(_terms, offer, INPUT, NONCE, _terms.deadline, signature_);
        _terms.payer = address(two);
        vm.expectRevert(IPermit2.InvalidContractSignature.selector);
        escrow.requestWithPermit2(_terms, offer, INPUT, NONCE, _terms.deadline, signature_);
    }

    /// @dev The digest is built here member by member, not with the escrow's own witness string.
    function _sign(IRequestEscrow.Request memory terms) private view returns (bytes memory) {
        bytes32 requestType = keccak256(
            "Request(address payer,uint256 agentId,bytes32 offerHash,bytes32 operatorSetHash,bytes32 splitHash,address token,uint128 maxAmount,uint16 feeBps,address feeRecipient,uint40 deadline,uint32 challengeWindow,address referee,address callback,uint32 callbackGas,bytes32 inputHash,bytes32 salt)"
        );
        bytes32 permitType = keccak256(
            "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Request witness)Request(address payer,uint256 agentId,bytes32 offerHash,bytes32 operatorSetHash,bytes32 splitHash,address token,uint128 maxAmount,uint16 feeBps,address feeRecipient,uint40 deadline,uint32 challengeWindow,address referee,address callback,uint32 callbackGas,bytes32 inputHash,bytes32 salt)TokenPermissions(address token,uint256 amount)"
        );
        bytes32 permissions =
            keccak256(abi.encode(keccak256("TokenPermissions(address token,uint256 amount)"), terms.token, PRICE));
        bytes32 witness = keccak256(bytes.concat(requestType, abi.encode(terms)));
        bytes32 hash =
            keccak256(abi.encode(permitType, permissions, address(escrow), NONCE, uint256(terms.deadline), witness));
        return signature(PAYER_KEY, keccak256(abi.encodePacked(hex"1901", IPermit2(permit2).DOMAIN_SEPARATOR(), hash)));
    }
}

/// @notice An ERC-3009 token that lets anyone move anything, and keeps one unit back.
contract SkimmingToken {
    mapping(address account => uint256) public balanceOf;

    function receiveWithAuthorization(
        address,
        address to,
        uint256 value,
        uint256,
        uint256,
        bytes32,
        uint8,
        bytes32,
        bytes32
    ) external {
        balanceOf[to] += value - 1;
    }
}

/// @notice A wallet whose signatures are an ECDSA signature and one byte more.
contract LongSigner {
    address private immutable _key;

    constructor(address key) {
        _key = key;
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        if (signature.length != 66) return 0xffffffff;
        address recovered = ecrecover(digest, uint8(signature[64]), bytes32(signature[0:32]), bytes32(signature[32:64]));
        return recovered == _key ? this.isValidSignature.selector : bytes4(0xffffffff);
    }
}
