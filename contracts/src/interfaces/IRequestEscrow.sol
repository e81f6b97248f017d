// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title RequestEscrow: paid requests to agents, answered by a quorum of operators
/// @notice A payer funds a request in full, a quorum of operators signs one result, the escrow credits the payees that
/// were pinned when the request was made. A request that nobody answers is refunded by anyone at its deadline.
/// The escrow has no owner, no pause, no upgrade and no way to move money other than the ones below.
///
/// @dev Storage holds one word per request. Everything that was agreed is in `Request`; its EIP-712 digest is the
/// request's id, and every later call shows the same `Request` again. So nothing that an agent owner, an operator or an
/// administrator does afterwards can change a live request.
///
/// Assumptions about tokens: an allowed token moves exactly the amount that it was asked to move (checked on entry), does
/// not rebase, and does not take balances away from its holders. A token that breaks the last two loses liveness for its
/// own holders only: credits of one token are never paid in another.
///
/// Every event carries `sequence`, which grows by exactly one per event of this contract: a reader that sees a gap knows
/// that it has missed something.
interface IRequestEscrow {
    /* TYPES */

    /// @notice `None -> Funded -> Delivered -> Settled | Slashed`, `Funded -> Settled` when there is no challenge window,
    /// `Funded -> Refunded`. The last three are terminal.
    enum Status {
        None,
        Funded,
        Delivered,
        Settled,
        Refunded,
        Slashed
    }

    /// @notice What a result says: an answer, or a signed refusal that costs the payer nothing.
    enum Outcome {
        None,
        Answered,
        Declined
    }

    /// @notice The tuple of 0xSplits v2, so that `keccak256(abi.encode(split))` is the same hash there and here.
    /// @dev At most 16 recipients, `totalAllocation` is the exact sum of `allocations` and at most 2^64 - 1,
    /// `distributionIncentive` is zero. A recipient may be any account, also a contract, and may appear once.
    struct Split {
        address[] recipients;
        uint256[] allocations;
        uint256 totalAllocation;
        uint16 distributionIncentive;
    }

    /// @notice What an agent sells. Its hash is `keccak256(abi.encode(offer))`.
    struct Offer {
        /// The ERC-8004 id of the agent.
        uint256 agentId;
        /// The token that is paid; the zero address means the chain's native coin.
        address token;
        /// The most that one request costs, in the token's smallest unit. The result may charge less.
        uint128 price;
        /// The operator set that answers.
        uint64 operatorSetId;
        /// `keccak256(abi.encode(split))` of the payees.
        bytes32 splitHash;
        /// Merkle root of the corpus that answers are taken from; zero when the offer pins none.
        bytes32 corpusRoot;
        /// Hash of the model that embeds and answers; zero when the offer pins none.
        bytes32 modelHash;
        /// Shortest and longest time from request to deadline, in seconds.
        uint32 durationMin;
        uint32 durationMax;
        /// Time after delivery in which `referee` may convict, in seconds; zero settles at once.
        uint32 challengeWindow;
        /// The contract that judges proofs against results; the zero address means none.
        address referee;
    }

    /// @notice Everything that a payer agrees to. Its EIP-712 digest in this escrow's domain is the request's id.
    struct Request {
        /// Who pays, and who is credited with what is not spent.
        address payer;
        uint256 agentId;
        bytes32 offerHash;
        /// `operatorSetHash` of the set's epoch that may answer.
        bytes32 operatorSetHash;
        bytes32 splitHash;
        address token;
        /// What is escrowed; equals the offer's price.
        uint128 maxAmount;
        /// The protocol's fee at request time, in hundredths of a percent of the settled amount, and who gets it.
        uint16 feeBps;
        address feeRecipient;
        /// Unix time in seconds. A result is accepted before it, a refund from it on.
        uint40 deadline;
        uint32 challengeWindow;
        address referee;
        /// `IRequestConsumer`, called once after settlement with `callbackGas`; the zero address means no call.
        address callback;
        uint32 callbackGas;
        /// `keccak256(input)`.
        bytes32 inputHash;
        /// Makes two equal requests of one payer differ.
        bytes32 salt;
    }

    /// @notice What the quorum signs (EIP-712, this escrow's domain).
    struct Result {
        bytes32 requestId;
        Outcome outcome;
        /// `keccak256` of the answer's canonical JSON (RFC 8785).
        bytes32 outputHash;
        /// Merkle root of the inference transcript; zero for answerers without one.
        bytes32 traceRoot;
        /// Commitment to the retrieved chunks and their scores.
        bytes32 retrievalRoot;
        bytes32 modelHash;
        /// What the request costs, at most `maxAmount`; more than zero when answered, zero when declined.
        uint128 amount;
        /// Unix time in seconds after which the signatures are void.
        uint64 validUntil;
    }

