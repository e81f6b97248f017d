// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IOperatorRegistry} from "../../src/interfaces/IOperatorRegistry.sol";
import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {vm} from "../base/Vm.sol";
import {Receiver} from "../doubles/Accounts.sol";
import {WeirdToken} from "../doubles/WeirdToken.sol";

/// @notice Sets, their epochs and their members' bonds.
contract SetsTest is EscrowTest {
    address[] private _members;

    /* SETS */

    function test_createsSets() public {
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.SetCreated(registry.sequence() + 1, 3, stranger, address(0), 7, referee);
        assertEq(registry.createSet(stranger, address(0), 7, referee), 3, "id");
        assertEq(registry.refereeOf(3), referee, "referee");
        assertEq(registry.operatorSetHash(3), bytes32(0), "no epoch");
    }

    function test_RevertWhen_AdminIsZero() public {
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.ZeroAddress.selector, "admin"));
        registry.createSet(address(0), address(0), 0, address(0));
    }

    function test_RevertWhen_SetIsUnknown() public {
        bytes memory error_ = abi.encodeWithSelector(IOperatorRegistry.UnknownSet.selector, 9);
        vm.startPrank(operators[0]);
        vm.expectRevert(error_);
        registry.join(9);
        vm.expectRevert(error_);
        registry.proposeEpoch(9, 1, operators);
        vm.expectRevert(error_);
        registry.startEpoch(9);
        vm.expectRevert(error_);
        registry.refreshEpoch(9);
        vm.stopPrank();
    }

    /* ADMINISTRATORS */

    function test_aSetChangesItsAdminInTwoSteps() public {
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.SetAdminProposed(registry.sequence() + 1, quorumSet, stranger);
        vm.prank(setAdmin);
        registry.proposeSetAdmin(quorumSet, stranger);
        (address admin, address pending) = registry.adminOf(quorumSet);
        assertEq(admin, setAdmin, "until it is accepted");
        assertEq(pending, stranger, "named");
        vm.prank(setAdmin);
        registry.proposeEpoch(quorumSet, 1, operators);

        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.SetAdminChanged(registry.sequence() + 1, quorumSet, stranger);
        vm.prank(stranger);
        registry.acceptSetAdmin(quorumSet);
        (admin, pending) = registry.adminOf(quorumSet);
        assertEq(admin, stranger, "admin");
        assertEq(pending, address(0), "nobody named");
        vm.prank(stranger);
        registry.proposeEpoch(quorumSet, 2, operators);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotSetAdmin.selector, quorumSet, setAdmin));
        vm.prank(setAdmin);
        registry.proposeEpoch(quorumSet, 1, operators);
    }

    function test_RevertWhen_AStrangerMovesTheAdmin() public {
        vm.startPrank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotSetAdmin.selector, quorumSet, stranger));
        registry.proposeSetAdmin(quorumSet, stranger);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotPendingSetAdmin.selector, quorumSet, stranger));
        registry.acceptSetAdmin(quorumSet);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.UnknownSet.selector, 9));
        registry.proposeSetAdmin(9, stranger);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotPendingSetAdmin.selector, 9, stranger));
        registry.acceptSetAdmin(9);
        vm.stopPrank();
    }

    function test_anOfferedSetIsTakenBack() public {
        vm.startPrank(setAdmin);
        registry.proposeSetAdmin(quorumSet, stranger);
        registry.proposeSetAdmin(quorumSet, address(0));
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotPendingSetAdmin.selector, quorumSet, stranger));
        vm.prank(stranger);
        registry.acceptSetAdmin(quorumSet);
        (address admin,) = registry.adminOf(quorumSet);
        assertEq(admin, setAdmin, "admin");
    }

    /* JOINING */

    function test_joinsWithItsBond() public {
        uint64 setId = registry.createSet(setAdmin, address(token), BOND, address(0));
        token.transfer(operators[0], BOND);
        vm.startPrank(operators[0]);
        token.approve(address(registry), BOND);
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.Joined(registry.sequence() + 1, setId, operators[0], BOND);
        registry.join(setId);
        vm.stopPrank();
        assertEq(registry.bondOf(setId, operators[0]), BOND, "bond");
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.AlreadyJoined.selector, setId, operators[0]));
        vm.prank(operators[0]);
        registry.join(setId);
    }

    function test_joinsWithNativeCoinAndWithoutABond() public {
        uint64 native = registry.createSet(setAdmin, address(0), 5, address(0));
        uint64 free = registry.createSet(setAdmin, address(token), 0, address(0));
        vm.deal(operators[0], 10);
        vm.startPrank(operators[0]);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.WrongBond.selector, 4, 5));
        registry.join{value: 4}(native);
        registry.join{value: 5}(native);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.WrongBond.selector, 1, 0));
        registry.join{value: 1}(free);
        registry.join(free);
        vm.stopPrank();
        assertEq(address(registry).balance, 5, "held");
    }

    function test_RevertWhen_JoiningUnregistered() public {
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotRegistered.selector, stranger));
        vm.prank(stranger);
        registry.join(quorumSet);
    }

    function test_RevertWhen_BondTokenTakesAFee() public {
        WeirdToken weird = new WeirdToken();
        weird.setFee(100);
        _refusedBond(weird, 990);
    }

    function test_RevertWhen_BondTokenShrinks() public {
        WeirdToken weird = new WeirdToken();
        weird.setDrift(-1);
        _refusedBond(weird, 999);
    }

    function _refusedBond(WeirdToken weird, uint256 moved) private {
        uint64 setId = registry.createSet(setAdmin, address(weird), 1000, address(0));
        weird.mint(operators[0], 1000);
        vm.startPrank(operators[0]);
        weird.approve(address(registry), 1000);
        vm.expectRevert(
            abi.encodeWithSelector(IOperatorRegistry.TokenMovedOtherAmount.selector, address(weird), moved, 1000)
        );
        registry.join(setId);
        vm.stopPrank();
    }

    function test_RevertWhen_BondTokenReenters() public {
        WeirdToken weird = new WeirdToken();
        uint64 setId = registry.createSet(setAdmin, address(weird), 1000, address(0));
        weird.mint(operators[0], 1000);
        weird.setHook(address(registry), abi.encodeCall(registry.join, (setId)));
        vm.startPrank(operators[0]);
        weird.approve(address(registry), 1000);
        registry.join(setId);
        vm.stopPrank();
        assertFalse(weird.hookSucceeded(), "reentered");
        assertEq(bytes32(bytes4(weird.hookAnswer())), bytes32(IOperatorRegistry.Reentered.selector), "Reentered");
        weird.setHook(address(registry), abi.encodeCall(registry.releaseBond, (setId, operators[0])));
        vm.prank(operators[0]);
        registry.startUnbonding(setId);
        skipTime(14 days);
        registry.releaseBond(setId, operators[0]);
        assertFalse(weird.hookSucceeded(), "reentered");
        assertEq(bytes32(bytes4(weird.hookAnswer())), bytes32(IOperatorRegistry.Reentered.selector), "Reentered");
    }

    function test_RevertWhen_BondTokenReentersAWithdrawal() public {
        WeirdToken weird = new WeirdToken();
        uint64 setId = registry.createSet(setAdmin, address(weird), 1000, address(0));
        weird.mint(operators[0], 1000);
        vm.startPrank(operators[0]);
        weird.approve(address(registry), 1000);
        weird.setHook(address(registry), abi.encodeCall(registry.withdrawFor, (operators[0], address(weird))));
        registry.join(setId);
        vm.stopPrank();
        assertFalse(weird.hookSucceeded(), "reentered");
        assertEq(bytes32(bytes4(weird.hookAnswer())), bytes32(IOperatorRegistry.Reentered.selector), "Reentered");
    }

    /* EPOCHS */

    function test_startsTheFirstEpochAtOnceSorted() public {
        uint64 setId = _openSet();
        (_members[0], _members[2]) = (_members[2], _members[0]);
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.EpochProposed(registry.sequence() + 1, setId, 1, 2, _members, uint64(block.timestamp));
        vm.prank(setAdmin);
        registry.proposeEpoch(setId, 2, _members);
        address[] memory sorted = new address[](3);
        address[] memory signers = new address[](3);
        for (uint256 i = 0; i < 3; ++i) {
            sorted[i] = registry.ownerOfSigner(quorum.signers[i]);
            signers[i] = quorum.signers[i];
        }
        bytes32 hash = keccak256(abi.encode(IRequestEscrow.OperatorSet(setId, 1, 2, signers)));
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.EpochStarted(registry.sequence() + 1, setId, 1, 2, sorted, signers, hash, false);
        vm.prank(stranger);
        registry.startEpoch(setId);
        assertEq(registry.operatorSetHash(setId), hash, "hash");
        (uint64 epoch, uint8 threshold, address[] memory owners, address[] memory keys) = registry.epochOf(setId);
        assertEq(epoch, 1, "epoch");
        assertEq(threshold, 2, "threshold");
        assertEq(keccak256(abi.encode(owners)), keccak256(abi.encode(sorted)), "operators");
        assertEq(keccak256(abi.encode(keys)), keccak256(abi.encode(signers)), "signers");
        vm.expectRevert(IOperatorRegistry.NothingPending.selector);
        registry.startEpoch(setId);
    }

    function test_laterEpochsWait() public {
        uint64 setId = _startedSet();
        _members.pop();
        vm.prank(setAdmin);
        registry.proposeEpoch(setId, 1, _members);
        uint256 activeAt = block.timestamp + registry.EPOCH_DELAY();
        vm.warp(activeAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.TooEarly.selector, activeAt));
        registry.startEpoch(setId);
        vm.warp(activeAt);
        registry.startEpoch(setId);
        IRequestEscrow.OperatorSet memory set = setOf(setId);
        assertEq(set.epoch, 2, "epoch");
        assertEq(set.threshold, 1, "threshold");
        assertEq(set.signers.length, 2, "members");
    }

    function testFuzz_sortsEveryOrder(uint256 seed, uint8 count_) public {
        uint256 count = bound(count_, 1, 12);
        uint64 setId = registry.createSet(setAdmin, address(token), 0, address(0));
        address[] memory owners = new address[](count);
        for (uint256 i = 0; i < count; ++i) {
            owners[i] = address(uint160(0xABC000 + i));
            address signer = address(uint160(uint256(keccak256(abi.encode(seed, i)))));
            vm.startPrank(owners[i]);
            registry.register(signer, address(uint160(0xABD000 + i)), address(uint160(0xABE000 + i)));
            registry.join(setId);
            vm.stopPrank();
        }
        vm.prank(setAdmin);
        registry.proposeEpoch(setId, uint8(count), owners);
        registry.startEpoch(setId);
        (,, address[] memory sorted, address[] memory signers) = registry.epochOf(setId);
        for (uint256 i = 0; i < count; ++i) {
            assertTrue(i == 0 || signers[i] > signers[i - 1], "ascending");
            assertEq(registry.ownerOfSigner(signers[i]), sorted[i], "pairs");
        }
    }

    function test_RevertWhen_ProposerIsNotTheAdmin() public {
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotSetAdmin.selector, quorumSet, stranger));
        vm.prank(stranger);
        registry.proposeEpoch(quorumSet, 1, operators);
    }

    function test_RevertWhen_ThresholdIsOutOfRange() public {
        vm.startPrank(setAdmin);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.InvalidThreshold.selector, 0, 5));
        registry.proposeEpoch(quorumSet, 0, operators);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.InvalidThreshold.selector, 6, 5));
        registry.proposeEpoch(quorumSet, 6, operators);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.InvalidThreshold.selector, 1, 0));
        registry.proposeEpoch(quorumSet, 1, new address[](0));
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.InvalidThreshold.selector, 1, 33));
        registry.proposeEpoch(quorumSet, 1, new address[](33));
        registry.proposeEpoch(quorumSet, 32, new address[](32));
        vm.stopPrank();
    }

    function test_RevertWhen_AMemberHasNotJoined() public {
        uint64 setId = _openSet();
        _members.push(operators[3]);
        vm.prank(setAdmin);
        registry.proposeEpoch(setId, 1, _members);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotJoined.selector, setId, operators[3]));
        registry.startEpoch(setId);
    }

    function test_RevertWhen_AMemberIsNamedTwice() public {
        uint64 setId = _openSet();
        _members.push(_members[0]);
        vm.prank(setAdmin);
        registry.proposeEpoch(setId, 1, _members);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.DuplicateMember.selector, _members[0]));
        registry.startEpoch(setId);
    }

    function test_RevertWhen_AMemberHasNoSigner() public {
        uint64 setId = _openSet();
        address signer = registry.operatorOf(_members[1]).signer;
        vm.prank(_members[1]);
        registry.revokeSigner(signer);
        vm.prank(setAdmin);
        registry.proposeEpoch(setId, 1, _members);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.ZeroAddress.selector, "signer"));
        registry.startEpoch(setId);
    }

    function test_refreshesAfterARotation() public {
        uint64 setId = _startedSet();
        bytes32 before = registry.operatorSetHash(setId);
        vm.expectRevert(IOperatorRegistry.NothingPending.selector);
        registry.refreshEpoch(setId);
        vm.prank(_members[2]);
        registry.proposeSigner(address(1));
        skipTime(1 days);
        registry.activateSigner(_members[2]);
        address[] memory owners = new address[](3);
        address[] memory signers = new address[](3);
        (owners[0], owners[1], owners[2]) = (_members[2], _members[0], _members[1]);
        (signers[0], signers[1], signers[2]) = (address(1), quorum.signers[0], quorum.signers[1]);
        bytes32 hash = keccak256(abi.encode(IRequestEscrow.OperatorSet(setId, 2, 2, signers)));
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.EpochStarted(registry.sequence() + 1, setId, 2, 2, owners, signers, hash, true);
        vm.prank(stranger);
        registry.refreshEpoch(setId);
        IRequestEscrow.OperatorSet memory set = setOf(setId);
        assertEq(set.epoch, 2, "epoch");
        assertEq(set.threshold, 2, "threshold");
        assertEq(set.signers[0], address(1), "sorted again");
        assertTrue(before != registry.operatorSetHash(setId), "hash");
    }

    /// @dev A refresh takes nothing from the admin: what it has proposed starts when it is due.
    function test_aRefreshLeavesTheProposalPending() public {
        vm.prank(setAdmin);
        registry.proposeEpoch(quorumSet, 2, operators);
        vm.prank(operators[1]);
        registry.proposeSigner(address(1));
        skipTime(1 days);
        registry.activateSigner(operators[1]);
        registry.refreshEpoch(quorumSet);
        assertEq(setOf(quorumSet).threshold, 3, "as before");
        registry.startEpoch(quorumSet);
        assertEq(setOf(quorumSet).threshold, 2, "as proposed");
        assertEq(setOf(quorumSet).epoch, 3, "epoch");
    }

    function test_refreshDropsWhoIsUnbonding() public {
        address leaver = registry.ownerOfSigner(quorum.signers[1]);
        vm.startPrank(leaver);
        registry.revokeSigner(quorum.signers[1]);
        registry.startUnbonding(quorumSet);
        registry.proposeSigner(address(1));
        vm.stopPrank();
        skipTime(1 days);
        registry.activateSigner(leaver);
        _refreshedWithout(leaver);
    }

    function test_refreshDropsWhoHasLeft() public {
        address leaver = registry.ownerOfSigner(quorum.signers[4]);
        vm.startPrank(leaver);
        registry.revokeSigner(quorum.signers[4]);
        registry.startUnbonding(quorumSet);
        vm.stopPrank();
        skipTime(14 days);
        registry.releaseBond(quorumSet, leaver);
        _refreshedWithout(leaver);
    }

    function test_refreshDropsWhoHasNoSigner() public {
        address owner = registry.ownerOfSigner(quorum.signers[0]);
        vm.prank(owner);
        registry.revokeSigner(quorum.signers[0]);
        _refreshedWithout(owner);
        // Its bond is free to go, and it comes back by the admin only.
        vm.startPrank(owner);
        registry.proposeSigner(address(1));
        skipTime(1 days);
        registry.activateSigner(owner);
        vm.expectRevert(IOperatorRegistry.NothingPending.selector);
        registry.refreshEpoch(quorumSet);
        registry.startUnbonding(quorumSet);
        vm.stopPrank();
    }

    function test_refreshDropsWhoWasSlashed() public {
        address owner = registry.ownerOfSigner(quorum.signers[2]);
        vm.prank(address(escrow));
        registry.slash(quorumSet, quorum.signers[2], "id", stranger);
        _refreshedWithout(owner);
    }

    /// @dev A new bond does not bring it back into the epoch that it was slashed in: that is the admin's to say.
    function test_refreshDropsWhoWasSlashedAndJoinedAgain() public {
        address owner = registry.ownerOfSigner(quorum.signers[0]);
        vm.prank(address(escrow));
        registry.slash(quorumSet, quorum.signers[0], "id", stranger);
        vm.prank(owner);
        registry.proposeSigner(address(1));
        skipTime(1 days);
        registry.activateSigner(owner);
        joinSet(owner, quorumSet);
        _refreshedWithout(owner);
        vm.prank(setAdmin);
        registry.proposeEpoch(quorumSet, 3, operators);
        skipTime(1 days);
        registry.startEpoch(quorumSet);
        assertEq(setOf(quorumSet).signers[0], address(1), "named again");
        vm.expectRevert(IOperatorRegistry.NothingPending.selector);
        registry.refreshEpoch(quorumSet);
    }

    /// @dev The members that are left are no quorum, and no smaller one may take its place behind the admin's back.
    function test_RevertWhen_ARefreshWouldLeaveTooFew() public {
        for (uint256 i = 0; i < 2; ++i) {
            vm.prank(registry.ownerOfSigner(quorum.signers[i]));
            registry.revokeSigner(quorum.signers[i]);
        }
        uint256 snapshot = registry.sequence();
        registry.refreshEpoch(quorumSet);
        assertEq(registry.sequence(), snapshot + 1, "three of five are a quorum");
        vm.prank(registry.ownerOfSigner(quorum.signers[2]));
        registry.revokeSigner(quorum.signers[2]);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.InvalidThreshold.selector, 3, 2));
        registry.refreshEpoch(quorumSet);
    }

    function test_RevertWhen_ASetWithoutAnEpochIsRefreshed() public {
        uint64 setId = _openSet();
        vm.expectRevert(IOperatorRegistry.NothingPending.selector);
        registry.refreshEpoch(setId);
    }

    function _refreshedWithout(address dropped) private {
        vm.prank(stranger);
        registry.refreshEpoch(quorumSet);
        (uint64 epoch, uint8 threshold, address[] memory owners, address[] memory signers) = registry.epochOf(quorumSet);
        assertEq(epoch, 2, "epoch");
        assertEq(threshold, 3, "threshold");
        assertEq(owners.length, 4, "members");
        for (uint256 i = 0; i < 4; ++i) {
            assertTrue(owners[i] != dropped, "dropped");
            assertEq(registry.operatorOf(owners[i]).signer, signers[i], "pairs");
            assertTrue(i == 0 || signers[i] > signers[i - 1], "ascending");
        }
        vm.expectRevert(IOperatorRegistry.NothingPending.selector);
        registry.refreshEpoch(quorumSet);
    }

    /* BONDS */

    function test_releasesABondAfterItsDelay() public {
        vm.prank(setAdmin);
        operators.pop();
        registry.proposeEpoch(quorumSet, 3, operators);
        skipTime(1 days);
        registry.startEpoch(quorumSet);
        address leaver = address(0x0e0004);
        uint64 due = uint64(block.timestamp) + registry.UNBONDING_DELAY();
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.UnbondingStarted(registry.sequence() + 1, quorumSet, leaver, due);
        vm.prank(leaver);
        registry.startUnbonding(quorumSet);
        assertEq(registry.releaseAt(quorumSet, leaver), due, "due");
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotJoined.selector, quorumSet, leaver));
        vm.prank(leaver);
        registry.startUnbonding(quorumSet);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.AlreadyJoined.selector, quorumSet, leaver));
        vm.prank(leaver);
        registry.join(quorumSet);
        vm.warp(due - 1);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.TooEarly.selector, due));
        registry.releaseBond(quorumSet, leaver);
        vm.warp(due);
        address vault = registry.operatorOf(leaver).withdrawal;
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.BondReleased(registry.sequence() + 1, quorumSet, leaver, vault, BOND);
        vm.prank(stranger);
        registry.releaseBond(quorumSet, leaver);
        assertEq(token.balanceOf(vault), BOND, "paid");
        assertEq(registry.bondOf(quorumSet, leaver), 0, "bond");
        vm.expectRevert(IOperatorRegistry.NothingPending.selector);
        registry.releaseBond(quorumSet, leaver);
        joinSet(leaver, quorumSet);
        assertEq(registry.bondOf(quorumSet, leaver), BOND, "joined again");
    }

    function test_RevertWhen_UnbondingAsAMember() public {
        for (uint256 i = 0; i < operators.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.StillMember.selector, quorumSet, operators[i]));
            vm.prank(operators[i]);
            registry.startUnbonding(quorumSet);
        }
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotJoined.selector, soloSet, operators[1]));
        vm.prank(operators[1]);
        registry.startUnbonding(soloSet);
    }

    /// @dev No admin can keep an operator in: it gives up its signer and goes.
    function test_leavesWithoutTheAdmin() public {
        address signer = registry.operatorOf(operators[4]).signer;
        vm.startPrank(operators[4]);
        registry.revokeSigner(signer);
        registry.startUnbonding(quorumSet);
        vm.stopPrank();
        skipTime(14 days);
        registry.releaseBond(quorumSet, operators[4]);
        assertEq(token.balanceOf(registry.operatorOf(operators[4]).withdrawal), BOND, "paid");
    }

    /// @dev A token that refuses transfers of nothing must not keep a member that has no bond from leaving.
    function test_releasesNoBondWithoutATransfer() public {
        WeirdToken refusing = new WeirdToken();
        refusing.setRevertOnZero(true);
        uint64 setId = registry.createSet(setAdmin, address(refusing), 0, address(0));
        vm.startPrank(operators[0]);
        registry.join(setId);
        registry.startUnbonding(setId);
        vm.stopPrank();
        skipTime(14 days);
        registry.releaseBond(setId, operators[0]);
        assertEq(registry.releaseAt(setId, operators[0]), 0, "released");
    }

    function test_releasesANativeBond() public {
        uint64 setId = registry.createSet(setAdmin, address(0), 5, address(0));
        Receiver vault = new Receiver();
        vm.deal(operators[0], 5);
        vm.startPrank(operators[0]);
        registry.join{value: 5}(setId);
        registry.proposeWithdrawal(address(vault));
        registry.startUnbonding(setId);
        vm.stopPrank();
        skipTime(14 days);
        registry.activateWithdrawal(operators[0]);
        vault.setRefuses(true);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NativeTransferFailed.selector, address(vault)));
        registry.releaseBond(setId, operators[0]);
        vault.setRefuses(false);
        registry.releaseBond(setId, operators[0]);
        assertEq(address(vault).balance, 5, "paid");
    }

    /* SLASHING */

    function test_RevertWhen_SlasherIsNotTheEscrow() public {
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotEscrow.selector, stranger));
        vm.prank(stranger);
        registry.slash(quorumSet, quorum.signers[0], "id", stranger);
    }

    function test_slashesOncePerRequest() public {
        address owner = registry.ownerOfSigner(quorum.signers[0]);
        vm.startPrank(address(escrow));
        assertEq(registry.slash(quorumSet, quorum.signers[0], "id", stranger), BOND, "amount");
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.AlreadySlashed.selector, bytes32("id")));
        registry.slash(quorumSet, quorum.signers[1], "id", stranger);
        assertEq(registry.slash(quorumSet, quorum.signers[0], "other", stranger), 0, "nothing left");
        vm.stopPrank();
        assertEq(registry.bondOf(quorumSet, owner), 0, "bond");
        assertEq(registry.creditOf(stranger, address(token)), BOND / 2, "credit");
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.Withdrawn(registry.sequence() + 1, stranger, address(token), BOND / 2);
        registry.withdrawFor(stranger, address(token));
        assertEq(token.balanceOf(stranger), BOND / 2, "paid");
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NothingToWithdraw.selector, stranger, address(token)));
        registry.withdrawFor(stranger, address(token));
    }

    function test_aSlashedMemberHasToJoinAgainForTheNextEpoch() public {
        address owner = registry.ownerOfSigner(quorum.signers[0]);
        vm.prank(address(escrow));
        registry.slash(quorumSet, quorum.signers[0], "id", stranger);
        vm.prank(owner);
        registry.proposeSigner(address(1));
        vm.prank(setAdmin);
        registry.proposeEpoch(quorumSet, 3, operators);
        skipTime(1 days);
        registry.activateSigner(owner);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotJoined.selector, quorumSet, owner));
        registry.startEpoch(quorumSet);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotJoined.selector, quorumSet, owner));
        vm.prank(owner);
        registry.startUnbonding(quorumSet);
        joinSet(owner, quorumSet);
        registry.startEpoch(quorumSet);
        assertEq(setOf(quorumSet).signers[0], address(1), "a member again");
    }

    function test_burnsHalfOfASlashedBondRoundedUp() public {
        uint64 setId = registry.createSet(setAdmin, address(0), 7, referee);
        vm.deal(operators[0], 7);
        vm.prank(operators[0]);
        registry.join{value: 7}(setId);
        address signer = registry.operatorOf(operators[0]).signer;
        address burn = registry.BURN_ADDRESS();
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.BondSlashed(registry.sequence() + 1, setId, operators[0], "id", signer, 7, stranger, 3);
        vm.prank(address(escrow));
        registry.slash(setId, signer, "id", stranger);
        assertEq(registry.creditOf(stranger, address(0)), 3, "reward");
        assertEq(registry.creditOf(burn, address(0)), 4, "burned");
        assertEq(registry.withdrawFor(burn, address(0)), 4, "sent to where nobody can take it");
        assertEq(burn.balance, 4, "gone");
        assertEq(address(registry).balance, 3, "the reward is still here");
    }

    function test_slashingRevokesTheSignerEverywhere() public {
        address signer = quorum.signers[0];
        address owner = registry.ownerOfSigner(signer);
        vm.expectEmit(true, true, true, true, address(registry));
        emit IOperatorRegistry.SignerRevoked(registry.sequence() + 2, owner, signer);
        vm.prank(address(escrow));
        registry.slash(quorumSet, signer, "id", stranger);
        assertTrue(registry.isRevoked(signer), "revoked");
        assertEq(registry.operatorOf(owner).signer, address(0), "no signer");
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.SignerTaken.selector, signer));
        vm.prank(owner);
        registry.proposeSigner(signer);
    }

    /// @dev Convicted for what its former key signed, an operator has no bond behind the key that replaced it.
    function test_slashingRevokesTheKeyThatFollowedInTheSet() public {
        address former = quorum.signers[0];
        address owner = registry.ownerOfSigner(former);
        vm.prank(owner);
        registry.proposeSigner(address(1));
        skipTime(1 days);
        registry.activateSigner(owner);
        registry.refreshEpoch(quorumSet);
        vm.prank(owner);
        registry.proposeSigner(address(2));
        uint64 before = registry.sequence();
        vm.prank(address(escrow));
        registry.slash(quorumSet, former, "id", stranger);
        assertTrue(registry.isRevoked(former), "the convicted key");
        assertTrue(registry.isRevoked(address(1)), "the one that follows it in the set");
        assertFalse(registry.isRevoked(address(2)), "the announced one is in no epoch");
        assertEq(registry.operatorOf(owner).pendingSigner, address(2), "pending");
        assertEq(registry.sequence(), before + 3, "a slash and two revocations");
    }

    function test_slashingLeavesOtherMembersAlone() public {
        vm.prank(address(escrow));
        registry.slash(quorumSet, quorum.signers[0], "id", stranger);
        for (uint256 i = 1; i < 5; ++i) {
            assertFalse(registry.isRevoked(quorum.signers[i]), "signer");
            assertEq(registry.bondOf(quorumSet, registry.ownerOfSigner(quorum.signers[i])), BOND, "bond");
        }
    }

    /// @dev Revoking one's key ahead of the conviction changes nothing else about it, and there is one revocation.
    function test_slashesARevokedSigner() public {
        address owner = registry.ownerOfSigner(quorum.signers[0]);
        vm.prank(owner);
        registry.revokeSigner(quorum.signers[0]);
        uint64 before = registry.sequence();
        vm.prank(address(escrow));
        assertEq(registry.slash(quorumSet, quorum.signers[0], "id", stranger), BOND, "amount");
        assertEq(registry.sequence(), before + 1, "no second revocation");
    }

    function _openSet() private returns (uint64 setId) {
        setId = registry.createSet(setAdmin, address(token), 0, address(0));
        for (uint256 i = 0; i < 3; ++i) {
            _members.push(registry.ownerOfSigner(quorum.signers[i]));
            vm.prank(_members[i]);
            registry.join(setId);
        }
    }

    function _startedSet() private returns (uint64 setId) {
        setId = _openSet();
        vm.prank(setAdmin);
        registry.proposeEpoch(setId, 2, _members);
        registry.startEpoch(setId);
    }
}
