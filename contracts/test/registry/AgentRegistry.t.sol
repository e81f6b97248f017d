// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {AgentRegistry} from "../../src/AgentRegistry.sol";
import {IAgentRegistry} from "../../src/interfaces/IAgentRegistry.sol";
import {Assert} from "../base/Assert.sol";
import {Vm, vm} from "../base/Vm.sol";
import {IERC721Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

contract AgentRegistryTest is Assert {
    uint256 private constant WALLET_KEY = 0xA11E7;
    address private _owner = address(0xA6E7);
    address private _stranger = address(0x57A4);
    address private _wallet = vm.addr(WALLET_KEY);
    AgentRegistry private _agents;
    uint256 private _id;

    function setUp() public {
        vm.warp(1_800_000_000);
        _agents = new AgentRegistry();
        vm.expectEmit(true, true, true, true, address(_agents));
        emit IAgentRegistry.Registered(0, "ipfs://agent", _owner);
        vm.expectEmit(true, true, true, true, address(_agents));
        emit IAgentRegistry.MetadataSet(0, "agentWallet", "agentWallet", abi.encodePacked(_owner));
        vm.prank(_owner);
        _id = _agents.register("ipfs://agent");
    }

    function test_registers() public {
        assertEq(_id, 0, "the first id is 0");
        assertEq(_agents.ownerOf(0), _owner, "owner");
        assertEq(_agents.getAgentWallet(0), _owner, "wallet");
        assertEq(keccak256(bytes(_agents.tokenURI(0))), keccak256("ipfs://agent"), "URI");
        assertEq(keccak256(bytes(_agents.name())), keccak256("AgentIdentity"), "name");
        assertEq(keccak256(bytes(_agents.symbol())), keccak256("AGENT"), "symbol");
        assertEq(keccak256(bytes(_agents.getVersion())), keccak256("2.0.0"), "version");
        assertEq(_agents.register(), 1, "the second id is 1");
        assertEq(keccak256(bytes(_agents.tokenURI(1))), keccak256(""), "no URI");
    }

    /// @dev A mint tells of the wallet once: an event that cleared it first would read as a transfer.
    function test_registeringEmitsItsEventsOnly() public {
        vm.recordLogs();
        _agents.register();
        Vm.Log[] memory logs = vm.getRecordedLogs();
        uint256 metadata = 0;
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] == IAgentRegistry.MetadataSet.selector) ++metadata;
        }
        assertEq(metadata, 1, "MetadataSet");
    }

    function test_selectorsAreTheStandards() public pure {
        assertEq(bytes32(IAgentRegistry.getMetadata.selector), bytes32(bytes4(0xcb4799f2)), "getMetadata");
        assertEq(bytes32(IAgentRegistry.setMetadata.selector), bytes32(bytes4(0x466648da)), "setMetadata");
        assertEq(bytes32(IAgentRegistry.setAgentURI.selector), bytes32(bytes4(0x0af28bd3)), "setAgentURI");
        assertEq(bytes32(IAgentRegistry.getAgentWallet.selector), bytes32(bytes4(0x00339509)), "getAgentWallet");
        assertEq(bytes32(IAgentRegistry.setAgentWallet.selector), bytes32(bytes4(0x2d1ef5ae)), "setAgentWallet");
        assertEq(bytes32(IAgentRegistry.unsetAgentWallet.selector), bytes32(bytes4(0x3fddcf19)), "unset");
        assertEq(bytes32(bytes4(keccak256("register()"))), bytes32(bytes4(0x1aa3a008)), "register()");
        assertEq(bytes32(bytes4(keccak256("register(string)"))), bytes32(bytes4(0xf2c298be)), "register(string)");
        assertEq(
            bytes32(bytes4(keccak256("register(string,(string,bytes)[])"))), bytes32(bytes4(0x8ea42286)), "register"
        );
        assertEq(
            IAgentRegistry.Registered.selector,
            0xca52e62c367d81bb2e328eb795f7c7ba24afb478408a26c0e201d155c449bc4a,
            "Registered"
        );
        assertEq(
            IAgentRegistry.MetadataSet.selector,
            0x2c149ed548c6d2993cd73efe187df6eccabe4538091b33adbd25fafdb8a1468b,
            "MetadataSet"
        );
        assertEq(
            IAgentRegistry.URIUpdated.selector,
            0x3a2c7fffc2cba7582c690e3b82c453ea02a308326a98a3ad7576c606336409fb,
            "URIUpdated"
        );
    }

    function test_registersWithMetadata() public {
        IAgentRegistry.MetadataEntry[] memory entries = new IAgentRegistry.MetadataEntry[](2);
        entries[0] = IAgentRegistry.MetadataEntry("a", "1");
        entries[1] = IAgentRegistry.MetadataEntry("b", "2");
        uint256 id = _agents.register("uri", entries);
        assertEq(id, 1, "id");
        assertEq(_agents.ownerOf(id), address(this), "owner");
        assertEq(keccak256(bytes(_agents.tokenURI(id))), keccak256("uri"), "URI");
        assertEq(keccak256(_agents.getMetadata(id, "a")), keccak256("1"), "a");
        assertEq(keccak256(_agents.getMetadata(id, "b")), keccak256("2"), "b");
        entries[1].metadataKey = "agentWallet";
        vm.expectRevert(abi.encodeWithSelector(IAgentRegistry.ReservedMetadataKey.selector, "agentWallet"));
        _agents.register("uri", entries);
    }

    function test_ownerAndOperatorsMayAct() public {
        assertTrue(_agents.isAuthorizedOrOwner(_owner, _id), "owner");
        assertFalse(_agents.isAuthorizedOrOwner(_stranger, _id), "stranger");
        vm.prank(_owner);
        _agents.approve(_stranger, _id);
        assertTrue(_agents.isAuthorizedOrOwner(_stranger, _id), "approved");
        vm.expectEmit(true, true, true, true, address(_agents));
        emit IAgentRegistry.URIUpdated(_id, "new", _stranger);
        vm.prank(_stranger);
        _agents.setAgentURI(_id, "new");
        assertEq(keccak256(bytes(_agents.tokenURI(_id))), keccak256("new"), "URI");
    }

    function test_setsMetadata() public {
        vm.expectEmit(true, true, true, true, address(_agents));
        emit IAgentRegistry.MetadataSet(_id, "key", "key", "value");
        vm.startPrank(_owner);
        _agents.setMetadata(_id, "key", "value");
        assertEq(keccak256(_agents.getMetadata(_id, "key")), keccak256("value"), "value");
        vm.expectRevert(abi.encodeWithSelector(IAgentRegistry.ReservedMetadataKey.selector, "agentWallet"));
        _agents.setMetadata(_id, "agentWallet", "value");
        vm.stopPrank();
    }

    function test_RevertWhen_StrangersAct() public {
        bytes memory error_ = abi.encodeWithSelector(IAgentRegistry.NotAuthorized.selector, _id, _stranger);
        vm.startPrank(_stranger);
        vm.expectRevert(error_);
        _agents.setAgentURI(_id, "new");
        vm.expectRevert(error_);
        _agents.setMetadata(_id, "key", "value");
        vm.expectRevert(error_);
        _agents.setAgentWallet(_id, _wallet, block.timestamp, "");
        vm.expectRevert(error_);
        _agents.unsetAgentWallet(_id);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IERC721Errors.ERC721NonexistentToken.selector, 5));
        _agents.setAgentURI(5, "new");
    }

    function test_setsAndUnsetsTheWallet() public {
        uint256 deadline = block.timestamp + 5 minutes;
        bytes memory signature = _sign(deadline);
        vm.prank(_owner);
        _agents.setAgentWallet(_id, _wallet, deadline, signature);
        assertEq(_agents.getAgentWallet(_id), _wallet, "wallet");
        vm.prank(_owner);
        _agents.unsetAgentWallet(_id);
        assertEq(_agents.getAgentWallet(_id), address(0), "wallet");
    }

    function test_RevertWhen_WalletSignatureIsBad() public {
        uint256 deadline = block.timestamp + 5 minutes;
        _walletRefused(_wallet, deadline + 1, _sign(deadline + 1));
        _walletRefused(_wallet, block.timestamp - 1, _sign(block.timestamp - 1));
        _walletRefused(_wallet, deadline, _sign(deadline - 1));
        _walletRefused(_stranger, deadline, _sign(deadline));
        _walletRefused(address(0), deadline, _sign(deadline));
        bytes memory signature = _sign(block.timestamp);
        vm.prank(_owner);
        _agents.setAgentWallet(_id, _wallet, block.timestamp, signature);
    }

    function test_transferClearsTheWallet() public {
        vm.expectEmit(true, true, true, true, address(_agents));
        emit IAgentRegistry.MetadataSet(_id, "agentWallet", "agentWallet", "");
        vm.prank(_owner);
        _agents.transferFrom(_owner, _stranger, _id);
        assertEq(_agents.getAgentWallet(_id), address(0), "wallet");
        assertTrue(_agents.isAuthorizedOrOwner(_stranger, _id), "new owner");
        assertFalse(_agents.isAuthorizedOrOwner(_owner, _id), "former owner");
    }

    function _walletRefused(address wallet, uint256 deadline, bytes memory signature) private {
        vm.expectRevert(abi.encodeWithSelector(IAgentRegistry.InvalidWalletSignature.selector, wallet, deadline));
        vm.prank(_owner);
        _agents.setAgentWallet(_id, wallet, deadline, signature);
    }

    function _sign(uint256 deadline) private view returns (bytes memory) {
        bytes32 separator = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("ERC8004IdentityRegistry"),
                keccak256("1"),
                block.chainid,
                address(_agents)
            )
        );
        bytes32 hash = keccak256(
            abi.encode(
                0x678b53cd718d595370ab070ebf48edfdcd834beac116bf23e625fc7f4d5b7d32, _id, _wallet, _owner, deadline
            )
        );
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(WALLET_KEY, keccak256(abi.encodePacked(hex"1901", separator, hash)));
        return abi.encodePacked(r, s, v);
    }
}