    /// @notice One epoch of an operator set. Its hash is `keccak256(abi.encode(operatorSet))`.
    /// @dev `signers` is strictly ascending; `threshold` is between 1 and its length, which is at most 32.
    struct OperatorSet {
        uint64 setId;
        uint64 epoch;
        uint8 threshold;
        address[] signers;
    }

    /// @notice One operator's signature over a result. A contract signs by ERC-1271.
    struct Attestation {
        address signer;
        bytes signature;
    }

    /// @notice The arguments of one `deliver`.
    struct Delivery {
        Request request;
        Result result;
        OperatorSet operatorSet;
        Attestation[] attestations;
    }

    /* EVENTS */

    /// @notice An agent's owner or approved operator published an offer.
    event OfferPublished(uint64 sequence, bytes32 indexed offerHash, uint256 indexed agentId, Offer offer, Split split);
    /// @notice An offer takes no further requests; live ones are not touched.
    event OfferRetired(uint64 sequence, bytes32 indexed offerHash, uint256 indexed agentId);
    /// @notice A request is funded; `input` is what `request.inputHash` commits to.
    event Requested(
        uint64 sequence,
        bytes32 indexed requestId,
        uint256 indexed agentId,
        address indexed payer,
        Request request,
        bytes input
    );
    /// @notice A quorum's result was accepted. `signers` are the operators whose signatures counted.
    event Delivered(
        uint64 sequence, bytes32 indexed requestId, address indexed transmitter, Result result, address[] signers
    );
    /// @notice The money of a request left it: `amount - fee` to the split, `fee` to the fee recipient, `returned` to the
    /// payer. `amount + returned` is what was escrowed.
    event Settled(
        uint64 sequence,
        bytes32 indexed requestId,
        bytes32 indexed splitHash,
        address token,
        uint128 amount,
        uint128 fee,
        uint128 returned
    );
    /// @notice Nobody answered in time: the payer was credited with everything.
    event Refunded(uint64 sequence, bytes32 indexed requestId, address indexed payer, address token, uint128 amount);
    /// @notice The referee convicted a delivered result: the payer was credited with everything, the operator of `signer`
    /// was slashed.
    event Slashed(uint64 sequence, bytes32 indexed requestId, address indexed signer, address token, uint128 amount);
    /// @notice `amount` of `token` was paid out to `account`.
    event Withdrawn(uint64 sequence, address indexed account, address indexed token, uint256 amount);
    /// @notice The consumer's callback reverted or ran out of gas; nothing else changed.
    event CallbackFailed(uint64 sequence, bytes32 indexed requestId, address indexed callback);
    /// @notice An ERC-2612 permit was refused by the token (as it is when somebody front-ran it); the request went on
    /// with the allowance that it found.
    event PermitFailed(uint64 sequence, bytes32 indexed requestId, address indexed token);

    /* ERRORS */

