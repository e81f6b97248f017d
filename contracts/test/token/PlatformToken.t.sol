// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {PlatformToken} from "../../src/PlatformToken.sol";
import {IPlatformToken} from "../../src/interfaces/IPlatformToken.sol";
import {Assert} from "../base/Assert.sol";
import {vm} from "../base/Vm.sol";
import {ContractSigner} from "../doubles/Accounts.sol";

contract PlatformTokenTest is Assert {
    uint256 private constant KEY = 0xA11CE;
    bytes32 private constant NONCE = "nonce";
    bytes32 private constant TRANSFER = keccak256(
        "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 private constant RECEIVE = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 private constant CANCEL = keccak256("CancelAuthorization(address authorizer,bytes32 nonce)");

    address private _holder = vm.addr(KEY);
    address private _payee = address(0xB0B);
    PlatformToken private _token;
    uint256 private _after;
    uint256 private _before;

    function setUp() public {
        vm.warp(1_800_000_000);
        _token = new PlatformToken(_holder, 1000);
        _after = block.timestamp - 1;
        _before = block.timestamp + 1;
    }

    function test_isWhatItSays() public view {
        assertEq(keccak256(bytes(_token.name())), keccak256("Auspex"), "name");
        assertEq(keccak256(bytes(_token.symbol())), keccak256("AUSPEX"), "symbol");
        assertEq(_token.decimals(), 18, "decimals");
        assertEq(_token.totalSupply(), 1000, "supply");
        assertEq(_token.balanceOf(_holder), 1000, "holder");
    }

    function test_transfersByAuthorization() public {
        vm.expectEmit(true, true, true, true, address(_token));
        emit IPlatformToken.AuthorizationUsed(_holder, NONCE);
        _token.transferWithAuthorization(_holder, _payee, 7, _after, _before, NONCE, _sign(TRANSFER));
        assertEq(_token.balanceOf(_payee), 7, "paid");
        assertTrue(_token.authorizationState(_holder, NONCE), "used");
    }

    function test_transfersByAuthorizationInParts() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, _digest(TRANSFER));
        _token.transferWithAuthorization(_holder, _payee, 7, _after, _before, NONCE, v, r, s);
        assertEq(_token.balanceOf(_payee), 7, "paid");
    }

    function test_payeeReceives() public {
        bytes memory signature = _sign(RECEIVE);
        vm.expectRevert(abi.encodeWithSelector(IPlatformToken.CallerNotPayee.selector, address(this), _payee));
        _token.receiveWithAuthorization(_holder, _payee, 7, _after, _before, NONCE, signature);
        vm.prank(_payee);
        _token.receiveWithAuthorization(_holder, _payee, 7, _after, _before, NONCE, signature);
        assertEq(_token.balanceOf(_payee), 7, "paid");
    }

    function test_payeeReceivesInParts() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, _digest(RECEIVE));
        vm.expectRevert(abi.encodeWithSelector(IPlatformToken.CallerNotPayee.selector, address(this), _payee));
        _token.receiveWithAuthorization(_holder, _payee, 7, _after, _before, NONCE, v, r, s);
        vm.prank(_payee);
        _token.receiveWithAuthorization(_holder, _payee, 7, _after, _before, NONCE, v, r, s);
        assertEq(_token.balanceOf(_payee), 7, "paid");
    }

    function test_contractAuthorizes() public {
        ContractSigner wallet = new ContractSigner(_holder);
        vm.prank(_holder);
        _token.transfer(address(wallet), 7);
        _holder = address(wallet);
        _token.transferWithAuthorization(_holder, _payee, 7, _after, _before, NONCE, _sign(TRANSFER));
        assertEq(_token.balanceOf(_payee), 7, "paid");
    }

    function test_cancels() public {
        bytes32 hash = keccak256(abi.encode(CANCEL, _holder, NONCE));
        bytes memory signature = _signHash(hash);
        vm.expectEmit(true, true, true, true, address(_token));
        emit IPlatformToken.AuthorizationCanceled(_holder, NONCE);
        _token.cancelAuthorization(_holder, NONCE, signature);
        signature = _sign(TRANSFER);
        _refused(abi.encodeWithSelector(IPlatformToken.AuthorizationUsedOrCanceled.selector, _holder, NONCE), signature);
        signature = _signHash(hash);
        vm.expectRevert(abi.encodeWithSelector(IPlatformToken.AuthorizationUsedOrCanceled.selector, _holder, NONCE));
        _token.cancelAuthorization(_holder, NONCE, signature);
    }

    function test_RevertWhen_SomebodyElseCancels() public {
        bytes memory signature = _sign(TRANSFER);
        vm.expectRevert(abi.encodeWithSelector(IPlatformToken.InvalidAuthorization.selector, _holder));
        _token.cancelAuthorization(_holder, NONCE, signature);
    }

    function test_RevertWhen_UsedBefore() public {
        bytes memory signature = _sign(TRANSFER);
        _token.transferWithAuthorization(_holder, _payee, 7, _after, _before, NONCE, signature);
        _refused(abi.encodeWithSelector(IPlatformToken.AuthorizationUsedOrCanceled.selector, _holder, NONCE), signature);
    }

    function test_RevertWhen_OutOfTime() public {
        _after = block.timestamp;
        _refused(
            abi.encodeWithSelector(IPlatformToken.AuthorizationOutOfTime.selector, _after, _before), _sign(TRANSFER)
        );
        _after = 0;
        _before = block.timestamp;
        _refused(
            abi.encodeWithSelector(IPlatformToken.AuthorizationOutOfTime.selector, _after, _before), _sign(TRANSFER)
        );
    }

    /// @dev Somebody who sees a signature for `receive` must not be able to use it for a bare transfer.
    function test_RevertWhen_SignedForTheOtherFunction() public {
        _refused(abi.encodeWithSelector(IPlatformToken.InvalidAuthorization.selector, _holder), _sign(RECEIVE));
        bytes memory signature = _sign(TRANSFER);
        vm.expectRevert(abi.encodeWithSelector(IPlatformToken.InvalidAuthorization.selector, _holder));
        vm.prank(_payee);
        _token.receiveWithAuthorization(_holder, _payee, 7, _after, _before, NONCE, signature);
    }

    function test_permits() public {
        bytes32 hash = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                _holder,
                _payee,
                7,
                0,
                _before
            )
        );
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(KEY, keccak256(abi.encodePacked(hex"1901", _token.DOMAIN_SEPARATOR(), hash)));
        _token.permit(_holder, _payee, 7, _before, v, r, s);
        assertEq(_token.allowance(_holder, _payee), 7, "allowance");
    }

    function _refused(bytes memory error_, bytes memory signature) private {
        vm.expectRevert(error_);
        _token.transferWithAuthorization(_holder, _payee, 7, _after, _before, NONCE, signature);
    }

    function _sign(bytes32 typeHash) private view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, _digest(typeHash));
        return abi.encodePacked(r, s, v);
    }

    function _signHash(bytes32 hash) private view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(KEY, keccak256(abi.encodePacked(hex"1901", _token.DOMAIN_SEPARATOR(), hash)));
        return abi.encodePacked(r, s, v);
    }

    function _digest(bytes32 typeHash) private view returns (bytes32) {
        bytes32 hash = keccak256(abi.encode(typeHash, _holder, _payee, 7, _after, _before, NONCE));
        return keccak256(abi.encodePacked(hex"1901", _token.DOMAIN_SEPARATOR(), hash));
    }
}
