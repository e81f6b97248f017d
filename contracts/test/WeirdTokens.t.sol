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
        bool blocks;
        bool callsBack;
        /// What entry reverts with; zero where the token is admitted.
        bytes4 error_;
    }

    function _table() private pure returns (Row[] memory rows) {
        bytes4 moved = IRequestEscrow.TokenMovedOtherAmount.selector;
        rows = new Row[](13);
        for (uint256 i = 0; i < rows.length; ++i) {
            rows[i].decimals = 18;
        }
        rows[0].name = "plain, 18 decimals";
        (rows[1].name, rows[1].noReturn) = ("no return value", true);
        (rows[2].name, rows[2].revertOnZero) = ("reverts on zero", true);
        (rows[3].name, rows[3].decimals) = ("0 decimals", 0);
        (rows[4].name, rows[4].decimals) = ("6 decimals", 6);
        (rows[5].name, rows[5].decimals) = ("6 decimals, no return, reverts on zero", 6);
        (rows[5].noReturn, rows[5].revertOnZero) = (true, true);
        (rows[6].name, rows[6].blocks) = ("blacklists a payee", true);
        (rows[7].name, rows[7].callsBack) = ("calls back", true);
        (rows[8].name, rows[8].feeBps, rows[8].error_) = ("fee on transfer", 1, moved);
        (rows[9].name, rows[9].feeBps, rows[9].error_) = ("takes everything", 10_000, moved);
        (rows[10].name, rows[10].drift, rows[10].error_) = ("rebases up", 1, moved);
        (rows[11].name, rows[11].drift, rows[11].error_) = ("rebases down", -1, moved);
        (rows[12].name, rows[12].falseReturn) = ("returns false", true);
        rows[12].error_ = SafeERC20.SafeERC20FailedOperation.selector;
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
        bytes memory reentry = abi.encodeCall(escrow.withdrawFor, (payer, address(weird), splits()));
        if (row.callsBack) weird.setHook(address(escrow), reentry);

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
        weird.setBlocked(split.recipients[0], row.blocks);
        uint256 paid = _withdraw(weird, payer, row) + _withdraw(weird, treasury, row);
        paid += _withdraw(weird, split.recipients[1], row) + _withdraw(weird, split.recipients[2], row);
        if (row.blocks) {
            vm.expectRevert("blocked");
            escrow.withdrawFor(split.recipients[0], address(weird), splits());
            weird.setBlocked(split.recipients[0], false);
        }
        paid += _withdraw(weird, split.recipients[0], row);
        assertEq(weird.balanceOf(address(escrow)), price - paid, row.name);
        assertLe(price - paid, 2, row.name);
    }

    function _withdraw(WeirdToken weird, address account, Row memory row) private returns (uint256 amount) {
        uint256 before = weird.balanceOf(account);
        amount = escrow.withdrawFor(account, address(weird), splits());
        assertEq(weird.balanceOf(account) - before, amount, row.name);
        assertFalse(weird.hookSucceeded(), row.name);
        bytes4 refusal = row.callsBack ? IRequestEscrow.Reentered.selector : bytes4(0);
        assertEq(bytes32(bytes4(weird.hookAnswer())), bytes32(refusal), row.name);
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
