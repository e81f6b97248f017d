// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title OperatorRegistry: who may answer, with what at stake
/// @notice An operator is an account (its owner, best a cold or multisig account) with three further roles: the hot key
/// that signs results, the hot key that sends transactions and holds nothing but gas, and the account that receives money.
/// The four are four different accounts, so that no one key that is lost or stolen is two of them.
/// Operators join sets with a bond. A set's membership is versioned by epochs; the escrow pins an epoch's hash in each
/// request, so a later epoch never changes who answers a live request. A revoked signer is refused at once, also for live
/// requests: revoking can only take power away.
/// @dev Every event carries `sequence`, which grows by exactly one per event of this contract.
interface IOperatorRegistry {
    /* TYPES */

    /// @notice An operator's roles beside its owner, present and announced.
    struct Operator {
        /// The hot key (or ERC-1271 contract) that signs results; the zero address after a revocation.
        address signer;
        /// The hot key that sends transactions.
        address transmitter;
        /// Where withdrawn bonds go.
        address withdrawal;
        /// A signer that can become active at `signerActiveAt`; the zero address when there is none.
        address pendingSigner;
        uint64 signerActiveAt;
        /// A withdrawal address that can become active at `withdrawalActiveAt`; the zero address when there is none.
        address pendingWithdrawal;
        uint64 withdrawalActiveAt;
    }

    /* EVENTS */

    /// @notice An account became an operator with these three further roles.
    event OperatorRegistered(
        uint64 sequence, address indexed owner, address indexed signer, address transmitter, address withdrawal
    );
    /// @notice A new signer was announced; it can become active at `activeAt`.
    event SignerProposed(uint64 sequence, address indexed owner, address indexed signer, uint64 activeAt);
    /// @notice The announced signer is the operator's signer now; the former one counts in its epochs until it is revoked.
    event SignerActivated(uint64 sequence, address indexed owner, address indexed signer);
    /// @notice A signer counts no more, anywhere, from this block on, and can never be registered again.
    event SignerRevoked(uint64 sequence, address indexed owner, address indexed signer);
    /// @notice The operator sends its transactions from another account.
    event TransmitterChanged(uint64 sequence, address indexed owner, address indexed transmitter);
    /// @notice A new withdrawal address was announced; it can become active at `activeAt`.
    event WithdrawalProposed(uint64 sequence, address indexed owner, address indexed withdrawal, uint64 activeAt);
    /// @notice Bonds are released to another address from now on.
    event WithdrawalActivated(uint64 sequence, address indexed owner, address indexed withdrawal);
    /// @notice A set was created; it has no epoch yet.
    event SetCreated(
        uint64 sequence, uint64 indexed setId, address indexed admin, address bondToken, uint128 bond, address referee
    );
    /// @notice The admin named its successor, who has to accept; the zero address means that the offer was taken back.
    event SetAdminProposed(uint64 sequence, uint64 indexed setId, address indexed pendingAdmin);
    /// @notice The named successor accepted and is the set's admin now.
    event SetAdminChanged(uint64 sequence, uint64 indexed setId, address indexed admin);
    /// @notice The admin named the members of a coming epoch; each of them must have joined before it can start.
    event EpochProposed(
        uint64 sequence, uint64 indexed setId, uint64 epoch, uint8 threshold, address[] operators, uint64 activeAt
    );
    /// @notice An epoch started. `operators[i]` signs with `signers[i]`; `signers` is strictly ascending. A `refreshed` one
    /// came from the epoch before, and leaves a proposal pending; any other is the proposed one.
    event EpochStarted(
        uint64 sequence,
        uint64 indexed setId,
        uint64 epoch,
        uint8 threshold,
        address[] operators,
        address[] signers,
        bytes32 operatorSetHash,
        bool refreshed
    );
    /// @notice An operator paid its bond of a set.
    event Joined(uint64 sequence, uint64 indexed setId, address indexed owner, uint128 bond);
    /// @notice An operator is leaving a set; its bond can be released at `releaseAt`.
    event UnbondingStarted(uint64 sequence, uint64 indexed setId, address indexed owner, uint64 releaseAt);
    /// @notice What was left of a bond was paid to the operator's withdrawal address.
    event BondReleased(uint64 sequence, uint64 indexed setId, address indexed owner, address to, uint128 amount);
    /// @notice An operator lost `amount`, all that was left of its bond of the set, for having signed with `signer`:
    /// `reward` was credited to `beneficiary`, the rest to `BURN_ADDRESS`.
    event BondSlashed(
        uint64 sequence,
        uint64 indexed setId,
        address indexed owner,
        bytes32 indexed requestId,
        address signer,
        uint128 amount,
        address beneficiary,
        uint128 reward
    );