    /// @notice Thrown when a function is re-entered.
    error Reentered();
    /// @notice Thrown when the caller may not act for the agent.
    error NotAgentOwner(uint256 agentId, address caller);
    /// @notice Thrown when the operator set has no active epoch.
    error UnknownOperatorSet(uint64 operatorSetId);
    /// @notice Thrown when the token is not allowed for new requests.
    error TokenNotAllowed(address token);
    /// @notice Thrown when a price or an amount that must be positive is zero.
    error ZeroAmount();
    /// @notice Thrown when a split breaks one of its rules; `index` names the recipient where there is one.
    error InvalidSplit(uint256 index);
    /// @notice Thrown when the duration limits of an offer are empty or reversed.
    error InvalidDurations(uint32 durationMin, uint32 durationMax);
    /// @notice Thrown when a referee is named without a window, or a window without a referee, when the referee is not
    /// the one that the operator set's members agreed to, or when a bond could be released before the window ends.
    error InvalidChallenge(uint32 challengeWindow, address referee);
    /// @notice Thrown when the offer is unknown or retired, or its publisher may no longer act for the agent.
    error OfferNotActive(bytes32 offerHash);
    /// @notice Thrown when a field of the request differs from what the offer, the fee or the set says today.
    /// `field` is the name of the field in `Request`.
    error TermsMismatch(string field);
    /// @notice Thrown when the deadline is nearer or farther than the offer allows.
    error DeadlineOutOfRange(uint256 deadline, uint256 earliest, uint256 latest);
    /// @notice Thrown when the input is larger than `INPUT_BYTES_MAX`.
    error InputTooLarge(uint256 size, uint256 limit);
    /// @notice Thrown when the caller pays for somebody else without a signature.
    error NotPayer(address payer, address caller);
    /// @notice Thrown when native value was sent that differs from what is due.
    error WrongValue(uint256 sent, uint256 due);
    /// @notice Thrown when the token moved another amount than asked: fee-on-transfer and rebasing tokens are refused.
    error TokenMovedOtherAmount(address token, uint256 moved, uint256 asked);
    /// @notice Thrown when a request is not in the status that the call needs.
    error WrongStatus(bytes32 requestId, Status status);
    /// @notice Thrown when a result arrives at or after the deadline.
    error DeadlinePassed(uint256 deadline);
    /// @notice Thrown when a refund is asked for before the deadline.
    error DeadlineNotReached(uint256 deadline);
    /// @notice Thrown when a settlement is asked for inside the challenge window, or a conviction after it.
    error ChallengeWindow(uint256 end);
    /// @notice Thrown when the result is not about this request, or its amount, outcome or validity is out of range.
    error InvalidResult(string field);
    /// @notice Thrown when the result or the signers shown are not the ones that were delivered.
    error WrongResult(bytes32 requestId);
    /// @notice Thrown when the operator set shown is not the one that the request pinned.
    error WrongOperatorSet();
    /// @notice Thrown when fewer attestations were shown than the threshold; each one that is shown has to be valid.
    error QuorumNotReached(uint256 signatures, uint256 threshold);
    /// @notice Thrown when signers are not strictly ascending.
    error SignersNotAscending(address signer);
    /// @notice Thrown when a signer is not in the pinned set or has been revoked.
    error UnknownSigner(address signer);
    /// @notice Thrown when a signature does not verify.
    error InvalidSignature(address signer);
    /// @notice Thrown when somebody other than the pinned referee convicts.
    error NotReferee(address caller);
    /// @notice Thrown when a withdrawal finds nothing to pay.
    error NothingToWithdraw(address account, address token);
    /// @notice Thrown when the native coin could not be sent.
    error NativeTransferFailed(address account);
    /// @notice Thrown when batch arguments differ in length, or the batch is empty or over `BATCH_MAX`.
    error InvalidBatch();
    /// @notice Thrown when so little gas was sent that a callback could be starved.
    error CallbackGasTooLow(uint256 available, uint256 needed);

    /* OFFERS */

    /// @notice Publishes an offer for new requests. Callable by the agent's owner or approved operator. The offer takes
    /// requests while the caller is one or the other; after a transfer of the agent the new owner has to publish it again.
    function publishOffer(Offer calldata offer, Split calldata split) external returns (bytes32 offerHash);

    /// @notice Stops an offer from taking new requests. Callable by the agent's owner or approved operator.
    function retireOffer(Offer calldata offer) external;

    /* REQUESTS */

    /// @notice Funds a request from the caller: native value, or an ERC-20 allowance.
    function request(Request calldata terms, Offer calldata offer, bytes calldata input)
        external
        payable
        returns (bytes32 requestId);

    /// @notice Funds up to `BATCH_MAX` requests of the caller under one offer with one transfer. Request `i` is `terms` with
    /// `salt + i` (modulo 2^256) as its salt and the hash of `inputs[i]` as its input hash; so `terms` is request 0.
    /// Their ids are in the events, in that order, and `requestIdOf` tells them beforehand.
    function requestBatch(Request calldata terms, Offer calldata offer, bytes[] calldata inputs) external payable;

    /// @notice Funds a request by one EIP-3009 signature of the payer, whose nonce is the request's id. Anyone may relay.
    function requestWithAuthorization(
        Request calldata terms,
        Offer calldata offer,
        bytes calldata input,
        uint256 validAfter,
        uint256 validBefore,
        bytes calldata signature
    ) external returns (bytes32 requestId);

