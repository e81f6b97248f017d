// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IOperatorRegistry} from "../../src/interfaces/IOperatorRegistry.sol";
import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {Vm, vm} from "../base/Vm.sol";

/// @notice An indexer in miniature: it knows the contracts by their events only, and its tables have to equal what the
/// contracts say. It also keeps the sums that no contract stores.
abstract contract Replay is EscrowTest {
    struct Row {
        IRequestEscrow.Status status;
        IRequestEscrow.Request terms;
        uint128 settled;
        address[] signers;
    }

    uint64 internal escrowSequence;
    uint64 internal registrySequence;
    bytes32[] internal requestIds;
    mapping(bytes32 requestId => Row) internal rows;
    mapping(bytes32 requestId => IRequestEscrow.Result) internal results;
    mapping(bytes32 requestId => uint256) internal conviction;
    mapping(address token => uint256) internal deposited;
    mapping(address token => uint256) internal openSum;
    mapping(address token => uint256) internal settledGross;
    mapping(address token => uint256) internal givenBack;
    mapping(address token => uint256) internal withdrawn;
    mapping(address account => mapping(address token => uint256)) internal credit;
    mapping(address account => mapping(address token => uint256)) internal withdrawnBy;
    mapping(address account => mapping(address token => uint256)) internal creditEver;
    mapping(address token => uint256) internal splitTotal;
    /// @dev Registry: bonds held, slashed credits held.
    uint256 internal bondSum;
    uint256 internal slashedSum;
    mapping(address account => uint256) internal slashCredit;

    function beginReplay() internal {
        escrowSequence = escrow.sequence();
        registrySequence = registry.sequence();
        vm.recordLogs();
    }

    function replay() internal {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].emitter == address(escrow)) _escrowEvent(logs[i]);
            if (logs[i].emitter == address(registry)) _registryEvent(logs[i]);
        }
    }

    function _escrowEvent(Vm.Log memory log) private {
        // I15: the sequence grows by exactly one per event.
        assertEq(_word(log.data, 0), ++escrowSequence, "I15 escrow sequence");
        bytes32 topic = log.topics[0];
        bytes32 id = log.topics[1];
        Row storage row = rows[id];
        if (topic == IRequestEscrow.Requested.selector) {
            (, IRequestEscrow.Request memory terms,) = abi.decode(log.data, (uint64, IRequestEscrow.Request, bytes));
            assertTrue(row.status == IRequestEscrow.Status.None, "I3 funded twice");
            row.status = IRequestEscrow.Status.Funded;
            row.terms = terms;
            requestIds.push(id);
            deposited[terms.token] += terms.maxAmount;
            openSum[terms.token] += terms.maxAmount;
        } else if (topic == IRequestEscrow.Delivered.selector) {
            assertTrue(row.status == IRequestEscrow.Status.Funded, "I3 delivered when not funded");
            (, IRequestEscrow.Result memory result, address[] memory signers) =
                abi.decode(log.data, (uint64, IRequestEscrow.Result, address[]));
            row.status = IRequestEscrow.Status.Delivered;
            row.signers = signers;
            results[id] = result;
            assertTrue(block.timestamp < row.terms.deadline, "I6 delivered late");
        } else if (topic == IRequestEscrow.Settled.selector) {
            _settled(log, row);
        } else if (topic == IRequestEscrow.Refunded.selector) {
            assertTrue(row.status == IRequestEscrow.Status.Funded, "I3 refunded when not funded");
            assertTrue(block.timestamp >= row.terms.deadline, "I6 refunded early");
            row.status = IRequestEscrow.Status.Refunded;
            _giveBack(row);
        } else if (topic == IRequestEscrow.Slashed.selector) {
            assertTrue(row.status == IRequestEscrow.Status.Delivered, "I3 slashed when not delivered");
            row.status = IRequestEscrow.Status.Slashed;
            _giveBack(row);
        } else if (topic == IRequestEscrow.Withdrawn.selector) {
            address account = address(uint160(uint256(log.topics[1])));
            address token_ = address(uint160(uint256(log.topics[2])));
            uint256 amount = _word(log.data, 1);
            withdrawn[token_] += amount;
            withdrawnBy[account][token_] += amount;
            credit[account][token_] = 0;
        }
    }

    function _settled(Vm.Log memory log, Row storage row) private {
        assertTrue(row.status == IRequestEscrow.Status.Delivered, "I3 settled when not delivered");
        (, address token_, uint128 amount, uint128 fee, uint128 returned) =
            abi.decode(log.data, (uint64, address, uint128, uint128, uint128));
        // I13: what was agreed at request time is what is paid, whatever changed since.
        assertEq(fee, uint256(amount) * row.terms.feeBps / 10_000, "I13 fee");
        assertEq(uint256(amount) + returned, row.terms.maxAmount, "I2 amount and change");
        assertEq(token_, row.terms.token, "I13 token");
        assertEq(log.topics[2], row.terms.splitHash, "I13 split");
        row.status = IRequestEscrow.Status.Settled;
        row.settled = amount;
        openSum[token_] -= row.terms.maxAmount;
        settledGross[token_] += amount;
        givenBack[token_] += returned;
        splitTotal[token_] += amount - fee;
        _credit(row.terms.feeRecipient, token_, fee);
        _credit(row.terms.payer, token_, returned);
    }

    function _giveBack(Row storage row) private {
        openSum[row.terms.token] -= row.terms.maxAmount;
        givenBack[row.terms.token] += row.terms.maxAmount;
        _credit(row.terms.payer, row.terms.token, row.terms.maxAmount);
    }

    function _credit(address account, address token_, uint256 amount) private {
        credit[account][token_] += amount;
        creditEver[account][token_] += amount;
    }

    function _registryEvent(Vm.Log memory log) private {
        assertEq(_word(log.data, 0), ++registrySequence, "I15 registry sequence");
        bytes32 topic = log.topics[0];
        if (topic == IOperatorRegistry.Joined.selector) bondSum += _word(log.data, 1);
        if (topic == IOperatorRegistry.BondReleased.selector) bondSum -= _word(log.data, 2);
        if (topic == IOperatorRegistry.BondSlashed.selector) {
            uint256 amount = _word(log.data, 2);
            uint256 reward = _word(log.data, 4);
            address beneficiary = address(uint160(_word(log.data, 3)));
            // I12: once per request, bounded by the bond, half of it to the payer and the rest to nobody.
            assertEq(++conviction[log.topics[3]], 1, "I12 slashed twice");
            assertLe(amount, BOND, "I12 more than the bond");
            assertEq(beneficiary, rows[log.topics[3]].terms.payer, "I12 beneficiary");
            assertEq(reward, amount / 2, "I12 reward");
            slashCredit[beneficiary] += reward;
            slashCredit[registry.BURN_ADDRESS()] += amount - reward;
            bondSum -= amount;
            slashedSum += amount;
        }
        if (topic == IOperatorRegistry.Withdrawn.selector) {
            slashedSum -= _word(log.data, 1);
            slashCredit[address(uint160(uint256(log.topics[1])))] = 0;
        }
    }

    function _word(bytes memory data, uint256 index) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := mload(add(add(data, 0x20), mul(index, 0x20)))
        }
    }
}
