// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../src/interfaces/IRequestEscrow.sol";
import {SplitShares} from "../src/libraries/SplitShares.sol";
import {Assert} from "./base/Assert.sol";
import {vm} from "./base/Vm.sol";

/// @notice The arithmetic of splits and fees against other implementations: vectors that Python's integers computed, and a
/// digest over a million more, which the Rust side computes, too (`protocol/tests/it/arithmetic.rs`).
contract ArithmeticTest is Assert {
    /// @dev Memory is given back at the end of a call, so the vectors come in portions.
    uint256 private constant PORTION = 500;

    /// @dev Vectors made from hashes of counters. The digest over their results takes in one after the other.
    function test_resultsOfAMillionVectorsHaveTheSharedDigest() public {
        bool long = keccak256(bytes(vm.envOr("FOUNDRY_PROFILE", string("default")))) == keccak256("long");
        string memory json = vm.readFile("test/vectors/arithmetic-digests.json");
        string memory key = long ? ".long" : ".short";
        uint256 count = vm.parseJsonUint(json, string.concat(key, ".vectors"));
        bytes32 digest = 0;
        // More than a block's gas limit.
        vm.pauseGasMetering();
        for (uint256 i = 0; i < count; i += PORTION) {
            digest = this.digestOf(digest, i, PORTION);
        }
        vm.resumeGasMetering();
        assertEq(digest, vm.parseJsonBytes32(json, string.concat(key, ".digest")), "digest");
    }

    function digestOf(bytes32 digest, uint256 first, uint256 count) external view returns (bytes32) {
        for (uint256 i = first; i < first + count; ++i) {
            uint256 word = _word(i, 0);
            uint256 fee = SplitShares.fee(word >> 128 >> (word >> 24 & 127), (word >> 8 & 0xffff) % 501);
            uint256 total = _word(i, 1);
            uint256[] memory shares = this.entitlements(_splitOf(i, 1 + (word & 15)), total >> 64 + (total & 127));
            digest = keccak256(abi.encodePacked(digest, fee, shares));
        }
        return digest;
    }

    function entitlements(IRequestEscrow.Split calldata split, uint256 total)
        external
        pure
        returns (uint256[] memory list)
    {
        list = new uint256[](split.recipients.length);
        for (uint256 i = 0; i < list.length; ++i) {
            list[i] = SplitShares.entitlement(split, total, split.recipients[i]);
        }
    }

    function _splitOf(uint256 index, uint256 count) private pure returns (IRequestEscrow.Split memory split) {
        split.recipients = new address[](count);
        split.allocations = new uint256[](count);
        for (uint256 i = 0; i < count; ++i) {
            uint256 word = _word(index, 2 + i);
            uint256 allocation = 1 + (word >> 192 >> (word & 63)) % (type(uint64).max / count);
            split.recipients[i] = address(uint160(i + 1));
            split.allocations[i] = allocation;
            split.totalAllocation += allocation;
        }
    }

    function _word(uint256 index, uint256 part) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(index, part)));
    }

    function test_splitsAreThoseOfTheVectors() public view {
        string memory json = vm.readFile("test/vectors/arithmetic.json");
        for (uint256 i = 0; i < 100; ++i) {
            string memory key = string.concat(".splits[", vm.toString(i), "]");
            uint256[] memory weights = vm.parseJsonUintArray(json, string.concat(key, ".weights"));
            uint256 total = sum(vm.parseJsonUintArray(json, string.concat(key, ".amounts")));
            uint256[] memory shares = vm.parseJsonUintArray(json, string.concat(key, ".shares"));
            IRequestEscrow.Split memory split;
            split.allocations = weights;
            split.totalAllocation = sum(weights);
            split.recipients = new address[](weights.length);
            for (uint256 j = 0; j < weights.length; ++j) {
                split.recipients[j] = address(uint160(j + 1));
            }
            this.validate(split);
            for (uint256 j = 0; j < weights.length; ++j) {
                assertEq(this.entitlement(split, total, split.recipients[j]), shares[j], key);
            }
        }
    }

    function test_feesAreThoseOfTheVectors() public view {
        string memory json = vm.readFile("test/vectors/arithmetic.json");
        for (uint256 i = 0; i < 200; ++i) {
            uint256[] memory row = vm.parseJsonUintArray(json, string.concat(".fees[", vm.toString(i), "]"));
            assertEq(SplitShares.fee(row[0], row[1]), row[2], "fee");
        }
    }

    /// @dev The properties for which the vectors are examples: exact, monotone, and nothing gained by slicing.
    function testFuzz_sharesAddUp(uint64[16] calldata weights_, uint8 count_, uint128 first, uint128 second)
        public
        view
    {
        uint256 count = bound(count_, 1, 16);
        IRequestEscrow.Split memory split;
        split.allocations = new uint256[](count);
        split.recipients = new address[](count);
        for (uint256 i = 0; i < count; ++i) {
            split.allocations[i] = bound(weights_[i], 1, type(uint64).max / 16);
            split.recipients[i] = address(uint160(i + 1));
            split.totalAllocation += split.allocations[i];
        }
        this.validate(split);
        uint256 total = uint256(first) + second;
        uint256 paid = 0;
        for (uint256 i = 0; i < count; ++i) {
            uint256 before = this.entitlement(split, first, split.recipients[i]);
            uint256 share = this.entitlement(split, total, split.recipients[i]);
            assertGe(share, before, "never falls");
            assertLe(
                share,
                before + this.entitlement(split, second, split.recipients[i]) + 1,
                "slicing gains less than a unit"
            );
            paid += share;
        }
        assertLe(paid, total, "gained");
        assertLe(total - paid, count - 1, "lost");
        assertEq(this.entitlement(split, total, address(uint160(count + 1))), 0, "a stranger");
    }

    function validate(IRequestEscrow.Split calldata split) external pure {
        SplitShares.validate(split);
    }

    function entitlement(IRequestEscrow.Split calldata split, uint256 total, address account)
        external
        pure
        returns (uint256)
    {
        return SplitShares.entitlement(split, total, account);
    }
}
