// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {AgentRegistry} from "../src/AgentRegistry.sol";
import {PlatformToken} from "../src/PlatformToken.sol";
import {IRequestEscrow} from "../src/interfaces/IRequestEscrow.sol";
import {ISignatureTransfer} from "../src/interfaces/ISignatureTransfer.sol";
import {SignatureProof} from "../src/libraries/SignatureProof.sol";
import {SplitShares} from "../src/libraries/SplitShares.sol";
import {TypedHash} from "../src/libraries/TypedHash.sol";
import {Assert} from "./base/Assert.sol";
import {vm} from "./base/Vm.sol";
import {Permit2Double} from "./doubles/Permit2Double.sol";

/// @notice Hashes, signatures and sums that other implementations computed.
contract VectorsTest is Assert {
    string private constant TYPED = "test/vectors/eip712.json";
    address private constant SIGNER = 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266;
    address private constant PAYEE = 0x209693Bc6afc0C5328bA36FaF03C514EF312287C;
    bytes32 private constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    /// @dev Every vector: `0x1901 | separator | struct hash` is its digest, and its signature is the signer's for both the
    /// strict check of this project and the chain's own.
    function test_digestsAndSignatures() public view {
        string memory json = vm.readFile(TYPED);
        for (uint256 i = 0; i < 11; ++i) {
            string memory key = string.concat(".vectors[", vm.toString(i), "]");
            bytes32 digest = vm.parseJsonBytes32(json, string.concat(key, ".digest"));
            assertEq(
                TypedHash.digest(
                    vm.parseJsonBytes32(json, string.concat(key, ".domainSeparator")),
                    vm.parseJsonBytes32(json, string.concat(key, ".structHash"))
                ),
                digest,
                key
            );
            if (
                keccak256(bytes(vm.parseJsonString(json, string.concat(key, ".name"))))
                    == keccak256("eip712_canonical_mail(check digest only)")
            ) continue;
            bytes memory signature = vm.parseJsonBytes(json, string.concat(key, ".signature"));
            assertTrue(this.isValid(SIGNER, digest, signature), key);
            assertFalse(this.isValid(PAYEE, digest, signature), key);
        }
    }

    function isValid(address signer, bytes32 digest, bytes calldata signature) external pure returns (bool) {
        return SignatureProof.isValidEcdsa(signer, digest, signature);
    }

    /// @dev The token's own domain differs, so the struct hash and the domain are compared apart.
    function test_authorizationIsTheStandards() public view {
        string memory json = vm.readFile(TYPED);
        bytes32 nonce = 0xf3746613c2d920b5fdabc0856f2aeb2d4f88ee6037b8cc5d04a71a4462f13480;
        assertEq(
            keccak256(
                abi.encode(
                    0x7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267,
                    SIGNER,
                    PAYEE,
                    10_000,
                    1_740_672_089,
                    1_740_672_154,
                    nonce
                )
            ),
            vm.parseJsonBytes32(json, ".vectors[0].structHash"),
            "transfer"
        );
        assertEq(
            keccak256(
                abi.encode(
                    0xd099cc98ef71107a616c4f0f941f04c322d8e254fe26b3c6668db87aae413de8,
                    SIGNER,
                    PAYEE,
                    10_000,
                    1_740_672_089,
                    1_740_672_154,
                    nonce
                )
            ),
            vm.parseJsonBytes32(json, ".vectors[2].structHash"),
            "receive"
        );
    }

    /// @dev Our registry at the canonical address accepts the signature that was made for the canonical one.
    function test_agentWalletSignatureOfTheCanonicalRegistryIsAccepted() public {
        string memory json = vm.readFile(TYPED);
        address place = 0x8004A818BFB912233c491871b3d84c89A494BD9e;
        address owner = 0x70997970C51812dc3A010C7d01b50e0d17dc79C8;
        vm.chainId(84_532);
        vm.etch(place, address(new AgentRegistry()).code);
        AgentRegistry agents = AgentRegistry(place);
        vm.warp(1_800_000_000 - 60);
        vm.startPrank(owner);
        for (uint256 i = 0; i <= 22; ++i) {
            agents.register();
        }
        agents.setAgentWallet(22, SIGNER, 1_800_000_000, vm.parseJsonBytes(json, ".vectors[3].signature"));
        assertEq(agents.getAgentWallet(22), SIGNER, "wallet");
    }

    /// @dev The double of Permit2 takes the signature that another implementation made for the real one.
    function test_permit2DoubleTakesARealSignature() public {
        string memory json = vm.readFile(TYPED);
        address place = 0x000000000022D473030F116dDEE9F6B43aC78BA3;
        address usdc = 0x036CbD53842c5426634e7929541eC2318f3dCF7e;
        vm.chainId(84_532);
        vm.warp(1_740_672_100);
        vm.etch(place, address(new Permit2Double()).code);
        vm.etch(usdc, address(new PlatformToken(address(1), 1)).code);
        // The first slot of OpenZeppelin's ERC-20 holds the balances, the next the allowances.
        vm.store(usdc, keccak256(abi.encode(SIGNER, 0)), bytes32(uint256(10_000)));
        vm.prank(SIGNER);
        PlatformToken(usdc).approve(place, 10_000);
        bytes32 witness =
            keccak256(abi.encode(keccak256("Witness(address to,uint256 validAfter)"), PAYEE, 1_740_672_089));
        vm.prank(0x402085c248EeA27D92E8b30b2C58ed07f9E20001);
        Permit2Double(place)
            .permitWitnessTransferFrom(
                ISignatureTransfer.PermitTransferFrom(
                    ISignatureTransfer.TokenPermissions(usdc, 10_000), 12_345, 1_740_672_154
                ),
                ISignatureTransfer.SignatureTransferDetails(PAYEE, 10_000),
                SIGNER,
                witness,
                "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)",
                vm.parseJsonBytes(json, ".vectors[4].signature")
            );
        assertEq(PlatformToken(usdc).balanceOf(PAYEE), 10_000, "moved");
    }

    /* ARITHMETIC */

    function test_splitsAreThoseOfTheVectors() public view {
        string memory json = vm.readFile("test/vectors/arithmetic.json");
        for (uint256 i = 0; i < 400; ++i) {
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
        for (uint256 i = 0; i < 1000; ++i) {
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
