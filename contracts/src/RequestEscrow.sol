// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {OperatorRegistry} from "./OperatorRegistry.sol";
import {IAgentRegistry} from "./interfaces/IAgentRegistry.sol";
import {IEntryPolicy} from "./interfaces/IEntryPolicy.sol";
import {IOperatorRegistry} from "./interfaces/IOperatorRegistry.sol";
import {IPlatformToken} from "./interfaces/IPlatformToken.sol";
import {IRequestConsumer} from "./interfaces/IRequestConsumer.sol";
import {IRequestEscrow} from "./interfaces/IRequestEscrow.sol";
import {ISignatureTransfer} from "./interfaces/ISignatureTransfer.sol";
import {Payment} from "./libraries/Payment.sol";
import {Quorum} from "./libraries/Quorum.sol";
import {RequestDraft, RequestDraftLibrary} from "./libraries/RequestDraft.sol";
import {RequestState, RequestStateLibrary} from "./libraries/RequestState.sol";
import {SplitShares} from "./libraries/SplitShares.sol";
import {TypedHash} from "./libraries/TypedHash.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title RequestEscrow
/// @dev Every external function goes: lock, checks, effects and events, money in or out last. The one exception is a
/// batch's callbacks, which come between its settlements; the lock is held during each of them.
contract RequestEscrow is IRequestEscrow, EIP712 {
    using SafeERC20 for IERC20;
    using TypedHash for Request;
    using TypedHash for Result;
    using TypedHash for Offer;

    /* TYPES */

    /// @dev `agentId` is for `isOfferActive` alone: a request shows the offer, and with it the agent.
    struct OfferState {
        address publisher;
        uint256 agentId;
    }

    /* CONSTANTS */

    /// @inheritdoc IRequestEscrow
    uint256 public constant INPUT_BYTES_MAX = 8192;
    /// @inheritdoc IRequestEscrow
    uint256 public constant BATCH_MAX = 64;
    /// @inheritdoc IRequestEscrow
    uint256 public constant CALLBACK_GAS_MAX = 500_000;
    /// @dev What is left for the escrow's own work after a callback that spends everything it got.
    uint256 private constant CALLBACK_GAS_RESERVE = 20_000;

    /// @inheritdoc IRequestEscrow
    address public immutable agentRegistry;
    /// @inheritdoc IRequestEscrow
    address public immutable operatorRegistry;
    /// @inheritdoc IRequestEscrow
    address public immutable entryPolicy;
    /// @inheritdoc IRequestEscrow
    address public immutable permit2;
    /// @dev The registry's `UNBONDING_DELAY`: requests have to be past conviction by then.
    uint256 private immutable _bondedTimeMax;

    /* STORAGE */

    /// @inheritdoc IRequestEscrow
    uint64 public sequence;
    mapping(bytes32 requestId => RequestState) private _requests;
    mapping(bytes32 offerHash => OfferState) private _offers;
    /// @inheritdoc IRequestEscrow
    mapping(bytes32 splitHash => mapping(address token => uint256)) public settledTotal;
    /// @dev What an account has taken out of a split.
    mapping(bytes32 splitHash => mapping(address token => mapping(address account => uint256))) private _taken;
    /// @inheritdoc IRequestEscrow
    mapping(address account => mapping(address token => uint256)) public creditOf;
    bool private transient _entered;

    modifier nonReentrant() {
        _lock();
        _;
        _entered = false;
    }

    constructor(address agentRegistry_, address entryPolicy_, address permit2_) EIP712("Auspex RequestEscrow", "1") {
        agentRegistry = agentRegistry_;
        entryPolicy = entryPolicy_;
        permit2 = permit2_;
        OperatorRegistry registry = new OperatorRegistry();
        operatorRegistry = address(registry);
        _bondedTimeMax = registry.UNBONDING_DELAY();
    }

    /* OFFERS */

    /// @inheritdoc IRequestEscrow
    function publishOffer(Offer calldata offer, Split calldata split) external returns (bytes32 hash) {
        _requireAgent(offer.agentId);
        // The fee may change until a request is made, so an offer does not look at it.
        // slither-disable-next-line unused-return
        (bool allowed,,) = IEntryPolicy(entryPolicy).entryTerms(offer.token);
        require(allowed, TokenNotAllowed(offer.token));
        require(offer.price != 0, ZeroAmount());
        require(
            IOperatorRegistry(operatorRegistry).operatorSetHash(offer.operatorSetId) != 0,
            UnknownOperatorSet(offer.operatorSetId)
        );
        SplitShares.validate(split);
        require(keccak256(abi.encode(split)) == offer.splitHash, TermsMismatch("splitHash"));
        require(
            offer.durationMin != 0 && offer.durationMin <= offer.durationMax,
            InvalidDurations(offer.durationMin, offer.durationMax)
        );
        if (offer.referee == address(0)) {
            require(offer.challengeWindow == 0, InvalidChallenge(offer.challengeWindow, offer.referee));
        } else {
            require(
                offer.challengeWindow != 0
                    && offer.referee == IOperatorRegistry(operatorRegistry).refereeOf(offer.operatorSetId)
                    && uint256(offer.durationMax) + offer.challengeWindow <= _bondedTimeMax,
                InvalidChallenge(offer.challengeWindow, offer.referee)
            );
        }

        hash = offer.offerHash();
        _offers[hash] = OfferState(msg.sender, offer.agentId);
        emit OfferPublished(++sequence, hash, offer.agentId, offer, split);
    }

    /// @inheritdoc IRequestEscrow
    function retireOffer(Offer calldata offer) external {
        _requireAgent(offer.agentId);
        bytes32 hash = offer.offerHash();
        require(_offers[hash].publisher != address(0), OfferNotActive(hash));
        delete _offers[hash];
        emit OfferRetired(++sequence, hash, offer.agentId);
    }

    /* REQUESTS */

    /// @inheritdoc IRequestEscrow
    function request(Request calldata terms, Offer calldata offer, bytes calldata input)
        external
        payable
        nonReentrant
        returns (bytes32 requestId)
    {
        require(terms.payer == msg.sender, NotPayer(terms.payer, msg.sender));
        _checkTerms(terms, offer);
        requestId = _fund(terms, input);
        _collect(terms.token, terms.maxAmount);
    }

    /// @inheritdoc IRequestEscrow
    function requestBatch(Request calldata terms, Offer calldata offer, bytes[] calldata inputs)
        external
        payable
        nonReentrant
    {
        require(terms.payer == msg.sender, NotPayer(terms.payer, msg.sender));
        uint256 count = inputs.length;
        require(count != 0 && count <= BATCH_MAX, InvalidBatch());
        _checkTerms(terms, offer);

        require(terms.inputHash == keccak256(inputs[0]), TermsMismatch("inputHash"));
        bytes32 separator = _domainSeparatorV4();
        uint256 eventNumber = sequence;
        RequestDraft draft = RequestDraftLibrary.open(terms, INPUT_BYTES_MAX);
        // The salts wrap around, and the event number stays below 2^64.
        unchecked {
            for (uint256 i = 0; i < count; ++i) {
                _record(draft, _inputAt(inputs, i), uint256(terms.salt) + i, separator, ++eventNumber);
            }
        }
        draft.close();
        sequence = uint64(eventNumber);
        _collect(offer.token, count * offer.price);
    }

    /// @inheritdoc IRequestEscrow
    function requestWithAuthorization(
        Request calldata terms,
        Offer calldata offer,
        bytes calldata input,
        uint256 validAfter,
        uint256 validBefore,
        bytes calldata signature
    ) external nonReentrant returns (bytes32 requestId) {
        _checkTerms(terms, offer);
        requestId = _fund(terms, input);

        uint256 balanceBefore = Payment.balance(terms.token);
        _receiveWithAuthorization(terms, requestId, validAfter, validBefore, signature);
        _requireReceived(terms.token, balanceBefore, terms.maxAmount);
    }

    /// @inheritdoc IRequestEscrow
    function requestWithPermit(
        Request calldata terms,
        Offer calldata offer,
        bytes calldata input,
        uint256 permitDeadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external nonReentrant returns (bytes32 requestId) {
        require(terms.payer == msg.sender, NotPayer(terms.payer, msg.sender));
        _checkTerms(terms, offer);
        requestId = _fund(terms, input);

        // The lock is held, so the sequence is nobody else's to advance in between.
        // slither-disable-next-line reentrancy-no-eth
        try IERC20Permit(terms.token).permit(msg.sender, address(this), terms.maxAmount, permitDeadline, v, r, s) {}
        catch {
            emit PermitFailed(++sequence, requestId, terms.token);
        }
        _collect(terms.token, terms.maxAmount);
    }

    /// @inheritdoc IRequestEscrow
    function requestWithPermit2(
        Request calldata terms,
        Offer calldata offer,
        bytes calldata input,
        uint256 permitNonce,
        uint256 permitDeadline,
        bytes calldata signature
    ) external nonReentrant returns (bytes32 requestId) {
        _checkTerms(terms, offer);
        requestId = _fund(terms, input);

        uint256 balanceBefore = Payment.balance(terms.token);
        ISignatureTransfer(permit2)
            .permitWitnessTransferFrom(
                ISignatureTransfer.PermitTransferFrom({
                permitted: ISignatureTransfer.TokenPermissions(terms.token, terms.maxAmount),
                nonce: permitNonce,
                deadline: permitDeadline
            }),
                ISignatureTransfer.SignatureTransferDetails(address(this), terms.maxAmount),
                terms.payer,
                terms.structHash(),
                TypedHash.PERMIT2_WITNESS_TYPE,
                signature
            );
        _requireReceived(terms.token, balanceBefore, terms.maxAmount);
    }

    /* RESULTS */

    /// @inheritdoc IRequestEscrow
    function deliver(
        Request calldata terms,
        Result calldata result,
        OperatorSet calldata operatorSet,
        Attestation[] calldata attestations
    ) external nonReentrant {
        bytes32 requestId = requestIdOf(terms);
        _requireStatus(requestId, Status.Funded);
        _deliver(requestId, terms, result, operatorSet, attestations);
    }

    /// @inheritdoc IRequestEscrow
    function deliverBatch(Delivery[] calldata deliveries) external nonReentrant returns (bool[] memory accepted) {
        uint256 count = deliveries.length;
        require(count != 0 && count <= BATCH_MAX, InvalidBatch());
        accepted = new bool[](count);
        for (uint256 i = 0; i < count; ++i) {
            Delivery calldata delivery = deliveries[i];
            bytes32 requestId = requestIdOf(delivery.request);
            Status status = statusOf(requestId);
            require(status != Status.None, WrongStatus(requestId, status));
            // What time or another delivery has overtaken must not cost the others their delivery.
            if (
                status != Status.Funded || block.timestamp >= delivery.request.deadline
                    || block.timestamp > delivery.result.validUntil
            ) continue;
            _deliver(requestId, delivery.request, delivery.result, delivery.operatorSet, delivery.attestations);
            accepted[i] = true;
        }
    }

    /// @inheritdoc IRequestEscrow
    function settle(Request calldata terms, Result calldata result, address[] calldata signers) external nonReentrant {
        bytes32 requestId = requestIdOf(terms);
        RequestState state = _requireDelivered(requestId, result, signers);
        require(block.timestamp >= state.settleAt(), ChallengeWindow(state.settleAt()));
        _settle(requestId, terms, result);
    }

    /// @inheritdoc IRequestEscrow
    function refund(Request calldata terms) external nonReentrant {
        bytes32 requestId = requestIdOf(terms);
        _requireStatus(requestId, Status.Funded);
        require(block.timestamp >= terms.deadline, DeadlineNotReached(terms.deadline));

        _requests[requestId] = RequestStateLibrary.refunded();
        creditOf[terms.payer][terms.token] += terms.maxAmount;
        emit Refunded(++sequence, requestId, terms.payer, terms.token, terms.maxAmount);
    }

    /// @inheritdoc IRequestEscrow
    function convict(
        Request calldata terms,
        Result calldata result,
        OperatorSet calldata operatorSet,
        address[] calldata signers,
        address signer
    ) external nonReentrant {
        require(msg.sender == terms.referee, NotReferee(msg.sender));
        bytes32 requestId = requestIdOf(terms);
        RequestState state = _requireDelivered(requestId, result, signers);
        require(block.timestamp < state.settleAt(), ChallengeWindow(state.settleAt()));
        require(keccak256(abi.encode(operatorSet)) == terms.operatorSetHash, WrongOperatorSet());
        bool signed = false;
        for (uint256 i = 0; i < signers.length; ++i) {
            if (signers[i] == signer) signed = true;
        }
        require(signed, UnknownSigner(signer));

        _requests[requestId] = RequestStateLibrary.slashed();
        creditOf[terms.payer][terms.token] += terms.maxAmount;
        emit Slashed(++sequence, requestId, signer, terms.token, terms.maxAmount);
        // What was left of the bond is the registry's to say, in its own event.
        // slither-disable-next-line unused-return
        IOperatorRegistry(operatorRegistry).slash(operatorSet.setId, signer, requestId, terms.payer);
    }

    /* CREDITS */

    /// @inheritdoc IRequestEscrow
    function withdraw(address token, Split[] calldata splits) external returns (uint256 amount) {
        return withdrawFor(msg.sender, token, splits);
    }

    /// @inheritdoc IRequestEscrow
    function withdrawFor(address account, address token, Split[] calldata splits)
        public
        nonReentrant
        returns (uint256 amount)
    {
        amount = creditOf[account][token];
        if (amount != 0) creditOf[account][token] = 0;
        for (uint256 i = 0; i < splits.length; ++i) {
            (bytes32 splitHash, uint256 share) = _share(splits[i], account, token);
            if (share == 0) continue;
            _taken[splitHash][token][account] += share;
            amount += share;
        }
        require(amount != 0, NothingToWithdraw(account, token));
        emit Withdrawn(++sequence, account, token, amount);
        Payment.send(token, account, amount);
    }

    /// @inheritdoc IRequestEscrow
    function claimable(address account, address[] calldata tokens, Split[] calldata splits)
        external
        view
        returns (uint256[] memory amounts)
    {
        amounts = new uint256[](tokens.length);
        bytes32[] memory seen = new bytes32[](splits.length);
        for (uint256 i = 0; i < splits.length; ++i) {
            bytes32 splitHash = keccak256(abi.encode(splits[i]));
            bool repeated = false;
            for (uint256 j = 0; j < i; ++j) {
                if (seen[j] == splitHash) repeated = true;
            }
            seen[i] = splitHash;
            if (repeated) continue;
            for (uint256 t = 0; t < tokens.length; ++t) {
                (, uint256 share) = _share(splits[i], account, tokens[t]);
                amounts[t] += share;
            }
        }
        for (uint256 t = 0; t < tokens.length; ++t) {
            amounts[t] += creditOf[account][tokens[t]];
        }
    }

    /* VIEWS */

    /// @inheritdoc IRequestEscrow
    function statusOf(bytes32 requestId) public view returns (Status) {
        return _requests[requestId].status();
    }

    /// @inheritdoc IRequestEscrow
    function settledAmountOf(bytes32 requestId) external view returns (uint128) {
        return _requests[requestId].settledAmount();
    }

    /// @inheritdoc IRequestEscrow
    function requestIdOf(Request calldata terms) public view returns (bytes32) {
        return TypedHash.digest(_domainSeparatorV4(), terms.structHash());
    }

    /// @inheritdoc IRequestEscrow
    function resultDigest(Result calldata result) public view returns (bytes32) {
        return TypedHash.digest(_domainSeparatorV4(), result.structHash());
    }

    /// @inheritdoc IRequestEscrow
    function isOfferActive(bytes32 offerHash) external view returns (bool) {
        return _takesRequests(offerHash, _offers[offerHash].agentId);
    }

    /// @inheritdoc IRequestEscrow
    function DOMAIN_SEPARATOR() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /* INTERNAL: ENTRY */

    /// @dev Reverts unless every member of `terms` but `inputHash` and `salt` agrees with the offer and with today's policy
    /// and operator set.
    function _checkTerms(Request calldata terms, Offer calldata offer) private view {
        bytes32 hash = offer.offerHash();
        require(_takesRequests(hash, offer.agentId), OfferNotActive(hash));
        (bool allowed, uint16 feeBps, address feeRecipient) = IEntryPolicy(entryPolicy).entryTerms(offer.token);
        require(allowed, TokenNotAllowed(offer.token));
        bytes32 setHash = IOperatorRegistry(operatorRegistry).operatorSetHash(offer.operatorSetId);

        require(terms.agentId == offer.agentId, TermsMismatch("agentId"));
        require(terms.offerHash == hash, TermsMismatch("offerHash"));
        require(terms.operatorSetHash == setHash, TermsMismatch("operatorSetHash"));
        require(terms.splitHash == offer.splitHash, TermsMismatch("splitHash"));
        require(terms.token == offer.token, TermsMismatch("token"));
        require(terms.maxAmount == offer.price, TermsMismatch("maxAmount"));
        require(terms.feeBps == feeBps, TermsMismatch("feeBps"));
        require(terms.feeRecipient == feeRecipient, TermsMismatch("feeRecipient"));
        require(terms.challengeWindow == offer.challengeWindow, TermsMismatch("challengeWindow"));
        require(terms.referee == offer.referee, TermsMismatch("referee"));
        require(terms.callbackGas <= CALLBACK_GAS_MAX, TermsMismatch("callbackGas"));
        // Reading the address refuses dirty bits above it, which would make an id that nobody can compute.
        require(terms.callback != address(this), TermsMismatch("callback"));
        uint256 earliest = block.timestamp + offer.durationMin;
        uint256 latest = block.timestamp + offer.durationMax;
        require(
            terms.deadline >= earliest && terms.deadline <= latest, DeadlineOutOfRange(terms.deadline, earliest, latest)
        );
    }

    /// @dev An offer speaks for the agent only while its publisher does, or the buyer of an agent would find the seller's
    /// payees still paid for it.
    function _takesRequests(bytes32 offerHash, uint256 agentId) private view returns (bool) {
        address publisher = _offers[offerHash].publisher;
        return publisher != address(0) && IAgentRegistry(agentRegistry).isAuthorizedOrOwner(publisher, agentId);
    }

    /// @dev Makes a checked request `Funded` and emits it.
    function _fund(Request calldata terms, bytes calldata input) private returns (bytes32 requestId) {
        require(terms.inputHash == keccak256(input), TermsMismatch("inputHash"));
        RequestDraft draft = RequestDraftLibrary.open(terms, INPUT_BYTES_MAX);
        requestId = _record(draft, input, uint256(terms.salt), _domainSeparatorV4(), ++sequence);
        draft.close();
    }

    function _record(RequestDraft draft, bytes calldata input, uint256 salt, bytes32 separator, uint256 eventNumber)
        private
        returns (bytes32 requestId)
    {
        if (input.length > INPUT_BYTES_MAX) revert InputTooLarge(input.length, INPUT_BYTES_MAX);
        requestId = draft.write(input, salt, separator);
        uint256 slot;
        RequestState state;
        // In assembly, because Solidity computes the slot once for the check and once for the write.
        assembly ("memory-safe") {
            mstore(0x00, requestId)
            mstore(0x20, _requests.slot)
            slot := keccak256(0x00, 0x40)
            state := sload(slot)
        }
        if (!state.isNone()) revert WrongStatus(requestId, state.status());
        draft.fund(slot, requestId, eventNumber);
    }

    /// @dev What Solidity does for `inputs[i]`, at a third of its cost. An offset that wraps around reads other bytes of the
    /// caller's own calldata, which then are the input.
    // slither-disable-next-line write-after-write
    function _inputAt(bytes[] calldata inputs, uint256 i) private pure returns (bytes calldata input) {
        assembly ("memory-safe") {
            let lengthAt := add(inputs.offset, calldataload(add(inputs.offset, shl(5, i))))
            input.length := calldataload(lengthAt)
            input.offset := add(lengthAt, 0x20)
        }
    }

    /// @dev Takes what is due from the caller: native value, or an ERC-20 allowance.
    function _collect(address token, uint256 amount) private {
        uint256 due = token == address(0) ? amount : 0;
        require(msg.value == due, WrongValue(msg.value, due));
        if (token == address(0)) return;
        uint256 balanceBefore = Payment.balance(token);
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        _requireReceived(token, balanceBefore, amount);
    }

    function _receiveWithAuthorization(
        Request calldata terms,
        bytes32 requestId,
        uint256 validAfter,
        uint256 validBefore,
        bytes calldata signature
    ) private {
        IPlatformToken token = IPlatformToken(terms.token);
        // The standard's own form takes an ECDSA signature apart; longer signatures need the form of contract wallets.
        if (signature.length == 65) {
            token.receiveWithAuthorization(
                terms.payer,
                address(this),
                terms.maxAmount,
                validAfter,
                validBefore,
                requestId,
                uint8(signature[64]),
                bytes32(signature[0:32]),
                bytes32(signature[32:64])
            );
        } else {
            token.receiveWithAuthorization(
                terms.payer, address(this), terms.maxAmount, validAfter, validBefore, requestId, signature
            );
        }
    }

    function _requireReceived(address token, uint256 balanceBefore, uint256 amount) private view {
        uint256 balanceAfter = Payment.balance(token);
        uint256 moved = balanceAfter > balanceBefore ? balanceAfter - balanceBefore : 0;
        require(moved == amount, TokenMovedOtherAmount(token, moved, amount));
    }

    /* INTERNAL: SETTLEMENT */

    /// @dev The caller has checked that the request is `Funded`.
    function _deliver(
        bytes32 requestId,
        Request calldata terms,
        Result calldata result,
        OperatorSet calldata operatorSet,
        Attestation[] calldata attestations
    ) private {
        require(block.timestamp < terms.deadline, DeadlinePassed(terms.deadline));
        require(result.requestId == requestId, InvalidResult("requestId"));
        require(block.timestamp <= result.validUntil, InvalidResult("validUntil"));
        if (result.outcome == Outcome.Answered) {
            require(result.amount != 0 && result.amount <= terms.maxAmount, InvalidResult("amount"));
        } else {
            require(result.outcome == Outcome.Declined, InvalidResult("outcome"));
            require(result.amount == 0, InvalidResult("amount"));
        }
        require(keccak256(abi.encode(operatorSet)) == terms.operatorSetHash, WrongOperatorSet());
        bytes32 digest = resultDigest(result);
        address[] memory signers = Quorum.verify(operatorSet, attestations, digest, IOperatorRegistry(operatorRegistry));

        emit Delivered(++sequence, requestId, msg.sender, result, signers);
        if (terms.challengeWindow == 0) {
            _settle(requestId, terms, result);
        } else {
            _requests[requestId] = RequestStateLibrary.delivered(
                uint40(block.timestamp) + terms.challengeWindow, _commitment(digest, signers)
            );
        }
    }

    /// @dev Moves a request's money to its payees' credit, then calls its consumer.
    function _settle(bytes32 requestId, Request calldata terms, Result calldata result) private {
        uint128 amount = result.amount;
        uint128 returned = terms.maxAmount - amount;
        uint128 fee = uint128(SplitShares.fee(amount, terms.feeBps));

        _requests[requestId] = RequestStateLibrary.settled(amount);
        if (amount != 0) settledTotal[terms.splitHash][terms.token] += amount - fee;
        if (fee != 0) creditOf[terms.feeRecipient][terms.token] += fee;
        if (returned != 0) creditOf[terms.payer][terms.token] += returned;
        emit Settled(++sequence, requestId, terms.splitHash, terms.token, amount, fee, returned);
        if (terms.callback != address(0)) _callback(requestId, terms, result);
    }

    function _callback(bytes32 requestId, Request calldata terms, Result calldata result) private {
        address callback = terms.callback;
        uint256 callbackGas = terms.callbackGas;
        bytes memory message = abi.encodeCall(
            IRequestConsumer.onSettled, (requestId, uint8(result.outcome), result.outputHash, result.amount)
        );
        // EIP-150 keeps back a 64th of the gas; without this check a caller could starve the callback and still settle.
        uint256 needed = callbackGas + callbackGas / 63 + CALLBACK_GAS_RESERVE;
        require(gasleft() >= needed, CallbackGasTooLow(gasleft(), needed));
        bool success;
        assembly ("memory-safe") {
            success := call(callbackGas, callback, 0, add(message, 0x20), mload(message), 0x00, 0x00)
        }
        if (!success) emit CallbackFailed(++sequence, requestId, callback);
    }

    function _commitment(bytes32 digest, address[] memory signers) private pure returns (bytes32) {
        return keccak256(abi.encode(digest, signers));
    }

    /// @dev What `account` can still take out of a split. A split that was never settled into has nothing to share, so
    /// its other members, which anyone may have made up, are not read.
    function _share(Split calldata split, address account, address token)
        private
        view
        returns (bytes32 splitHash, uint256 share)
    {
        splitHash = keccak256(abi.encode(split));
        uint256 total = settledTotal[splitHash][token];
        if (total == 0) return (splitHash, 0);
        share = SplitShares.entitlement(split, total, account) - _taken[splitHash][token][account];
    }

    /* INTERNAL: CHECKS */

    function _lock() private {
        require(!_entered, Reentered());
        _entered = true;
    }

    function _requireAgent(uint256 agentId) private view {
        require(
            IAgentRegistry(agentRegistry).isAuthorizedOrOwner(msg.sender, agentId), NotAgentOwner(agentId, msg.sender)
        );
    }

    function _requireStatus(bytes32 requestId, Status wanted) private view {
        Status status = statusOf(requestId);
        // A status is one of six values and nothing that an outsider can nudge.
        // slither-disable-next-line incorrect-equality
        require(status == wanted, WrongStatus(requestId, status));
    }

    function _requireDelivered(bytes32 requestId, Result calldata result, address[] calldata signers)
        private
        view
        returns (RequestState state)
    {
        _requireStatus(requestId, Status.Delivered);
        state = _requests[requestId];
        require(state.commitsTo(_commitment(resultDigest(result), signers)), WrongResult(requestId));
    }
}
