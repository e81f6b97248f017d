// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "./base/EscrowTest.sol";
import {vm} from "./base/Vm.sol";
import {WeirdToken} from "./doubles/WeirdToken.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @notice The table of tokens: what each oddity does on entry, and that every admitted one goes the whole way.
contract WeirdTokensTest is EscrowTest {
    struct Row {
        string name;
        uint8 decimals;
        uint256 feeBps;
        int256 drift;
        bool noReturn;
        bool falseReturn;
        bool revertOnZero;
        bytes4 error_;
    }

    function _table() private pure returns (Row[] memory rows) {
        bytes4 moved = IRequestEscrow.TokenMovedOtherAmount.selector;
        rows = new Row[](11);
        rows[0] = Row("plain", 18, 0, 0, false, false, false, 0);
        rows[1] = Row("no return value", 18, 0, 0, true, false, false, 0);
        rows[2] = Row("reverts on zero", 18, 0, 0, false, false, true, 0);
        rows[3] = Row("0 decimals", 0, 0, 0, false, false, false, 0);
        rows[4] = Row("6 decimals", 6, 0, 0, false, false, false, 0);
        rows[5] = Row("6 decimals, no return, reverts on zero", 6, 0, 0, true, false, true, 0);
        rows[6] = Row("fee on transfer", 18, 1, 0, false, false, false, moved);
        rows[7] = Row("takes everything", 18, 10_000, 0, false, false, false, moved);
        rows[8] = Row("rebases up", 18, 0, 1, false, false, false, moved);
        rows[9] = Row("rebases down", 18, 0, -1, false, false, false, moved);
        rows[10] = Row("returns false", 18, 0, 0, false, true, false, SafeERC20.SafeERC20FailedOperation.selector);
    }

    function test_matrix() public {
        Row[] memory rows = _table();
        for (uint256 i = 0; i < rows.length; ++i) {
            _check(rows[i]);
        }
    }

    function _check(Row memory row) private {
        WeirdToken weird = new WeirdToken();
        uint128 price = uint128(1000 * 10 ** row.decimals + 7);
        IRequestEscrow.Offer memory of_ = _offerIn(weird, price);
        weird.setDecimals(row.decimals);
        weird.setFee(row.feeBps);
        weird.setNoReturn(row.noReturn);
        weird.setFalseReturn(row.falseReturn);
        weird.setRevertOnZero(row.revertOnZero);
        weird.setDrift(row.drift);
        if (row.drift != 0) weird.mint(address(escrow), 1);

        IRequestEscrow.Request memory terms = termsOf(of_, "weird");
        bytes32 requestId = escrow.requestIdOf(terms);
        vm.prank(payer);
        (bool success, bytes memory answer) = address(escrow).call(abi.encodeCall(escrow.request, (terms, of_, INPUT)));
        assertTrue(success == (row.error_ == 0), row.name);
        if (!success) {
            assertEq(bytes32(bytes4(answer)), bytes32(row.error_), row.name);
            assertStatus(requestId, IRequestEscrow.Status.None);
            return;
        }
        deliverAnswer(terms, price - 3);
        uint256 paid = escrow.withdrawFor(payer, address(weird), splits())
            + escrow.withdrawFor(treasury, address(weird), splits());
        for (uint256 i = 0; i < 3; ++i) {
            paid += escrow.withdrawFor(split.recipients[i], address(weird), splits());
        }
        assertEq(weird.balanceOf(address(escrow)), price - paid, row.name);
        assertLe(price - paid, 2, row.name);
    }

    /// @dev A payee that the token blocks waits alone.
    function test_blacklistedPayeeBlocksNobody() public {
        WeirdToken weird = new WeirdToken();
        IRequestEscrow.Offer memory of_ = _offerIn(weird, 1000);
        IRequestEscrow.Request memory terms = termsOf(of_, "blacklist");
        fund(terms, of_);
        weird.setBlocked(split.recipients[0], true);
        weird.setBlocked(payer, true);
        weird.setBlocked(treasury, true);
        deliverAnswer(terms, 500);
        escrow.withdrawFor(split.recipients[1], address(weird), splits());
        vm.expectRevert("blocked");
        escrow.withdrawFor(split.recipients[0], address(weird), splits());
        weird.setBlocked(split.recipients[0], false);
        escrow.withdrawFor(split.recipients[0], address(weird), splits());
        assertEq(weird.balanceOf(split.recipients[0]), uint256(495) * 7 / 10, "paid later");
    }

    /// @dev A payer that the token blocks is refunded all the same; the credit waits.
    function test_blacklistedPayerIsRefunded() public {
        WeirdToken weird = new WeirdToken();
        IRequestEscrow.Offer memory of_ = _offerIn(weird, 1000);
        IRequestEscrow.Request memory terms = termsOf(of_, "blacklist");
        fund(terms, of_);
        weird.setBlocked(payer, true);
        vm.warp(terms.deadline);
        escrow.refund(terms);
        assertEq(escrow.creditOf(payer, address(weird)), 1000, "credit");
    }

    /// @dev The hole that a balance check without a lock has: the inner request's money counts for both.
    function test_callbackTokenCannotFundTwoRequestsWithOneTransfer() public {
        WeirdToken weird = new WeirdToken();
        IRequestEscrow.Offer memory of_ = _offerIn(weird, 1000);
        IRequestEscrow.Request memory inner = termsOf(of_, "inner");
        inner.payer = address(weird);
        IRequestEscrow.Request memory outer = termsOf(of_, "outer");
        weird.setHook(address(escrow), abi.encodeCall(escrow.request, (inner, of_, INPUT)));
        fund(outer, of_);
        assertFalse(weird.hookSucceeded(), "reentered");
        assertEq(bytes32(bytes4(weird.hookAnswer())), bytes32(IRequestEscrow.Reentered.selector), "Reentered");
        assertStatus(escrow.requestIdOf(inner), IRequestEscrow.Status.None);
    }

    function test_callbackTokenCannotWithdrawTwice() public {
        WeirdToken weird = new WeirdToken();
        IRequestEscrow.Offer memory of_ = _offerIn(weird, 1000);
        IRequestEscrow.Request memory terms = termsOf(of_, "twice");
        fund(terms, of_);
        vm.warp(terms.deadline);
        escrow.refund(terms);
        weird.mint(address(escrow), 1000);
        weird.setHook(address(escrow), abi.encodeCall(escrow.withdrawFor, (payer, address(weird), noSplits())));
        uint256 before = weird.balanceOf(payer);
        escrow.withdrawFor(payer, address(weird), noSplits());
        assertFalse(weird.hookSucceeded(), "reentered");
        assertEq(weird.balanceOf(payer) - before, 1000, "once");
    }

    function _offerIn(WeirdToken weird, uint128 price) private returns (IRequestEscrow.Offer memory of_) {
        vm.prank(timelock);
        policy.setTokenAllowed(address(weird), true);
        of_ = offer;
        of_.token = address(weird);
        of_.price = price;
        vm.prank(agentOwner);
        escrow.publishOffer(of_, split);
        weird.mint(payer, price);
        vm.prank(payer);
        weird.approve(address(escrow), type(uint256).max);
    }
}
