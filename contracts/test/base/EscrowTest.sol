// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {AgentRegistry} from "../../src/AgentRegistry.sol";
import {EntryPolicy} from "../../src/EntryPolicy.sol";
import {OperatorRegistry} from "../../src/OperatorRegistry.sol";
import {PlatformToken} from "../../src/PlatformToken.sol";
import {RequestEscrow} from "../../src/RequestEscrow.sol";
import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {Assert} from "./Assert.sol";
import {Permit2} from "./Permit2.sol";
import {vm} from "./Vm.sol";

/// @notice The world of the escrow's tests: one agent with one offer of the platform's token and one of the native coin,
/// five operators in a 3-of-5 set and one in a set of its own, a fee, a payer and three payees.
abstract contract EscrowTest is Assert {
    uint256 internal constant SUPPLY = 1e9 ether;
    uint128 internal constant PRICE = 1 ether;
    uint16 internal constant FEE_BPS = 100;
    uint128 internal constant BOND = 500 ether;
    uint32 internal constant DURATION_MIN = 60;
    uint32 internal constant DURATION_MAX = 1 days;
    uint32 internal constant WINDOW = 1 hours;
    bytes internal constant INPUT = "Who is refunded, and when?";

    bytes32 internal constant RECEIVE_TYPEHASH = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 internal constant PERMIT_TYPEHASH =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");

    uint256 internal constant PAYER_KEY = 0xA11CE;
    address internal payer = vm.addr(PAYER_KEY);
    address internal treasury = address(0x7EA5);
    address internal timelock = address(0x71E1);
    address internal agentOwner = address(0xA6E7);
    address internal setAdmin = address(0x5E7A);
    address internal referee = address(0x9EF);
    address internal stranger = address(0x57A4);
    address internal transmitter = address(0x7247);

    PlatformToken internal token;
    AgentRegistry internal agents;
    EntryPolicy internal policy;
    RequestEscrow internal escrow;
    OperatorRegistry internal registry;
    address internal permit2;
    uint256 internal agentId;
    uint64 internal quorumSet;
    uint64 internal soloSet;

    address[] internal operators;
    /// @dev Ascending by their address.
    uint256[] internal signerKeys;
    IRequestEscrow.OperatorSet internal quorum;
    IRequestEscrow.OperatorSet internal solo;
    IRequestEscrow.Split internal split;
    IRequestEscrow.Offer internal offer;
    IRequestEscrow.Offer internal nativeOffer;
    IRequestEscrow.Offer internal soloOffer;
    IRequestEscrow.Offer internal challengedOffer;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        token = new PlatformToken(address(this), SUPPLY);
        agents = new AgentRegistry();
        policy = new EntryPolicy(timelock);
        permit2 = Permit2.install();
        escrow = new RequestEscrow(address(agents), address(policy), permit2);
        registry = OperatorRegistry(escrow.operatorRegistry());
        vm.startPrank(timelock);
        policy.setTokenAllowed(address(token), true);
        policy.setTokenAllowed(address(0), true);
        policy.setFee(FEE_BPS, treasury);
        vm.stopPrank();

        vm.prank(agentOwner);
        agentId = agents.register("https://agent.example/registration.json");
        _openSets();
        _publishOffers();

        token.transfer(payer, 1_000_000 ether);
        vm.deal(payer, 1_000_000 ether);
        vm.prank(payer);
        token.approve(address(escrow), type(uint256).max);
    }

    function _openSets() private {
        for (uint256 i = 0; i < 5; ++i) {
            signerKeys.push(uint256(keccak256(abi.encode("signer", i))) >> 8);
        }
        for (uint256 i = 1; i < 5; ++i) {
            for (uint256 j = i; j > 0 && vm.addr(signerKeys[j - 1]) > vm.addr(signerKeys[j]); --j) {
                (signerKeys[j - 1], signerKeys[j]) = (signerKeys[j], signerKeys[j - 1]);
            }
        }
        quorumSet = registry.createSet(setAdmin, address(token), BOND, referee);
        soloSet = registry.createSet(setAdmin, address(token), BOND, referee);
        for (uint256 i = 0; i < 5; ++i) {
            operators.push(address(uint160(0x0e0000 + i)));
            addOperator(operators[i], vm.addr(signerKeys[i]), quorumSet);
        }
        joinSet(operators[0], soloSet);
        quorum = startEpoch(quorumSet, 3, operators);
        address[] memory one = new address[](1);
        one[0] = operators[0];
        solo = startEpoch(soloSet, 1, one);
    }

    function _publishOffers() private {
        split.recipients = [address(0xB0B1), address(0xB0B2), address(0xB0B3)];
        split.allocations = [uint256(7), 2, 1];
        split.totalAllocation = 10;
        offer = IRequestEscrow.Offer({
            agentId: agentId,
            token: address(token),
            price: PRICE,
            operatorSetId: quorumSet,
            splitHash: keccak256(abi.encode(split)),
            corpusRoot: keccak256("corpus"),
            modelHash: keccak256("model"),
            durationMin: DURATION_MIN,
            durationMax: DURATION_MAX,
            challengeWindow: 0,
            referee: address(0)
        });
        nativeOffer = offer;
        nativeOffer.token = address(0);
        soloOffer = offer;
        soloOffer.operatorSetId = soloSet;
        challengedOffer = offer;
        challengedOffer.challengeWindow = WINDOW;
        challengedOffer.referee = referee;
        vm.startPrank(agentOwner);
        escrow.publishOffer(offer, split);
        escrow.publishOffer(nativeOffer, split);
        escrow.publishOffer(soloOffer, split);
        escrow.publishOffer(challengedOffer, split);
        vm.stopPrank();
    }

    /* OPERATORS */

    function addOperator(address owner, address signer, uint64 setId) internal {
        vm.prank(owner);
        registry.register(signer, address(uint160(owner) + 0x10000), address(uint160(owner) + 0x20000));
        joinSet(owner, setId);
    }

    function joinSet(address owner, uint64 setId) internal {
        token.transfer(owner, BOND);
        vm.startPrank(owner);
        token.approve(address(registry), BOND);
        registry.join(setId);
        vm.stopPrank();
    }

    function startEpoch(uint64 setId, uint8 threshold, address[] memory owners)
        internal
        returns (IRequestEscrow.OperatorSet memory)
    {
        vm.prank(setAdmin);
        registry.proposeEpoch(setId, threshold, owners);
        registry.startEpoch(setId);
        return setOf(setId);
    }

    function setOf(uint64 setId) internal view returns (IRequestEscrow.OperatorSet memory set) {
        set.setId = setId;
        (set.epoch, set.threshold,, set.signers) = registry.epochOf(setId);
    }

    /* REQUESTS */

    function termsOf(IRequestEscrow.Offer memory of_, bytes32 salt)
        internal
        view
        returns (IRequestEscrow.Request memory terms)
    {
        (, uint16 feeBps, address feeRecipient) = policy.entryTerms(of_.token);
        terms.payer = payer;
        terms.agentId = of_.agentId;
        terms.offerHash = keccak256(abi.encode(of_));
        terms.operatorSetHash = registry.operatorSetHash(of_.operatorSetId);
        terms.splitHash = of_.splitHash;
        terms.token = of_.token;
        terms.maxAmount = of_.price;
        terms.feeBps = feeBps;
        terms.feeRecipient = feeRecipient;
        terms.deadline = uint40(block.timestamp + 1 hours);
        terms.challengeWindow = of_.challengeWindow;
        terms.referee = of_.referee;
        terms.inputHash = keccak256(INPUT);
        terms.salt = salt;
    }

    function fund(IRequestEscrow.Request memory terms, IRequestEscrow.Offer memory of_)
        internal
        returns (bytes32 requestId)
    {
        uint256 value = terms.token == address(0) ? terms.maxAmount : 0;
        vm.prank(terms.payer);
        return escrow.request{value: value}(terms, of_, INPUT);
    }

    /// @dev Request `i` of a batch.
    function batchItem(IRequestEscrow.Request memory template, bytes[] memory inputs, uint256 i)
        internal
        pure
        returns (IRequestEscrow.Request memory terms)
    {
        terms = abi.decode(abi.encode(template), (IRequestEscrow.Request));
        unchecked {
            terms.salt = bytes32(uint256(template.salt) + i);
        }
        terms.inputHash = keccak256(inputs[i]);
    }

    /// @dev The payer's ERC-3009 signature for a request of the platform's token, valid until the request's deadline.
    function authorize(IRequestEscrow.Request memory terms) internal view returns (bytes memory) {
        return authorize(terms, PAYER_KEY);
    }

    function authorize(IRequestEscrow.Request memory terms, uint256 key) internal view returns (bytes memory) {
        return signature(key, authorizationDigest(terms));
    }

    function authorizationDigest(IRequestEscrow.Request memory terms) internal view returns (bytes32) {
        bytes32 hash = keccak256(
            abi.encode(
                RECEIVE_TYPEHASH,
                terms.payer,
                address(escrow),
                uint256(terms.maxAmount),
                uint256(0),
                uint256(terms.deadline),
                escrow.requestIdOf(terms)
            )
        );
        return keccak256(abi.encodePacked(hex"1901", token.DOMAIN_SEPARATOR(), hash));
    }

    /// @dev The payer's ERC-2612 signature for a request's amount, valid until the request's deadline.
    function permit(IRequestEscrow.Request memory terms) internal view returns (uint8 v, bytes32 r, bytes32 s) {
        bytes32 hash = keccak256(
            abi.encode(
                PERMIT_TYPEHASH,
                payer,
                address(escrow),
                uint256(terms.maxAmount),
                token.nonces(payer),
                uint256(terms.deadline)
            )
        );
        return vm.sign(PAYER_KEY, keccak256(abi.encodePacked(hex"1901", token.DOMAIN_SEPARATOR(), hash)));
    }

    /* RESULTS */

    function answerOf(bytes32 requestId, uint128 amount) internal view returns (IRequestEscrow.Result memory) {
        return IRequestEscrow.Result({
            requestId: requestId,
            outcome: IRequestEscrow.Outcome.Answered,
            outputHash: keccak256("output"),
            traceRoot: 0,
            retrievalRoot: keccak256("retrieval"),
            modelHash: keccak256("model"),
            amount: amount,
            validUntil: uint64(block.timestamp + 1 days)
        });
    }

    function declineOf(bytes32 requestId) internal view returns (IRequestEscrow.Result memory result) {
        result = answerOf(requestId, 0);
        result.outcome = IRequestEscrow.Outcome.Declined;
    }

    /// @dev The first `count` members sign.
    function attest(IRequestEscrow.Result memory result, uint256 count)
        internal
        view
        returns (IRequestEscrow.Attestation[] memory attestations)
    {
        bytes32 digest = escrow.resultDigest(result);
        attestations = new IRequestEscrow.Attestation[](count);
        for (uint256 i = 0; i < count; ++i) {
            attestations[i] = IRequestEscrow.Attestation(quorum.signers[i], signature(signerKeys[i], digest));
        }
    }

    function keyOf(address signer) internal view returns (uint256) {
        for (uint256 i = 0; i < signerKeys.length; ++i) {
            if (quorum.signers[i] == signer) return signerKeys[i];
        }
        revert("unknown signer");
    }

    function signature(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function signersOf(IRequestEscrow.Attestation[] memory attestations)
        internal
        pure
        returns (address[] memory signers)
    {
        signers = new address[](attestations.length);
        for (uint256 i = 0; i < attestations.length; ++i) {
            signers[i] = attestations[i].signer;
        }
    }

    function deliverAnswer(IRequestEscrow.Request memory terms, uint128 amount)
        internal
        returns (IRequestEscrow.Result memory result)
    {
        result = answerOf(escrow.requestIdOf(terms), amount);
        IRequestEscrow.Attestation[] memory attestations = attest(result, 3);
        vm.prank(transmitter);
        escrow.deliver(terms, result, quorum, attestations);
    }

    /* MONEY */

    function splits() internal view returns (IRequestEscrow.Split[] memory list) {
        list = new IRequestEscrow.Split[](1);
        list[0] = split;
    }

    function noSplits() internal pure returns (IRequestEscrow.Split[] memory) {
        return new IRequestEscrow.Split[](0);
    }

    function claimableOf(address account, address token_) internal view returns (uint256) {
        address[] memory tokens = new address[](1);
        tokens[0] = token_;
        return escrow.claimable(account, tokens, splits())[0];
    }

    function assertStatus(bytes32 requestId, IRequestEscrow.Status wanted) internal view {
        assertEq(uint256(escrow.statusOf(requestId)), uint256(wanted), "status");
    }
}
