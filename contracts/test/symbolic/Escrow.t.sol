// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {OperatorRegistry} from "../../src/OperatorRegistry.sol";
import {RequestEscrow} from "../../src/RequestEscrow.sol";
import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {vm} from "../base/Vm.sol";

/// @notice The agent registry and the entry policy of the symbolic world: everyone speaks for the agent, every token is
/// allowed, and there is no fee until somebody changes that.
contract OpenWorld {
    bool public closed;

    function close() external {
        closed = true;
    }

    function isAuthorizedOrOwner(address, uint256) external view returns (bool) {
        return !closed;
    }

    function entryTerms(address) external view returns (bool, uint16, address) {
        return (!closed, 0, address(0));
    }
}

/// @notice The escrow and its registry in a small world, for halmos: one operator with a native bond in a set of its own, one
/// offer in the native coin, one funded request. `check-halmos` proves the `check_` functions for every argument.
contract EscrowSymbolic {
    uint256 private constant START = 1_800_000_000;
    uint128 private constant BOND = 5 ether;
    uint256 private constant SIGNER_KEY = 0xA11CE;
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;
    address private constant OPERATOR = address(0x0e0000);
    address private constant PAYER = address(0xBEEF);
    address private constant OTHER = address(0xCAFE);
    bytes private constant INPUT = "in";

    OpenWorld private _world;
    RequestEscrow private _escrow;
    OperatorRegistry private _registry;
    uint64 private _setId;
    address private _signer;
    IRequestEscrow.OperatorSet private _set;
    IRequestEscrow.Split private _split;
    IRequestEscrow.Offer private _offer;
    IRequestEscrow.Request private _request;

    function setUp() public {
        vm.warp(START);
        _world = new OpenWorld();
        _escrow = new RequestEscrow(address(_world), address(_world), address(1));
        _registry = OperatorRegistry(_escrow.operatorRegistry());
        _signer = vm.addr(SIGNER_KEY);
        _setId = _registry.createSet(address(this), address(0), BOND, address(0));
        vm.deal(OPERATOR, BOND);
        vm.prank(OPERATOR);
        _registry.register(_signer, address(0x1001), address(0x1002));
        vm.prank(OPERATOR);
        _registry.join{value: BOND}(_setId);
        address[] memory members = new address[](1);
        members[0] = OPERATOR;
        _registry.proposeEpoch(_setId, 1, members);
        _registry.startEpoch(_setId);
        (_set.epoch, _set.threshold,, _set.signers) = _registry.epochOf(_setId);
        _set.setId = _setId;

        _split.recipients = [address(0xB0B1)];
        _split.allocations = [uint256(1)];
        _split.totalAllocation = 1;
        _offer.price = 1 ether;
        _offer.operatorSetId = _setId;
        _offer.splitHash = keccak256(abi.encode(_split));
        _offer.durationMin = 1;
        _offer.durationMax = 1 days;
        _escrow.publishOffer(_offer, _split);
        _request = _fund(PAYER, uint40(START + 1 hours), "first");
    }

    function _fund(address payer, uint40 deadline, bytes32 salt) private returns (IRequestEscrow.Request memory terms) {
        terms.payer = payer;
        terms.offerHash = keccak256(abi.encode(_offer));
        terms.operatorSetHash = _registry.operatorSetHash(_setId);
        terms.splitHash = _offer.splitHash;
        terms.maxAmount = _offer.price;
        terms.deadline = deadline;
        terms.inputHash = keccak256(INPUT);
        terms.salt = salt;
        vm.deal(payer, terms.maxAmount);
        vm.prank(payer);
        _escrow.request{value: terms.maxAmount}(terms, _offer, INPUT);
    }

    function _result(uint128 amount) private view returns (IRequestEscrow.Result memory result) {
        result.requestId = _escrow.requestIdOf(_request);
        result.outcome = IRequestEscrow.Outcome.Answered;
        result.amount = amount;
        result.validUntil = type(uint64).max;
    }

    function _deliver(IRequestEscrow.Result memory result, address signer, bytes memory signature)
        private
        returns (bool success)
    {
        IRequestEscrow.Attestation[] memory attestations = new IRequestEscrow.Attestation[](1);
        attestations[0] = IRequestEscrow.Attestation(signer, signature);
        bytes memory data = abi.encodeCall(_escrow.deliver, (_request, result, _set, attestations));
        (success,) = address(_escrow).call(data);
    }

    function _refund(address caller) private returns (bool success) {
        vm.prank(caller);
        (success,) = address(_escrow).call(abi.encodeCall(_escrow.refund, (_request)));
    }

    function _signed(IRequestEscrow.Result memory result) private view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(SIGNER_KEY, _escrow.resultDigest(result));
        // To halmos a signature is any that recovers; wallets make those with a low `s`.
        vm.assume(uint256(s) <= HALF_ORDER);
        return abi.encodePacked(r, s, v);
    }

    /// @dev I4: whoever is named and whatever is shown as a signature, a delivery that goes through was signed by the member.
    function check_I4_onlyTheMemberDelivers(address signer, bytes32 r, bytes32 s, uint8 v) public {
        IRequestEscrow.Result memory result = _result(1 ether);
        if (!_deliver(result, signer, abi.encodePacked(r, s, v))) return;
        assert(signer == _signer);
        assert(ecrecover(_escrow.resultDigest(result), v, r, s) == _signer);
    }

    /// @dev I6: at every moment exactly one of delivery and refund succeeds.
    function check_I6_deadlinePartitionsTime(uint40 moment, bool deliversFirst) public {
        vm.warp(moment);
        IRequestEscrow.Result memory result = _result(1 ether);
        bytes memory signature = _signed(result);
        bool delivered = deliversFirst && _deliver(result, _signer, signature);
        bool refunded = _refund(OTHER);
        if (!deliversFirst) delivered = _deliver(result, _signer, signature);
        assert(delivered == (moment < _request.deadline));
        assert(refunded == (moment >= _request.deadline));
    }

    /// @dev I7: from the deadline on anybody's refund succeeds and credits the payer exactly what was escrowed, also when no
    /// token and no agent is allowed any more.
    function check_I7_refundIsExactAndUnstoppable(uint40 moment, address caller, bool closed) public {
        if (moment < _request.deadline) return;
        if (closed) _world.close();
        vm.warp(moment);
        assert(_refund(caller));
        assert(_escrow.creditOf(PAYER, address(0)) == _request.maxAmount);
        assert(_escrow.statusOf(_escrow.requestIdOf(_request)) == IRequestEscrow.Status.Refunded);
        assert(!_refund(caller));
    }

    /// @dev I3 on the contract: a settled request is neither refunded nor delivered again, at any moment.
    function check_I3_settledIsFinal(uint40 moment, uint128 amount) public {
        IRequestEscrow.Result memory result = _result(amount);
        bytes memory signature = _signed(result);
        if (!_deliver(result, _signer, signature)) return;
        assert(amount != 0 && amount <= _request.maxAmount);
        assert(_escrow.settledTotal(_request.splitHash, address(0)) == amount);
        assert(_escrow.creditOf(PAYER, address(0)) == _request.maxAmount - amount);
        vm.warp(moment);
        assert(!_refund(OTHER));
        assert(!_deliver(result, _signer, signature));
    }

    /// @dev I10: whoever withdraws for whomever, or has a request refunded, lowers nobody else's credit.
    function check_I10_creditsAreApart(address caller, address account, uint40 moment) public {
        vm.warp(START + 1 hours);
        assert(_refund(OTHER));
        if (account == PAYER) return;
        vm.warp(moment);
        vm.prank(caller);
        (bool success,) = address(_escrow)
            .call(abi.encodeCall(_escrow.withdrawFor, (account, address(0), new IRequestEscrow.Split[](0))));
        assert(!success);
        assert(_escrow.creditOf(PAYER, address(0)) == _request.maxAmount);
        assert(address(_escrow).balance == _request.maxAmount);
    }

    /// @dev I12: whatever the bond, a conviction takes all of it and gives the payer half, once per request; the key counts no
    /// more and nothing is left to take. The other half is not read here: the compiler hashes the burn address when it
    /// builds, and halmos does not know such a slot again. `checkBonds` and `SetsTest` read it.
    function check_I12_slashIsBoundedAndOnce(uint128 bond) public {
        uint64 setId = _registry.createSet(address(this), address(0), bond, address(0));
        vm.deal(OPERATOR, bond);
        vm.prank(OPERATOR);
        _registry.join{value: bond}(setId);
        vm.prank(address(_escrow));
        assert(_registry.slash(setId, _signer, "id", PAYER) == bond);
        assert(_registry.creditOf(PAYER, address(0)) == bond / 2);
        assert(_registry.bondOf(setId, OPERATOR) == 0);
        assert(_registry.isRevoked(_signer));
        bytes memory data = abi.encodeCall(_registry.slash, (setId, _signer, "id", PAYER));
        vm.prank(address(_escrow));
        (bool success,) = address(_registry).call(data);
        assert(!success);
    }

    /// @dev I11: a member's bond stays; who left gets it back, whole and to its own address, once the delay is over.
    function check_I11_bondLeavesAfterTheDelayOnly(uint64 moment, address caller) public {
        vm.prank(OPERATOR);
        (bool success,) = address(_registry).call(abi.encodeCall(_registry.startUnbonding, (_setId)));
        assert(!success);
        vm.prank(OPERATOR);
        _registry.revokeSigner(_signer);
        vm.prank(OPERATOR);
        _registry.startUnbonding(_setId);
        vm.warp(moment);
        vm.prank(caller);
        (success,) = address(_registry).call(abi.encodeCall(_registry.releaseBond, (_setId, OPERATOR)));
        assert(success == (moment >= START + 14 days));
        assert(address(0x1002).balance == (success ? BOND : 0));
        assert(address(_registry).balance == (success ? 0 : BOND));
    }
}
