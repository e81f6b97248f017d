// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IOperatorRegistry} from "../../src/interfaces/IOperatorRegistry.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {vm} from "../base/Vm.sol";

/// @notice The four roles of an operator.
contract OperatorsTest is EscrowTest {
    address private constant OWNER = address(0x0EE1);
    address private constant SIGNER = address(0x0EE2);
    address private constant SENDER = address(0x0EE3);
    address private constant VAULT = address(0x0EE4);
    address private constant NEXT = address(0x0EE5);

    function setUp() public override {
        super.setUp();
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.OperatorRegistered(registry.sequence() + 1, OWNER, SIGNER, SENDER, VAULT);
        vm.prank(OWNER);
        registry.register(SIGNER, SENDER, VAULT);
    }

    function test_registers() public view {
        IOperatorRegistry.Operator memory operator = registry.operatorOf(OWNER);
        assertEq(operator.signer, SIGNER, "signer");
        assertEq(operator.transmitter, SENDER, "transmitter");
        assertEq(operator.withdrawal, VAULT, "withdrawal");
        assertEq(operator.pendingSigner, address(0), "pending signer");
        assertEq(operator.pendingWithdrawal, address(0), "pending withdrawal");
        assertEq(registry.ownerOfSigner(SIGNER), OWNER, "owner of signer");
        assertEq(registry.escrow(), address(escrow), "escrow");
        assertEq(registry.SET_MEMBERS_MAX(), 32, "members");
    }

    function test_RevertWhen_TheOwnerHoldsAnotherRole() public {
        _registerRefused(stranger, address(2), address(3), _notSeparate(stranger));
        _registerRefused(address(1), stranger, address(3), _notSeparate(stranger));
        _registerRefused(address(1), address(2), stranger, _notSeparate(stranger));
        vm.startPrank(OWNER);
        vm.expectRevert(_notSeparate(OWNER));
        registry.proposeSigner(OWNER);
        vm.expectRevert(_notSeparate(OWNER));
        registry.setTransmitter(OWNER);
        vm.expectRevert(_notSeparate(OWNER));
        registry.proposeWithdrawal(OWNER);
        vm.stopPrank();
    }

    /// @dev An announced role counts as one, or two could be one account when the announced one becomes active.
    function test_RevertWhen_AnAnnouncedWithdrawalWouldHoldAnotherRole() public {
        vm.startPrank(OWNER);
        registry.proposeWithdrawal(NEXT);
        vm.expectRevert(_notSeparate(NEXT));
        registry.proposeSigner(NEXT);
        vm.expectRevert(_notSeparate(NEXT));
        registry.setTransmitter(NEXT);
        vm.stopPrank();
    }

    /// @dev A former signer still counts in epochs of the past.
    function test_RevertWhen_AFormerSignerWouldHoldAnotherRole() public {
        vm.startPrank(OWNER);
        registry.proposeSigner(NEXT);
        skipTime(1 days);
        registry.activateSigner(OWNER);
        vm.expectRevert(_notSeparate(SIGNER));
        registry.setTransmitter(SIGNER);
        vm.expectRevert(_notSeparate(SIGNER));
        registry.proposeWithdrawal(SIGNER);
        vm.stopPrank();
    }

    /// @dev Announcing another's hot key as one's own takes no role from it.
    function test_anothersAccountMayHoldARole() public {
        address other = vm.addr(signerKeys[0]);
        vm.startPrank(OWNER);
        registry.setTransmitter(other);
        registry.proposeWithdrawal(vm.addr(signerKeys[1]));
        vm.stopPrank();
        assertEq(registry.operatorOf(OWNER).transmitter, other, "transmitter");
    }

    function test_announcingThePresentWithdrawalKeepsIt() public {
        vm.startPrank(OWNER);
        registry.proposeWithdrawal(NEXT);
        registry.proposeWithdrawal(VAULT);
        vm.stopPrank();
        skipTime(2 days);
        registry.activateWithdrawal(OWNER);
        assertEq(registry.operatorOf(OWNER).withdrawal, VAULT, "withdrawal");
    }

    function test_RevertWhen_RegisteredBefore() public {
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.AlreadyRegistered.selector, OWNER));
        vm.prank(OWNER);
        registry.register(address(1), address(2), address(3));
    }

    function test_RevertWhen_RegisteringAZeroAddress() public {
        _registerRefused(address(0), address(2), address(3), _zero("signer"));
        _registerRefused(address(1), address(0), address(3), _zero("transmitter"));
        _registerRefused(address(1), address(2), address(0), _zero("withdrawal"));
    }

    function test_RevertWhen_RolesAreNotSeparate() public {
        _registerRefused(address(1), address(1), address(3), _notSeparate(address(1)));
        _registerRefused(address(1), address(2), address(1), _notSeparate(address(1)));
        _registerRefused(address(1), address(2), address(2), _notSeparate(address(2)));
    }

    function test_RevertWhen_SignerIsTaken() public {
        _registerRefused(SIGNER, address(2), address(3), _taken(SIGNER));
        vm.prank(OWNER);
        registry.revokeSigner(SIGNER);
        _registerRefused(SIGNER, address(2), address(3), _taken(SIGNER));
    }

    /* SIGNER ROTATION */

    function test_rotatesTheSignerAfterItsDelay() public {
        uint64 activeAt = uint64(block.timestamp) + registry.SIGNER_DELAY();
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.SignerProposed(registry.sequence() + 1, OWNER, NEXT, activeAt);
        vm.prank(OWNER);
        registry.proposeSigner(NEXT);
        assertEq(registry.operatorOf(OWNER).signer, SIGNER, "the present one keeps counting");
        assertEq(registry.operatorOf(OWNER).signerActiveAt, activeAt, "active at");

        vm.warp(activeAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.TooEarly.selector, activeAt));
        registry.activateSigner(OWNER);
        vm.warp(activeAt);
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.SignerActivated(registry.sequence() + 1, OWNER, NEXT);
        vm.prank(stranger);
        registry.activateSigner(OWNER);
        assertEq(registry.operatorOf(OWNER).signer, NEXT, "signer");
        assertEq(registry.operatorOf(OWNER).signerActiveAt, 0, "active at");
        assertFalse(registry.isRevoked(SIGNER), "the former one stays good for its epoch");
        vm.expectRevert(IOperatorRegistry.NothingPending.selector);
        registry.activateSigner(OWNER);
    }

    function test_RevertWhen_ProposedSignerIsNotFree() public {
        vm.startPrank(OWNER);
        vm.expectRevert(_taken(SIGNER));
        registry.proposeSigner(SIGNER);
        vm.expectRevert(_taken(vm.addr(signerKeys[0])));
        registry.proposeSigner(vm.addr(signerKeys[0]));
        vm.expectRevert(_zero("signer"));
        registry.proposeSigner(address(0));
        vm.expectRevert(_notSeparate(SENDER));
        registry.proposeSigner(SENDER);
        vm.expectRevert(_notSeparate(VAULT));
        registry.proposeSigner(VAULT);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotRegistered.selector, stranger));
        vm.prank(stranger);
        registry.proposeSigner(NEXT);
    }

    function test_aFormerSignerMayComeBack() public {
        vm.startPrank(OWNER);
        registry.proposeSigner(NEXT);
        skipTime(1 days);
        registry.activateSigner(OWNER);
        registry.proposeSigner(SIGNER);
        skipTime(1 days);
        registry.activateSigner(OWNER);
        assertEq(registry.operatorOf(OWNER).signer, SIGNER, "signer");
        vm.stopPrank();
    }

    /* REVOCATION */

    function test_revokesThePresentSignerAtOnce() public {
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.SignerRevoked(registry.sequence() + 1, OWNER, SIGNER);
        vm.prank(OWNER);
        registry.revokeSigner(SIGNER);
        assertTrue(registry.isRevoked(SIGNER), "revoked");
        assertEq(registry.operatorOf(OWNER).signer, address(0), "signer");
        vm.expectRevert(_taken(SIGNER));
        vm.prank(OWNER);
        registry.proposeSigner(SIGNER);
    }

    function test_revokesAnAnnouncedSigner() public {
        vm.startPrank(OWNER);
        registry.proposeSigner(NEXT);
        registry.revokeSigner(NEXT);
        vm.stopPrank();
        assertEq(registry.operatorOf(OWNER).pendingSigner, address(0), "pending");
        assertEq(registry.operatorOf(OWNER).signerActiveAt, 0, "active at");
        assertEq(registry.operatorOf(OWNER).signer, SIGNER, "present");
        skipTime(1 days);
        vm.expectRevert(IOperatorRegistry.NothingPending.selector);
        registry.activateSigner(OWNER);
    }

    /// @dev Losing a key must not delay the one that was announced to follow it.
    function test_revokingThePresentSignerKeepsTheAnnouncedOne() public {
        vm.startPrank(OWNER);
        registry.proposeSigner(NEXT);
        registry.revokeSigner(SIGNER);
        vm.stopPrank();
        assertEq(registry.operatorOf(OWNER).pendingSigner, NEXT, "pending");
        skipTime(1 days);
        registry.activateSigner(OWNER);
        assertEq(registry.operatorOf(OWNER).signer, NEXT, "signer");
    }

    function test_revokesAFormerSigner() public {
        vm.startPrank(OWNER);
        registry.proposeSigner(NEXT);
        skipTime(1 days);
        registry.activateSigner(OWNER);
        registry.revokeSigner(SIGNER);
        vm.stopPrank();
        assertTrue(registry.isRevoked(SIGNER), "revoked");
        assertEq(registry.operatorOf(OWNER).signer, NEXT, "present");
    }

    function test_RevertWhen_RevokingWhatIsNotOnesOwn() public {
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotOwnSigner.selector, SIGNER, stranger));
        vm.prank(stranger);
        registry.revokeSigner(SIGNER);
        vm.startPrank(OWNER);
        registry.revokeSigner(SIGNER);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotOwnSigner.selector, SIGNER, OWNER));
        registry.revokeSigner(SIGNER);
        vm.stopPrank();
    }

    /* TRANSMITTER AND WITHDRAWAL */

    function test_changesTheTransmitter() public {
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.TransmitterChanged(registry.sequence() + 1, OWNER, NEXT);
        vm.prank(OWNER);
        registry.setTransmitter(NEXT);
        assertEq(registry.operatorOf(OWNER).transmitter, NEXT, "transmitter");
    }

    function test_RevertWhen_TransmitterIsNotFit() public {
        vm.startPrank(OWNER);
        registry.proposeSigner(NEXT);
        vm.expectRevert(_zero("transmitter"));
        registry.setTransmitter(address(0));
        vm.expectRevert(_notSeparate(SIGNER));
        registry.setTransmitter(SIGNER);
        vm.expectRevert(_notSeparate(NEXT));
        registry.setTransmitter(NEXT);
        vm.expectRevert(_notSeparate(VAULT));
        registry.setTransmitter(VAULT);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotRegistered.selector, stranger));
        vm.prank(stranger);
        registry.setTransmitter(NEXT);
    }

    function test_changesTheWithdrawalAfterItsDelay() public {
        uint64 activeAt = uint64(block.timestamp) + registry.WITHDRAWAL_DELAY();
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.WithdrawalProposed(registry.sequence() + 1, OWNER, NEXT, activeAt);
        vm.prank(OWNER);
        registry.proposeWithdrawal(NEXT);
        assertEq(registry.operatorOf(OWNER).withdrawal, VAULT, "present");
        assertEq(registry.operatorOf(OWNER).pendingWithdrawal, NEXT, "pending");
        vm.warp(activeAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.TooEarly.selector, activeAt));
        registry.activateWithdrawal(OWNER);
        vm.warp(activeAt);
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.WithdrawalActivated(registry.sequence() + 1, OWNER, NEXT);
        vm.prank(stranger);
        registry.activateWithdrawal(OWNER);
        assertEq(registry.operatorOf(OWNER).withdrawal, NEXT, "withdrawal");
        assertEq(registry.operatorOf(OWNER).pendingWithdrawal, address(0), "pending");
        assertEq(registry.operatorOf(OWNER).withdrawalActiveAt, 0, "active at");
        vm.expectRevert(IOperatorRegistry.NothingPending.selector);
        registry.activateWithdrawal(OWNER);
    }

    function test_RevertWhen_WithdrawalIsNotFit() public {
        vm.startPrank(OWNER);
        registry.proposeSigner(NEXT);
        vm.expectRevert(_zero("withdrawal"));
        registry.proposeWithdrawal(address(0));
        vm.expectRevert(_notSeparate(SIGNER));
        registry.proposeWithdrawal(SIGNER);
        vm.expectRevert(_notSeparate(NEXT));
        registry.proposeWithdrawal(NEXT);
        vm.expectRevert(_notSeparate(SENDER));
        registry.proposeWithdrawal(SENDER);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotRegistered.selector, stranger));
        vm.prank(stranger);
        registry.proposeWithdrawal(NEXT);
    }

    function _registerRefused(address signer, address sender, address vault, bytes memory error_) private {
        vm.expectRevert(error_);
        vm.prank(stranger);
        registry.register(signer, sender, vault);
    }

    function _zero(string memory field) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IOperatorRegistry.ZeroAddress.selector, field);
    }

    function _taken(address signer) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IOperatorRegistry.SignerTaken.selector, signer);
    }

    function _notSeparate(address account) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IOperatorRegistry.RolesNotSeparate.selector, account);
    }
}