    /// @notice Funds a request of the caller after an ERC-2612 permit. A permit that somebody else has already used does
    /// not make the request fail.
    function requestWithPermit(
        Request calldata terms,
        Offer calldata offer,
        bytes calldata input,
        uint256 permitDeadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external returns (bytes32 requestId);

    /// @notice Funds a request by a Permit2 signature whose witness is the whole request. Anyone may relay.
    function requestWithPermit2(
        Request calldata terms,
        Offer calldata offer,
        bytes calldata input,
        uint256 permitNonce,
        uint256 permitDeadline,
        bytes calldata signature
    ) external returns (bytes32 requestId);

    /* RESULTS */

    /// @notice Accepts the quorum's result before the deadline. Anyone may deliver; only the pinned payees are paid.
    function deliver(
        Request calldata terms,
        Result calldata result,
        OperatorSet calldata operatorSet,
        Attestation[] calldata attestations
    ) external;

    /// @notice Delivers up to `BATCH_MAX` results. What came too late is left out: a delivery whose request is no longer
    /// `Funded` or past its deadline, or whose result is past its validity. Any other fault reverts the batch.
    /// @return accepted For each delivery, whether its result was accepted.
    function deliverBatch(Delivery[] calldata deliveries) external returns (bool[] memory accepted);

    /// @notice Settles a delivered result whose challenge window is over. Anyone may call.
    /// @param signers The signers of the `Delivered` event, in its order.
    function settle(Request calldata terms, Result calldata result, address[] calldata signers) external;

    /// @notice Credits the payer with everything at the deadline of a request without a result. Anyone may call.
    function refund(Request calldata terms) external;

    /// @notice Convicts a delivered result inside its challenge window: the payer is refunded, and `signer`, one of the
    /// signers of that result, is revoked and costs its operator its bond, half of which goes to the payer and half to
    /// nobody (`IOperatorRegistry.slash`). Callable by the pinned referee only, once per request.
    /// @dev No signature is shown again: the escrow committed to the result and its signers when it accepted them, so a
    /// contract signer cannot take its signature back.
    /// @param signers The signers of the `Delivered` event, in its order.
    function convict(
        Request calldata terms,
        Result calldata result,
        OperatorSet calldata operatorSet,
        address[] calldata signers,
        address signer
    ) external;

    /* CREDITS */

    /// @notice Pays the caller's credit in `token` and its shares of `splits`.
    function withdraw(address token, Split[] calldata splits) external returns (uint256 amount);

    /// @notice Pays `account` its credit in `token` and its shares of `splits`. Anyone may call.
    function withdrawFor(address account, address token, Split[] calldata splits) external returns (uint256 amount);

    /// @notice What `withdrawFor` would pay, per token.
    function claimable(address account, address[] calldata tokens, Split[] calldata splits)
        external
        view
        returns (uint256[] memory amounts);

    /* VIEWS */

    /// @notice The number of events so far, which is the sequence number of the last one.
    function sequence() external view returns (uint64);

    /// @notice The status of a request.
    function statusOf(bytes32 requestId) external view returns (Status);

    /// @notice What a settled request cost its payer, fee included; zero in every other status.
    function settledAmountOf(bytes32 requestId) external view returns (uint128);

    /// @notice True while an offer takes new requests: it was published, was not retired, and its publisher may still act
    /// for the agent.
    function isOfferActive(bytes32 offerHash) external view returns (bool);

    /// @notice The EIP-712 digest of a request: its id, and the nonce of its EIP-3009 authorization.
    function requestIdOf(Request calldata terms) external view returns (bytes32);

    /// @notice The EIP-712 digest that operators sign.
    function resultDigest(Result calldata result) external view returns (bytes32);

    /// @notice All that was ever settled into a split, per token.
    function settledTotal(bytes32 splitHash, address token) external view returns (uint256);

    /// @notice What `account` holds outside of splits: refunds, unspent amounts, fees.
    function creditOf(address account, address token) external view returns (uint256);

    /// @notice The EIP-712 domain separator.
    function DOMAIN_SEPARATOR() external view returns (bytes32);

    /// @notice The largest input in bytes.
    function INPUT_BYTES_MAX() external view returns (uint256);

    /// @notice The largest batch.
    function BATCH_MAX() external view returns (uint256);

    /// @notice The most gas that a callback may ask for.
    function CALLBACK_GAS_MAX() external view returns (uint256);

    /// @notice The ERC-8004 identity registry that says who may act for an agent.
    function agentRegistry() external view returns (address);

    /// @notice The registry of operators, their sets and their bonds; deployed by this escrow's constructor.
    function operatorRegistry() external view returns (address);

    /// @notice The rules for new requests: tokens and fee.
    function entryPolicy() external view returns (address);

    /// @notice The Permit2 contract.
    function permit2() external view returns (address);
}