    /// @notice `amount` of slashed bonds in `token` was paid out to `account`.
    event Withdrawn(uint64 sequence, address indexed account, address indexed token, uint256 amount);

    /* ERRORS */

    /// @notice Thrown when a function that moves money is re-entered.
    error Reentered();
    /// @notice Thrown when an operator registers a second time.
    error AlreadyRegistered(address owner);
    /// @notice Thrown when the caller is no operator.
    error NotRegistered(address owner);
    /// @notice Thrown when two of an operator's four roles would be one account, announced ones included.
    error RolesNotSeparate(address account);
    /// @notice Thrown when two operators would share one signing key, or a revoked key is used again.
    error SignerTaken(address signer);
    /// @notice Thrown when a caller revokes a key that is not, and never was, its own, or that it has revoked before.
    error NotOwnSigner(address signer, address caller);
    /// @notice Thrown when a required address is zero; `field` names it.
    error ZeroAddress(string field);
    /// @notice Thrown when somebody other than the set's admin calls.
    error NotSetAdmin(uint64 setId, address caller);
    /// @notice Thrown when somebody other than the named successor accepts a set.
    error NotPendingSetAdmin(uint64 setId, address caller);
    /// @notice Thrown when there is no such set.
    error UnknownSet(uint64 setId);
    /// @notice Thrown when a set is empty, over `SET_MEMBERS_MAX`, or its threshold is out of range; on a refresh, when
    /// fewer members than the threshold are left.
    error InvalidThreshold(uint256 threshold, uint256 members);
    /// @notice Thrown when an operator is named twice.
    error DuplicateMember(address owner);
    /// @notice Thrown when an operator has no bond in the set, has left it, or was slashed.
    error NotJoined(uint64 setId, address owner);
    /// @notice Thrown when an operator joins a set twice, or before its former bond of that set was released.
    error AlreadyJoined(uint64 setId, address owner);
    /// @notice Thrown when something that was announced is not due yet; `activeAt` is when it will be.
    error TooEarly(uint64 activeAt);
    /// @notice Thrown when there is nothing to activate, to start, to refresh or to release.
    error NothingPending();
    /// @notice Thrown when a member of the present epoch starts unbonding with a signer that still counts.
    error StillMember(uint64 setId, address owner);
    /// @notice Thrown when native value was sent that differs from what is due.
    error WrongBond(uint256 sent, uint256 due);
    /// @notice Thrown when the token moved another amount than asked.
    error TokenMovedOtherAmount(address token, uint256 moved, uint256 asked);
    /// @notice Thrown when the native coin could not be sent.
    error NativeTransferFailed(address account);
    /// @notice Thrown when an account has no credit in the token.
    error NothingToWithdraw(address account, address token);
    /// @notice Thrown when a bond was slashed for this request before.
    error AlreadySlashed(bytes32 requestId);
    /// @notice Thrown when somebody other than the escrow slashes.
    error NotEscrow(address caller);

    /* OPERATORS */

    /// @notice Registers the caller as an operator. The three accounts differ from each other and from the caller.
    function register(address signer, address transmitter, address withdrawal) external;

    /// @notice Announces a new signer, active after `SIGNER_DELAY`; the present one keeps counting until then. A second
    /// announcement replaces the first.
    function proposeSigner(address signer) external;

    /// @notice Makes an announced signer the operator's signer. Anyone may call when its time has come.
    function activateSigner(address owner) external;

    /// @notice Removes a present, former or announced signer of the caller at once and for ever.
    function revokeSigner(address signer) external;

    /// @notice Changes the account that sends the operator's transactions, at once: it has no power to take away.
    function setTransmitter(address transmitter) external;

    /// @notice Announces a new withdrawal address, active after `WITHDRAWAL_DELAY`. A second announcement replaces the
    /// first; announcing the present address keeps it.
    function proposeWithdrawal(address withdrawal) external;

    /// @notice Makes an announced withdrawal address the present one. Anyone may call when its time has come.
    function activateWithdrawal(address owner) external;

    /* SETS */

    /// @notice Creates a set whose members each bond `bond` of `bondToken` (the zero address means the native coin).
    /// @param referee The only contract whose proofs may cost a member its bond, for ever; the zero address means none.
    /// Who joins agrees to it; so no agent can bring its own judge.
    function createSet(address admin, address bondToken, uint128 bond, address referee) external returns (uint64 setId);

    /// @notice Names the set's next admin, who becomes it by `acceptSetAdmin`; a second call replaces the name, the zero
    /// address takes it back. Callable by the set's admin, who stays it until then.
    function proposeSetAdmin(uint64 setId, address admin) external;

    /// @notice Makes the caller, whom the admin named, the set's admin.
    function acceptSetAdmin(uint64 setId) external;

