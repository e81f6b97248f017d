// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {vm} from "../base/Vm.sol";
import {Receiver} from "../doubles/Accounts.sol";
import {WeirdToken} from "../doubles/WeirdToken.sol";
import {Replay} from "./Replay.sol";

/// @notice Everybody who may touch the contracts, well-meaning or not. Functions whose names start with `attack` have to be
/// refused; a refusal that does not come, or comes for another reason, fails the run.
/// @dev An action that finds no subject makes one, so that nearly every call does something; `effective` counts those that
/// did.
contract Handler is Replay {
    uint256 private constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    uint256[3] private _payerKeys = [uint256(0xA11CE), 0xA11CF, 0xA11D0];
    address[] public accounts;
    IRequestEscrow.Offer[] private _offers;
    bytes32[] private _open;
    bytes32[] private _waiting;
    bytes32[] private _closed;
    WeirdToken public weird;
    Receiver public receiver;
    uint256 private _salt;
    /// @dev The keys of all epochs: convicted ones are replaced.
    mapping(address signer => uint256) private _signerKeys;

    mapping(bytes4 selector => uint256) public calls;
    mapping(bytes4 selector => uint256) public effective;
    /// @dev How often each negative path was taken and refused.
    mapping(string path => uint256) public hits;

    /// @dev Watches one bystander: what an action does to others may only add to its claims (I10), and an administrator's
    /// action changes nobody's (I14).
    modifier acts(uint256 seed) {
        address bystander = accounts[seed % accounts.length];
        uint256 before = _claims(bystander);
        uint256 paidBefore = _paid(bystander);
        ++calls[msg.sig];
        _;
        replay();
        assertGe(_claims(bystander) + _paid(bystander) - paidBefore, before, "I10 a claim fell");
    }

    constructor() {
        setUp();
        beginWorld();
    }

    function beginWorld() private {
        weird = new WeirdToken();
        receiver = new Receiver();
        vm.prank(timelock);
        policy.setTokenAllowed(address(weird), true);
        // The hostile receiver is a payee of everything, and the hostile token is paid with.
        split.recipients[2] = address(receiver);
        _addOffer(offer, address(token));
        _addOffer(offer, address(0));
        _addOffer(offer, address(weird));
        _addOffer(challengedOffer, address(token));
        _addOffer(challengedOffer, address(0));
        for (uint256 i = 0; i < 3; ++i) {
            address account = vm.addr(_payerKeys[i]);
            accounts.push(account);
            accounts.push(split.recipients[i]);
            if (i != 0) token.transfer(account, 1_000_000 ether);
            vm.deal(account, 1_000_000 ether);
            weird.mint(account, 1_000_000 ether);
            vm.startPrank(account);
            token.approve(address(escrow), type(uint256).max);
            weird.approve(address(escrow), type(uint256).max);
            vm.stopPrank();
        }
        accounts.push(treasury);
        for (uint256 i = 0; i < 5; ++i) {
            _signerKeys[quorum.signers[i]] = signerKeys[i];
        }
        bondSum = token.balanceOf(address(registry));
        beginReplay();
    }

    function _addOffer(IRequestEscrow.Offer memory of_, address token_) private {
        of_.token = token_;
        of_.splitHash = keccak256(abi.encode(split));
        _offers.push(of_);
        vm.prank(agentOwner);
        escrow.publishOffer(of_, split);
    }

    /* PAYERS */

    function request(uint128 seed) external acts(seed) {
        _disarm(seed);
        _fund(seed);
        _did();
    }

    function requestSigned(uint128 seed) external acts(seed) {
        IRequestEscrow.Request memory terms = _terms(seed, 0);
        escrow.requestWithAuthorization(
            terms, _offers[0], INPUT, 0, terms.deadline, authorize(terms, _keyOf(terms.payer))
        );
        _open.push(escrow.requestIdOf(terms));
        _did();
    }

    function requestBatch(uint128 seed) external acts(seed) {
        IRequestEscrow.Request memory terms = _terms(seed, 0);
        bytes[] memory inputs = new bytes[](1 + seed % 4);
        for (uint256 i = 0; i < inputs.length; ++i) {
            inputs[i] = abi.encode(seed, i);
        }
        terms.inputHash = keccak256(inputs[0]);
        vm.prank(terms.payer);
        escrow.requestBatch(terms, _offers[0], inputs);
        for (uint256 i = 0; i < inputs.length; ++i) {
            _open.push(escrow.requestIdOf(batchItem(terms, inputs, i)));
        }
        _did();
    }

    /* OPERATORS */

    function deliver(uint128 seed, uint128 amount) external acts(seed) {
        (bytes32 id, uint256 index) = _openRequest(seed);
        _deliver(id, index, amount, seed);
        _did();
    }

    function deliverBatch(uint128 seed) external acts(seed) {
        (bytes32 late, bool found) = _expiredRequest(seed);
        IRequestEscrow.Delivery[] memory deliveries = new IRequestEscrow.Delivery[](3);
        // Nothing that came too late keeps the one behind it from being delivered.
        deliveries[0] = _delivery(_closedRequest(seed), 1);
        deliveries[1] = found ? _delivery(late, 1) : deliveries[0];
        (bytes32 id, uint256 index) = _openRequest(seed);
        deliveries[2] = _delivery(id, uint128(seed));
        vm.prank(transmitter);
        bool[] memory accepted = escrow.deliverBatch(deliveries);
        assertFalse(accepted[0], "I3 closed one left out");
        assertFalse(accepted[1], "I6 late one left out");
        assertTrue(accepted[2], "open one accepted");
        if (found) _hit("late delivery in a batch");
        _closeOpen(id, index);
        _did();
    }

    function settle(uint128 seed) external acts(seed) {
        (bytes32 id, uint256 index) = _waitingRequest(seed);
        skipTime(WINDOW);
        vm.prank(stranger);
        escrow.settle(rows[id].terms, results[id], rows[id].signers);
        _closed.push(id);
        _drop(_waiting, index);
        _did();
    }

    function convict(uint128 seed) external acts(seed) {
        (bytes32 id, uint256 index) = _waitingRequest(seed);
        address[] memory signers = rows[id].signers;
        address convicted = signers[seed % signers.length];
        vm.prank(referee);
        escrow.convict(rows[id].terms, results[id], quorum, signers, convicted);
        _closed.push(id);
        _drop(_waiting, index);
        _refuseConvicted(seed, convicted);
        _replace(convicted);
        _did();
    }

    /// @dev A convicted key counts no more, and its operator is in no later epoch without a new bond.
    function _refuseConvicted(uint128 seed, address convicted) private {
        (bytes32 id,) = _openRequest(seed);
        IRequestEscrow.Delivery memory one = _delivery(id, uint128(seed));
        one.attestations = attest(one.result, 5);
        _refused("a convicted signer", _deliverCall(one), stranger, IRequestEscrow.UnknownSigner.selector);
        address owner = registry.ownerOfSigner(convicted);
        bytes memory data = abi.encodeCall(registry.proposeSigner, (convicted));
        _refusedBy("a convicted signer comes back", address(registry), data, owner);
        assertEq(registry.bondOf(quorumSet, owner), 0, "I12 nothing is left");
        assertEq(registry.operatorOf(owner).signer, address(0), "a convicted operator has no signer");
    }

    /// @dev The convicted operator comes back with another key and another bond, in the admin's next epoch. The day that this
    /// takes ends every open request of the epoch before.
    function _replace(address convicted) private {
        address owner = registry.ownerOfSigner(convicted);
        uint256 key = uint256(keccak256(abi.encode("replacement", convicted))) >> 8;
        vm.prank(owner);
        registry.proposeSigner(vm.addr(key));
        vm.prank(setAdmin);
        registry.proposeEpoch(quorumSet, 3, operators);
        skipTime(1 days);
        registry.activateSigner(owner);
        joinSet(owner, quorumSet);
        registry.startEpoch(quorumSet);
        _signerKeys[vm.addr(key)] = key;
        quorum = setOf(quorumSet);
        for (uint256 i = 0; i < 5; ++i) {
            signerKeys[i] = _signerKeys[quorum.signers[i]];
        }
    }

    function leaveAndJoin(uint128 seed) external acts(seed) {
        address owner = address(uint160(0xF00000 + calls[msg.sig]));
        addOperator(owner, address(uint160(owner) + 0x1000000), quorumSet);
        vm.prank(owner);
        registry.startUnbonding(quorumSet);
        vm.expectRevert();
        registry.releaseBond(quorumSet, owner);
        _did();
    }

    /* EXITS */

    function refund(uint128 seed) external acts(seed) {
        (bytes32 id, uint256 index) = _openRequest(seed);
        IRequestEscrow.Request memory terms = rows[id].terms;
        if (block.timestamp < terms.deadline) vm.warp(terms.deadline);
        uint256 before = escrow.creditOf(terms.payer, terms.token);
        vm.prank(stranger);
        escrow.refund(terms);
        assertEq(escrow.creditOf(terms.payer, terms.token) - before, terms.maxAmount, "I7 refund exact");
        _closed.push(id);
        _drop(_open, index);
        _did();
    }

    function withdraw(uint128 seed) external acts(uint256(seed) + 1) {
        _disarm(seed);
        for (uint256 i = 0; i < accounts.length; ++i) {
            address account = accounts[(seed + i) % accounts.length];
            for (uint256 t = 0; t < 3; ++t) {
                address token_ = tokenAt((seed + t) % 3);
                uint256 due = claimableOf(account, token_);
                if (due == 0) continue;
                uint256 before = _balanceOf(token_, account);
                vm.prank(seed % 2 == 0 ? account : stranger);
                assertEq(escrow.withdrawFor(account, token_, splits()), due, "I9 pays what is due");
                assertEq(_balanceOf(token_, account) - before, due, "I9 arrives");
                return _did();
            }
        }
    }

    function withdrawSlashed(uint128 seed) external acts(seed) {
        address account = payerAt(seed);
        if (seed % 4 == 0) account = registry.BURN_ADDRESS();
        uint256 due = registry.creditOf(account, address(token));
        if (due == 0) {
            vm.expectRevert();
            registry.withdrawFor(account, address(token));
        } else {
            assertEq(registry.withdrawFor(account, address(token)), due, "slashed credit");
        }
        _did();
    }

    /* ADMINISTRATORS: new requests only */

    function changePolicy(uint128 seed) external acts(seed) {
        uint256 before = _allClaims();
        vm.startPrank(timelock);
        policy.setFee(uint16(seed % 501), treasury);
        policy.setTokenAllowed(address(token), false);
        policy.setTokenAllowed(address(token), true);
        vm.stopPrank();
        vm.startPrank(agentOwner);
        escrow.retireOffer(_offers[1]);
        escrow.publishOffer(_offers[1], split);
        vm.stopPrank();
        address successor = address(uint160(0xAD0000 + calls[msg.sig]));
        vm.prank(setAdmin);
        registry.proposeSetAdmin(quorumSet, successor);
        vm.prank(successor);
        registry.acceptSetAdmin(quorumSet);
        setAdmin = successor;
        assertEq(_allClaims(), before, "I14 an administrator moved a claim");
        _did();
    }

    /* ATTACKS: each has to be refused, in every way in every call, so that each way is tried in each run */

    function attackSignatures(uint128 seed) external acts(seed) {
        (bytes32 id,) = _openRequest(seed);
        bytes32 digest = escrow.resultDigest(_delivery(id, uint128(seed)).result);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(signerKeys[0], digest);
        _refuseSignature("a stranger's key", id, seed, signature(0xBAD, digest));
        _refuseSignature("high s", id, seed, abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? 28 : uint8(27)));
        _refuseSignature("v of 0 or 1", id, seed, abi.encodePacked(r, s, v - 27));
        _refuseSignature("64 bytes", id, seed, abi.encodePacked(r, s));

        IRequestEscrow.Delivery memory one = _delivery(id, uint128(seed));
        one.result.outputHash = bytes32(uint256(seed));
        _refused("another output", _deliverCall(one), stranger, IRequestEscrow.InvalidSignature.selector);
        one = _delivery(id, uint128(seed));
        one.attestations[1] = one.attestations[0];
        _refused("one signer twice", _deliverCall(one), stranger, IRequestEscrow.SignersNotAscending.selector);
        one.attestations[0] = IRequestEscrow.Attestation(address(0), abi.encodePacked(r, s, v));
        _refused("the zero signer", _deliverCall(one), stranger, IRequestEscrow.SignersNotAscending.selector);
        _did();
    }

    function _refuseSignature(string memory path, bytes32 id, uint128 seed, bytes memory signature_) private {
        IRequestEscrow.Delivery memory one = _delivery(id, seed);
        one.attestations[0].signature = signature_;
        _refused(path, _deliverCall(one), stranger, IRequestEscrow.InvalidSignature.selector);
    }

    function attackQuorum(uint128 seed) external acts(seed) {
        (bytes32 id,) = _openRequest(seed);
        IRequestEscrow.Delivery memory one = _delivery(id, uint128(seed));
        one.attestations = attest(one.result, 2);
        _refused("too few signers", _deliverCall(one), stranger, IRequestEscrow.QuorumNotReached.selector);
        one.operatorSet.threshold = 1;
        _refused("another operator set", _deliverCall(one), stranger, IRequestEscrow.WrongOperatorSet.selector);
        _did();
    }

    function attackAnotherChain(uint128 seed) external acts(seed) {
        (bytes32 id,) = _openRequest(seed);
        IRequestEscrow.Delivery memory one = _delivery(id, uint128(seed));
        uint256 chain = block.chainid;
        vm.chainId(chain + 1 + seed % 1000);
        _refused("another chain", _deliverCall(one), stranger, IRequestEscrow.WrongStatus.selector);
        vm.chainId(chain);
        _did();
    }

    function attackLateDelivery(uint128 seed) external acts(seed) {
        (bytes32 id,) = _openRequest(seed);
        IRequestEscrow.Delivery memory one = _delivery(id, uint128(seed));
        uint256 moment = block.timestamp;
        vm.warp(rows[id].terms.deadline + seed % 1000);
        _refused("late delivery", _deliverCall(one), stranger, IRequestEscrow.DeadlinePassed.selector);
        vm.warp(moment);
        _did();
    }

    function attackEarlyRefund(uint128 seed) external acts(seed) {
        (bytes32 id,) = _openRequest(seed);
        _refused(
            "early refund",
            abi.encodeCall(escrow.refund, (rows[id].terms)),
            rows[id].terms.payer,
            IRequestEscrow.DeadlineNotReached.selector
        );
        _did();
    }

    function attackClosedRequest(uint128 seed) external acts(seed) {
        bytes32 id = _closedRequest(seed);
        IRequestEscrow.Request memory terms = rows[id].terms;
        bytes4 wanted = IRequestEscrow.WrongStatus.selector;
        _refused("second delivery", _deliverCall(_delivery(id, 1)), stranger, wanted);
        uint256 moment = block.timestamp;
        vm.warp(terms.deadline + WINDOW);
        _refused("second refund", abi.encodeCall(escrow.refund, (terms)), stranger, wanted);
        bytes memory data = abi.encodeCall(escrow.settle, (terms, results[id], rows[id].signers));
        _refused("second settlement", data, stranger, wanted);
        vm.warp(moment);
        _did();
    }

    function attackWindow(uint128 seed) external acts(seed) {
        (bytes32 id,) = _waitingRequest(seed);
        Row storage row = rows[id];
        bytes4 window = IRequestEscrow.ChallengeWindow.selector;
        bytes memory data = abi.encodeCall(escrow.settle, (row.terms, results[id], row.signers));
        _refused("early settlement", data, stranger, window);
        _refused("a stranger convicts", _convictCall(id), stranger, IRequestEscrow.NotReferee.selector);
        uint256 moment = block.timestamp;
        skipTime(WINDOW);
        _refused("late conviction", _convictCall(id), referee, window);
        vm.warp(moment);
        _did();
    }

    function attackLockedBond(uint128 seed) external acts(seed) {
        address owner = registry.ownerOfSigner(quorum.signers[seed % 5]);
        _refusedBy(
            "I11 a member unbonds", address(registry), abi.encodeCall(registry.startUnbonding, (quorumSet)), owner
        );
        bytes memory data = abi.encodeCall(registry.releaseBond, (quorumSet, owner));
        _refusedBy("I11 a member's bond is released", address(registry), data, owner);
        _did();
    }

    function attackAsAdministrator(uint128 seed) external acts(seed) {
        _refusedBy("I14 fee", address(policy), abi.encodeCall(policy.setFee, (1, stranger)), stranger);
        bytes memory data = abi.encodeCall(policy.setTokenAllowed, (address(this), true));
        _refusedBy("I14 token", address(policy), data, stranger);
        _refusedBy("I14 offer", address(escrow), abi.encodeCall(escrow.retireOffer, (_offers[0])), stranger);
        data = abi.encodeCall(registry.slash, (quorumSet, quorum.signers[0], bytes32(uint256(seed)), stranger));
        _refusedBy("I12 slash", address(registry), data, stranger);
        data = abi.encodeCall(registry.proposeEpoch, (quorumSet, 1, operators));
        _refusedBy("I14 epoch", address(registry), data, stranger);
        data = abi.encodeCall(registry.proposeSetAdmin, (quorumSet, stranger));
        _refusedBy("I14 set admin", address(registry), data, stranger);
        data = abi.encodeCall(registry.acceptSetAdmin, (quorumSet));
        _refusedBy("I14 set admin accepted", address(registry), data, stranger);
        _did();
    }

    /// @dev The token calls back into the escrow while it is paid in or out; the money moves once all the same.
    function attackReentrancy(uint128 seed) external acts(seed) {
        (bytes32 id,) = _openRequest(seed);
        _reenter("reentered refund", seed, abi.encodeCall(escrow.refund, (rows[id].terms)));
        _reenter("reentered delivery", seed, _deliverCall(_delivery(id, 1)));
        address account = accounts[seed % accounts.length];
        bytes memory data = abi.encodeCall(escrow.withdrawFor, (account, address(weird), splits()));
        _reenter("reentered withdrawal", seed, data);
        weird.setHook(address(0), "");
        _did();
    }

    function _reenter(string memory path, uint128 seed, bytes memory data) private {
        weird.setHook(address(escrow), data);
        receiver.set(address(escrow), data);
        _fundWith(seed, 2);
        assertFalse(weird.hookSucceeded(), path);
        assertEq(bytes32(bytes4(weird.hookAnswer())), bytes32(IRequestEscrow.Reentered.selector), path);
        if (claimableOf(address(receiver), address(0)) != 0) {
            escrow.withdrawFor(address(receiver), address(0), splits());
            assertFalse(receiver.succeeded(), path);
        }
        _hit(path);
    }

    /* VIEWS FOR THE INVARIANTS */

    function payerAt(uint256 index) public view returns (address) {
        return accounts[index % 3 * 2];
    }

    function tokenAt(uint256 index) public view returns (address) {
        if (index == 0) return address(token);
        return index == 1 ? address(0) : address(weird);
    }

    /// @param first Where to begin; one token is looked at per check.
    function checkMoney(uint256 first) external view {
        checkToken(tokenAt(first % 3));
    }

    function checkToken(address token_) public view {
        uint256 claims = 0;
        uint256 credits = 0;
        for (uint256 i = 0; i < accounts.length; ++i) {
            address account = accounts[i];
            claims += claimableOf(account, token_);
            credits += credit[account][token_];
            assertEq(escrow.creditOf(account, token_), credit[account][token_], "I15 replayed credit");
        }
        uint256 held = _balanceOf(token_, address(escrow));
        assertEq(held, deposited[token_] - withdrawn[token_], "I1 balance");
        assertGe(held, openSum[token_] + claims, "I1 solvency");
        // What is settled but not claimable is the residue of the one split: fewer units than payees.
        assertLe(held - openSum[token_] - claims, 2, "I8 residue");
        assertEq(deposited[token_], openSum[token_] + settledGross[token_] + givenBack[token_], "I2 conservation");
        assertEq(escrow.settledTotal(_offers[0].splitHash, token_), splitTotal[token_], "I15 replayed split");
        assertGe(claims, credits, "I9 claims hold the credits");
        for (uint256 i = 0; i < 3; ++i) {
            address payee = split.recipients[i];
            assertEq(
                claimableOf(payee, token_) + withdrawnBy[payee][token_] - creditEver[payee][token_],
                splitTotal[token_] * split.allocations[i] / split.totalAllocation,
                "I8 share"
            );
        }
    }

    function checkRequest(uint256 index) public view {
        if (requestIds.length == 0) return;
        bytes32 id = requestIds[index % requestIds.length];
        Row storage row = rows[id];
        assertEq(uint256(escrow.statusOf(id)), uint256(row.status), "I3 I15 replayed status");
        assertEq(escrow.settledAmountOf(id), row.settled, "I15 replayed amount");
        assertEq(escrow.requestIdOf(row.terms), id, "I13 the id is the terms");
        if (row.signers.length != 0) {
            assertGe(row.signers.length, quorum.threshold, "I4 quorum");
            bytes32 digest = escrow.resultDigest(results[id]);
            assertEq(results[id].requestId, id, "I5 result of this request");
            assertTrue(digest != 0, "I4 digest");
            for (uint256 i = 0; i < row.signers.length; ++i) {
                assertTrue(_signerKeys[row.signers[i]] != 0, "I4 signer of the set");
                assertTrue(i == 0 || row.signers[i] > row.signers[i - 1], "I4 ascending");
            }
        }
    }

    function checkAllRequests() external view {
        for (uint256 i = 0; i < requestIds.length; ++i) {
            checkRequest(i);
        }
    }

    function checkBonds() external view {
        assertEq(token.balanceOf(address(registry)), bondSum + slashedSum, "I11 bonds");
        uint256 members = 0;
        for (uint256 i = 0; i < 5; ++i) {
            members += registry.bondOf(quorumSet, operators[i]);
        }
        assertLe(members, bondSum, "I11 members' bonds are held");
        for (uint256 i = 0; i < 3; ++i) {
            address account = payerAt(i);
            assertEq(registry.creditOf(account, address(token)), slashCredit[account], "I15 replayed reward");
        }
        address burn = registry.BURN_ADDRESS();
        assertEq(registry.creditOf(burn, address(token)), slashCredit[burn], "I15 replayed burn");
        assertEq(registry.sequence(), registrySequence, "I15 registry sequence");
        assertEq(escrow.sequence(), escrowSequence, "I15 escrow sequence");
    }

    /* INTERNAL */

    function _did() private {
        ++effective[msg.sig];
    }

    function _refused(string memory path, bytes memory data, address caller, bytes4 wanted) private {
        bytes memory answer = _refusedBy(path, address(escrow), data, caller);
        assertEq(bytes32(bytes4(answer)), bytes32(wanted), string.concat(path, ": refused for another reason"));
    }

    function _refusedBy(string memory path, address target, bytes memory data, address caller)
        private
        returns (bytes memory answer)
    {
        bool success;
        vm.prank(caller);
        (success, answer) = target.call(data);
        assertFalse(success, path);
        _hit(path);
    }

    function _hit(string memory path) private {
        ++hits[path];
    }

    function _fund(uint256 seed) private {
        _fundWith(seed, seed % 5);
    }

    function _fundWith(uint256 seed, uint256 which) private {
        IRequestEscrow.Request memory terms = _terms(seed, which);
        _open.push(fund(terms, _offers[which]));
        replay();
    }

    function _terms(uint256 seed, uint256 which) private returns (IRequestEscrow.Request memory terms) {
        terms = termsOf(_offers[which], bytes32(++_salt << 16));
        terms.payer = payerAt(seed);
        terms.deadline = uint40(block.timestamp + bound(seed >> 8, DURATION_MIN, DURATION_MAX));
    }

    function _keyOf(address account) private view returns (uint256 key) {
        for (uint256 i = 0; i < 3; ++i) {
            if (payerAt(i) == account) key = _payerKeys[i];
        }
    }

    /// @dev An open request whose deadline is ahead; funds one when there is none.
    function _openRequest(uint256 seed) private returns (bytes32 id, uint256 index) {
        for (uint256 i = 0; i < _open.length && i < 8; ++i) {
            index = (seed + i) % _open.length;
            if (rows[_open[index]].terms.deadline > block.timestamp) return (_open[index], index);
        }
        _disarm(seed);
        _fund(seed);
        index = _open.length - 1;
        return (_open[index], index);
    }

    /// @dev An open request whose deadline has passed, if one of the next few is.
    function _expiredRequest(uint256 seed) private view returns (bytes32 id, bool found) {
        for (uint256 i = 0; i < _open.length && i < 8; ++i) {
            id = _open[(seed + i) % _open.length];
            if (rows[id].terms.deadline <= block.timestamp) return (id, true);
        }
    }

    /// @dev A delivered request inside its window.
    function _waitingRequest(uint256 seed) private returns (bytes32 id, uint256 index) {
        _fundWith(seed, 3 + seed % 2);
        index = _open.length - 1;
        id = _open[index];
        _deliver(id, index, uint128(seed), seed);
        replay();
        index = _waiting.length - 1;
        return (_waiting[index], index);
    }

    function _closedRequest(uint256 seed) private returns (bytes32) {
        if (_closed.length == 0) {
            _fundWith(seed, 0);
            _deliver(_open[_open.length - 1], _open.length - 1, uint128(seed), seed);
            replay();
        }
        return _closed[seed % _closed.length];
    }

    function _deliver(bytes32 id, uint256 index, uint128 amount, uint256 seed) private {
        IRequestEscrow.Delivery memory one = _delivery(id, amount);
        one.attestations = attest(one.result, 3 + seed % 3);
        vm.prank(transmitter);
        escrow.deliver(one.request, one.result, one.operatorSet, one.attestations);
        _closeOpen(id, index);
    }

    function _closeOpen(bytes32 id, uint256 index) private {
        if (rows[id].terms.challengeWindow == 0) _closed.push(id);
        else _waiting.push(id);
        _drop(_open, index);
    }

    function _delivery(bytes32 id, uint128 amount) private view returns (IRequestEscrow.Delivery memory one) {
        one.request = rows[id].terms;
        one.result = amount % 8 == 0 ? declineOf(id) : answerOf(id, uint128(bound(amount, 1, one.request.maxAmount)));
        one.result.validUntil = type(uint64).max;
        one.operatorSet = quorum;
        one.attestations = attest(one.result, 3);
    }

    function _deliverCall(IRequestEscrow.Delivery memory one) private view returns (bytes memory) {
        return abi.encodeCall(escrow.deliver, (one.request, one.result, one.operatorSet, one.attestations));
    }

    function _convictCall(bytes32 id) private view returns (bytes memory) {
        Row storage row = rows[id];
        return abi.encodeCall(escrow.convict, (row.terms, results[id], quorum, row.signers, row.signers[0]));
    }

    /// @dev In half of the ordinary actions the hostile token and receiver still try to re-enter.
    function _disarm(uint256 seed) private {
        if (seed % 2 == 0) {
            weird.setHook(address(0), "");
            receiver.set(address(0), "");
        }
    }

    function _drop(bytes32[] storage list, uint256 index) private {
        list[index] = list[list.length - 1];
        list.pop();
    }

    function _balanceOf(address token_, address account) private view returns (uint256) {
        if (token_ == address(0)) return account.balance;
        return WeirdToken(token_).balanceOf(account);
    }

    function _claims(address account) private view returns (uint256) {
        address[] memory tokens = new address[](3);
        for (uint256 t = 0; t < 3; ++t) {
            tokens[t] = tokenAt(t);
        }
        return sum(escrow.claimable(account, tokens, splits()));
    }

    function _paid(address account) private view returns (uint256 total) {
        for (uint256 t = 0; t < 3; ++t) {
            total += withdrawnBy[account][tokenAt(t)];
        }
    }

    function _allClaims() private view returns (uint256 total) {
        for (uint256 i = 0; i < accounts.length; ++i) {
            total += _claims(accounts[i]);
        }
    }
}
