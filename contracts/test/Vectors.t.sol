// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {AgentRegistry} from "../src/AgentRegistry.sol";
import {PlatformToken} from "../src/PlatformToken.sol";
import {RequestEscrow} from "../src/RequestEscrow.sol";
import {IRequestEscrow} from "../src/interfaces/IRequestEscrow.sol";
import {ISignatureTransfer} from "../src/interfaces/ISignatureTransfer.sol";
import {SignatureProof} from "../src/libraries/SignatureProof.sol";
import {TypedHash} from "../src/libraries/TypedHash.sol";
import {Assert} from "./base/Assert.sol";
import {Permit2} from "./base/Permit2.sol";
import {vm} from "./base/Vm.sol";

/// @notice Typed data that eth-account hashed and signed. Solidity computes each digest here from the values, member by
/// member; `protocol/tests/it/typed_data.rs` does the same with alloy.
contract VectorsTest is Assert {
    struct Vector {
        bytes32 separator;
        bytes32 structHash;
        bytes32 digest;
        bytes signature;
    }

    string private constant STANDARDS = "test/vectors/eip712.json";
    string private constant OURS = "test/vectors/eip712-auspex.json";
    address private constant SIGNER = 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266;
    address private constant SECOND = 0x70997970C51812dc3A010C7d01b50e0d17dc79C8;
    address private constant PAYEE = 0x209693Bc6afc0C5328bA36FaF03C514EF312287C;
    address private constant USDC = 0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913;
    address private constant USDC_SEPOLIA = 0x036CbD53842c5426634e7929541eC2318f3dCF7e;
    address private constant AGENTS_SEPOLIA = 0x8004A818BFB912233c491871b3d84c89A494BD9e;
    address private constant EXACT_PROXY = 0x402085c248EeA27D92E8b30b2C58ed07f9E20001;
    address private constant UPTO_PROXY = 0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002;
    address private constant BATCH_SETTLEMENT = 0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003;
    uint256 private constant BASE = 8453;
    uint256 private constant SEPOLIA = 84_532;
    bytes32 private constant NONCE = 0xf3746613c2d920b5fdabc0856f2aeb2d4f88ee6037b8cc5d04a71a4462f13480;
    uint256 private constant VALID_AFTER = 1_740_672_089;
    uint256 private constant VALID_BEFORE = 1_740_672_154;

    /* THE STANDARDS' TYPED DATA */

    function test_eip3009() public view {
        bytes32 transfer = _authorization("TransferWithAuthorization");
        _check(0, _domain("USDC", "2", SEPOLIA, USDC_SEPOLIA), transfer);
        _check(1, _domain("USD Coin", "2", BASE, USDC), transfer);
        _check(2, _domain("USDC", "2", SEPOLIA, USDC_SEPOLIA), _authorization("ReceiveWithAuthorization"));
    }

    function test_erc8004AgentWallet() public view {
        bytes32 typeHash = keccak256("AgentWalletSet(uint256 agentId,address newWallet,address owner,uint256 deadline)");
        _check(
            3,
            _domain("ERC8004IdentityRegistry", "1", SEPOLIA, AGENTS_SEPOLIA),
            keccak256(abi.encode(typeHash, 22, SIGNER, SECOND, 1_800_000_000))
        );
    }

    function test_permit2() public view {
        bytes32 separator = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)"),
                keccak256("Permit2"),
                SEPOLIA,
                Permit2.PLACE
            )
        );
        string memory exact = "Witness(address to,uint256 validAfter)";
        bytes32 witness = keccak256(abi.encode(keccak256(bytes(exact)), PAYEE, VALID_AFTER));
        _check(4, separator, _permit(exact, 10_000, EXACT_PROXY, witness));
        string memory upto = "Witness(address to,address facilitator,uint256 validAfter)";
        witness = keccak256(abi.encode(keccak256(bytes(upto)), PAYEE, SECOND, VALID_AFTER));
        _check(5, separator, _permit(upto, 5_000_000, UPTO_PROXY, witness));
    }

    function test_x402BatchSettlement() public view {
        bytes32 separator = _domain("x402 Batch Settlement", "1", SEPOLIA, BATCH_SETTLEMENT);
        bytes32 typeHash = keccak256(
            "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
        );
        bytes32 config = keccak256(abi.encode(typeHash, SIGNER, SIGNER, PAYEE, SECOND, USDC_SEPOLIA, 900, 0));
        _check(6, separator, config);
        bytes32 channelId = TypedHash.digest(separator, config);
        typeHash = keccak256("Voucher(bytes32 channelId,uint128 maxClaimableAmount)");
        _check(7, separator, keccak256(abi.encode(typeHash, channelId, 5000)));
        bytes32 entry = keccak256(
            abi.encode(
                keccak256("ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"),
                channelId,
                5000,
                3200
            )
        );
        typeHash = keccak256(
            "ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
        );
        _check(8, separator, keccak256(abi.encode(typeHash, keccak256(abi.encodePacked(entry)))));
    }

    function test_x402Receipt() public view {
        bytes32 separator = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId)"),
                keccak256("x402 receipt"),
                keccak256("1"),
                1
            )
        );
        bytes32 typeHash = keccak256(
            "Receipt(uint256 version,string network,string resourceUrl,string payer,uint256 issuedAt,string transaction)"
        );
        _check(
            9,
            separator,
            keccak256(
                abi.encode(
                    typeHash,
                    1,
                    keccak256("eip155:8453"),
                    keccak256("https://api.example.com/premium-data"),
                    keccak256("0x857b06519E91e3A54538791bDbb0E22373e36b66"),
                    1_703_123_456,
                    keccak256("")
                )
            )
        );
    }

    function test_eip712Mail() public view {
        bytes32 person = keccak256("Person(string name,address wallet)");
        bytes32 from =
            keccak256(abi.encode(person, keccak256("Cow"), address(0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826)));
        bytes32 to =
            keccak256(abi.encode(person, keccak256("Bob"), address(0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB)));
        bytes32 typeHash = keccak256("Mail(Person from,Person to,string contents)Person(string name,address wallet)");
        _check(
            10,
            _domain("Ether Mail", "1", 1, 0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC),
            keccak256(abi.encode(typeHash, from, to, keccak256("Hello, Bob!")))
        );
    }

    /* OUR TYPED DATA */

    /// @dev What a wallet shows and signs is what the escrow computes, on the chain and at the address of the vector.
    function test_requestsAndResultsAreHashedAsWalletsHashThem() public {
        vm.chainId(SEPOLIA);
        vm.etch(BATCH_SETTLEMENT, address(new RequestEscrow(address(1), address(2), address(3))).code);
        RequestEscrow escrow = RequestEscrow(BATCH_SETTLEMENT);
        IRequestEscrow.Request memory terms = IRequestEscrow.Request({
            payer: SIGNER,
            agentId: 22,
            offerHash: keccak256("offer"),
            operatorSetHash: keccak256("operator set"),
            splitHash: keccak256("split"),
            token: USDC_SEPOLIA,
            maxAmount: 10_000,
            feeBps: 250,
            feeRecipient: SECOND,
            deadline: uint40(VALID_BEFORE),
            challengeWindow: 3600,
            referee: 0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC,
            callback: 0x90F79bf6EB2c4f870365E785982E1f101E93b906,
            callbackGas: 100_000,
            inputHash: keccak256("Who is refunded, and when?"),
            salt: keccak256("salt")
        });
        Vector memory vector = _read(OURS, 0);
        assertEq(escrow.DOMAIN_SEPARATOR(), vector.separator, "separator");
        assertEq(escrow.requestIdOf(terms), vector.digest, "request");
        IRequestEscrow.Result memory result = IRequestEscrow.Result({
            requestId: vector.digest,
            outcome: IRequestEscrow.Outcome.Answered,
            outputHash: keccak256("output"),
            traceRoot: 0,
            retrievalRoot: keccak256("retrieval"),
            modelHash: keccak256("model"),
            amount: 9000,
            validUntil: 1_740_675_754
        });
        vector = _read(OURS, 1);
        assertEq(escrow.resultDigest(result), vector.digest, "result");
        assertTrue(this.isValid(SIGNER, vector.digest, vector.signature), "signature");
    }

    /* SIGNATURES THAT WERE MADE FOR OTHERS' CONTRACTS */

    /// @dev Our registry at the canonical address accepts the signature that was made for the canonical one.
    function test_agentWalletSignatureOfTheCanonicalRegistryIsAccepted() public {
        vm.chainId(SEPOLIA);
        vm.etch(AGENTS_SEPOLIA, address(new AgentRegistry()).code);
        AgentRegistry agents = AgentRegistry(AGENTS_SEPOLIA);
        vm.warp(1_800_000_000 - 60);
        vm.startPrank(SECOND);
        for (uint256 i = 0; i <= 22; ++i) {
            agents.register();
        }
        agents.setAgentWallet(22, SIGNER, 1_800_000_000, _read(STANDARDS, 3).signature);
        assertEq(agents.getAgentWallet(22), SIGNER, "wallet");
    }

    /// @dev The code that these tests install as Permit2 takes a signature that was made for Permit2.
    function test_permit2TakesTheSignature() public {
        vm.chainId(SEPOLIA);
        vm.warp(VALID_BEFORE - 1);
        ISignatureTransfer permit2 = ISignatureTransfer(Permit2.install());
        vm.etch(USDC_SEPOLIA, address(new PlatformToken(address(1), 1)).code);
        // The first slot of OpenZeppelin's ERC-20 holds the balances, the next the allowances.
        vm.store(USDC_SEPOLIA, keccak256(abi.encode(SIGNER, 0)), bytes32(uint256(10_000)));
        vm.prank(SIGNER);
        PlatformToken(USDC_SEPOLIA).approve(address(permit2), 10_000);
        bytes32 witness = keccak256(abi.encode(keccak256("Witness(address to,uint256 validAfter)"), PAYEE, VALID_AFTER));
        vm.prank(EXACT_PROXY);
        permit2.permitWitnessTransferFrom(
            ISignatureTransfer.PermitTransferFrom(
                ISignatureTransfer.TokenPermissions(USDC_SEPOLIA, 10_000), 12_345, VALID_BEFORE
            ),
            ISignatureTransfer.SignatureTransferDetails(PAYEE, 10_000),
            SIGNER,
            witness,
            "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)",
            _read(STANDARDS, 4).signature
        );
        assertEq(PlatformToken(USDC_SEPOLIA).balanceOf(PAYEE), 10_000, "moved");
    }

    /* INTERNAL */

    /// @dev The digest is the vector's, and its signature is the signer's and nobody else's.
    function _check(uint256 index, bytes32 separator, bytes32 structHash) private view {
        string memory name = vm.toString(index);
        Vector memory vector = _read(STANDARDS, index);
        assertEq(separator, vector.separator, string.concat("separator ", name));
        assertEq(structHash, vector.structHash, string.concat("struct hash ", name));
        assertEq(TypedHash.digest(separator, structHash), vector.digest, string.concat("digest ", name));
        assertTrue(this.isValid(SIGNER, vector.digest, vector.signature), string.concat("signature ", name));
        assertFalse(this.isValid(PAYEE, vector.digest, vector.signature), string.concat("other signer ", name));
    }

    function isValid(address signer, bytes32 digest, bytes calldata signature) external pure returns (bool) {
        return SignatureProof.isValidEcdsa(signer, digest, signature);
    }

    function _read(string memory file, uint256 index) private view returns (Vector memory vector) {
        string memory json = vm.readFile(file);
        string memory key = string.concat(".vectors[", vm.toString(index), "]");
        vector.separator = vm.parseJsonBytes32(json, string.concat(key, ".domainSeparator"));
        vector.structHash = vm.parseJsonBytes32(json, string.concat(key, ".structHash"));
        vector.digest = vm.parseJsonBytes32(json, string.concat(key, ".digest"));
        vector.signature = vm.parseJsonBytes(json, string.concat(key, ".signature"));
    }

    function _domain(string memory name, string memory version, uint256 chainId, address place)
        private
        pure
        returns (bytes32)
    {
        bytes32 typeHash =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        return keccak256(abi.encode(typeHash, keccak256(bytes(name)), keccak256(bytes(version)), chainId, place));
    }

    function _authorization(string memory name) private pure returns (bytes32) {
        bytes32 typeHash = keccak256(
            abi.encodePacked(
                name, "(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
            )
        );
        return keccak256(abi.encode(typeHash, SIGNER, PAYEE, 10_000, VALID_AFTER, VALID_BEFORE, NONCE));
    }

    function _permit(string memory witnessType, uint256 amount, address spender, bytes32 witness)
        private
        pure
        returns (bytes32)
    {
        string memory permissions = "TokenPermissions(address token,uint256 amount)";
        bytes32 typeHash = keccak256(
            abi.encodePacked(
                "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Witness witness)",
                permissions,
                witnessType
            )
        );
        bytes32 permitted = keccak256(abi.encode(keccak256(bytes(permissions)), USDC_SEPOLIA, amount));
        return keccak256(abi.encode(typeHash, permitted, spender, 12_345, VALID_BEFORE, witness));
    }
}
