// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../src/interfaces/IRequestEscrow.sol";
import {Assert} from "./base/Assert.sol";

/// The functions of 0xSplits v2 that take a split, declared with the escrow's tuple. Their selectors are those of the contracts
/// that are deployed on Base only if the two tuples have the same types in the same order.
interface IPushSplitFactory {
    function isDeployed(IRequestEscrow.Split calldata split, address owner, bytes32 salt)
        external
        view
        returns (address, bool);
    function createSplitDeterministic(IRequestEscrow.Split calldata split, address owner, address creator, bytes32 salt)
        external
        returns (address);
}

interface IPushSplit {
    function distribute(IRequestEscrow.Split calldata split, address token, address distributor) external;
}

/// The tuple and the hash of a split are those of 0xSplits v2.
contract SplitCompatibilityTest is Assert {
    function test_tupleIsThatOf0xSplits() public pure {
        assertEq(bytes32(IPushSplitFactory.isDeployed.selector), bytes32(bytes4(0xcd6bc121)), "isDeployed");
        assertEq(
            bytes32(IPushSplitFactory.createSplitDeterministic.selector),
            bytes32(bytes4(0xf79918b0)),
            "createSplitDeterministic"
        );
        assertEq(bytes32(IPushSplit.distribute.selector), bytes32(bytes4(0x2d3f5537)), "distribute");
    }

    /// 0xSplits hashes `abi.encode(split)`. The words are written out here, so that no encoder checks itself; the Rust side
    /// pins the same hash.
    function test_hashIsThatOfTheEncodedWords() public pure {
        IRequestEscrow.Split memory split;
        split.recipients = new address[](2);
        split.recipients[0] = address(0x1111111111111111111111111111111111111111);
        split.recipients[1] = address(0x2222222222222222222222222222222222222222);
        split.allocations = new uint256[](2);
        split.allocations[0] = 1000;
        split.allocations[1] = 9000;
        split.totalAllocation = 10_000;
        bytes memory fields = abi.encodePacked(uint256(0x20), uint256(0x80), uint256(0xe0), uint256(10_000), uint256(0));
        bytes memory recipients = abi.encodePacked(
            uint256(2),
            bytes32(uint256(uint160(0x1111111111111111111111111111111111111111))),
            bytes32(uint256(uint160(0x2222222222222222222222222222222222222222)))
        );
        bytes memory allocations = abi.encodePacked(uint256(2), uint256(1000), uint256(9000));
        bytes32 hash = keccak256(abi.encodePacked(fields, recipients, allocations));
        assertEq(keccak256(abi.encode(split)), hash, "words");
        assertEq(hash, 0xe286215ca7985357bb016195902c136c433bc9691c9fad38314541d0d5eb0816, "pinned");
    }
}