    /// @notice Joins a set with its bond.
    function join(uint64 setId) external payable;

    /// @notice Names the members of the next epoch, in any order. The first epoch of a set can start at once, a later one
    /// after `EPOCH_DELAY`. A second proposal replaces the first. Callable by the set's admin.
    function proposeEpoch(uint64 setId, uint8 threshold, address[] calldata operators) external;

    /// @notice Starts the proposed epoch with its members' present signers. Anyone may call when its time has come.
    function startEpoch(uint64 setId) external;

    /// @notice Starts a new epoch with the present signers of those members that still count: who has left, is unbonding,
    /// was slashed (also when it has joined again since), or has no signer is dropped, and comes back by a proposal of the
    /// admin only. Anyone may call. It is refused while nothing has changed, so that nobody can void the payers' signed
    /// requests for sport, and when fewer members than the threshold would be left.
    function refreshEpoch(uint64 setId) external;

    /// @notice Starts the release of the caller's bond, which needs that it is not a member of the present epoch, or that
    /// it has revoked the signer it has there: so no admin can keep an operator in.
    function startUnbonding(uint64 setId) external;

    /// @notice Pays the bond to the withdrawal address after `UNBONDING_DELAY`. Anyone may call.
    function releaseBond(uint64 setId, address owner) external;

    /// @notice Takes what is left of the bond of the operator that signed with `signer`, once per request. Half of it,
    /// rounded down, is credited to `beneficiary` and the rest to `BURN_ADDRESS`: a payer who is in league with the
    /// operator loses half of what they would rescue. The operator is no member of the set any more, and `signer` and its
    /// key in the set's present epoch are revoked at once, everywhere. Callable by the escrow, which calls it only on a
    /// referee's proof.
    /// @return amount What was taken; zero when nothing was left.
    function slash(uint64 setId, address signer, bytes32 requestId, address beneficiary)
        external
        returns (uint128 amount);

    /// @notice Pays `account` the slashed bonds that it was credited with. Anyone may call, also for `BURN_ADDRESS`.
    function withdrawFor(address account, address token) external returns (uint256 amount);

    /* VIEWS */

    /// @notice The hash of a set's present epoch (`keccak256(abi.encode(OperatorSet))` of the escrow); zero when none.
    function operatorSetHash(uint64 setId) external view returns (bytes32);

    /// @notice Whether a signing key was revoked; it then counts nowhere, for ever.
    function isRevoked(address signer) external view returns (bool);

    /// @notice An operator's roles; all zero when the account is no operator.
    function operatorOf(address owner) external view returns (Operator memory);

    /// @notice The owner of the operator that signs, or has ever signed, with `signer`.
    function ownerOfSigner(address signer) external view returns (address);

    /// @notice A set's present epoch; `operators[i]` signs with `signers[i]`. All zero and empty before the first.
    function epochOf(uint64 setId)
        external
        view
        returns (uint64 epoch, uint8 threshold, address[] memory operators, address[] memory signers);

    /// @notice What an operator has at stake in a set, bonded or unbonding.
    function bondOf(uint64 setId, address owner) external view returns (uint128);

    /// @notice Unix time from which an operator's bond can be released; zero while it is not unbonding.
    function releaseAt(uint64 setId, address owner) external view returns (uint64);

    /// @notice A set's admin and the successor it has named, if any.
    function adminOf(uint64 setId) external view returns (address admin, address pendingAdmin);

    /// @notice The only contract whose proofs may cost a member of the set its bond; the zero address means none.
    function refereeOf(uint64 setId) external view returns (address);

    /// @notice Slashed bonds in `token` that `account` can withdraw.
    function creditOf(address account, address token) external view returns (uint256);

    /// @notice The escrow that may slash; it deployed this registry.
    function escrow() external view returns (address);

    /// @notice The number of events so far, which is the sequence number of the last one.
    function sequence() external view returns (uint64);

    /// @notice Seconds between announcing a signer and its activation.
    function SIGNER_DELAY() external view returns (uint64);

    /// @notice Seconds between announcing a withdrawal address and its activation.
    function WITHDRAWAL_DELAY() external view returns (uint64);

    /// @notice Seconds between proposing a set's next epoch and its start; the first epoch has no delay.
    function EPOCH_DELAY() external view returns (uint64);

    /// @notice Seconds between the start of unbonding and the release. The escrow takes no offer with a referee whose
    /// requests could still be convicted after it.
    function UNBONDING_DELAY() external view returns (uint64);

    /// @notice The most members of a set.
    function SET_MEMBERS_MAX() external view returns (uint256);

    /// @notice Where the part of a slashed bond goes that rewards nobody; nobody has its key.
    function BURN_ADDRESS() external view returns (address);
}
