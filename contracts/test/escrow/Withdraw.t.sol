// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {vm} from "../base/Vm.sol";
import {Receiver} from "../doubles/Accounts.sol";

contract WithdrawTest is EscrowTest {
    uint256 private _salt;

    function test_paysCreditAndShareTogether() public {
        // The payer is one of the payees, too.
        split.recipients[0] = payer;
        _publish();
        _settle(PRICE / 2);
        uint256 net = PRICE / 2 - PRICE / 200;
        uint256 amount = PRICE / 2 + net * 7 / 10;
        assertEq(claimableOf(payer, address(token)), amount, "claimable");
        uint256 before = token.balanceOf(payer);
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IRequestEscrow.Withdrawn(escrow.sequence() + 1, payer, address(token), amount);
        vm.prank(payer);
        assertEq(escrow.withdraw(address(token), splits()), amount, "returned");
        assertEq(token.balanceOf(payer) - before, amount, "paid");
        assertEq(claimableOf(payer, address(token)), 0, "nothing left");
    }

    function test_creditsAndSharesAddUp() public {
        _settle(PRICE / 2);
        _settle(PRICE / 4);
        assertEq(escrow.creditOf(payer, address(token)), PRICE / 2 + PRICE * 3 / 4, "change");
        assertEq(escrow.creditOf(treasury, address(token)), PRICE / 200 + PRICE / 400, "fees");
        address payee = split.recipients[0];
        for (uint256 i = 0; i < 3; ++i) {
            escrow.withdrawFor(payee, address(token), splits());
            assertEq(claimableOf(payee, address(token)), 0, "taken");
            _settle(PRICE);
        }
        uint256 net = uint256(PRICE) * 15 / 4 * 99 / 100;
        assertEq(escrow.settledTotal(offer.splitHash, address(token)), net, "settled");
        assertEq(token.balanceOf(payee) + claimableOf(payee, address(token)), net * 7 / 10, "share");
    }

    function test_anyoneWithdrawsForAnAccount() public {
        _settle(PRICE);
        vm.prank(stranger);
        escrow.withdrawFor(split.recipients[1], address(token), splits());
        assertEq(token.balanceOf(split.recipients[1]), uint256(PRICE) * 99 / 100 * 2 / 10, "paid to the payee");
        assertEq(token.balanceOf(stranger), 0, "not to the caller");
    }

    function test_theSameSplitTwicePaysOnce() public {
        _settle(PRICE);
        IRequestEscrow.Split[] memory twice = new IRequestEscrow.Split[](2);
        (twice[0], twice[1]) = (split, split);
        uint256 share = uint256(PRICE) * 99 / 100 * 7 / 10;
        address[] memory tokens = new address[](2);
        (tokens[0], tokens[1]) = (address(token), address(0));
        uint256[] memory amounts = escrow.claimable(split.recipients[0], tokens, twice);
        assertEq(amounts[0], share, "claimable");
        assertEq(amounts[1], 0, "claimable in the other token");
        assertEq(escrow.withdrawFor(split.recipients[0], address(token), twice), share, "withdrawn");
    }

    function test_severalSplitsPayTogether() public {
        _settle(PRICE);
        IRequestEscrow.Split memory first = split;
        split.allocations[0] = 1;
        split.totalAllocation = 4;
        _publish();
        _settle(PRICE);
        IRequestEscrow.Split[] memory both = new IRequestEscrow.Split[](2);
        (both[0], both[1]) = (first, split);
        uint256 net = uint256(PRICE) * 99 / 100;
        address[] memory tokens = new address[](1);
        tokens[0] = address(token);
        assertEq(escrow.claimable(split.recipients[0], tokens, both)[0], net * 7 / 10 + net / 4, "claimable");
        assertEq(escrow.withdrawFor(split.recipients[0], address(token), both), net * 7 / 10 + net / 4, "withdrawn");
    }

    function test_tokensAreKeptApart() public {
        _settle(PRICE);
        vm.expectRevert(
            abi.encodeWithSelector(IRequestEscrow.NothingToWithdraw.selector, split.recipients[0], address(0))
        );
        escrow.withdrawFor(split.recipients[0], address(0), splits());
    }

    function test_RevertWhen_NothingIsOwed() public {
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.NothingToWithdraw.selector, stranger, address(token)));
        vm.prank(stranger);
        escrow.withdraw(address(token), splits());
    }

    function test_RevertWhen_WithdrawnBefore() public {
        _settle(PRICE);
        escrow.withdrawFor(split.recipients[0], address(token), splits());
        vm.expectRevert(
            abi.encodeWithSelector(IRequestEscrow.NothingToWithdraw.selector, split.recipients[0], address(token))
        );
        escrow.withdrawFor(split.recipients[0], address(token), splits());
    }

    /// @dev A split that nobody validated has no money in it, whatever it says.
    function test_madeUpSplitsPayNothing() public {
        _settle(PRICE);
        split.allocations[0] = type(uint256).max;
        vm.expectRevert(
            abi.encodeWithSelector(IRequestEscrow.NothingToWithdraw.selector, split.recipients[0], address(token))
        );
        escrow.withdrawFor(split.recipients[0], address(token), splits());
        split.totalAllocation = 0;
        delete split.allocations;
        assertEq(claimableOf(split.recipients[0], address(token)), 0, "claimable");
    }

    function test_RevertWhen_NativeReceiverRefuses() public {
        Receiver receiver = new Receiver();
        split.recipients[0] = address(receiver);
        _publishNative();
        _settleNative(PRICE);
        receiver.setRefuses(true);
        vm.expectRevert(abi.encodeWithSelector(IRequestEscrow.NativeTransferFailed.selector, address(receiver)));
        escrow.withdrawFor(address(receiver), address(0), splits());
        // Nobody else is held up, and the money waits.
        escrow.withdrawFor(split.recipients[1], address(0), splits());
        receiver.setRefuses(false);
        escrow.withdrawFor(address(receiver), address(0), splits());
        assertEq(address(receiver).balance, uint256(PRICE) * 99 / 100 * 7 / 10, "paid later");
    }

    /// @dev The split's arithmetic: never more than the total, never more than a unit per payee below it, never less than
    /// before, and the same for every way to slice.
    function testFuzz_sharesAreExact(uint64[4] memory weights, uint96[6] memory amounts) public {
        delete split.recipients;
        delete split.allocations;
        uint256 total = 0;
        for (uint256 i = 0; i < 4; ++i) {
            uint256 weight = bound(weights[i], 1, type(uint64).max / 4);
            split.recipients.push(address(uint160(0xD000 + i)));
            split.allocations.push(weight);
            total += weight;
        }
        split.totalAllocation = total;
        vm.prank(timelock);
        policy.setFee(0, address(0));
        uint256 settled = 0;
        uint256 paid = 0;
        for (uint256 i = 0; i < 6; ++i) {
            uint128 amount = uint128(bound(amounts[i], 1, 1000));
            offer.price = amount;
            _publish();
            _settle(amount);
            settled += amount;
            address one = split.recipients[i % 4];
            if (claimableOf(one, address(token)) != 0) {
                paid += escrow.withdrawFor(one, address(token), splits());
            }
        }
        for (uint256 i = 0; i < 4; ++i) {
            address one = split.recipients[i];
            uint256 exact = settled * split.allocations[i] / total;
            paid += claimableOf(one, address(token));
            assertEq(claimableOf(one, address(token)) + token.balanceOf(one), exact, "share");
        }
        assertLe(paid, settled, "gained");
        assertLe(settled - paid, 3, "lost");
    }

    function _settle(uint128 amount) private {
        IRequestEscrow.Request memory terms = termsOf(offer, bytes32(++_salt));
        fund(terms, offer);
        deliverAnswer(terms, amount);
    }

    function _settleNative(uint128 amount) private {
        IRequestEscrow.Request memory terms = termsOf(nativeOffer, bytes32(++_salt));
        fund(terms, nativeOffer);
        deliverAnswer(terms, amount);
    }

    function _publish() private {
        offer.splitHash = keccak256(abi.encode(split));
        vm.prank(agentOwner);
        escrow.publishOffer(offer, split);
    }

    function _publishNative() private {
        nativeOffer.splitHash = keccak256(abi.encode(split));
        vm.prank(agentOwner);
        escrow.publishOffer(nativeOffer, split);
    }
}
