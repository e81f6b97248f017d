// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {ReputationRegistry} from "../../src/ReputationRegistry.sol";
import {IReputationRegistry} from "../../src/interfaces/IReputationRegistry.sol";
import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {EscrowTest} from "../base/EscrowTest.sol";
import {vm} from "../base/Vm.sol";

contract ReputationRegistryTest is EscrowTest {
    ReputationRegistry private _reputation;

    function setUp() public override {
        super.setUp();
        _reputation = new ReputationRegistry(address(escrow));
    }

    function test_selectorsAreTheStandards() public pure {
        assertEq(bytes32(IReputationRegistry.giveFeedback.selector), bytes32(bytes4(0x3c036a7e)), "give");
        assertEq(bytes32(IReputationRegistry.revokeFeedback.selector), bytes32(bytes4(0x4ab3ca99)), "revoke");
        assertEq(bytes32(IReputationRegistry.appendResponse.selector), bytes32(bytes4(0xc2349ab2)), "append");
        assertEq(bytes32(IReputationRegistry.getSummary.selector), bytes32(bytes4(0x81bbba58)), "summary");
        assertEq(bytes32(IReputationRegistry.readAllFeedback.selector), bytes32(bytes4(0xd9d84224)), "read all");
        assertEq(
            bytes32(IReputationRegistry.getVersion.selector), bytes32(bytes4(keccak256("getVersion()"))), "version"
        );
        assertEq(
            IReputationRegistry.NewFeedback.selector,
            0x6a4a61743519c9d648a14e6493f47dbe3ff1aa29e7785c96c8326a205e58febc,
            "NewFeedback"
        );
        assertEq(
            IReputationRegistry.FeedbackRevoked.selector,
            0x25156fd3288212246d8b008d5921fde376c71ed14ac2e072a506eb06fde6d09d,
            "FeedbackRevoked"
        );
        assertEq(
            IReputationRegistry.ResponseAppended.selector,
            0xb1c6be0b5b8aef6539e2fac0fd131a2faa7b49edf8e505b5eb0ad487d56051d4,
            "ResponseAppended"
        );
    }

    function test_givesFeedback() public {
        vm.expectEmit(true, true, true, true, address(_reputation));
        emit IReputationRegistry.NewFeedback(agentId, stranger, 1, -5, 1, "t1", "t1", "t2", "endpoint", "uri", "hash");
        vm.prank(stranger);
        _reputation.giveFeedback(agentId, -5, 1, "t1", "t2", "endpoint", "uri", "hash");
        assertEq(_reputation.getClients(agentId).length, 1, "a client from its first feedback on");
        _give(stranger, 7, 18, "t1", "");
        (int128 value, uint8 decimals, string memory tag1, string memory tag2, bool revoked) =
            _reputation.readFeedback(agentId, stranger, 1);
        assertTrue(value == -5, "value");
        assertEq(decimals, 1, "decimals");
        assertEq(keccak256(bytes(tag1)), keccak256("t1"), "tag1");
        assertEq(keccak256(bytes(tag2)), keccak256("t2"), "tag2");
        assertFalse(revoked, "revoked");
        assertEq(_reputation.getLastIndex(agentId, stranger), 2, "last index");
        assertEq(_reputation.getClients(agentId).length, 1, "clients");
        assertEq(_reputation.getIdentityRegistry(), address(agents), "agents");
        assertEq(keccak256(bytes(_reputation.getVersion())), keccak256("2.0.0"), "version");
        assertEq(_reputation.requestOf(agentId, stranger, 1), 0, "not backed");
    }

    function test_RevertWhen_AgentRatesItself() public {
        vm.expectRevert(abi.encodeWithSelector(IReputationRegistry.SelfFeedback.selector, agentId, agentOwner));
        _give(agentOwner, 1, 0, "", "");
        vm.prank(agentOwner);
        agents.approve(stranger, agentId);
        vm.expectRevert(abi.encodeWithSelector(IReputationRegistry.SelfFeedback.selector, agentId, stranger));
        _give(stranger, 1, 0, "", "");
    }

    function test_RevertWhen_TooManyDecimals() public {
        vm.expectRevert(abi.encodeWithSelector(IReputationRegistry.TooManyDecimals.selector, 19));
        _give(stranger, 1, 19, "", "");
    }

    function test_revokes() public {
        _give(stranger, 1, 0, "", "");
        vm.expectEmit(true, true, true, true, address(_reputation));
        emit IReputationRegistry.FeedbackRevoked(agentId, stranger, 1);
        vm.startPrank(stranger);
        _reputation.revokeFeedback(agentId, 1);
        (,,,, bool revoked) = _reputation.readFeedback(agentId, stranger, 1);
        assertTrue(revoked, "revoked");
        vm.expectRevert(abi.encodeWithSelector(IReputationRegistry.AlreadyRevoked.selector, agentId, stranger, 1));
        _reputation.revokeFeedback(agentId, 1);
        vm.expectRevert(abi.encodeWithSelector(IReputationRegistry.UnknownFeedback.selector, agentId, stranger, 0));
        _reputation.revokeFeedback(agentId, 0);
        vm.expectRevert(abi.encodeWithSelector(IReputationRegistry.UnknownFeedback.selector, agentId, stranger, 2));
        _reputation.revokeFeedback(agentId, 2);
        vm.stopPrank();
    }

    function test_appendsResponses() public {
        _give(stranger, 1, 0, "", "");
        vm.expectEmit(true, true, true, true, address(_reputation));
        emit IReputationRegistry.ResponseAppended(agentId, stranger, 1, agentOwner, "uri", "hash");
        vm.startPrank(agentOwner);
        _reputation.appendResponse(agentId, stranger, 1, "uri", "hash");
        _reputation.appendResponse(agentId, stranger, 1, "uri", "hash");
        vm.expectRevert(IReputationRegistry.EmptyResponseURI.selector);
        _reputation.appendResponse(agentId, stranger, 1, "", "hash");
        vm.expectRevert(abi.encodeWithSelector(IReputationRegistry.UnknownFeedback.selector, agentId, stranger, 2));
        _reputation.appendResponse(agentId, stranger, 2, "uri", "hash");
        vm.stopPrank();
        address[] memory responders = new address[](2);
        (responders[0], responders[1]) = (agentOwner, payer);
        assertEq(_reputation.getResponseCount(agentId, stranger, 1, responders), 2, "responses");
    }

    /// @dev The standard's filters: nobody named means everybody.
    function test_countsResponsesOfAll() public {
        _give(stranger, 1, 0, "", "");
        _give(stranger, 2, 0, "", "");
        _give(payer, 3, 0, "", "");
        vm.startPrank(agentOwner);
        _reputation.appendResponse(agentId, stranger, 1, "uri", 0);
        _reputation.appendResponse(agentId, stranger, 2, "uri", 0);
        _reputation.appendResponse(agentId, payer, 1, "uri", 0);
        vm.stopPrank();
        vm.prank(treasury);
        _reputation.appendResponse(agentId, stranger, 2, "uri", 0);
        address[] memory nobody = new address[](0);
        address[] memory owner = new address[](1);
        owner[0] = agentOwner;
        assertEq(_reputation.getResponseCount(agentId, stranger, 2, nobody), 2, "one feedback, all responders");
        assertEq(_reputation.getResponseCount(agentId, stranger, 2, owner), 1, "one feedback, one responder");
        assertEq(_reputation.getResponseCount(agentId, stranger, 0, nobody), 3, "one client, all responders");
        assertEq(_reputation.getResponseCount(agentId, stranger, 0, owner), 2, "one client, one responder");
        assertEq(_reputation.getResponseCount(agentId, address(0), 0, nobody), 4, "all clients, all responders");
        assertEq(_reputation.getResponseCount(agentId, address(0), 2, owner), 3, "all clients, one responder");
        assertEq(_reputation.getResponseCount(agentId, payer, 9, nobody), 0, "no such feedback");
        assertEq(_reputation.getResponseCount(agentId + 1, address(0), 0, nobody), 0, "another agent");
    }

    function test_readsAllFeedback() public {
        _give(stranger, 1, 0, "speed", "a");
        _give(stranger, 2, 1, "price", "a");
        _give(payer, -3, 2, "speed", "b");
        vm.prank(stranger);
        _reputation.revokeFeedback(agentId, 1);
        address[] memory all = new address[](0);
        address[] memory one = new address[](1);
        one[0] = stranger;
        _checkAll(all, "", "", true, 111);
        _checkAll(all, "", "", false, 110);
        _checkAll(all, "speed", "", true, 101);
        _checkAll(all, "speed", "b", true, 100);
        _checkAll(all, "", "a", false, 10);
        _checkAll(one, "", "", true, 11);
        _checkAll(one, "speed", "", false, 0);
        _checkAll(all, "none", "", true, 0);
    }

    /// @param wanted Decimal digits from the right: 1 for each of the three that is to be listed.
    function _checkAll(
        address[] memory named,
        string memory tag1,
        string memory tag2,
        bool includeRevoked,
        uint256 wanted
    ) private view {
        (
            address[] memory clients,
            uint64[] memory indexes,
            int128[] memory values,
            uint8[] memory decimals,
            string[] memory tag1s,
            string[] memory tag2s,
            bool[] memory revoked
        ) = _reputation.readAllFeedback(agentId, named, tag1, tag2, includeRevoked);
        uint256 seen = 0;
        for (uint256 i = 0; i < clients.length; ++i) {
            bool first = values[i] == 1;
            bool second = values[i] == 2;
            seen += first ? 1 : second ? 10 : 100;
            assertEq(clients[i], first || second ? stranger : payer, "client");
            assertEq(indexes[i], second ? 2 : 1, "index");
            assertTrue(first || second || values[i] == -3, "value");
            assertEq(decimals[i], first ? 0 : second ? 1 : 2, "decimals");
            assertEq(keccak256(bytes(tag1s[i])), second ? keccak256("price") : keccak256("speed"), "tag1");
            assertEq(keccak256(bytes(tag2s[i])), first || second ? keccak256("a") : keccak256("b"), "tag2");
            assertTrue(revoked[i] == first, "revoked");
        }
        assertEq(seen, wanted, "listed");
        assertEq(indexes.length, clients.length, "indexes");
        assertEq(values.length, clients.length, "values");
        assertEq(decimals.length, clients.length, "decimals");
        assertEq(tag1s.length, clients.length, "tag1s");
        assertEq(tag2s.length, clients.length, "tag2s");
        assertEq(revoked.length, clients.length, "revoked");
    }

    function test_summarizes() public {
        _give(stranger, 100, 0, "speed", "a");
        _give(stranger, 955, 1, "speed", "b");
        _give(payer, -50, 0, "speed", "a");
        _give(payer, 1000, 0, "other", "a");
        vm.prank(stranger);
        _reputation.revokeFeedback(agentId, 1);
        address[] memory clients = new address[](2);
        (clients[0], clients[1]) = (stranger, payer);
        _checkSummary(clients, "speed", "", 2, 227, 1);
        _checkSummary(clients, "speed", "a", 1, -50, 0);
        _checkSummary(clients, "", "", 3, 3485, 1);
        _checkSummary(clients, "none", "", 0, 0, 0);
        vm.expectRevert(IReputationRegistry.NoClients.selector);
        _reputation.getSummary(agentId, new address[](0), "", "");
    }

    function test_summarizesTheLargestValuesWithFewerDecimals() public {
        _give(stranger, type(int128).max, 0, "", "");
        _give(stranger, 1, 18, "", "");
        address[] memory clients = new address[](1);
        clients[0] = stranger;
        (uint64 count, int128 value, uint8 decimals) = _reputation.getSummary(agentId, clients, "", "");
        assertEq(count, 2, "count");
        assertEq(decimals, 0, "decimals");
        assertTrue(value == type(int128).max / 2, "value");
    }

    /* PAYMENT */

    function test_backsFeedbackByAPaidRequest() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "paid");
        bytes32 requestId = fund(terms, offer);
        deliverAnswer(terms, PRICE / 2);
        _give(payer, 1, 0, "", "");
        vm.expectEmit(true, true, true, true, address(_reputation));
        emit IReputationRegistry.FeedbackBacked(agentId, payer, 2, requestId, PRICE / 2);
        vm.expectEmit(true, true, true, true, address(_reputation));
        emit IReputationRegistry.NewFeedback(agentId, payer, 2, 90, 0, "t1", "t1", "t2", "e", "u", "h");
        vm.prank(payer);
        _reputation.giveBackedFeedback(terms, 90, 0, "t1", "t2", "e", "u", "h");
        assertEq(_reputation.requestOf(agentId, payer, 2), requestId, "backed");
        assertEq(_reputation.requestOf(agentId, payer, 1), 0, "not backed");
        vm.expectRevert(abi.encodeWithSelector(IReputationRegistry.AlreadyBacked.selector, requestId));
        vm.prank(payer);
        _reputation.giveBackedFeedback(terms, 90, 0, "", "", "", "", 0);
    }

    function test_RevertWhen_TheRequestWasNotPaidForByTheCaller() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "paid");
        bytes32 requestId = fund(terms, offer);
        bytes memory error_ = abi.encodeWithSelector(IReputationRegistry.NotPaidFor.selector, requestId);
        vm.expectRevert(error_);
        vm.prank(payer);
        _reputation.giveBackedFeedback(terms, 90, 0, "", "", "", "", 0);
        deliverAnswer(terms, PRICE);
        vm.expectRevert(error_);
        vm.prank(stranger);
        _reputation.giveBackedFeedback(terms, 90, 0, "", "", "", "", 0);
    }

    function test_RevertWhen_TheRequestCostNothing() public {
        IRequestEscrow.Request memory terms = termsOf(offer, "declined");
        bytes32 requestId = fund(terms, offer);
        IRequestEscrow.Result memory result = declineOf(requestId);
        escrow.deliver(terms, result, quorum, attest(result, 3));
        vm.expectRevert(abi.encodeWithSelector(IReputationRegistry.NotPaidFor.selector, requestId));
        vm.prank(payer);
        _reputation.giveBackedFeedback(terms, 90, 0, "", "", "", "", 0);
    }

    function _checkSummary(
        address[] memory clients,
        string memory tag1,
        string memory tag2,
        uint64 count,
        int128 value,
        uint8 decimals
    ) private view {
        (uint64 seenCount, int128 seenValue, uint8 seenDecimals) = _reputation.getSummary(agentId, clients, tag1, tag2);
        assertEq(seenCount, count, "count");
        assertEq(uint256(int256(seenValue)), uint256(int256(value)), "value");
        assertEq(seenDecimals, decimals, "decimals");
    }

    function _give(address client, int128 value, uint8 decimals, string memory tag1, string memory tag2) private {
        vm.prank(client);
        _reputation.giveFeedback(agentId, value, decimals, tag1, tag2, "", "", 0);
    }
}
